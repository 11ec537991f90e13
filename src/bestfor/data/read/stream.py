"""Read a table of candidates as blocks of whole queries, however long it is and whatever the order of its rows.

Where the rows of each query follow one another the table is read straight through. Where they do not, its rows are
first partitioned into temporary Parquet files by a hash of user and query, and each file is sorted in memory. Memory
holds one batch or one such file, and 8 bytes a query; the disk holds a copy of the columns that are used.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bestfor.data.read.tables import Batches
from bestfor.data.text import Hashes, hash_strings, join_hashes
from bestfor.errors import InputError
from bestfor.moved import renamed
from bestfor.types import BoolArray, IntArray

PART = 1 << 18
"""Rows of a temporary file, about."""

MOST_PARTS = 256
NUMBER = "row number"

Found = TypeVar("Found")
__getattr__ = renamed(__name__, {"Block": "QueryBlock"})


@dataclass(frozen=True)
class QueryBlock:
    """Rows of some whole queries.

    Attributes:
        table: a column for every role; the rows of a query follow one another, in the order of the whole table.
        number: shape (rows,), their numbers in the whole table, from 1.
        start: shape (queries,), the first row of each query.
    """

    table: pa.Table
    number: IntArray
    start: IntArray


class ScatteredError(Exception):
    """Signal that the rows of some query do not follow one another."""


class QueryBlocks:
    """Blocks of whole queries of a table, for several passes; a context manager that removes its temporary files."""

    def __init__(self, batches: Batches, part: int = PART) -> None:
        """Take the table; nothing is read yet.

        Args:
            batches: of a table with the roles user and query.
            part: rows of a temporary file, about.
        """
        self._batches = batches
        self._part = part
        self._files: list[Path] = []
        self._stack = ExitStack()

    def __enter__(self) -> QueryBlocks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def scattered(self) -> bool:
        """True if the rows of some query were apart, so that rows were partitioned into files."""
        return bool(self._files)

    def first_pass(self, look: Callable[[Iterable[QueryBlock]], Found]) -> Found:
        """Look at all blocks once and find out on the way if the rows of some query are apart.

        Args:
            look: is called again from the start, with other blocks, where they are.

        Returns:
            What it found.

        Raises:
            InputError: as reading the table does; or no room for temporary files.
        """
        try:
            return look(_grouped(self._batches, _Seen()))
        except ScatteredError:
            self._partition()
            return look(self)

    def __iter__(self) -> Iterator[QueryBlock]:
        """Give the same blocks again; only after the first pass."""
        if not self._files:
            yield from _grouped(self._batches, None)
        for file in self._files:
            yield _sorted(pq.read_table(file))

    def _partition(self) -> None:
        parts = min(max(self._batches.weight() // self._part, 1) + 1, MOST_PARTS)
        try:
            folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bestfor-")))
            files = [folder / f"{part}.parquet" for part in range(parts)]
            _write_parts(self._batches, files, self._part)
        except OSError as error:
            raise InputError(
                f"temporary files in {tempfile.gettempdir()}", error.strerror or str(error),
                "room for a copy of the table (TMPDIR chooses another place)",
            ) from error  # fmt: skip
        self._files = [file for file in files if file.exists()]


def query_blocks(batches: Batches) -> Iterator[QueryBlock]:
    """Give the blocks of a table in which the rows of each query are known to follow one another."""
    return _grouped(batches, None)


def look_at_part(batches: Batches, look: Callable[[Iterable[QueryBlock]], Found]) -> tuple[Found, Hashes]:
    """Look at all blocks of a table once.

    Returns:
        What was found, and the hashes of its queries, ascending.

    Raises:
        ScatteredError: the rows of some query do not follow one another.
        InputError: as reading the table does.
    """
    seen = _Seen()
    return look(_grouped(batches, seen)), seen.keys()


class _Seen:
    """Hashes of the queries so far; two queries with the same hash only cost time."""

    def __init__(self) -> None:
        self._new: list[Hashes] = []
        self._count = 0
        self._checked = 1 << 12

    def add(self, keys: Hashes) -> None:
        self._new.append(keys)
        self._count += len(keys)
        if self._count >= 2 * self._checked:
            self.check()

    def keys(self) -> Hashes:
        """Give all hashes, ascending."""
        self.check()
        return self._new[0]

    def check(self) -> None:
        keys = np.sort(np.concatenate(self._new)) if self._new else np.zeros(0, dtype=np.uint64)
        if (keys[1:] == keys[:-1]).any():
            raise ScatteredError
        self._new, self._checked = [keys], self._count


def _grouped(batches: Batches, seen: _Seen | None) -> Iterator[QueryBlock]:
    """Cut the table into blocks of whole queries; raise :class:`ScatteredError` as soon as that cannot be."""
    held: list[tuple[int, pa.Table]] = []
    for first, table in batches:
        start = _starts(table)
        if held and _continues(held[-1][1], table):
            start = start[1:]
        if seen is not None:
            seen.add(_keys(table.select(["user", "query"]).take(pa.array(start))))
        if not len(start):
            held.append((first, table))
            continue
        cut, last = int(start[0]), int(start[-1])
        if held or cut:
            yield _block([*held, (first, table.slice(0, cut))])
        if last > cut:
            yield _block([(first + cut, table.slice(cut, last - cut))])
        held = [(first + last, table.slice(last))]
    if held:
        yield _block(held)
    if seen is not None:
        seen.check()


def _block(pieces: list[tuple[int, pa.Table]]) -> QueryBlock:
    table = pa.concat_tables([piece for _, piece in pieces])
    number = np.arange(table.num_rows, dtype=np.int64) + pieces[0][0]
    return QueryBlock(table, number, _starts(table))


def _changes(column: pa.ChunkedArray) -> BoolArray:
    if len(column) < 2:
        return np.zeros(max(len(column) - 1, 0), dtype=np.bool_)
    same = pc.equal(column.slice(1), column.slice(0, len(column) - 1))  # pyright: ignore[reportAttributeAccessIssue]
    return ~same.to_numpy(zero_copy_only=False)


def _starts(table: pa.Table) -> IntArray:
    """Find the first row of each run of one user and query."""
    if not table.num_rows:
        return np.zeros(0, dtype=np.int64)
    return np.flatnonzero(np.r_[True, _changes(table["user"]) | _changes(table["query"])])


def _continues(before: pa.Table, after: pa.Table) -> bool:
    return all(before[role][-1].as_py() == after[role][0].as_py() for role in ("user", "query"))


def _keys(table: pa.Table) -> Hashes:
    """Hash every row's user and query to one number."""
    first, second = (_hashed(table[role].combine_chunks()) for role in ("user", "query"))
    return join_hashes(first, second)


