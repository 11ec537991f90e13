"""Passes over the blocks of a table: what is checked and counted of each, and the pools that it holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from bestfor.data.read.stream import QueryBlock
from bestfor.diagnostics import Reward
from bestfor.diagnostics.calibration import BinningPass, Predictions, check_std
from bestfor.diagnostics.table.copies import may_repeat, merge_repeats
from bestfor.diagnostics.table.pools import Pools, pools_of
from bestfor.diagnostics.table.rows import IN_RANGE, SortedRows, largest_size, out_of_range, sort_rows
from bestfor.errors import InputError
from bestfor.types import BoolArray, FloatArray, IntArray, Scale


@dataclass(frozen=True)
class TableColumns:
    """Names of a table's columns; one row is a candidate.

    Attributes:
        user: user ids.
        query: query ids.
        rewards: one column for each reward model.
        utility: true utilities.
        text: text ids where users share texts, else None.
        candidate: whole numbers that tell a query's candidates apart, so that no row counts twice; None where every row
            is a candidate of its own.
        stds: reward column -> the column of its predicted standard deviations, where it has any; they are judged
            (``models.NAME.calibration``) and select nothing.
    """

    user: str = "user"
    query: str = "query"
    rewards: tuple[str, ...] = ("reward",)
    utility: str = "utility"
    text: str | None = None
    candidate: str | None = None
    stds: Mapping[str, str] = field(default_factory=dict)


@dataclass
class FirstPass:
    """Counts and checks of the first pass.

    Attributes:
        rows: how many.
        finite: with finite numbers.
        counts: finite rows of each query, block by block.
        once: the same where repeated rows count once.
        merged: rows that repeated another one.
        rated: of ratings that were averaged, as of sorted rows.
        offered: all rows of each query, block by block.
        largest: a column's name -> the largest size of its finite numbers, the number itself, and its row.
        looks: a model's name -> what is known of its predicted standard deviations.
    """

    rows: int = 0
    finite: int = 0
    counts: list[IntArray] = field(default_factory=list)
    once: list[IntArray] = field(default_factory=list)
    merged: int = 0
    rated: FloatArray = field(default_factory=lambda: np.zeros(4))
    offered: list[IntArray] = field(default_factory=list)
    largest: dict[str, tuple[float, float, int]] = field(default_factory=dict)
    looks: dict[str, BinningPass] = field(default_factory=dict)

    def sizes(self, *, merged: bool = False) -> IntArray:
        """Count the candidates of every query that has any; merged: repeated rows once."""
        counts = np.concatenate(self.once if merged else self.counts)
        return counts[counts > 0]

    def add(self, other: FirstPass) -> None:
        """Take the counts of what follows; not those of predicted standard deviations."""
        self.rows += other.rows
        self.finite += other.finite
        self.counts += other.counts
        self.once += other.once
        self.merged += other.merged
        self.rated = self.rated + other.rated
        self.offered += other.offered
        for name, one in other.largest.items():
            if one[0] > self.largest.get(name, (0.0, 0.0, 0))[0]:
                self.largest[name] = one

    def check(self, where: str) -> None:
        """Refuse a table with nothing in it, or numbers that are too large or too small.

        Raises:
            InputError: such a table.
        """
        if not self.rows:
            raise InputError(where, "no rows", "one row a candidate")
        for name, (size, value, row) in self.largest.items():
            if out_of_range(size):
                raise InputError(f"{where}, row {row}, column '{name}'", f"{value:g}", IN_RANGE)
        if not self.finite:
            raise InputError(where, "no row with a finite utility and finite rewards", "at least one")


def count_blocks(blocks: Iterable[QueryBlock], columns: TableColumns, where: str) -> FirstPass:
    """Check and count the rows of some blocks.

    Raises:
        InputError: a cell that cannot be.
    """
    found = FirstPass()
    roles = {"utility": columns.utility} | {f"reward {name}": name for name in columns.rewards}
    for block in blocks:
        if columns.candidate is not None:
            candidates(block.table, (where, columns.candidate), block.number)
        finite = np.ones(len(block.number), dtype=np.int64)
        for role, name in roles.items():
            values = floats(block.table, role)
            finite &= np.isfinite(values)
            size, row = largest_size(values)
            if size > found.largest.get(name, (0.0, 0.0, 0))[0]:
                found.largest[name] = size, float(values[row]), int(block.number[row])
        found.rows += len(finite)
        found.finite += int(finite.sum())
        found.counts.append(np.add.reduceat(finite, block.start))
        found.offered.append(np.diff(np.r_[block.start, len(finite)]))
        keep, rated = once(block, columns, finite > 0)
        found.rated += rated
        found.merged += int(finite.sum()) - int(keep.sum())
        found.once.append(np.add.reduceat(keep.astype(np.int64), block.start))
        _look_at_stds(block, columns, where, keep, found.looks)
    return found


def once(block: QueryBlock, columns: TableColumns, finite: BoolArray) -> tuple[BoolArray, FloatArray]:
    """Mark the finite rows of a block that repeat no other one, shape (rows,); and what repeated ratings say, (4,)."""
    query = np.repeat(np.arange(len(block.start)), np.diff(np.r_[block.start, len(finite)]))[finite]
    code = np.unique(query, return_inverse=True)[1].astype(np.int64)
    if not may_repeat(code, floats(block.table, f"reward {columns.rewards[0]}")[finite]):
        return finite, np.zeros(4)
    keep = np.zeros(len(finite), dtype=np.bool_)
    rows = sorted_rows(block, columns, "arbitrary")
    keep[rows.order] = True
    return keep, np.array(rows.rated)


def sorted_rows(block: QueryBlock, columns: TableColumns, scale: Scale) -> SortedRows:
    """Sort the rows of a block, repeated ones once."""
    table = block.table
    rows = sort_rows(
        table["user"],
        table["query"],
        floats(table, "utility"),
        {name: Reward(floats(table, f"reward {name}"), scale) for name in columns.rewards},
        text=table["text"] if columns.text is not None else None,
        candidate=floats(table, "candidate").astype(np.int64) if columns.candidate is not None else None,
        number=block.number,
    )
    return merge_repeats(rows, renumber=columns.candidate is None)


def block_pools(block: QueryBlock, columns: TableColumns, scale: Scale) -> Iterator[Pools]:
    """Make the pools of a block."""
    rows = sorted_rows(block, columns, scale)
    for queries in rows.blocks():
        yield pools_of(rows, queries)


def _look_at_stds(
    block: QueryBlock, columns: TableColumns, where: str, finite: BoolArray, looks: dict[str, BinningPass]
) -> None:
    for name, column in columns.stds.items():
        check_std(f"{where}, column '{column}'", floats(block.table, f"std {name}"), block.number)
        looks.setdefault(name, BinningPass()).add(predictions(block.table, name).take(finite))


def predictions(table: pa.Table, name: str) -> Predictions:
    """Read a model's predictions and what they are judged by."""
    return Predictions(*(floats(table, role) for role in ("utility", f"reward {name}", f"std {name}")))


def floats(table: pa.Table, role: str) -> FloatArray:
    """Read a column of numbers, NaN where there is none."""
    return table[role].to_numpy(zero_copy_only=False).astype(np.float64, copy=False)


def candidates(table: pa.Table, place: tuple[str, str], number: IntArray | None = None) -> IntArray:
    """Read the column of candidates' numbers.

    Args:
        table: by role.
        place: names of the table and the column, for errors.
        number: shape (rows,), the rows' numbers; from 1 where None.
    """
    values = floats(table, "candidate")
    whole = np.isfinite(values) & (np.floor(values) == values) & (np.abs(values) < 2**53)
    if not whole.all():
        row = int(np.flatnonzero(~whole)[0])
        at = row + 1 if number is None else number[row]
        raise InputError(f"{place[0]}, row {at}, column '{place[1]}'", f"{values[row]:g}", "a whole number")
    return values.astype(np.int64)
