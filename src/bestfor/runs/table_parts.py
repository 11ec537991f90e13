"""Diagnose a folder of Parquet parts by several processes: a task a part, sums put together in the order of the parts.

It is the diagnosis of one process, since blocks are cut at the same places: where every query lies in one part. Where
rows of a query lie in several parts, or apart from each other, one process has to partition them first.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bestfor.backends import Backend, Plan, PlanTask
from bestfor.data.read.folders import is_folder, parts_of
from bestfor.data.read.stream import ScatteredError, look_at_part, query_blocks
from bestfor.data.read.tables import UNREADABLE, Batches, Columns
from bestfor.data.text import Hashes
from bestfor.diagnostics.blocks import BlockKey, BlockTasks
from bestfor.diagnostics.table.pools import Pools
from bestfor.errors import InputError
from bestfor.runs.table_passes import FirstPass, TableColumns, block_pools, count_blocks
from bestfor.types import Scale

Found = TypeVar("Found")


@dataclass(frozen=True)
class _PartBatches(Batches):
    """Batches of one part, rows counted on from the parts before."""

    before: int = 0

    def __iter__(self) -> Iterator[tuple[int, pa.Table]]:
        for first, table in super().__iter__():
            yield first + self.before, table


@dataclass(frozen=True)
class PartTables:
    """Parts of a folder: what their tasks need to know.

    Attributes:
        parts: the files, in order.
        before: rows of the parts before each.
        wanted: columns by role.
        columns: their names.
        scale: of the rewards.
        where: names the folder in errors.
    """

    parts: tuple[Path, ...]
    before: tuple[int, ...]
    wanted: Columns
    columns: TableColumns
    scale: Scale
    where: str

    @classmethod
    def of(cls, batches: Batches, columns: TableColumns, scale: Scale) -> PartTables | None:
        """List the parts of a folder that several processes can diagnose; None where they cannot.

        That needs two parts or more, no texts that users may share, and no standard deviations to judge.
        """
        source = batches.source
        if columns.text is not None or columns.stds or not isinstance(source, Path) or not is_folder(source):
            return None
        try:
            parts = tuple(parts_of(source))
            rows = [pq.read_metadata(path).num_rows for path in parts]
        except UNREADABLE:
            return None
        if len(parts) < 2:
            return None
        before = tuple(int(count) for count in np.cumsum([0, *rows[:-1]]))
        return cls(parts, before, batches.columns, columns, scale, batches.where)

    def batches(self, number: int) -> Batches:
        """Read one part."""
        return _PartBatches(self.parts[number], self.wanted, str(self.parts[number]), before=self.before[number])

    def pools(self, number: int) -> Iterator[tuple[BlockKey, Pools]]:
        """Give the pools of one part, block by block."""
        place = 0
        for block in query_blocks(self.batches(number)):
            for pools in block_pools(block, self.columns, self.scale):
                yield (number, place), pools
                place += 1


def count_part(tables: PartTables, number: int) -> tuple[FirstPass, Hashes] | None:
    """Check and count one part, and list the hashes of its queries; None where a query's rows lie apart, or are bad."""
    try:
        return look_at_part(tables.batches(number), lambda some: count_blocks(some, tables.columns, tables.where))
    except (ScatteredError, InputError):
        return None


def work_on_part(
    held: tuple[PartTables, Callable[[Any, BlockKey, Pools], Any], Any], number: int
) -> list[tuple[BlockKey, Any]]:
    """Do the work of a pass on all blocks of one part."""
    tables, work, given = held
    return [(key, work(given, key, pools)) for key, pools in tables.pools(number)]


class PartTasks(BlockTasks):
    """Passes over the blocks of a folder's parts, a task a part.

    Args:
        tables: the parts.
        backend: does the tasks.
    """

    def __init__(self, tables: PartTables, backend: Backend) -> None:
        self._tables, self._backend = tables, backend

    def first_pass(self) -> FirstPass | None:
        """Check and count all parts; None where one process has to look: something is bad, or a query lies apart."""
        whole, keys = FirstPass(), list[Hashes]()
        with closing(self._run("count", count_part, self._tables)) as parts:
            for found in parts:
                if found is None:
                    return None
                whole.add(found[0])
                keys.append(found[1])
        every = np.sort(np.concatenate(keys))
        return None if (every[1:] == every[:-1]).any() else whole

    def here(self) -> Iterator[Pools]:
        """Start a pass over all blocks in this process."""
        for number in range(len(self._tables.parts)):
            for _, pools in self._tables.pools(number):
                yield pools

    def each(
        self,
        work: Callable[[Any, BlockKey, Pools], Found],
        held: Any,  # noqa: ANN401 - what the work takes
    ) -> Iterator[tuple[BlockKey, Found]]:
        """Do some work on every block, in tasks of one part each."""
        for found in self._run("measure", work_on_part, (self._tables, work, held)):
            yield from found

    def _run(self, name: str, work: Callable[..., Any], held: object) -> Generator[Any]:
        tasks = [PlanTask(path.name, (number,)) for number, path in enumerate(self._tables.parts)]
        for _, value in self._backend.run(Plan(name, work, tasks, held=held, portable=True)):
            yield value
