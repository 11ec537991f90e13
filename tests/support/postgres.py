"""A real PostgreSQL for the tests: one that BESTFOR_TEST_POSTGRES names, or one of this machine's own binaries.

Binaries are looked for on the PATH, then where Debian keeps them. They are run as the user ``postgres`` where the tests
are root: initdb refuses root.
"""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def postgres():
    """Give the address of a server, or None where there is none to be had."""
    named = os.environ.get("BESTFOR_TEST_POSTGRES")
    if named:
        yield named
        return
    programs = [_program(name) for name in ("initdb", "postgres")]
    user = _unprivileged()
    if None in programs or user is None:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="bestfor-postgres-"))
    try:
        with _started(folder, programs, user) as address:
            yield address
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def database(server):
    """Give the address of an empty database, which is dropped afterwards."""
    from sqlalchemy import create_engine, make_url, text

    url = make_url(server).set(drivername="postgresql+pg8000")
    name = f"bestfor_{uuid.uuid4().hex}"
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        yield url.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    finally:
        engine.dispose()


def _program(name):
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    found = (shutil.which(name), *(shutil.which(name, path=place) for place in places))
    return next((one for one in found if one is not None), None)


def _unprivileged():
    """Name who may run a server: root may not."""
    if os.getuid() != 0:
        return pwd.getpwuid(os.getuid()).pw_name
    return next((one.pw_name for one in pwd.getpwall() if one.pw_name == "postgres"), None)


@contextmanager
def _started(folder, programs, user):
    root = os.getuid() == 0
    how = {"user": user} if root else {}
    if root:
        shutil.chown(folder, user)
    initdb, server = programs
    data = folder / "data"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder, **how}
    subprocess.run([initdb, "-D", data, "-U", "tests", "-A", "trust", "-E", "UTF8", "--no-sync"], check=True, **quiet)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"]
    process = subprocess.Popen([server, "-D", data, "-p", str(port), *options], **quiet)
    try:
        _wait(port, process)
        yield f"postgresql://tests@127.0.0.1:{port}/postgres"
    finally:
        process.terminate()
        process.wait()


def _wait(port, process):
    """Wait until the server takes connections for good."""
    import pg8000.dbapi

    for _ in range(300):
        if process.poll() is not None:
            raise RuntimeError(f"PostgreSQL ended with {process.returncode}")
        try:
            pg8000.dbapi.connect(user="tests", host="127.0.0.1", port=port, database="postgres").close()
            return
        except (pg8000.dbapi.Error, OSError):
            time.sleep(0.1)
    raise RuntimeError("PostgreSQL takes no connections")
