"""Open a journal's database: SQLite in write-ahead mode or PostgreSQL, and bring its schema to this version."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError

from bestfor.errors import InputError
from bestfor.extras import require
from bestfor.serving.journal.records import JournalError
from bestfor.serving.journal.tables import HEAD

MIGRATIONS = Path(__file__).parent / "migrations"
SYNCHRONOUS = "FULL"
"""When SQLite waits for the disk: at every commit. Tests that are not about durability switch it off."""
WAIT = 30.0
"""Seconds that a writer waits for another process that is writing."""
CACHE = 8
"""Megabytes of pages that a connection of SQLite keeps, so that the upper levels of large tables stay in memory."""
WRITER_CACHE = 64
"""Megabytes of pages that the writer's connection keeps at most: one that does not fit is written again and again."""
LOCK = 0x62657374666F72
"""Advisory lock of PostgreSQL under which schemas are changed."""


def parse_url(journal: str | Path) -> URL:
    """Read the address of a journal.

    Args:
        journal: ``sqlite:///feedback.db``, a file's path, or ``postgresql://user:password@host/name``; without a
            password, that of the environment variable ``PGPASSWORD`` is taken, as by PostgreSQL's own programs.

    Raises:
        InputError: another database, a journal in memory, or a folder that is not there.
        MissingExtraError: PostgreSQL without its driver.
    """
    plain = isinstance(journal, Path) or "://" not in str(journal)
    try:
        url = URL.create("sqlite", database=str(journal)) if plain else make_url(str(journal))
    except ArgumentError as error:
        raise InputError("journal", "an address that cannot be read", "sqlite:///FILE or postgresql://...") from error
    backend = url.get_backend_name()
    if backend == "postgresql":
        require("pg8000", "journal")
        password = url.password if url.password is not None else os.environ.get("PGPASSWORD")
        return url.set(drivername="postgresql+pg8000", password=password)
    if backend != "sqlite":
        raise InputError("journal", f"a database of kind '{backend}'", "sqlite:///FILE or postgresql://...")
    if not url.database or url.database == ":memory:":
        raise InputError("journal", "a database in memory", "a file: what people say must outlive the process")
    path = Path(url.database)
    if path.is_dir():
        raise InputError(str(path), "a folder", "a file for the journal")
    if not path.parent.is_dir():
        raise InputError(str(path), f"no folder '{path.parent}'", "a file in a folder that is there")
    return url.set(drivername="sqlite+pysqlite")


def shown(url: URL) -> str:
    """Write an address without its password."""
    return str(url.database) if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)


def make_engine(url: URL, *, writes: bool, pooled: bool = True) -> Engine:
    """Make the engine of a journal's writer, or of its readers; without a pool, who connects keeps the connection.

    SQLite: a commit of the writer returns after the write-ahead log is on the disk (``synchronous = FULL``), removed
    rows are overwritten (``secure_delete``), and a transaction takes the write lock at its beginning.
    """
    if url.get_backend_name() != "sqlite":
        options: dict[str, Any] = {"pool_pre_ping": True}
        return create_engine(url, **options, **({} if writes else {"isolation_level": "AUTOCOMMIT"}))
    pool: dict[str, Any] = {"pool_size": 1 if writes else 16, "max_overflow": 0} if pooled else {"poolclass": NullPool}
    engine = create_engine(url, connect_args={"timeout": WAIT, "check_same_thread": False}, **pool)

    def connected(connection: Any, record: object) -> None:  # noqa: ANN401 - a connection of the driver
        connection.isolation_level = None  # the driver begins nothing by itself
        pragmas = ("journal_mode = WAL", f"synchronous = {SYNCHRONOUS}", "secure_delete = ON")
        for pragma in (*pragmas, f"cache_size = {-1000 * (WRITER_CACHE if writes else CACHE)}"):
            connection.execute(f"PRAGMA {pragma}").close()

    def begun(connection: Connection) -> None:
        if writes:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)
    return engine


@contextmanager
def told(url: URL) -> Iterator[None]:
    """Turn errors of a database into one line.

    Raises:
        JournalError: the database could not be read or written.
    """
    try:
        yield
    except DBAPIError as error:
        raise JournalError(f"journal {shown(url)}: {_reason(error.orig)}") from error
    except sqlite3.Error as error:
        raise JournalError(f"journal {shown(url)}: {_reason(error)}") from error


def prepare(engine: Engine) -> None:
    """Make the tables of a new journal, or bring those of an older version to this one.

    Raises:
        InputError: the database is of a newer version, or holds tables of somebody else, or is no database.
        JournalError: it cannot be written.
    """
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
            found = _version(connection)
            if found != HEAD:
                _upgrade(connection, found, shown(engine.url))
    except DBAPIError as error:
        if "not a database" in str(error.orig):
            raise InputError(shown(engine.url), "a file that is no database", "a journal of bestfor") from error
        raise JournalError(f"journal {shown(engine.url)}: {_reason(error.orig)}") from error


def _version(connection: Connection) -> str | None:
    """Read a database's version; None where it is empty."""
    tables = inspect(connection).get_table_names()
    if "alembic_version" not in tables:
        if tables:
            found = f"tables that are not a journal's ({', '.join(sorted(tables)[:3])})"
            raise InputError(shown(connection.engine.url), found, "a journal of bestfor, or an empty database")
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(connection: Connection, found: str | None, where: str) -> None:
    """Run the migrations that a database lacks."""
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        if found is not None:
            ScriptDirectory.from_config(config).get_revision(found)
    except CommandError as error:
        raise InputError(where, f"a journal of version {found}", f"version {HEAD} or older (update bestfor)") from error
    command.upgrade(config, "head")


def _reason(error: BaseException | None) -> str:
    """Say in plain words why a statement failed."""
    said = " ".join(str(error).split())
    if "disk is full" in said or "disk I/O error" in said:
        return f"the disk is full or cannot be written ({said}); nothing of this call was stored"
    if "locked" in said:
        return f"another process has been writing for {WAIT:g} seconds ({said}); nothing of this call was stored"
    return f"{said[:300]}; nothing of this call was stored"
