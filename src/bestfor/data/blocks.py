"""Keep labels in blocks of users: a Parquet file a block, the block of a user decided by the hash of the id.

A block has the users of the shard of the same number (:func:`bestfor.shards.shard_of`), all their rows and nobody
else's, so what is learned of a user needs one block, and a model's shard follows from one block. Rows that come later
never move a user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bestfor.data.candidates import Candidates
from bestfor.data.frames import NAMES, NUMBERS
from bestfor.data.read.tables import UNREADABLE, Batches, Columns, columns_of, unreadable
from bestfor.data.text import hash_strings
from bestfor.errors import InputError
from bestfor.files import hash_file, hash_parts, read_object, write_json, writing_folder
from bestfor.shards import shard_of

LIST = "blocks.json"
HELD = 1 << 20
"""Rows that are held before they are written: each block gets some of them at a time."""
NEEDED = ("user", "text", "utility")


@dataclass(frozen=True)
class LabelBlocks:
    """Labels of a folder, block by block.

    Attributes:
        folder: that :func:`write_blocks` made.
        count: number of blocks, a power of two.
    """

    folder: Path
    count: int

    @classmethod
    def open(cls, folder: Path) -> LabelBlocks:
        """Open a folder of blocks.

        Raises:
            InputError: it is none.
        """
        listed = read_object(folder / LIST, "blocks", "a list of blocks", "a folder of blocks of labels")
        count = listed["blocks"]
        if not isinstance(count, int) or count < 1 or count & (count - 1):
            raise InputError(str(folder / LIST), f"{count} blocks", "a power of two")
        return cls(folder, count)

    def digest(self) -> str:
        """Hash all blocks.

        Raises:
            InputError: one is lost.
        """
        return hash_parts(hash_file(self._file(number)).encode() for number in range(self.count))

    def read(self, number: int) -> Candidates | None:
        """Read the labels of one block; None where it has no users.

        Raises:
            InputError: the block is lost, torn, or holds another one's users.
        """
        path = self._file(number)
        try:
            table = pq.read_table(path)
        except UNREADABLE as error:
            raise unreadable(path, "parquet", error) from error
        if not table.num_rows:
            return None
        found = Candidates.of_rows(table)
        other = next((user for user in found.users if shard_of(user, self.count) != number), None)
        if other is not None:
            raise InputError(str(path), f"user '{other}'", f"users of block {number} of {self.count}")
        return found

    def _file(self, number: int) -> Path:
        path = self.folder / name_of(number)
        if not path.is_file():
            raise InputError(str(path), "no file", f"block {number} of {self.count}")
        return path


def name_of(number: int) -> str:
    """Name the file of a block."""
    return f"block-{number:06}.parquet"


def count_users(source: Path | pa.Table, columns: Mapping[str, str] | None = None) -> int:
    """Count the users of a table, holding 8 bytes of each (two users with one 64-bit hash count once).

    Args:
        source: as for :func:`write_blocks`.
        columns: likewise.

    Raises:
        InputError: the table is bad.
    """
    where = str(source) if isinstance(source, Path) else "the table"
    names = columns_of(source) if isinstance(source, Path) else source.schema.names
    wanted = _wanted(names, columns or {})
    user = Columns(text={"user": wanted.text["user"]}, number={}, ids=wanted.ids)
    known = np.zeros(0, dtype=np.uint64)
    for _, table in Batches(source, user, where):
        some = pc.unique(table["user"])  # pyright: ignore[reportAttributeAccessIssue]
        known = np.union1d(known, hash_strings(some))
    return len(known)


def write_blocks(
    source: Path | pa.Table, folder: Path, count: int, columns: Mapping[str, str] | None = None
) -> LabelBlocks:
    """Deal the labels of a table out to blocks, reading it once; memory holds a million rows.

    Args:
        source: a file, a folder of Parquet files, or an Arrow table, one row a label: user, text, utility, and where
            there are any query, prompt, candidate and logprob, by the names that
            :meth:`bestfor.data.candidates.Candidates.of_rows` knows.
        folder: where the blocks come to lie, in the place of what was there.
        count: how many, a power of two: :func:`bestfor.shards.shard_count` gives what suits a number of users.
        columns: other names of the columns, by role.

    Raises:
        InputError: the table is bad, or the number no power of two.
    """
    if count < 1 or count & (count - 1):
        raise InputError("blocks", str(count), "a power of two")
    where = str(source) if isinstance(source, Path) else "the table"
    names = columns_of(source) if isinstance(source, Path) else source.schema.names
    batches = Batches(source, _wanted(names, columns or {}), where)
    with writing_folder(folder) as partial, ExitStack() as stack:
        writers: dict[int, pq.ParquetWriter] = {}
        schema: pa.Schema | None = None
        for table in _joined(batches):
            schema = table.schema
            _deal(table, count, lambda number, like: _writer(writers, number, partial, like, stack))
        if schema is None:
            raise InputError(where, "no rows", "one row a label")
        for number in range(count):
            _writer(writers, number, partial, schema, stack)
        stack.close()
        write_json(partial / LIST, {"blocks": count})
    return LabelBlocks(folder, count)


def _deal(table: pa.Table, count: int, writer: Callable[[int, pa.Schema], pq.ParquetWriter]) -> None:
    coded = table["user"].combine_chunks().dictionary_encode()
    blocks = np.array([shard_of(user, count) for user in coded.dictionary.to_pylist()], dtype=np.int64)
    number = blocks[coded.indices.to_numpy(zero_copy_only=False)]
    order = np.argsort(number, kind="stable")
    bounds = np.searchsorted(number[order], np.arange(count + 1))
    ordered = table.take(pa.array(order))
    for block in np.flatnonzero(np.diff(bounds)).tolist():
        rows = ordered.slice(int(bounds[block]), int(bounds[block + 1] - bounds[block]))
        writer(block, table.schema).write_table(rows)


def _writer(
    writers: dict[int, pq.ParquetWriter], number: int, folder: Path, schema: pa.Schema, stack: ExitStack
) -> pq.ParquetWriter:
    if number not in writers:
        writers[number] = stack.enter_context(pq.ParquetWriter(folder / name_of(number), schema))
    return writers[number]


def _wanted(names: list[str], columns: Mapping[str, str]) -> Columns:
    known = {role: next((one for one in usual if one in names), usual[0]) for role, usual in NAMES.items()}
    known |= columns
    return Columns(
        text={role: name for role, name in known.items() if role not in NUMBERS},
        number={role: name for role, name in known.items() if role in NUMBERS},
        optional=frozenset(NAMES) - set(NEEDED) - set(columns),
        ids=frozenset({"user"}),
    )


def _joined(batches: Batches) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    for _, table in batches:
        held.append(table)
        if sum(one.num_rows for one in held) >= HELD:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)