def _hashed(strings: pa.Array) -> Hashes:
    coded = strings.dictionary_encode()
    return hash_strings(coded.dictionary)[coded.indices.to_numpy(zero_copy_only=False)]


def _write_parts(batches: Batches, files: list[Path], rows: int) -> None:
    """Write each row to the file of its query's hash, in the table's order."""
    with ExitStack() as stack:
        writers: dict[int, pq.ParquetWriter] = {}
        for table in _numbered(batches, 2 * rows):
            part = (_keys(table) >> np.uint64(32)) % np.uint64(len(files))
            order = np.argsort(part, kind="stable")
            bounds = np.searchsorted(part[order], np.arange(len(files) + 1))
            ordered = table.take(pa.array(order))
            for place, (low, high) in enumerate(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)):
                if low == high:
                    continue
                if place not in writers:
                    writers[place] = stack.enter_context(pq.ParquetWriter(files[place], ordered.schema))
                writers[place].write_table(ordered.slice(low, high - low))


def _numbered(batches: Batches, rows: int) -> Iterator[pa.Table]:
    """Join batches to at least so many rows, with a column of row numbers."""
    held: list[pa.Table] = []
    for first, table in batches:
        number = pa.array(np.arange(table.num_rows, dtype=np.int64) + first)
        held.append(table.append_column(NUMBER, number))
        if sum(piece.num_rows for piece in held) >= rows:
            yield pa.concat_tables(held).combine_chunks()
            held = []
    if held:
        yield pa.concat_tables(held).combine_chunks()


def _sorted(table: pa.Table) -> QueryBlock:
    user, query = (table[role].combine_chunks().dictionary_encode() for role in ("user", "query"))
    key = user.indices.to_numpy(zero_copy_only=False).astype(np.int64) * len(query.dictionary)
    order = np.argsort(key + query.indices.to_numpy(zero_copy_only=False), kind="stable")
    table = table.take(pa.array(order))
    return QueryBlock(table.drop_columns([NUMBER]), table[NUMBER].to_numpy(), _starts(table))
