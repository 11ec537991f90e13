"""Any table that people keep: CSV, TSV, JSONL or Parquet, with errors that name file, row and column."""

from __future__ import annotations

import csv
import hashlib
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from bestfor.data.cells import numbers, strings
from bestfor.data.read.jsonl import BLOCK, read_jsonl
from bestfor.data.split import Ratings
from bestfor.errors import InputError, nearest

FORMATS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet"}
PACKED = (".gz", ".zip", ".bz2", ".xz", ".zst")


@dataclass(frozen=True)
class Columns:
    """Which columns a table must have, by role.

    Attributes:
        text: roles read as strings, each with its column's name; numbers become their decimal text.
        number: roles read as float64; an empty cell becomes null.
        optional: roles of either kind that may be absent.
        hints: role -> how a person names another column, NAME standing for it.
    """

    text: Mapping[str, str]
    number: Mapping[str, str]
    optional: frozenset[str] = field(default_factory=frozenset)
    hints: Mapping[str, str] = field(default_factory=dict)


def read_table(path: str | Path, columns: Columns) -> pa.Table:
    """Read the named columns of a table and rename them to their roles.

    Args:
        path: a .csv, .tsv, .jsonl or .parquet file.
        columns: what to read.

    Returns:
        A table with one column per role that is there: strings, or float64 (null where empty).

    Raises:
        InputError: no such file, another format, a missing or repeated column, or a cell that is not a number (with its
            row; the first row after the header is row 1).
    """
    path = Path(path)
    return roles_of(_read_columns(path, format_of(path), columns), columns, str(path))


def arrow_table(frame: object) -> pa.Table:
    """Any DataFrame (pandas, polars, ...) or table that speaks the Arrow stream interface.

    Raises:
        InputError: it does not.
    """
    if isinstance(frame, pa.Table):
        return frame
    if not hasattr(frame, "__arrow_c_stream__"):
        raise InputError(
            "the table", f"a {type(frame).__name__}", "a path, an Arrow table, or a DataFrame that exports one"
        )
    try:
        return pa.table(frame)  # pyright: ignore[reportArgumentType]
    except (pa.ArrowException, TypeError, ValueError) as error:
        line = str(error).strip().splitlines()[0]
        raise InputError("the table", f"what Arrow cannot read ({line})", "columns of one kind each") from error


def roles_of(table: pa.Table, columns: Columns, where: str, first: int = 1) -> pa.Table:
    """Pick a table's columns by role, check them and bring them to strings and float64.

    Args:
        table: what was read.
        columns: what is wanted.
        where: names the table in errors.
        first: the number of its first row, where it is a part of a table.

    Raises:
        InputError: a column is missing, a text is missing, or a cell is not a number.
    """
    require(table.schema.names, columns, where)
    roles: dict[str, pa.ChunkedArray] = {}
    for role, name in columns.text.items():
        if name in table.schema.names:
            optional = role in columns.optional
            roles[role] = strings(table.column(name), f"{where}, column '{name}'", optional, first)
    for role, name in columns.number.items():
        if name in table.schema.names:
            roles[role] = numbers(table.column(name), f"{where}, column '{name}'", first)
    return pa.table(roles)


def file_signature(path: str | Path) -> str:
    """The sha256 of a file's bytes, as ``sha256:<hex>``."""
    try:
        with Path(path).open("rb") as handle:
            return "sha256:" + hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise InputError(str(path), f"what cannot be read ({error.strerror})", "a file") from error


def load_ratings(path: str | Path, columns: Mapping[str, str] | None = None) -> Ratings:
    """Scores that people gave to texts: user, text and rating; query, text_id and timestamp where there are any.

    Args:
        path: a .csv, .tsv, .jsonl or .parquet file, one rating a row. An empty rating means not rated.
        columns: other names for the roles user, query, text, rating, text_id, timestamp.

    Raises:
        InputError: as :func:`read_table`; also an infinite rating, or two ratings by one user of one text for a query.
    """
    names = {role: role for role in ("user", "query", "text", "rating", "text_id", "timestamp")}
    unknown = set(columns or ()) - names.keys()
    if unknown:
        name = sorted(unknown)[0]
        raise InputError(f"columns of {path}", f"unknown role '{name}'", nearest(name, names))
    names |= dict(columns or {})
    wanted = Columns(
        text={role: names[role] for role in ("user", "query", "text", "text_id")},
        number={role: names[role] for role in ("rating", "timestamp")},
        optional=frozenset({"query", "text_id", "timestamp"}),
        hints={role: f'columns = {{ {role} = "NAME" }} under [data]' for role in names},
    )
    table = read_table(path, wanted)
    rating = table.column("rating")
    infinite = pc.fill_null(pc.is_inf(rating), False)  # pyright: ignore[reportAttributeAccessIssue]
    if pc.any(infinite).as_py():  # pyright: ignore[reportAttributeAccessIssue]
        row = int(np.flatnonzero(infinite.to_numpy())[0]) + 1
        raise InputError(f"{path}, row {row}, column '{names['rating']}'", "an infinite rating", "a finite number")
    return Ratings.build(table, name=Path(path).stem, source=str(path), signature=file_signature(path))


