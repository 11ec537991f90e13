"""Rows of nested data, one at a time, from whatever file they lie in: JSON arrays, JSON lines or Parquet."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bestfor.data.jsonarray import read_array
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
        with _open(path) as handle:
            for line in handle:
                if not line.strip():
                    continue
                number += 1
                yield f"{path}, row {number}", _object(line, f"{path}, row {number}")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise unreadable(path, error, "JSON lines in UTF-8") from error


def _open(path: Path):  # noqa: ANN202 (a text file of either kind)
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig")
    return path.open(encoding="utf-8-sig")


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
    """The error for a file that cannot be opened, or broke while it was read."""
    lines = str(getattr(error, "strerror", None) or error).strip().splitlines()
    return InputError(str(path), f"what cannot be read ({lines[0] if lines else type(error).__name__})", expected)
