"""Read what other people said of some texts: by one statement, a bounded number of labels of each text."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any

from sqlalchemy import URL, Connection, TextClause, text

from bestfor.serving.journal.prepared import PreparedRead
from bestfor.serving.journal.records import AskedTexts, SaidOfText, digest, item_of

SIZES = (8, 32, 128)
"""Texts of one statement; fewer are filled up with nothing, which costs nothing to look up."""
_ALWAYS = -1e300
"""A time before all labels."""


class OthersRead:
    """Statements that read others' labels; threads may share them.

    Args:
        url: of the database.
        connect: lends a connection for reading, where statements of SQLite's own are not to be had.
    """

    def __init__(self, url: URL, connect: Callable[[], AbstractContextManager[Connection]]) -> None:
        self._url, self._connect, self._direct = url, connect, url.get_backend_name() == "sqlite"
        self._lock = threading.Lock()
        self._prepared: dict[int, PreparedRead] = {}

    def rows(self, asked: AskedTexts, most: int, since: float | None) -> list[SaidOfText]:
        """Read the newest labels of each text; see :meth:`Journal.said_by_others`."""
        found: list[SaidOfText] = []
        step = SIZES[-1]
        for start in range(0, len(asked.texts), step):
            items = [
                item_of(asked.tenant, (asked.prompt, False), (one, False)) for one in asked.texts[start : start + step]
            ]
            size = next(size for size in SIZES if len(items) <= size)
            values: dict[str, Any] = {f"item{place}": None for place in range(size)}
            values |= {f"item{place}": item for place, item in enumerate(items)}
            values |= {
                "person": digest(asked.tenant, asked.user),
                "most": most,
                "since": _ALWAYS if since is None else since,
            }
            for place, user, gone, *label in self._read(size, values):
                if user is not None:  # else somebody who is being forgotten just now
                    found.append(SaidOfText(start + place, user, bool(gone), *label))
        return found

    def _read(self, size: int, values: dict[str, Any]) -> Sequence[Any]:
        if not self._direct:
            with self._connect() as connection:
                return connection.execute(statement(size), values).all()
        with self._lock:
            if size not in self._prepared:
                self._prepared[size] = PreparedRead(self._url, statement(size))
            prepared = self._prepared[size]
        return prepared.rows(**values)

    def close(self) -> None:
        """Close the connections that no thread is using."""
        with self._lock:
            for one in self._prepared.values():
                one.close()


@lru_cache(maxsize=len(SIZES))
def statement(size: int) -> TextClause:
    """Write the statement that reads labels of so many texts, each by a range of the index ``labels_item``."""
    of_one = (
        "SELECT * FROM (SELECT {place} AS place, person, kind, value, low, high, weight, time FROM labels"
        " WHERE item = :item{place} AND withdrawn IS NULL AND time > :since AND person <> :person"
        " ORDER BY time DESC, person DESC LIMIT :most) AS of_{place}"
    )
    every = " UNION ALL ".join(of_one.format(place=place) for place in range(size))
    return text(
        'SELECT place, (SELECT people."user" FROM people WHERE people.person = said.person),'
        " EXISTS (SELECT 1 FROM tombstones WHERE tombstones.person = said.person),"
        f" kind, value, low, high, weight, time FROM ({every}) AS said"
    )
