"""Read the columns of a CSV, TSV, JSONL or Parquet file or a DataFrame, whole or in batches, and check every cell.

A folder of Parquet files is one table, too, its parts in the order of their names (:mod:`bestfor.data.read.folders`).

:class:`Columns` says which columns are wanted, by role. :func:`read_table` reads them at once, :class:`Batches` some
rows at a time and as often as wanted, so that memory does not grow with the table. Errors name file, row (the first
after the header is row 1) and column.
"""

from __future__ import annotations

import csv
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from bestfor.data.read.cells import NULLS, at_row, identifiers, parsed_numbers
from bestfor.data.read.folders import is_folder, parts_of
from bestfor.data.read.jsonl import BLOCK, first_row, jsonl_blocks, read_jsonl
from bestfor.errors import InputError, nearest
from bestfor.files import hash_file, hash_json, labelled
from bestfor.moved import renamed

FORMATS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet"}
PACKED = (".gz", ".zip", ".bz2", ".xz", ".zst")
UNREADABLE = (pa.ArrowException, csv.Error, OSError, ValueError)
"""What broken tables raise."""
ROWS = 1 << 17
"""Rows of a batch of a Parquet file or of a table in memory."""

__getattr__ = renamed(__name__, {"load_ratings": "data.sources.own:load_ratings"})


@dataclass(frozen=True)
class Columns:
    """Columns that a table must have, by role.

    Attributes:
        text: roles read as strings, each with its column's name; numbers become their decimal text.
        number: roles read as float64; an empty cell becomes null.
        optional: roles of either kind that may be absent.
        blank: text roles of which a cell may be empty; those of optional roles may be, too.
        ids: text roles that are ids: brought to one spelling, and never empty.
        hints: role -> how a person names another column, NAME standing for it.
    """

    text: Mapping[str, str]
    number: Mapping[str, str]
    optional: frozenset[str] = field(default_factory=frozenset)
    hints: Mapping[str, str] = field(default_factory=dict)
    blank: frozenset[str] = field(default_factory=frozenset)
    ids: frozenset[str] = field(default_factory=frozenset)


def read_table(path: str | Path, columns: Columns) -> pa.Table:
    """Read the named columns of a table and rename them to their roles.

    Args:
        path: a .csv, .tsv, .jsonl or .parquet file, or a folder of Parquet files.
        columns: what to read.

    Returns:
        A table with one column per role that is there: strings, or float64 (null where empty).

    Raises:
        InputError: no such file, another format, a missing or repeated column, or a cell that is not a number (with its
            row; the first row after the header is row 1).
    """
    path = Path(path)
    if is_folder(path):
        return pa.concat_tables([table for _, table in Batches(path, columns, str(path))])
    return roles_of(_read_columns(path, format_of(path), columns), columns, str(path))


def arrow_table(frame: object) -> pa.Table:
    """Convert any DataFrame (pandas, polars, ...) or table that exports the Arrow stream interface.

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
        return pa.table(frame)
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
        InputError: a column is missing, a text or an id is missing, or a cell is not a number.
    """
    require_columns(table.schema.names, columns, where)
    roles: dict[str, pa.ChunkedArray] = {}
    for role, name in columns.text.items():
        if name in table.schema.names:
            place, empty = f"{where}, column '{name}'", role in columns.optional or role in columns.blank
            roles[role] = strings(table.column(name), place, empty, first)
            if role in columns.ids:
                roles[role] = identifiers(roles[role], place, role, first)
    for role, name in columns.number.items():
        if name in table.schema.names:
            roles[role] = numbers(table.column(name), f"{where}, column '{name}'", first)
    return pa.table(roles)


def file_signature(path: str | Path) -> str:
    """Hash a file's bytes by sha256, as ``sha256:<hex>``; of a folder, the names and hashes of its parts."""
    try:
        if is_folder(Path(path)):
            parts = parts_of(Path(path))
            return labelled(hash_json([[str(part.relative_to(path)), hash_file(part)] for part in parts]))
        return labelled(hash_file(Path(path)))
    except OSError as error:
        raise InputError(str(path), f"what cannot be read ({error.strerror})", "a file") from error


