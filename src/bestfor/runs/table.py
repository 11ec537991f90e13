"""Diagnose a table of anybody's rewards and utilities: a file or a data frame, one row a candidate.

A table of at most :data:`LARGE` rows is read whole. A longer one is diagnosed by blocks of queries, with equal results:
one pass checks it and counts each query's candidates, a second one measures; where users share texts a third finds what
these do. A few blocks of 131,072 rows are held at a time, and what docs/diagnosis.md counts a query.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from bestfor import moved
from bestfor.data.read.stream import QueryBlock, QueryBlocks
from bestfor.data.read.tables import Batches, Columns, arrow_table, file_signature, read_table, roles_of
from bestfor.diagnostics import Diagnosis, Reward, diagnose_arrays
from bestfor.diagnostics.calibration import (
    Binning,
    BinningPass,
    Calibration,
    Predictions,
    SummingPass,
    calibration_from_sums,
    check_std,
)
from bestfor.diagnostics.cautions import lowered_n, repeated_rows
from bestfor.diagnostics.diagnose import Settings, choose_n, diagnose_blocks, notes_for, under_ceiling
from bestfor.diagnostics.table.copies import may_repeat, merge_repeats, rating_noise
from bestfor.diagnostics.table.pools import Pools, pools_of
from bestfor.diagnostics.table.rows import IN_RANGE, SortedRows, encode, largest_size, out_of_range, sort_rows
from bestfor.errors import InputError, nearest
from bestfor.types import BoolArray, FloatArray, IntArray, Scale
from bestfor.version import __version__

__getattr__ = moved.renamed(__name__, {"Scores": "TableColumns"})

LARGE = 1 << 19
"""Rows beyond which a table is read in blocks."""


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


def diagnose_table(
    source: str | Path | object,
    columns: TableColumns | None = None,
    settings: Settings | None = None,
    *,
    scale: Scale = "arbitrary",
) -> Diagnosis:
    """Diagnose a CSV, TSV, JSONL or Parquet table, or a DataFrame.

    Args:
        source: a file, a folder of Parquet files, an Arrow table, or anything with the Arrow stream interface (pandas,
            polars, ...).
        columns: its columns, where they are not user, query, reward, utility.
        settings: where curves are drawn, how means and intervals are taken, other rules.
        scale: ``"utility"`` where rewards predict the utility in its own units, ``"arbitrary"`` where they only order.

    Raises:
        InputError: bad table (names file, row and column), a candidate that stands twice, numbers too large or too
            small to be squared, or an N larger than every pool.
    """
    columns = columns or TableColumns()
    if not columns.rewards or len(set(columns.rewards)) < len(columns.rewards):
        raise InputError("reward columns", ", ".join(columns.rewards) or "none", "each of them once")
    _check_stds(columns, scale)
    is_file = isinstance(source, str | Path)
    where = str(source) if is_file else "the table"
    batches = Batches(Path(where) if is_file else arrow_table(source), _wanted(columns, is_file), where)
    large = batches.weight() > LARGE
    signature = {
        "version": __version__,
        "data": file_signature(where) if is_file else "in memory",
        "reward": list(columns.rewards),
        "rule": "argmax",
    }
    if columns.stds:
        signature["std"] = dict(columns.stds)
    if columns.utility != TableColumns.utility:
        signature["utility"] = columns.utility
    settings = settings or Settings()
    name = settings.name or (Path(where).stem if is_file else "table")
    settings = replace(settings, signature=signature | dict(settings.signature), name=name)
    if large:
        return diagnose_stream(batches, columns, scale=scale, settings=settings)
    return _diagnose(batches, columns, scale, settings)


def _diagnose(batches: Batches, columns: TableColumns, scale: Scale, settings: Settings) -> Diagnosis:
    """Diagnose in memory."""
    where = batches.where
    if isinstance(batches.source, Path):
        table = read_table(where, batches.columns)
    else:
        table = roles_of(batches.source, batches.columns, where)
    if table.num_rows == 0:
        raise InputError(where, "no rows", "one row a candidate")
    utility = _column(table, "utility", f"{where}, column '{columns.utility}'")
    rewards = {name: _column(table, f"reward {name}", f"{where}, column '{name}'") for name in columns.rewards}
    stds = {name: _std(table, f"std {name}", f"{where}, column '{column}'") for name, column in columns.stds.items()}
    if not np.logical_and.reduce([np.isfinite(values) for values in (utility, *rewards.values())]).any():
        raise InputError(where, "no row with a finite utility and finite rewards", "at least one")
    return diagnose_arrays(
        table["user"],
        table["query"],
        utility,
        {name: Reward(values, scale, stds.get(name)) for name, values in rewards.items()},
        settings,
        text=table["text"] if columns.text is not None else None,
        candidate=candidates(table, (where, columns.candidate)) if columns.candidate is not None else None,
    )


def _check_stds(columns: TableColumns, scale: Scale) -> None:
    unknown = [name for name in columns.stds if name not in columns.rewards]
    if unknown:
        raise InputError("std columns", f"one for '{unknown[0]}'", nearest(unknown[0], columns.rewards))
    if columns.stds and scale != "utility":
        expected = "scale 'utility' (--scale utility): a standard deviation is in the utility's units"
        raise InputError("std columns", f"rewards of scale '{scale}'", expected)


def _wanted(columns: TableColumns, is_file: bool) -> Columns:
    texts = {"user": columns.user, "query": columns.query}
    numbers = {"utility": columns.utility} | {f"reward {name}": name for name in columns.rewards}
    numbers |= {f"std {name}": column for name, column in columns.stds.items()}
    if columns.text is not None:
        texts["text"] = columns.text
    if columns.candidate is not None:
        numbers["candidate"] = columns.candidate
    hints = {role: _hint(role.partition(" ")[0], is_file) for role in (*texts, *numbers)}
    return Columns(text=texts, number=numbers, hints=hints, ids=frozenset({"user", "query"}))


def _hint(option: str, is_file: bool) -> str:
    """Write how another column is named: on the command line for files, in Python for what is in memory."""
    if is_file:
        return f"--{'text-id' if option == 'text' else option} NAME"
    many = {"reward": 'rewards=("NAME",)', "std": 'stds={"reward": "NAME"}'}
    named = many.get(option, f'{option}="NAME"')
    return f"TableColumns({named})"


def _column(table: pa.Table, role: str, where: str) -> FloatArray:
    """Read numbers whose fourth powers neither overflow nor vanish: variances of variances need them."""
    values = floats(table, role)
    largest, row = largest_size(values)
    if out_of_range(largest):
        raise InputError(where.replace(", column", f", row {row + 1}, column"), f"{values[row]:g}", IN_RANGE)
    return values


def _std(table: pa.Table, role: str, where: str) -> FloatArray:
    values = floats(table, role)
    check_std(where, values)
    return values


def parse_n(words: str) -> list[int] | None:
    """Read ``"1,2,4"``; nothing typed gives None.

    Raises:
        InputError: something that is not a positive whole number.
    """
    if not words.strip():
        return None
    numbers = []
    for word in words.split(","):
        if not re.fullmatch(r"0*[1-9][0-9]{0,8}", word.strip(), re.ASCII):
            raise InputError("--n", f"'{word.strip()}'", "positive whole numbers, such as 1,2,4,8")
        numbers.append(int(word))
    return sorted(set(numbers))


def diagnose_stream(batches: Batches, columns: TableColumns, *, scale: Scale, settings: Settings) -> Diagnosis:
    """Diagnose a table that is read in batches; equal to the diagnosis of the same table in memory.

    Args:
        batches: of the table, with the roles user, query, utility, ``"reward <name>"``; text and candidate if wanted.
        columns: names of its columns.
        scale: of the rewards.
        settings: how.

    Raises:
        InputError: as :func:`~bestfor.runs.table.diagnose_table`; or no room for temporary files.
    """
    with QueryBlocks(batches) as source:
        first = source.first_pass(lambda blocks: _check_blocks(blocks, columns, batches.where))
        drawn = choose_n(settings.n, first.sizes(merged=True))
        without = choose_n(settings.n, first.sizes())
        offered = choose_n(settings.n, np.concatenate(first.offered))
        said = (
            lowered_n(int(without[-1]), int(offered[-1]), first.rows - first.finite),
            repeated_rows(first.merged, first.finite),
        )
        first.counts.clear()
        first.once.clear()
        first.offered.clear()

        def pools() -> Iterator[Pools]:
            for block in source:
                yield from _pools(block, columns, scale)

        found = diagnose_blocks(pools, drawn, first.rows - first.finite, settings)
        found = found.with_notes(notes_for(found, said))
        binnings = {name: look.binning() for name, look in first.looks.items()}
        found = found.with_calibration(_calibrate(source, binnings, columns, settings.level) if binnings else {})
        return under_ceiling(found, settings.noise, rating_noise(first.rated.tolist()))


@dataclass
class _FirstPass:
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


def _check_blocks(blocks: Iterable[QueryBlock], columns: TableColumns, where: str) -> _FirstPass:
    found = _FirstPass()
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
        keep, rated = _once(block, columns, finite > 0)
        found.rated += rated
        found.merged += int(finite.sum()) - int(keep.sum())
        found.once.append(np.add.reduceat(keep.astype(np.int64), block.start))
        _look_at_stds(block, columns, where, keep, found.looks)
    if not found.rows:
        raise InputError(where, "no rows", "one row a candidate")
    for name, (size, value, row) in found.largest.items():
        if out_of_range(size):
            raise InputError(f"{where}, row {row}, column '{name}'", f"{value:g}", IN_RANGE)
    if not found.finite:
        raise InputError(where, "no row with a finite utility and finite rewards", "at least one")
    return found


def _once(block: QueryBlock, columns: TableColumns, finite: BoolArray) -> tuple[BoolArray, FloatArray]:
    """Mark the finite rows of a block that repeat no other one, shape (rows,); and what repeated ratings say, (4,)."""
    query = np.repeat(np.arange(len(block.start)), np.diff(np.r_[block.start, len(finite)]))[finite]
    code = np.unique(query, return_inverse=True)[1].astype(np.int64)
    if not may_repeat(code, floats(block.table, f"reward {columns.rewards[0]}")[finite]):
        return finite, np.zeros(4)
    keep = np.zeros(len(finite), dtype=np.bool_)
    rows = _rows(block, columns, "arbitrary")
    keep[rows.order] = True
    return keep, np.array(rows.rated)


def _rows(block: QueryBlock, columns: TableColumns, scale: Scale) -> SortedRows:
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


def _pools(block: QueryBlock, columns: TableColumns, scale: Scale) -> Iterator[Pools]:
    rows = _rows(block, columns, scale)
    for queries in rows.blocks():
        yield pools_of(rows, queries)


def _look_at_stds(
    block: QueryBlock, columns: TableColumns, where: str, finite: BoolArray, looks: dict[str, BinningPass]
) -> None:
    for name, column in columns.stds.items():
        check_std(f"{where}, column '{column}'", floats(block.table, f"std {name}"), block.number)
        looks.setdefault(name, BinningPass()).add(_predictions(block.table, name).take(finite))


def _calibrate(
    source: Iterable[QueryBlock], binnings: Mapping[str, Binning], columns: TableColumns, level: float
) -> dict[str, Calibration | None]:
    """Judge predicted standard deviations in one more pass over the table."""
    passes = {name: SummingPass(binning) for name, binning in binnings.items()}
    for block in source:
        codes, names = encode("user", block.table["user"])
        roles = ("utility", *(f"reward {name}" for name in columns.rewards))
        finite = np.logical_and.reduce([np.isfinite(floats(block.table, role)) for role in roles])
        keep, _ = _once(block, columns, finite)
        for name, one in passes.items():
            one.add(names, codes[keep], _predictions(block.table, name).take(keep))
    return {name: calibration_from_sums(one.sums(), level) for name, one in passes.items()}


def _predictions(table: pa.Table, name: str) -> Predictions:
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
