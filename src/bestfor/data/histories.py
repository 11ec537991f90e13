"""Histories as they are read: items checked, dated, told apart, and kept in memory or on disk."""

from __future__ import annotations

import hashlib
import os
import tempfile
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from bestfor.data.schema import HISTORIES
from bestfor.errors import InputError

MOST_IN_MEMORY = 1 << 28
"""Characters of histories that are kept in memory; more go to an unnamed temporary file and are mapped from there."""

_BATCH = 1 << 24
_YEARS = 10_000
_MILLISECONDS = 100_000_000_000


@dataclass(frozen=True)
class Entry:
    """One thing that a user wrote.

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

    @property
    def content(self) -> bytes:
        """A hash of what was asked and written, in one form of Unicode and without regard to white space."""
        text = "\0".join(" ".join(unicodedata.normalize("NFC", part).split()) for part in (self.input, self.output))
        return hashlib.blake2b(text.encode(), digest_size=12).digest()


@dataclass
class Left:
    """What was left out, for the notes of a data set."""

    repeated: int = 0
    empty: int = 0
    without: int = 0
    other: list[str] = field(default_factory=list)

    def notes(self) -> tuple[str, ...]:
        """In words."""
        said = [
            (self.repeated, "history items that repeat another of the same user were left out"),
            (self.empty, "history items without a text by the user were left out"),
            (self.without, "users have no history"),
        ]
        return (*(f"{count} {words}" for count, words in said if count), *self.other)


class Collector:
    """Takes users' items, once each, and gives the table.

    Args:
        most: characters to keep in memory, see :data:`MOST_IN_MEMORY`.
    """

    def __init__(self, most: int = MOST_IN_MEMORY) -> None:
        self.left = Left()
        self._most = most
        self._names: dict[str, set[str]] = {}
        self._texts: dict[str, set[bytes]] = {}
        self._columns: list[list[object]] = [[] for _ in HISTORIES]
        self._batches: list[pa.RecordBatch] = []
        self._held = self._kept = 0
        self._spill: _Spill | None = None

    def add(self, user: str, entries: Iterable[Entry]) -> None:
        """Take items of a user; one that says the same as one that is there is left out.

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
            self.left.repeated += content in now
            now.add(content)
            if content in texts:
                continue
            texts.add(content)
            if not entry.output.strip():
                self.left.empty += 1
                continue
            name, count = entry.item_id, 1
            while name in names:
                count += 1
                name = f"{entry.item_id}#{count}"
            names.add(name)
            self._append((user, name, entry.input, entry.output, entry.timestamp))

    def forget(self, user: str) -> None:
        """No more items of this user will come: what tells them apart can go."""
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

    def table(self) -> pa.Table:
        """All items, schema ``HISTORIES``, in the order they came.

        Raises:
            InputError: no room for the temporary file.
        """
        self._flush()
        if self._spill is not None:
            return self._spill.table()
        return pa.Table.from_batches(self._batches, schema=HISTORIES)


class _Spill:
    """A temporary file of batches, mapped into memory as they are needed and gone with the process."""

    def __init__(self, batches: Sequence[pa.RecordBatch]) -> None:
        try:
            number, name = tempfile.mkstemp(prefix="bestfor-", suffix=".arrow")
            os.close(number)
            self._path = Path(name)
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

    def _remove(self) -> None:
        # The mapping keeps the bytes until the table goes; where a mapped file cannot be removed, the system does it.
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def _no_room(error: OSError) -> InputError:
    where, found = f"temporary files in {tempfile.gettempdir()}", error.strerror or str(error)
    return InputError(where, found, "room for a copy of the histories (TMPDIR chooses another place)")


def text_of(row: Mapping[str, object], name: str, where: str) -> str:
    """A field's text; numbers become their decimal text.

    Raises:
        InputError: the field is missing, or holds something else, or half of a surrogate pair.
    """
    if row.get(name) is None:
        raise InputError(f"{where}, field '{name}'", "nothing", "a text")
    value = row[name]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InputError(f"{where}, field '{name}'", _kind(value), "a text")
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise InputError(f"{where}, field '{name}'", "half of a surrogate pair", "text that can be written in UTF-8")
    return text


def objects_of(row: Mapping[str, object], name: str, where: str) -> list[Mapping[str, object]]:
    """A field's list of objects.

    Raises:
        InputError: the field is missing, is no list, or holds something else.
    """
    value = row.get(name)
    if not isinstance(value, list):
        found = "nothing" if value is None else _kind(value)
        raise InputError(f"{where}, field '{name}'", found, "a list of objects")
    for at, item in enumerate(value):
        if not isinstance(item, dict):
            raise InputError(f"{where}, field '{name}[{at}]'", _kind(item), "an object")
    return value


def time_of(value: object, where: str) -> int | None:
    """A date as seconds since 1970 (UTC): a year, a date or a moment in ISO 8601, or seconds or milliseconds.

    Raises:
        InputError: anything else.
    """
    if value is None or value == "":
        return None
    text = str(value).strip()
    with suppress(ValueError, OverflowError):
        if text.lstrip("-").replace(".", "", 1).isdigit():
            return _of_number(float(text), text)
        parts = text.split("-")
        if len(parts) in (2, 3) and all(part.isdigit() for part in parts):
            year, month, day = (*(int(part) for part in parts), 1)[:3]
            return int(datetime(year, month, day, tzinfo=UTC).timestamp())
        moment = datetime.fromisoformat(text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    raise InputError(where, f"'{text[:40]}'", "a year, a date such as 2017-05-30, or seconds since 1970")


def _of_number(number: float, text: str) -> int:
    if 0 < number < _YEARS and text.isdigit():
        return int(datetime(int(number), 1, 1, tzinfo=UTC).timestamp())
    return int(number // 1000 if abs(number) >= _MILLISECONDS else number)


def _kind(value: object) -> str:
    return {dict: "an object", list: "a list", str: "a text", bool: "true or false"}.get(type(value), "a bare value")
