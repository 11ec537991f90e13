"""Diagnose a table of anybody's rewards and utilities: a file or a data frame, one row a candidate.

A table of at most :data:`LARGE` rows is read whole. A longer one is diagnosed by blocks of queries, with equal results:
one pass checks it and counts each query's candidates, a second one measures; where users share texts a third finds what
these do. A few blocks of 131,072 rows are held at a time, and what docs/diagnosis.md counts a query.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from bestfor import moved
from bestfor.backends import Backend
from bestfor.data.read.stream import QueryBlock, QueryBlocks
from bestfor.data.read.tables import Batches, Columns, arrow_table, file_signature, read_table, roles_of
from bestfor.diagnostics import Diagnosis, Reward, diagnose_arrays
from bestfor.diagnostics.blocks import Blocks, BlockTasks
from bestfor.diagnostics.calibration import Binning, Calibration, SummingPass, calibration_from_sums, check_std
from bestfor.diagnostics.cautions import lowered_n, repeated_rows
from bestfor.diagnostics.diagnose import Settings, choose_n, diagnose_blocks, notes_for, under_ceiling
from bestfor.diagnostics.table.copies import rating_noise
from bestfor.diagnostics.table.pools import Pools
from bestfor.diagnostics.table.rows import IN_RANGE, encode, largest_size, out_of_range
from bestfor.errors import InputError, nearest
from bestfor.runs.table_parts import PartTables, PartTasks
from bestfor.runs.table_passes import (
    FirstPass,
    TableColumns,
    block_pools,
    candidates,
    count_blocks,
    floats,
    once,
    predictions,
)
from bestfor.types import FloatArray, Scale
from bestfor.version import __version__

__getattr__ = moved.renamed(__name__, {"Scores": "TableColumns"})

LARGE = 1 << 19
"""Rows beyond which a table is read in blocks."""


def diagnose_table(
    source: str | Path | object,
    columns: TableColumns | None = None,
    settings: Settings | None = None,
    *,
    scale: Scale = "arbitrary",
    backend: Backend | None = None,
) -> Diagnosis:
    """Diagnose a CSV, TSV, JSONL or Parquet table, or a DataFrame.

    Args:
        source: a file, a folder of Parquet files, an Arrow table, or anything with the Arrow stream interface (pandas,
            polars, ...).
        columns: its columns, where they are not user, query, reward, utility.
        settings: where curves are drawn, how means and intervals are taken, other rules.
        scale: ``"utility"`` where rewards predict the utility in its own units, ``"arbitrary"`` where they only order.
        backend: does the parts of a long folder whose queries lie in one part each, without texts that users share or
            standard deviations; one process does anything else, and all where None. Figures are the same.

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
    tables = PartTables.of(batches, columns, scale) if large and backend is not None else None
    if tables is not None and backend is not None:
        found = diagnose_in_parts(PartTasks(tables, backend), where, settings)
        if found is not None:
            return found
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
        first = source.first_pass(lambda blocks: count_blocks(blocks, columns, batches.where))

        def pools() -> Iterator[Pools]:
            for block in source:
                yield from block_pools(block, columns, scale)

        def calibrate(binnings: Mapping[str, Binning]) -> dict[str, Calibration | None]:
            return _calibrate(source, binnings, columns, settings.level)

        return _measured(first, pools, settings, batches.where, calibrate)


def diagnose_in_parts(tasks: PartTasks, where: str, settings: Settings) -> Diagnosis | None:
    """Diagnose a folder by tasks of its parts, as :func:`diagnose_stream` does in one process.

    Args:
        tasks: passes over the parts.
        where: names the folder.
        settings: how.

    Returns:
        The diagnosis; None where rows of a query lie in several parts or apart, or something in them is bad: one
        process finds out what.
    """
    first = tasks.first_pass()
    return None if first is None else _measured(first, tasks, settings, where)


def _measured(
    first: FirstPass,
    pools: Blocks | BlockTasks,
    settings: Settings,
    where: str,
    calibrate: Callable[[Mapping[str, Binning]], dict[str, Calibration | None]] | None = None,
) -> Diagnosis:
    """Measure pools of which the first pass is done."""
    first.check(where)
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
    found = diagnose_blocks(pools, drawn, first.rows - first.finite, settings)
    found = found.with_notes(notes_for(found, said))
    binnings = {name: look.binning() for name, look in first.looks.items()}
    found = found.with_calibration({} if calibrate is None or not binnings else calibrate(binnings))
    return under_ceiling(found, settings.noise, rating_noise(first.rated.tolist()))


def _calibrate(
    source: Iterable[QueryBlock], binnings: Mapping[str, Binning], columns: TableColumns, level: float
) -> dict[str, Calibration | None]:
    """Judge predicted standard deviations in one more pass over the table."""
    passes = {name: SummingPass(binning) for name, binning in binnings.items()}
    for block in source:
        codes, names = encode("user", block.table["user"])
        roles = ("utility", *(f"reward {name}" for name in columns.rewards))
        finite = np.logical_and.reduce([np.isfinite(floats(block.table, role)) for role in roles])
        keep, _ = once(block, columns, finite)
        for name, one in passes.items():
            one.add(names, codes[keep], predictions(block.table, name).take(keep))
    return {name: calibration_from_sums(one.sums(), level) for name, one in passes.items()}
