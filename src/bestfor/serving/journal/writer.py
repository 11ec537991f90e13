"""Write to a journal from many threads with one commit for all calls that wait: group commit.

A call hands its rows to one thread and waits. The thread takes everything that has gathered, applies it in one
transaction and commits, so that many calls share one ``fsync``; each call returns after the commit that holds it. Calls
that are under way at the same time may be applied in any order.

A commit waits for the disk where one of its calls asks for that. One that does not is with the operating system: the
end of this process loses nothing of it, a power cut may. A later commit that waits brings earlier ones to the disk too.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from bestfor.errors import BestforError
from bestfor.serving.journal import database
from bestfor.serving.journal.database import shown, told
from bestfor.serving.journal.records import JournalError

MOST = 512
"""Calls of one commit at the most."""
TRIES = 8
"""How often a transaction is tried that another process has made impossible."""

WRITERS = 7_215_083
"""PostgreSQL's advisory lock of those who write to a journal."""

Apply = Callable[[Connection, Sequence[Any]], list[Any]]
"""Applies the rows of several calls: their values in, a result or a :class:`BestforError` for each out."""


@dataclass
class _Call:
    """A call that waits for its commit."""

    apply: Apply
    value: Any
    on_disk: bool = True
    done: Future[Any] = field(default_factory=Future)


class Writer:
    """The one thread of a process that writes to a journal.

    Args:
        engine: of :func:`bestfor.serving.journal.database.make_engine`.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._queue: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._closed = False
        self.commits = 0
        self._connection: Connection | None = None
        self._on_disk = True
        self._thread = threading.Thread(target=self._run, name="bestfor-journal", daemon=True)
        self._thread.start()

    def submit(self, apply: Apply, value: object) -> Any:  # noqa: ANN401 - what ``apply`` gives
        """Apply a value in the next transaction, and return when it is durable.

        Args:
            apply: gets the values of all calls of one transaction that name it.
            value: of this call.

        Raises:
            JournalError: nothing of the call was stored.
            InputError: what ``apply`` says of this value.
        """
        return self.send(apply, value).result()

    def send(self, apply: Apply, value: object, *, on_disk: bool = True) -> Future[Any]:
        """Apply a value in the next transaction without waiting for it.

        Args:
            apply: as for :meth:`submit`.
            value: of this call.
            on_disk: whether its commit waits for the disk.

        Returns:
            What ``apply`` gives, or raises, once it is committed.

        Raises:
            JournalError: the journal was closed, or opened by another process.
        """
        call = _Call(apply, value, on_disk)
        with self._lock:
            if self._closed:
                raise JournalError(f"journal {shown(self._engine.url)}: it was closed")
            self.check_process()
            # Nobody may cancel what will be written.
            call.done.set_running_or_notify_cancel()
            self._queue.put(call)
        return call.done

    def check_process(self) -> None:
        """Refuse a process that was forked from the one that opened the journal: connections cannot be shared.

        Raises:
            JournalError: this is another process.
        """
        if os.getpid() != self._process:
            raise JournalError(f"journal {shown(self._engine.url)}: opened before a fork; open it in each process")

    def close(self) -> None:
        """Write what waits and stop; a second call does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        if os.getpid() == self._process:
            self._thread.join()

    def _run(self) -> None:
        open_ = True
        while open_:
            calls = [self._queue.get()]
            while len(calls) < MOST and not self._queue.empty():
                calls.append(self._queue.get())
            open_ = calls[-1] is not None
            self._answer([call for call in calls if call is not None])
        self._disconnect()

    def _answer(self, calls: list[_Call]) -> None:
        """Apply and commit; calls that fail together are tried one by one, so that each hears of its own failure."""
        if not calls:
            return
        try:
            results = self._commit(calls)
        except BaseException as error:
            self._disconnect()
            if len(calls) > 1 and not isinstance(error.__cause__, OperationalError):
                for call in calls:
                    self._answer([call])
            else:
                for call in calls:
                    call.done.set_exception(error)
            return
        for call, result in zip(calls, results, strict=True):
            if isinstance(result, BestforError):
                call.done.set_exception(result)
            else:
                call.done.set_result(result)

    def _commit(self, calls: list[_Call]) -> list[Any]:
        for _ in range(TRIES - 1):
            try:
                with told(self._engine.url):
                    return self._transact(calls)
            except JournalError as error:
                self._disconnect()
                if not _disturbed(error.__cause__):
                    raise
        with told(self._engine.url):
            return self._transact(calls)

    def _transact(self, calls: list[_Call]) -> list[Any]:
        results: list[Any] = [None] * len(calls)
        connection = self._connect()
        on_disk = any(call.on_disk for call in calls)
        self._set_waiting(connection, on_disk=on_disk)
        with connection.begin():
            if connection.dialect.name == "postgresql":
                # One after another, as with SQLite: counts by person and rows change together in every process.
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS})")
                if not on_disk:
                    connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
            for apply in dict.fromkeys(call.apply for call in calls):
                places = [place for place, call in enumerate(calls) if call.apply == apply]
                found = apply(connection, [calls[place].value for place in places])
                for place, result in zip(places, found, strict=True):
                    results[place] = result
        self.commits += 1
        return results

    def _connect(self) -> Connection:
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection

    def _set_waiting(self, connection: Connection, *, on_disk: bool) -> None:
        """Let SQLite's next commit wait for the disk, or leave it to the operating system."""
        if connection.dialect.name != "sqlite" or on_disk == self._on_disk:
            return
        level = database.SYNCHRONOUS
        if not on_disk and level != "OFF":
            level = "NORMAL"
        # Not through SQLAlchemy, which would begin a transaction first.
        raw: Any = connection.connection.driver_connection
        raw.execute(f"PRAGMA synchronous = {level}").close()
        self._on_disk = on_disk

    def _disconnect(self) -> None:
        """Let go of a connection, whatever state it is in."""
        connection, self._connection, self._on_disk = self._connection, None, True
        if connection is not None:
            try:
                connection.invalidate()
                connection.close()
            except DBAPIError:
                pass


def _disturbed(error: BaseException | None) -> bool:
    """Check whether another process's transaction was the cause: the same key at once, or a deadlock."""
    words = ("deadlock", "could not serialize")
    return isinstance(error, IntegrityError) or (isinstance(error, DBAPIError) and any(w in str(error) for w in words))
