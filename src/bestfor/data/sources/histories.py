"""Collect the history items and questions that a source reads into the tables ``HISTORIES`` and ``QUERIES``.

Items of a user that repeat one another, that are empty or that are test questions are left out and counted; items of
one name are told apart; times are read; and where histories outgrow memory they lie in a temporary file.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import weakref
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import pyarrow as pa

from bestfor.data.read.objects import objects_of, text_of, time_of
from bestfor.data.schema import HISTORIES, QUERIES
from bestfor.data.sources.benchmarks import Task
from bestfor.data.text import collapse_spaces
from bestfor.errors import InputError
from bestfor.moved import renamed

MOST_IN_MEMORY = 1 << 28
"""Characters of histories that are kept in memory; more go to an unnamed temporary file and are mapped from there."""

_BATCH = 1 << 24
"""Characters of items that wait to become a record batch."""

_DIGEST = 12
"""Bytes of an item's hash."""

__getattr__ = renamed(__name__, {"Left": "Omitted"})


@dataclass(frozen=True)
class Entry:
    """Item of a user's history: one text that the user wrote.

    Attributes:
        item_id: names it within the user's history.
        input: what was asked; empty where the user wrote unasked.
        output: what the user wrote.
        timestamp: when, in seconds since 1970; None where unknown.
    """

    item_id: str
    input: str
    output: str
    timestamp: int | None = None

    @cached_property
    def content(self) -> bytes:
        """Hash of what was asked and written, in one form of Unicode and without regard to white space."""
        text = "\0".join(collapse_spaces(part) for part in (self.input, self.output))
        return hashlib.blake2b(text.encode(), digest_size=_DIGEST).digest()


@dataclass
class Omitted:
    """Counts of what was left out, for the notes of a data set."""

    repeated: int = 0
    empty: int = 0
    asked: int = 0
    without: int = 0
    other: list[str] = field(default_factory=list)

    def notes(self) -> tuple[str, ...]:
        """Say in words what was left out."""
        said = [
            (self.repeated, "history items that repeat another of the same user were left out"),
            (self.empty, "history items without a text by the user were left out"),
            (self.asked, "history items that are test questions, word for word, were left out"),
            (self.without, "users have no history"),
        ]
        return (*(f"{count} {words}" for count, words in said if count), *self.other)


class Collector:
    """Collector of users' history items, once each, into one table.

    Args:
        most: characters to keep in memory; by default :data:`MOST_IN_MEMORY`.
    """

    def __init__(self, most: int | None = None) -> None:
        self.omitted = Omitted()
        self._most = MOST_IN_MEMORY if most is None else most
        self._names: dict[str, set[str]] = {}
        self._texts: dict[str, set[bytes]] = {}
        self._columns: list[list[object]] = [[] for _ in HISTORIES]
        self._contents = bytearray()
        self._batches: list[pa.RecordBatch] = []
        self._held = self._kept = 0
        self._spill: _Spill | None = None

    def add(self, user: str, entries: Iterable[Entry]) -> None:
        """Add items of a user; one that says the same as an earlier one is left out.

        Different items of one name are told apart: the second ``a`` becomes ``a#2``.

        Args:
            user: whose.
            entries: in the source's order.
        """
        names = self._names.setdefault(user, set())
        texts = self._texts.setdefault(user, set())
        now: set[bytes] = set()
        for entry in entries:
            content = entry.content
            self.omitted.repeated += content in now
            now.add(content)
            if content in texts:
                continue
            texts.add(content)
            if not entry.output.strip():
                self.omitted.empty += 1
                continue
            name, count = entry.item_id, 1
            while name in names:
                count += 1
                name = f"{entry.item_id}#{count}"
            names.add(name)
            self._contents += content
            self._append((user, name, entry.input, entry.output, entry.timestamp))

    def forget(self, user: str) -> None:
        """Drop what tells this user's items apart: no more of them will come."""
        self._names.pop(user, None)
        self._texts.pop(user, None)

    def _append(self, row: tuple[str, str, str, str, int | None]) -> None:
        for column, value in zip(self._columns, row, strict=True):
            column.append(value)
        self._held += sum(len(text) for text in row[:4])
        if self._held > _BATCH:
            self._flush()

    def _flush(self) -> None:
        arrays = [pa.array(column, kind.type) for column, kind in zip(self._columns, HISTORIES, strict=True)]
        batch = pa.record_batch(arrays, schema=HISTORIES)
        self._columns = [[] for _ in HISTORIES]
        self._kept, self._held = self._kept + self._held, 0
        if self._spill is None and self._kept > self._most:
            self._spill = _Spill(self._batches)
            self._batches = []
        if self._spill is None:
            self._batches.append(batch)
        else:
            self._spill.write(batch)

    def table(self, asked: Collection[bytes] = ()) -> pa.Table:
        """Build the table of all items, schema ``HISTORIES``, in the order they came.

        Args:
            asked: contents of test questions and what users wrote for them: such items are left out, whosever they
                are. (Where a file does not name users, one person's questions may stand in each other's profiles.)

        Raises:
            InputError: no room for the temporary file.
        """
        self._flush()
        if self._spill is not None:
            whole = self._spill.table()
        else:
            whole = pa.Table.from_batches(self._batches, schema=HISTORIES)
        starts = range(0, len(self._contents), _DIGEST) if asked else ()
        hits = [row for row, at in enumerate(starts) if bytes(self._contents[at : at + _DIGEST]) in asked]
        self.omitted.asked = len(hits)
        # Slices share the rows, which a filter would copy.
        bounds = [-1, *hits, len(whole)]
        kept = [whole.slice(left + 1, right - left - 1) for left, right in pairwise(bounds)]
        return pa.concat_tables(kept) if hits else whole