def format_of(path: Path) -> str:
    """Find a file's format by its ending: csv, tsv, jsonl or parquet.

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
            require_columns(list(dict.fromkeys([*first, *table.schema.names])), columns, str(path))
            return table
        names = list(pq.read_schema(path).names) if kind == "parquet" else header_of(path, kind)
        require_columns(names, columns, str(path))
        wanted = dict.fromkeys([*columns.text.values(), *columns.number.values()])
        present = [name for name in wanted if name in names]
        if kind == "parquet":
            return pq.read_table(path, columns=present)
        texts = {name: pa.string() for name in columns.text.values() if name in names}
        return _read_csv(path, kind, present, texts)
    except UNREADABLE as error:
        raise unreadable(path, kind, error) from error


def unreadable(path: Path, kind: str, error: Exception) -> InputError:
    """Build the error for a table that broke while it was read."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    expected = "a whole parquet file" if kind == "parquet" else f"a whole {kind} file in UTF-8"
    return InputError(str(path), f"an unreadable table ({line})", expected)


def require_columns(names: Sequence[str], columns: Columns, where: str) -> None:
    """Refuse a table that lacks a column, or has one twice."""
    for role, name in {**columns.text, **columns.number}.items():
        if name not in names and role not in columns.optional:
            raise InputError(where, f"no column '{name}'", _instead(name, names, columns.hints.get(role)))
        if names.count(name) > 1:
            raise InputError(where, f"{names.count(name)} columns '{name}'", "each column name once")


def _instead(name: str, names: Sequence[str], hint: str | None) -> str:
    """Name what could stand for a column that is not there."""
    near = nearest(name, names)
    listed = "" if hint is None or near.startswith("one of") else f"; its columns are {', '.join(names)}"
    option = "" if hint is None else f" (say which with {hint})"
    return textwrap.shorten(near, 300) + option + textwrap.shorten(listed, 300)


def columns_of(path: str | Path) -> list[str]:
    """Read the names of a table's columns; of JSON lines, the keys of the first row; of a folder, those of a part.

    Raises:
        InputError: no such file, another format, or something unreadable.
    """
    path = Path(path)
    path = parts_of(path)[0] if is_folder(path) else path
    kind = format_of(path)
    try:
        if kind == "jsonl":
            return list(first_row(path))
        return list(pq.read_schema(path).names) if kind == "parquet" else header_of(path, kind)
    except UNREADABLE as error:
        raise unreadable(path, kind, error) from error


def header_of(path: Path, kind: str) -> list[str]:
    """Read the column names of a csv or tsv file that has rows too."""
    mark = delimiter_of(kind)
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


def delimiter_of(kind: str) -> str:
    """Character between the columns of a format."""
    return "\t" if kind == "tsv" else ","


def _read_csv(path: Path, kind: str, present: Sequence[str], texts: Mapping[str, pa.DataType]) -> pa.Table:
    # Quoted cells may hold line breaks: comments and reviews often do.
    parse = pacsv.ParseOptions(delimiter=delimiter_of(kind), newlines_in_values=True)
    read = pacsv.ReadOptions(block_size=BLOCK)
    types: dict[str, pa.DataType] = {name: pa.float64() for name in present} | dict(texts)
    convert = pacsv.ConvertOptions(
        column_types=types, include_columns=list(present), strings_can_be_null=False, null_values=sorted(NULLS)
    )
    try:
        return pacsv.read_csv(path, read_options=read, parse_options=parse, convert_options=convert)
    except pa.ArrowInvalid:
        # Some cell is not a number, or a row is broken: read all as text and in order, so that the row can be named.
        types = {name: pa.string() for name in present}
        convert = pacsv.ConvertOptions(column_types=types, include_columns=list(present))
        read.use_threads = False
        return pacsv.read_csv(path, read_options=read, parse_options=parse, convert_options=convert)


