"""A table read some rows at a time, as often as wanted: memory does not grow with the table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from bestfor.data.read.jsonl import BLOCK, first_row, jsonl_blocks
from bestfor.data.read.tables import UNREADABLE, Columns, format_of, header_of, mark_of, require, roles_of, unreadable

ROWS = 1 << 17


@dataclass(frozen=True)
class Batches:
    """A table's columns by role, in batches.

    Attributes:
        source: a .csv, .tsv, .jsonl or .parquet file, or a table in memory.
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
        """About how many rows the table has: counted where that is free, else guessed from its bytes."""
        if not isinstance(self.source, Path):
            return self.source.num_rows
        kind = format_of(self.source)
        try:
            if kind == "parquet":
                return pq.read_metadata(self.source).num_rows
            return self.source.stat().st_size // 32
        except UNREADABLE as error:
            raise unreadable(self.source, kind, error) from error

    def __iter__(self) -> Iterator[tuple[int, pa.Table]]:
        """The number of the batch's first row (the table's is 1) and a column for every role.

        Raises:
            InputError: as :func:`~bestfor.data.read.tables.read_table`.
        """
        first = 1
        for table in self._read():
            yield first, roles_of(table, self.columns, self.where, first)
            first += table.num_rows

    def _read(self) -> Iterator[pa.Table]:
        if not isinstance(self.source, Path):
            names = self.source.schema.names
            require(names, self.columns, self.where)
            for batch in self.source.select(self._present(names)).to_batches(max_chunksize=self.rows):
                yield pa.Table.from_batches([batch])
            return
        kind = format_of(self.source)
        try:
            yield from self._file(self.source, kind)
        except UNREADABLE as error:
            raise unreadable(self.source, kind, error) from error

    def _file(self, path: Path, kind: str) -> Iterator[pa.Table]:
        if kind == "parquet":
            yield from self._parquet(path)
        elif kind == "jsonl":
            require(self._keys(path), self.columns, self.where)
            yield from self._jsonl(path)
        else:
            names = header_of(path, kind)
            require(names, self.columns, self.where)
            yield from self._csv(path, kind, self._present(names))

    def _present(self, names: list[str]) -> list[str]:
        wanted = dict.fromkeys([*self.columns.text.values(), *self.columns.number.values()])
        return [name for name in wanted if name in names]

    def _jsonl(self, path: Path) -> Iterator[pa.Table]:
        texts, numbers = tuple(self.columns.text.values()), tuple(self.columns.number.values())
        return jsonl_blocks(path, texts, numbers, self.block)

    def _keys(self, path: Path) -> list[str]:
        """Keys of the first row, and wanted ones that other rows have."""
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
            require(names, self.columns, self.where)
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
            parse_options=pacsv.ParseOptions(delimiter=mark_of(kind), newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(
                column_types=types, include_columns=list(types), strings_can_be_null=False
            ),
        )
        with reader:
            for batch in reader:
                if batch.num_rows:
                    yield pa.Table.from_batches([batch])
