"""Tables of scores too long for memory, diagnosed by blocks of queries.

One pass over the table checks it and counts each query's candidates, a second one measures; where users share texts a
third finds what these do. A few blocks of 131,072 rows are held at a time, and what docs/diagnosis.md counts a query.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from bestfor.data.batches import Batches
from bestfor.data.read.stream import Block, QueryBlocks
from bestfor.diagnostics import Diagnosis, Reward
from bestfor.diagnostics.calibration import Calibration, check_std, settle
from bestfor.diagnostics.diagnose import choose_n, diagnose_blocks
from bestfor.diagnostics.ids import encode
from bestfor.diagnostics.settings import Settings
from bestfor.diagnostics.table.pools import Pools, pools_of
from bestfor.diagnostics.table.rows import IN_RANGE, largest_size, out_of_range, sort_rows
from bestfor.diagnostics.tally import FirstLook, Layout, Predictions, Tally
from bestfor.errors import InputError
from bestfor.types import BoolArray, FloatArray, IntArray, Scale

if TYPE_CHECKING:
    from bestfor.runs.table import Scores


def diagnose_stream(batches: Batches, columns: Scores, *, scale: Scale, settings: Settings) -> Diagnosis:
    """The diagnosis of a table that is read in batches; equal to that of the same table in memory.

    Args:
        batches: of the table, with the roles user, query, utility, ``"reward <name>"``; text and candidate if wanted.
        columns: names of its columns.
        scale: of the rewards.
        settings: how.

    Raises:
        InputError: as :func:`~bestfor.runs.table.diagnose_table`; or no room for temporary files.
    """
    with QueryBlocks(batches) as source:
        survey = source.first_pass(lambda blocks: _survey(blocks, columns, batches.where))
        drawn = choose_n(settings.n, survey.sizes())
        survey.counts.clear()

        def pools() -> Iterator[Pools]:
            for block in source:
                yield from _pools(block, columns, scale)

        found = diagnose_blocks(pools, drawn, survey.rows - survey.finite, settings)
        layouts = {name: look.layout() for name, look in survey.looks.items()}
        return found.with_calibration(_calibrate(source, layouts, columns, settings.level) if layouts else {})


@dataclass
class _Survey:
    """What a first look finds.

    Attributes:
        rows: how many.
        finite: with finite numbers.
        counts: finite rows of each query, block by block.
        largest: a column's name -> the largest size of its finite numbers, the number itself, and its row.
        looks: a model's name -> the first look at its predicted standard deviations.
    """

    rows: int = 0
    finite: int = 0
    counts: list[IntArray] = field(default_factory=list)
    largest: dict[str, tuple[float, float, int]] = field(default_factory=dict)
    looks: dict[str, FirstLook] = field(default_factory=dict)

    def sizes(self) -> IntArray:
        """Candidates of every query that has any."""
        counts = np.concatenate(self.counts)
        return counts[counts > 0]


def _survey(blocks: Iterable[Block], columns: Scores, where: str) -> _Survey:
    found = _Survey()
    roles = {"utility": columns.utility} | {f"reward {name}": name for name in columns.rewards}
    for block in blocks:
        for role in ("user", "query"):
            check_ids(block.table, role, (where, getattr(columns, role)), block.number)
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
        _look_at_stds(block, columns, where, finite > 0, found.looks)
    if not found.rows:
        raise InputError(where, "no rows", "one row a candidate")
    for name, (size, value, row) in found.largest.items():
        if out_of_range(size):
            raise InputError(f"{where}, row {row}, column '{name}'", f"{value:g}", IN_RANGE)
    if not found.finite:
        raise InputError(where, "no row with a finite utility and finite rewards", "at least one")
    return found


def _pools(block: Block, columns: Scores, scale: Scale) -> Iterator[Pools]:
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
    for queries in rows.blocks():
        yield pools_of(rows, queries)


def _look_at_stds(block: Block, columns: Scores, where: str, finite: BoolArray, looks: dict[str, FirstLook]) -> None:
    for name, column in columns.stds.items():
        check_std(f"{where}, column '{column}'", floats(block.table, f"std {name}"), block.number)
        looks.setdefault(name, FirstLook()).add(_predictions(block.table, name).take(finite))


def _calibrate(
    source: Iterable[Block], layouts: Mapping[str, Layout], columns: Scores, level: float
) -> dict[str, Calibration | None]:
    """One more pass, for tables with predicted standard deviations only."""
    tallies = {name: Tally(layout) for name, layout in layouts.items()}
    for block in source:
        codes, names = encode("user", block.table["user"])
        roles = ("utility", *(f"reward {name}" for name in columns.rewards))
        finite = np.logical_and.reduce([np.isfinite(floats(block.table, role)) for role in roles])
        for name, tally in tallies.items():
            tally.add(names, codes[finite], _predictions(block.table, name).take(finite))
    return {name: settle(tally.sums(), level) for name, tally in tallies.items()}


def _predictions(table: pa.Table, name: str) -> Predictions:
    return Predictions(*(floats(table, role) for role in ("utility", f"reward {name}", f"std {name}")))


def floats(table: pa.Table, role: str) -> FloatArray:
    """A column of numbers, NaN where there is none."""
    return table[role].to_numpy(zero_copy_only=False).astype(np.float64, copy=False)


def check_ids(table: pa.Table, role: str, place: tuple[str, str], number: IntArray | None = None) -> None:
    """Refuse empty ids.

    Args:
        table: by role.
        role: user or query.
        place: names of the table and the column, for errors.
        number: shape (rows,), the rows' numbers; from 1 where None.
    """
    row = table[role].index("").as_py()
    if row >= 0:
        row = row + 1 if number is None else number[row]
        raise InputError(f"{place[0]}, row {row}, column '{place[1]}'", "an empty cell", f"a {role}'s id")


def candidates(table: pa.Table, place: tuple[str, str], number: IntArray | None = None) -> IntArray:
    """The column of candidates' numbers; arguments as for :func:`check_ids`."""
    values = floats(table, "candidate")
    whole = np.isfinite(values) & (np.floor(values) == values) & (np.abs(values) < 2**53)
    if not whole.all():
        row = int(np.flatnonzero(~whole)[0])
        at = row + 1 if number is None else number[row]
        raise InputError(f"{place[0]}, row {at}, column '{place[1]}'", f"{values[row]:g}", "a whole number")
    return values.astype(np.int64)
