"""Read objects (nested rows) one at a time from JSON arrays, JSON lines or Parquet, and check their fields.

:func:`read_rows` gives each object with its place (file and row). :func:`text_of`, :func:`objects_of` and
:func:`time_of` take a text, a list of objects or a moment out of a field; their errors name that place and the field.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bestfor.data.read.arrays import open_text, read_array
from bestfor.data.read.times import EXPECTED, moment
from bestfor.errors import InputError

Row = Mapping[str, object]

KINDS = (".json", ".json.gz", ".jsonl", ".jsonl.gz", ".parquet")
"""Endings of files that :func:`read_rows` reads."""

_BATCH = 16
"""Rows of a Parquet file at a time: each may hold a user's whole history."""


def read_rows(path: str | Path) -> Iterator[tuple[str, Row]]:
    """Read objects one after another; memory holds a few of them.

    Args:
        path: a file that ends in one of :data:`KINDS`.

    Yields:
        The place of each object, ``"<path>, row <number>"`` with numbers from 1, and the object.

    Raises:
        InputError: no file, another ending, or something unreadable; names the row.
    """
    path = Path(path)
    if path.name.endswith((".json", ".json.gz")):
        for number, row in read_array(path):
            yield f"{path}, row {number}", row
    elif path.name.endswith((".jsonl", ".jsonl.gz")):
        yield from _lines(path)
    elif path.suffix == ".parquet":
        yield from _parquet(path)
    else:
        raise InputError(str(path), f"a file ending in '{path.suffix}'", "one of " + ", ".join(KINDS))


def _lines(path: Path) -> Iterator[tuple[str, Row]]:
    number = 0
    try:
        with open_text(path) as handle:
            for line in handle:
                if not line.strip():
                    continue
                number += 1
                yield f"{path}, row {number}", _object(line, f"{path}, row {number}")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise unreadable(path, error, "JSON lines in UTF-8") from error


def _object(line: str, where: str) -> Row:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(where, f"what is not JSON ({error})", "one JSON object a line") from None
    if not isinstance(found, dict):
        raise InputError(where, "no object", "one JSON object a line")
    return found


def _parquet(path: Path) -> Iterator[tuple[str, Row]]:
    number = 0
    try:
        # A buffer keeps a column of a large row group from being read whole.
        with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error, "a whole Parquet file") from error


def unreadable(path: Path, error: Exception, expected: str) -> InputError:
    """Build the error for a file that cannot be opened, or broke while it was read."""
    lines = str(getattr(error, "strerror", None) or error).strip().splitlines()
    return InputError(str(path), f"what cannot be read ({lines[0] if lines else type(error).__name__})", expected)


def text_of(row: Mapping[str, object], name: str, where: str) -> str:
    """Take the text of a field; numbers become their decimal text.

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
    """Take the list of objects of a field.

    Raises:
        InputError: the field is missing, is no list, or holds something else.
    """
    value = row.get(name)
    if isinstance(value, dict):
        # Lists of structures are stored as structures of lists by some writers of Parquet.
        value = _transposed(value, f"{where}, field '{name}'")
    if not isinstance(value, list):
        found = "nothing" if value is None else _kind(value)
        raise InputError(f"{where}, field '{name}'", found, "a list of objects")
    for at, item in enumerate(value):
        if not isinstance(item, dict):
            raise InputError(f"{where}, field '{name}[{at}]'", _kind(item), "an object")
    return value


def _transposed(columns: Mapping[str, object], where: str) -> object:
    lists = [column for column in columns.values() if isinstance(column, list)]
    if not columns or len(lists) < len(columns):
        return columns
    if len({len(column) for column in lists}) > 1:
        raise InputError(where, "lists of different lengths", "a list of objects")
    return [dict(zip(columns, values, strict=True)) for values in zip(*lists, strict=True)]


def time_of(value: object, where: str) -> int | None:
    """Convert a year, a date, a moment, seconds or milliseconds to seconds since 1970 (UTC).

    Raises:
        InputError: anything else.
    """
    if value is None or value == "":
        return None
    text = str(value).strip()
    seconds = moment(text)
    if seconds is None:
        raise InputError(where, f"'{text[:40]}'", EXPECTED)
    return int(seconds)


def _kind(value: object) -> str:
    return {dict: "an object", list: "a list", str: "a text", bool: "true or false"}.get(type(value), "a bare value")