def strings(column: pa.ChunkedArray, where: str, optional: bool, first: int) -> pa.ChunkedArray:
    """Convert a column to strings, numbers in decimal.

    Args:
        column: of any type.
        where: file and column, for errors.
        optional: whether cells may be empty.
        first: number of the first row, for errors.

    Raises:
        InputError: the type has no text, or a cell is empty that must not be.
    """
    column = _plain(column)
    if pa.types.is_floating(column.type):
        column = _identifiers(column.cast(pa.float64()))
    try:
        column = column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(where, f"values of type {column.type}", "texts in UTF-8 or whole numbers") from error
    if column.null_count and not optional:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0]) + first
        raise InputError(at_row(where, row), "an empty cell", "a text")
    return column


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Decode a dictionary column; Arrow cannot cast one of string views, as polars' categories are."""
    if not pa.types.is_dictionary(column.type):
        return column
    kind = pa.string() if pa.types.is_string_view(column.type.value_type) else column.type.value_type
    return pa.chunked_array([part.dictionary.cast(kind).take(part.indices) for part in column.chunks], kind)


def _identifiers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Write floats as identifiers: NaN is none, and 3.0 is the 3 that a tool wrote as a float."""
    values = column.to_numpy()
    whole = np.isfinite(values) & (np.floor(values) == values) & (np.abs(values) < 2**53)
    texts = pa.array(values, mask=np.isnan(values)).cast(pa.string())
    numbers = pa.array(np.where(whole, values, 0.0).astype(np.int64)).cast(pa.string())
    return pa.chunked_array([pc.if_else(pa.array(whole), numbers, texts)])  # pyright: ignore[reportAttributeAccessIssue]


def numbers(column: pa.ChunkedArray, where: str, first: int) -> pa.ChunkedArray:
    """Convert a column to float64, null where a cell is empty; arguments as in :func:`strings`.

    True and false become 1 and 0.

    Raises:
        InputError: a cell is not a number; the message names its row.
    """
    column = _plain(column)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        values = parsed_numbers(column.to_pylist(), where, first)
        return pa.chunked_array([pa.array(values, from_pandas=True)])
    try:
        return column.cast(pa.float64(), safe=False)  # integers beyond 2^53 are rounded, not refused
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(where, f"values of type {column.type}", "numbers") from error


@dataclass(frozen=True)
class Batches:
    """Columns of a table by role, read in batches as often as wanted.

    Attributes:
        source: a .csv, .tsv, .jsonl or .parquet file, a folder of Parquet files, or a table in memory.
        columns: what is wanted of it.
        where: names the table in errors.
        rows: of a batch of a parquet file or a table in memory, at most.
        block: bytes of a batch of a text file, at least the longest row.
    """

    source: Path | pa.Table
    columns: Columns
    where: str
    rows: int = ROWS
    block: int = BLOCK

    def weight(self) -> int:
        """Estimate the number of rows: counted where that is free, else guessed from the bytes."""
        if not isinstance(self.source, Path):
            return self.source.num_rows
        return sum(_rows_about(path) for path in self._paths(self.source))

    def __iter__(self) -> Iterator[tuple[int, pa.Table]]:
        """Give each batch with the number of its first row (the table's is 1) and a column for every role.

        Rows are counted on through the parts of a folder; errors about a cell name its part, and the row in it.

        Raises:
            InputError: as :func:`~bestfor.data.read.tables.read_table`.
        """
        done = 0
        for where, tables in self._read():
            first = 1
            for table in tables:
                yield done + first, roles_of(table, self.columns, where, first)
                first += table.num_rows
            done += first - 1

    def _paths(self, source: Path) -> list[Path]:
        return parts_of(source) if is_folder(source) else [source]

    def _read(self) -> Iterator[tuple[str, Iterator[pa.Table]]]:
        """Iterate over the files of the table, each with what names it in errors."""
        if not isinstance(self.source, Path):
            yield self.where, self._memory(self.source)
            return
        for path in self._paths(self.source):
            yield str(path) if is_folder(self.source) else self.where, self._checked_file(path)

    def _memory(self, table: pa.Table) -> Iterator[pa.Table]:
        names = table.schema.names
        require_columns(names, self.columns, self.where)
        for batch in table.select(self._present(names)).to_batches(max_chunksize=self.rows):
            yield pa.Table.from_batches([batch])

    def _checked_file(self, path: Path) -> Iterator[pa.Table]:
        kind = format_of(path)
        try:
            yield from self._file(path, kind)
        except UNREADABLE as error:
            raise unreadable(path, kind, error) from error

    def _file(self, path: Path, kind: str) -> Iterator[pa.Table]:
        if kind == "parquet":
            yield from self._parquet(path)
        elif kind == "jsonl":
            require_columns(self._keys(path), self.columns, self.where)
            yield from self._jsonl(path)
        else:
            names = header_of(path, kind)
            require_columns(names, self.columns, self.where)
            yield from self._csv(path, kind, self._present(names))

    def _present(self, names: list[str]) -> list[str]:
        wanted = dict.fromkeys([*self.columns.text.values(), *self.columns.number.values()])
        return [name for name in wanted if name in names]

    def _jsonl(self, path: Path) -> Iterator[pa.Table]:
        texts, numbers = tuple(self.columns.text.values()), tuple(self.columns.number.values())
        return jsonl_blocks(path, texts, numbers, self.block)

    def _keys(self, path: Path) -> list[str]:
        """Find the keys of the first row, and wanted ones that other rows have."""
        names = dict.fromkeys(first_row(path))
        wanted = {*self.columns.text.values(), *self.columns.number.values()}
        blocks = self._jsonl(path) if wanted - names.keys() else iter(())
        for table in blocks:
            names |= dict.fromkeys(name for name in table.schema.names if table[name].null_count < table.num_rows)
            if not wanted - names.keys():
                break
        return list(names)

    def _parquet(self, path: Path) -> Iterator[pa.Table]:
        # A buffer keeps a column of a large row group from being read whole.
        with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            names = list(file.schema_arrow.names)
            require_columns(names, self.columns, self.where if self.source == path else str(path))
            for batch in file.iter_batches(batch_size=self.rows, columns=self._present(names)):
                yield pa.Table.from_batches([batch])

    def _csv(self, path: Path, kind: str, present: list[str]) -> Iterator[pa.Table]:
        texts = {name: pa.string() for name in self.columns.text.values() if name in present}
        numbers = {name: pa.float64() for name in present if name not in texts}
        done = 0
        try:
            for table in self._csv_batches(path, kind, texts | numbers):
                yield table
                done += table.num_rows
        except pa.ArrowInvalid:
            # Some cell is not a number, or a row is broken: the rest is read as text, so that the row can be named.
            skip = done
            for table in self._csv_batches(path, kind, {name: pa.string() for name in present}):
                if skip < table.num_rows:
                    yield table.slice(skip)
                skip = max(skip - table.num_rows, 0)

    def _csv_batches(self, path: Path, kind: str, types: dict[str, pa.DataType]) -> Iterator[pa.Table]:
        reader = pacsv.open_csv(
            path,
            read_options=pacsv.ReadOptions(block_size=self.block),
            parse_options=pacsv.ParseOptions(delimiter=delimiter_of(kind), newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(
                column_types=types, include_columns=list(types), strings_can_be_null=False, null_values=sorted(NULLS)
            ),
        )
        with reader:
            for batch in reader:
                if batch.num_rows:
                    yield pa.Table.from_batches([batch])


def _rows_about(path: Path) -> int:
    """Estimate the number of rows of a file: counted where that is free, else guessed from the bytes."""
    kind = format_of(path)
    try:
        return pq.read_metadata(path).num_rows if kind == "parquet" else path.stat().st_size // 32
    except UNREADABLE as error:
        raise unreadable(path, kind, error) from error