def format_of(path: Path) -> str:
    """csv, tsv, jsonl or parquet.

    Raises:
        InputError: another ending, no file, or an empty one.
    """
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        expected = "one of " + ", ".join(FORMATS) + (", unpacked" if path.suffix.lower() in PACKED else "")
        raise InputError(str(path), f"a file ending in '{path.suffix}'", expected)
    try:
        if not path.is_file():
            raise InputError(str(path), "a folder" if path.is_dir() else "no file", "a table")
        if path.stat().st_size == 0:
            raise InputError(str(path), "an empty file", "a table with a header")
    except OSError as error:
        raise InputError(str(path), f"what cannot be read ({error.strerror})", "a table") from error
    return kind


def _read_columns(path: Path, kind: str, columns: Columns) -> pa.Table:
    try:
        if kind == "jsonl":
            table, first = read_jsonl(path, tuple(columns.text.values()), tuple(columns.number.values()))
            require(list(dict.fromkeys([*first, *table.schema.names])), columns, str(path))
            return table
        names = list(pq.read_schema(path).names) if kind == "parquet" else header_of(path, kind)
        require(names, columns, str(path))
        wanted = dict.fromkeys([*columns.text.values(), *columns.number.values()])
        present = [name for name in wanted if name in names]
        if kind == "parquet":
            return pq.read_table(path, columns=present)
        texts = {name: pa.string() for name in columns.text.values() if name in names}
        return _read_csv(path, kind, present, texts)
    except UNREADABLE as error:
        raise unreadable(path, kind, error) from error


UNREADABLE = (pa.ArrowException, csv.Error, OSError, ValueError)
"""What broken tables raise."""


def unreadable(path: Path, kind: str, error: Exception) -> InputError:
    """The error for a table that broke while it was read."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    expected = "a whole parquet file" if kind == "parquet" else f"a whole {kind} file in UTF-8"
    return InputError(str(path), f"an unreadable table ({line})", expected)


def require(names: Sequence[str], columns: Columns, where: str) -> None:
    """Refuse a table that lacks a column, or has one twice."""
    for role, name in {**columns.text, **columns.number}.items():
        if name not in names and role not in columns.optional:
            raise InputError(where, f"no column '{name}'", _instead(name, names, columns.hints.get(role)))
        if names.count(name) > 1:
            raise InputError(where, f"{names.count(name)} columns '{name}'", "each column name once")


def _instead(name: str, names: Sequence[str], hint: str | None) -> str:
    """What could stand for a column that is not there."""
    near = nearest(name, names)
    listed = "" if hint is None or near.startswith("one of") else f"; its columns are {', '.join(names)}"
    told = "" if hint is None else f" (say which with {hint})"
    return textwrap.shorten(near, 300) + told + textwrap.shorten(listed, 300)


def header_of(path: Path, kind: str) -> list[str]:
    """The column names of a csv or tsv file that has rows too."""
    mark = mark_of(kind)
    with path.open(encoding="utf-8-sig", newline="") as handle:
        names = next((row for row in csv.reader(handle, delimiter=mark) if row), [])
        filled = any(line.strip() for line in handle)
    if not names:
        raise InputError(str(path), "an empty file", "a table with a header")
    other = next((one for one in ",;\t|" if one != mark and one in names[0]), None)
    if len(names) == 1 and other is not None:
        raise InputError(str(path), f"columns separated by {other!r}", f"{mark!r} in a .{kind} file")
    if not filled:
        raise InputError(str(path), "no rows", "rows after the header")
    return names


def mark_of(kind: str) -> str:
    """What separates columns."""
    return "\t" if kind == "tsv" else ","


def _read_csv(path: Path, kind: str, present: Sequence[str], texts: Mapping[str, pa.DataType]) -> pa.Table:
    # Quoted cells may hold line breaks: comments and reviews often do.
    parse = pacsv.ParseOptions(delimiter=mark_of(kind), newlines_in_values=True)
    read = pacsv.ReadOptions(block_size=BLOCK)
    types: dict[str, pa.DataType] = {name: pa.float64() for name in present} | dict(texts)
    convert = pacsv.ConvertOptions(column_types=types, include_columns=list(present), strings_can_be_null=False)
    try:
        return pacsv.read_csv(path, read_options=read, parse_options=parse, convert_options=convert)
    except pa.ArrowInvalid:
        # Some cell is not a number, or a row is broken: read all as text and in order, so that the row can be named.
        types = {name: pa.string() for name in present}
        convert = pacsv.ConvertOptions(column_types=types, include_columns=list(present))
        read.use_threads = False
        return pacsv.read_csv(path, read_options=read, parse_options=parse, convert_options=convert)
