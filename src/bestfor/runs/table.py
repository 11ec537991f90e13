"""The scores door: a table of somebody else's rewards and utilities, straight to its diagnosis."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa

from bestfor import __version__
from bestfor.data.batches import Batches
from bestfor.data.read.tables import Columns, arrow_table, file_signature, read_table, roles_of
from bestfor.diagnostics import Diagnosis, Reward, diagnose_arrays
from bestfor.diagnostics.calibration import check_std
from bestfor.diagnostics.settings import Interval, Settings
from bestfor.diagnostics.table.rows import IN_RANGE, largest_size, out_of_range
from bestfor.errors import InputError, nearest
from bestfor.pipeline.streaming import candidates, check_ids, diagnose_stream, floats
from bestfor.types import Averaging, FloatArray, Scale

LARGE = 1 << 19
"""Rows beyond which a table is read in blocks."""


@dataclass(frozen=True)
class Scores:
    """The names of a table's columns; one row is a candidate.

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
    columns: Scores | None = None,
    settings: Settings | None = None,
    *,
    scale: Scale = "arbitrary",
) -> Diagnosis:
    """Diagnose a CSV, TSV, JSONL or Parquet table, or a DataFrame.

    Args:
        source: a file, an Arrow table, or anything with the Arrow stream interface (pandas, polars, ...).
        columns: its columns, where they are not user, query, reward, utility.
        settings: where curves are drawn, how means and intervals are taken, other rules.
        scale: ``"utility"`` where rewards predict the utility in its own units, ``"arbitrary"`` where they only order.

    Raises:
        InputError: bad table (names file, row and column), a candidate that stands twice, numbers too large or too
            small to be squared, or an N larger than every pool.
    """
    columns = columns or Scores()
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
    settings = settings or Settings()
    name = settings.name or (Path(where).stem if is_file else "table")
    settings = replace(settings, signature=signature | dict(settings.signature), name=name)
    if large:
        return diagnose_stream(batches, columns, scale=scale, settings=settings)
    return _diagnose(batches, columns, scale, settings)


def _diagnose(batches: Batches, columns: Scores, scale: Scale, settings: Settings) -> Diagnosis:
    """In memory."""
    where = batches.where
    if isinstance(batches.source, Path):
        table = read_table(where, batches.columns)
    else:
        table = roles_of(batches.source, batches.columns, where)
    if table.num_rows == 0:
        raise InputError(where, "no rows", "one row a candidate")
    for role in ("user", "query"):
        check_ids(table, role, (where, getattr(columns, role)))
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


def _check_stds(columns: Scores, scale: Scale) -> None:
    unknown = [name for name in columns.stds if name not in columns.rewards]
    if unknown:
        raise InputError("std columns", f"one for '{unknown[0]}'", nearest(unknown[0], columns.rewards))
    if columns.stds and scale != "utility":
        expected = "scale 'utility' (--scale utility): a standard deviation is in the utility's units"
        raise InputError("std columns", f"rewards of scale '{scale}'", expected)


def _wanted(columns: Scores, is_file: bool) -> Columns:
    texts = {"user": columns.user, "query": columns.query}
    numbers = {"utility": columns.utility} | {f"reward {name}": name for name in columns.rewards}
    numbers |= {f"std {name}": column for name, column in columns.stds.items()}
    if columns.text is not None:
        texts["text"] = columns.text
    if columns.candidate is not None:
        numbers["candidate"] = columns.candidate
    hints = {role: _hint(role.partition(" ")[0], is_file) for role in (*texts, *numbers)}
    return Columns(text=texts, number=numbers, hints=hints)


def _hint(option: str, is_file: bool) -> str:
    """How another column is named: on the command line for files, in Python for what is in memory."""
    if is_file:
        return f"--{option} NAME"
    many = {"reward": 'rewards=("NAME",)', "std": 'stds={"reward": "NAME"}'}
    named = many.get(option, f'{option}="NAME"')
    return f"Scores({named})"


def _column(table: pa.Table, role: str, where: str) -> FloatArray:
    """A column of numbers whose fourth powers neither overflow nor vanish: variances of variances need them."""
    values = floats(table, role)
    largest, row = largest_size(values)
    if out_of_range(largest):
        raise InputError(where.replace(", column", f", row {row + 1}, column"), f"{values[row]:g}", IN_RANGE)
    return values


def _std(table: pa.Table, role: str, where: str) -> FloatArray:
    values = floats(table, role)
    check_std(where, values)
    return values


def parse_scale(word: str) -> Scale:
    """Check a scale that a person typed."""
    if word not in ("utility", "arbitrary"):
        raise InputError("--scale", f"'{word}'", nearest(word, ("utility", "arbitrary")))
    return cast(Scale, word)


def parse_averaging(word: str) -> Averaging:
    """Check an averaging that a person typed."""
    if word not in ("user", "query"):
        raise InputError("--averaging", f"'{word}'", nearest(word, ("user", "query")))
    return cast(Averaging, word)


def parse_interval(word: str) -> Interval:
    """Check a kind of interval that a person typed."""
    if word not in ("t", "bootstrap"):
        raise InputError("--interval", f"'{word}'", nearest(word, ("t", "bootstrap")))
    return cast(Interval, word)


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
