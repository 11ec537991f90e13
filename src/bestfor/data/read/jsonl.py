"""Read JSON lines as columns: by Arrow where all rows are alike, one by one where they are not."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.json as pajson

from bestfor.errors import InputError

BLOCK = 1 << 25
"""Bytes read at a time: a row must fit into it, and texts can be long."""

Row = dict[str, object]


def read_jsonl(path: Path, texts: Sequence[str], numbers: Sequence[str]) -> tuple[pa.Table, list[str]]:
    """Read some keys of a file with one JSON object a line; other keys may hold anything.

    Args:
        path: the file.
        texts: keys whose values are strings, whole numbers, or a mixture.
        numbers: keys whose values are numbers, booleans, or strings that hold numbers.

    Returns:
        A column for each of these keys that any row has (null where a row lacks it), and the keys of the first row.

    Raises:
        InputError: a line is not a JSON object, or a value is an object or a list; names the row.
    """
    first = first_row(path)
    table = _alike(path, first, texts, numbers)
    if table is None:
        with path.open(encoding="utf-8-sig") as lines:
            table = _one_by_one(_rows(lines, path), path, texts, numbers)
    kept = [name for name in table.schema.names if name in first or table[name].null_count < table.num_rows]
    return table.select(kept), list(first)


def first_row(path: Path) -> Row:
    """Read the first row of a file.

    Raises:
        InputError: there is none, or it is not a JSON object.
    """
    with path.open(encoding="utf-8-sig") as lines:
        first = next(_rows(lines, path), None)
    if first is None:
        raise InputError(str(path), "no rows", "one JSON object a line")
    return dict(first[1])


def jsonl_blocks(path: Path, texts: Sequence[str], numbers: Sequence[str], size: int = BLOCK) -> Iterator[pa.Table]:
    """Read the same columns as :func:`read_jsonl`, some bytes of the file at a time.

    Args:
        path: the file.
        texts: as for :func:`read_jsonl`.
        numbers: likewise.
        size: bytes of a block; one longer line makes one longer block.

    Yields:
        Tables with all of these columns.

    Raises:
        InputError: as :func:`read_jsonl`.
    """
    first, done = first_row(path), 0
    for block in _lines(path, size):
        table = _alike(pa.BufferReader(block), first, texts, numbers)
        if table is None:
            lines = io.StringIO(block.decode("utf-8"), newline=None)
            table = _one_by_one(_rows(lines, path, done + 1), path, texts, numbers)
        if table.num_rows:
            yield table.select(list(dict.fromkeys([*texts, *numbers])))
        done += table.num_rows


def _lines(path: Path, size: int) -> Iterator[bytes]:
    """Read whole lines, about so many bytes at a time."""
    with path.open("rb") as handle:
        rest = handle.read(3).removeprefix(b"\xef\xbb\xbf")
        while chunk := handle.read(size):
            head, mark, tail = chunk.rpartition(b"\n")
            if mark:
                yield rest + head + mark
                rest = tail
            else:
                rest += tail
    if rest.strip():
        yield rest


def _alike(source: Path | pa.NativeFile, first: Row, texts: Sequence[str], numbers: Sequence[str]) -> pa.Table | None:
    """Parse by Arrow with the types of the first row; None where other rows differ."""
    fields = [(name, pa.int64() if type(first.get(name)) is int else pa.string()) for name in texts]
    fields += [(name, pa.float64()) for name in numbers if name not in texts]
    parse = pajson.ParseOptions(explicit_schema=pa.schema(fields), unexpected_field_behavior="ignore")
    try:
        return pajson.read_json(source, read_options=pajson.ReadOptions(block_size=BLOCK), parse_options=parse)
    except pa.ArrowInvalid:
        return None


def _one_by_one(rows: Iterable[tuple[int, Row]], path: Path, texts: Sequence[str], numbers: Sequence[str]) -> pa.Table:
    """Parse row by row, every value as text, so that a cell that is no number is found later with its row."""
    columns: dict[str, list[str | None]] = {name: [] for name in (*texts, *numbers)}
    for row, found in rows:
        for name, column in columns.items():
            column.append(_text(found.get(name), name in numbers, f"{path}, row {row}, column '{name}'"))
    return pa.table({name: pa.array(column, pa.string()) for name, column in columns.items()})


def _rows(lines: Iterable[str], path: Path, first: int = 1) -> Iterator[tuple[int, Row]]:
    for row, line in enumerate((line for line in lines if line.strip()), start=first):
        try:
            found = json.loads(line, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            where = f"{path}, row {row}"
            if row == 1 and line.strip() == "[":
                raise InputError(where, "the beginning of a JSON array", "one whole JSON object a line") from None
            raise InputError(where, f"an unreadable table ({error})", "one whole JSON object a line") from None
        if not isinstance(found, dict):
            raise InputError(f"{path}, row {row}", _kind(found), "one JSON object a line")
        yield row, found


def _once(pairs: list[tuple[str, object]]) -> Row:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key '{max(names, key=names.count)}' stands twice")
    return found


def _text(value: object, number: bool, where: str) -> str | None:
    if value is None:
        return None
    if isinstance(value, dict | list):
        raise InputError(where, _kind(value), "a number" if number else "a text or a number")
    if isinstance(value, bool):
        return str(int(value)) if number else str(value).lower()
    if isinstance(value, float) and value.is_integer() and not number:
        return str(int(value))
    text = str(value)
    if not text.isascii() and text != text.encode("utf-8", "replace").decode("utf-8"):
        raise InputError(where, "half of a surrogate pair", "text that can be written in UTF-8")
    return text


def _kind(value: object) -> str:
    return {dict: "an object", list: "a list", str: "a text", type(None): "null"}.get(type(value), "a bare value")
