"""Run one short statement very often: SQLite's own prepared statement on connections that are kept open.

What a connection reads is the newest commit of any process: outside a transaction every statement of SQLite sees the
database as it is then. Lending a connection of a pool and building a result cost ten times what the statement does.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from sqlalchemy import URL, TextClause

from bestfor.serving.journal.database import make_engine, told

IDLE = 16
"""Connections that are kept open at the most."""


class PreparedRead:
    """A statement that is read often; threads may share it.

    Args:
        url: of the database; others than SQLite are asked through a pool.
        statement: with named parameters.
    """

    def __init__(self, url: URL, statement: TextClause) -> None:
        self._direct = url.get_backend_name() == "sqlite"
        self._engine, self._statement = make_engine(url, writes=False, pooled=not self._direct), statement
        compiled = statement.compile(dialect=self._engine.dialect)
        self._sql, self._names = str(compiled), tuple(compiled.positiontup or ())  # pyright: ignore[reportAttributeAccessIssue]
        self._idle: deque[Any] = deque()

    def rows(self, **values: Any) -> list[Any]:  # noqa: ANN401 - of any type of a column
        """Read all rows for some values of the parameters.

        Raises:
            JournalError: the database could not be read.
        """
        with told(self._engine.url):
            if self._direct:
                return self._read([values[name] for name in self._names])
            with self._engine.connect() as connection:
                return list(connection.execute(self._statement, values))

    def _read(self, values: list[Any]) -> list[Any]:
        """Read on a connection that no other thread has meanwhile: a deque's ``pop`` gives it to one of them."""
        try:
            held = self._idle.pop()
        except IndexError:
            held = self._engine.raw_connection()
        try:
            # To the last row: a statement that is not at its end keeps the write-ahead log from being emptied.
            raw: Any = held.driver_connection
            found = raw.execute(self._sql, values).fetchall()
        except BaseException:
            held.close()
            raise
        if len(self._idle) < IDLE:
            self._idle.append(held)
        else:
            held.close()
        return found

    def close(self) -> None:
        """Close the connections that no thread is using."""
        while self._idle:
            self._idle.pop().close()
        self._engine.dispose()
