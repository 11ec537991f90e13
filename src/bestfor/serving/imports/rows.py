"""Read the rows of an export: tables, JSON lines, lists of objects, and pages that hold a list."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from bestfor.data.read.arrays import open_text
from bestfor.data.read.objects import KINDS, Row, read_rows, unreadable
from bestfor.data.read.tables import delimiter_of
from bestfor.errors import InputError

LISTS = ("data", "annotations", "scores", "feedback", "feedbacks", "runs", "traces", "spans", "items")
"""Fields under which an answer of an interface holds its list of objects."""

_TABLES = (".csv", ".tsv")


def export_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Read the objects of an export one after another.

    Args:
        path: ``.csv``, ``.tsv``, ``.json`` (a list, one object, or an object that holds a list under one of
            :data:`LISTS`), ``.jsonl`` or ``.parquet``.

    Yields:
        The place of each object, with its row, and the object.

    Raises:
        InputError: no file, another ending, or something unreadable; names the row.
    """
    if path.suffix in _TABLES:
        yield from _table(path)
    elif path.suffix == ".json" and _begins_with_object(path):
        yield from _page(path)
    elif path.name.endswith(KINDS):
        yield from read_rows(path)
    else:
        expected = ", ".join([*_TABLES, *KINDS])
        raise InputError(str(path), f"a file ending in '{path.suffix}'", f"one of {expected}")


def _table(path: Path) -> Iterator[tuple[str, Row]]:
    csv.field_size_limit(sys.maxsize)
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle, delimiter=delimiter_of(path.suffix[1:]), strict=True)
            for number, row in enumerate(reader, 1):
                where = f"{path}, row {number}"
                if None in row or None in row.values():
                    raise InputError(where, "another number of cells than the header has", "a cell for each column")
                yield where, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise unreadable(path, error, "a table in UTF-8") from error


def _begins_with_object(path: Path) -> bool:
    try:
        with open_text(path) as handle:
            while (sign := handle.read(1)).isspace() or sign == "\ufeff":
                pass
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error, "JSON in UTF-8") from error
    return sign == "{"


def _page(path: Path) -> Iterator[tuple[str, Row]]:
    """Read one object: a page of an interface, a trace with its scores, or a single record."""
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(str(path), f"what is not JSON ({error})", "a list of objects, or one object") from None
    lists = [name for name in LISTS if isinstance(found.get(name), list)]
    single = found.get("trace")
    rows: list[object] = [single] if isinstance(single, Mapping) else []
    for name in lists:
        rows += found[name]
    for number, row in enumerate(rows if rows else [found], 1):
        where = f"{path}, row {number}"
        if not isinstance(row, dict):
            raise InputError(where, "no object", "a list of objects")
        yield where, row