class _Spill:
    """Temporary file of batches, mapped into memory as they are needed and gone with the process."""

    def __init__(self, batches: Sequence[pa.RecordBatch]) -> None:
        try:
            number, name = tempfile.mkstemp(prefix="bestfor-", suffix=".arrow")
            os.close(number)
            self._path = Path(name)
            self._remove = weakref.finalize(self, _unlink, self._path)
            self._file = pa.OSFile(name, "wb")
            self._writer = pa.ipc.new_file(self._file, HISTORIES)
        except OSError as error:
            raise _no_room(error) from error
        for batch in batches:
            self.write(batch)

    def write(self, batch: pa.RecordBatch) -> None:
        try:
            self._writer.write_batch(batch)
        except OSError as error:
            self._remove()
            raise _no_room(error) from error

    def table(self) -> pa.Table:
        try:
            self._writer.close()
            self._file.close()
            return pa.ipc.open_file(pa.memory_map(str(self._path))).read_all()
        except OSError as error:
            raise _no_room(error) from error
        finally:
            self._remove()


def _unlink(path: Path) -> None:
    # The mapping keeps the bytes until the table goes; where a mapped file cannot be removed, the system does it.
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _no_room(error: OSError) -> InputError:
    where, found = f"temporary files in {tempfile.gettempdir()}", error.strerror or str(error)
    return InputError(where, found, "room for a copy of the histories (TMPDIR chooses another place)")


class Questions:
    """Collector of queries into one table."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, str, str, str | None, str, int | None]] = []
        self._seen: set[str] = set()

    def add(self, row: tuple[str, str, str, str | None, str, int | None], where: str) -> None:
        """Add a row of schema ``QUERIES``.

        Raises:
            InputError: a query of this id is there already; ``where`` names the row.
        """
        if row[0] in self._seen:
            raise InputError(f"{where}, field 'id'", f"query '{row[0]}' twice", "distinct ids")
        self._seen.add(row[0])
        self._rows.append(row)

    @property
    def brings_labels(self) -> bool:
        """True where some query is one to fit on."""
        return any(row[4] == "fit" for row in self._rows)

    @property
    def contents(self) -> set[bytes]:
        """Hashes of test questions with what users wrote for them, see :attr:`Entry.content`."""
        rows = (row for row in self._rows if row[4] == "test" and row[3] is not None)
        return {Entry(name, asked, wrote or "").content for name, _, asked, wrote, _, _ in rows}

    def table(self, where: str) -> pa.Table:
        """Build the table of all queries, schema ``QUERIES``, in the order they came.

        Raises:
            InputError: there are none to test.
        """
        if not any(row[4] == "test" for row in self._rows):
            raise InputError(where, "no questions", "at least one")
        columns = zip(*self._rows, strict=True)
        arrays = [pa.array(list(column), kind.type) for column, kind in zip(columns, QUERIES, strict=True)]
        return pa.table(arrays, schema=QUERIES)


TIMES = ("date", "timestamp", "year", "unixReviewTime")
"""Fields of an item that say when it was written, the first that is there counts."""


def entries_of(task: Task, row: Mapping[str, object], where: str) -> list[Entry]:
    """Read the items of a row's profile; where some have no time, none has one, and their order counts.

    Raises:
        InputError: no list of objects, or a field that is missing or of another kind; names the row and the field.
    """
    entries: list[Entry] = []
    for at, item in enumerate(objects_of(row, "profile", where)):
        place = f"{where}, profile[{at}]"
        asked, wrote = task.item({name: text_of(item, name, place) for name in task.fields})
        name = text_of(item, "id", place) if item.get("id") is not None else str(at)
        dated = next((field for field in TIMES if item.get(field) not in (None, "")), "date")
        entries.append(Entry(name, asked, wrote, time_of(item.get(dated), f"{place}, field '{dated}'")))
    if any(entry.timestamp is None for entry in entries):
        return [replace(entry, timestamp=None) for entry in entries]
    return entries
