"""Write answers to SQLite in the thread that has them, where nobody else is writing just then.

Handing one answer to the writer's thread and waiting for it takes longer than the write itself: the interpreter is
passed to and fro for each statement. Such a commit does not wait for the disk (``synchronous = NORMAL``), and leaves it
to the writer to bring the write-ahead log into the database, so that it takes a tenth of a millisecond.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time

from sqlalchemy import Engine, insert

from bestfor.serving.journal import database
from bestfor.serving.journal.many import compile_for_sqlite
from bestfor.serving.journal.records import LoggedAnswer
from bestfor.serving.journal.rows import answer_row, touching
from bestfor.serving.journal.tables import answers

TURN = 64
"""Each answer of so many is left to the writer, whose commits bring a long log into the database."""


class DirectWrites:
    """A connection of its own to a journal's file; threads may share it.

    Args:
        engine: of the writer.
    """

    def __init__(self, engine: Engine) -> None:
        self._path = str(engine.url.database)
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._connection: sqlite3.Connection | None = None
        self._count = 0
        self._answer, self._answer_columns = compile_for_sqlite(insert(answers))
        self._person, self._person_columns = compile_for_sqlite(touching("sqlite", learned=False))

    def add(self, tenant: str, answer: LoggedAnswer) -> bool:
        """Add an answer if that takes no waiting.

        Returns:
            Whether it is in the journal. Where it is not, the writer has to add it, or to say why that cannot be.
        """
        if os.getpid() != self._process or not self._lock.acquire(blocking=False):
            return False
        try:
            self._count += 1
            return self._count % TURN != 0 and self._write(tenant, answer)
        finally:
            self._lock.release()

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._disconnect()

    def _write(self, tenant: str, answer: LoggedAnswer) -> bool:
        row = answer_row(tenant, answer)
        person = {"person": row["person"], "tenant": tenant, "user": answer.user, "answers": 1, "labels": 0}
        person["revision"] = time.time_ns() // 1000
        try:
            connection = self._connect()
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(self._person, [person[name] for name in self._person_columns])
            connection.execute(self._answer, [row[name] for name in self._answer_columns])
            connection.execute("COMMIT")
        except (sqlite3.Error, OverflowError):
            # Somebody else is writing, the id is there already, the disk is full: the writer waits, or says it.
            self._roll_back()
            return False
        return True

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            made = sqlite3.connect(self._path, timeout=0, isolation_level=None, check_same_thread=False)
            level = "OFF" if database.SYNCHRONOUS == "OFF" else "NORMAL"
            for pragma in (f"synchronous = {level}", "secure_delete = ON", "wal_autocheckpoint = 0"):
                made.execute(f"PRAGMA {pragma}").close()
            self._connection = made
        return self._connection

    def _roll_back(self) -> None:
        try:
            if self._connection is not None and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
