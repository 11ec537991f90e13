"""The scores door: a table of somebody else's rewards and utilities, straight to its diagnosis."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa

from bestfor import __version__
from bestfor.data.table import Columns, arrow_table, file_signature, read_table, roles_of
from bestfor.diagnostics import Diagnosis, Reward, diagnose_arrays
from bestfor.errors import InputError, nearest
from bestfor.types import FloatArray, IntArray, Scale

LARGEST = 1e60
"""Largest size of a number, and the inverse of the smallest."""


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
    """

    user: str = "user"
    query: str = "query"
    rewards: tuple[str, ...] = ("reward",)
    utility: str = "utility"
    text: str | None = None
    candidate: str | None = None


def diagnose_table(
    source: str | Path | object,
    columns: Scores | None = None,
    *,
    scale: Scale = "arbitrary",
    n: Sequence[int] | None = None,
) -> Diagnosis:
    """Diagnose a CSV, TSV, JSONL or Parquet table, or a DataFrame.

    Args:
        source: a file, an Arrow table, or anything with the Arrow stream interface (pandas, polars, ...).
        columns: its columns, where they are not user, query, reward, utility.
        scale: ``"utility"`` where rewards predict the utility in its own units, ``"arbitrary"`` where they only order.
        n: where curves are drawn; powers of two by default.

    Raises:
        InputError: bad table (names file, row and column), a candidate that stands twice, numbers too large or too
            small to be squared, or an N larger than every pool.
    """
    columns = columns or Scores()
    if not columns.rewards or len(set(columns.rewards)) < len(columns.rewards):
        raise InputError("reward columns", ", ".join(columns.rewards) or "none", "each of them once")
    is_file = isinstance(source, str | Path)
    where = str(source) if is_file else "the table"
    table = read_table(where, _wanted(columns)) if is_file else roles_of(arrow_table(source), _wanted(columns), where)
    if table.num_rows == 0:
        raise InputError(where, "no rows", "one row a candidate")
    for role in ("user", "query"):
        _check_ids(table, role, f"{where}, column '{getattr(columns, role)}'")
    utility = _column(table, "utility", f"{where}, column '{columns.utility}'")
    rewards = {name: _column(table, f"reward {name}", f"{where}, column '{name}'") for name in columns.rewards}
    if not np.logical_and.reduce([np.isfinite(values) for values in (utility, *rewards.values())]).any():
        raise InputError(where, "no row with a finite utility and finite rewards", "at least one")
    signature = {
        "version": __version__,
        "data": file_signature(where) if is_file else "in memory",
        "reward": list(columns.rewards),
        "rule": "argmax",
    }
    return diagnose_arrays(
        table["user"],
        table["query"],
        utility,
        {name: Reward(values, scale) for name, values in rewards.items()},
        text=table["text"] if columns.text is not None else None,
        candidate=_candidates(table, where, columns.candidate) if columns.candidate is not None else None,
        n=n,
        signature=signature,
        name=Path(where).stem if is_file else "table",
    )


def _wanted(columns: Scores) -> Columns:
    texts = {"user": columns.user, "query": columns.query}
    numbers = {"utility": columns.utility} | {f"reward {name}": name for name in columns.rewards}
    if columns.text is not None:
        texts["text"] = columns.text
    if columns.candidate is not None:
        numbers["candidate"] = columns.candidate
    return Columns(text=texts, number=numbers)


def _floats(table: pa.Table, role: str) -> FloatArray:
    return table[role].to_numpy(zero_copy_only=False).astype(np.float64)


def _column(table: pa.Table, role: str, where: str) -> FloatArray:
    """A column of numbers whose fourth powers neither overflow nor vanish: variances of variances need them."""
    values = _floats(table, role)
    size = np.where(np.isfinite(values), np.abs(values), 0.0)
    largest = float(size.max())
    if largest == 0 or 1 / LARGEST <= largest <= LARGEST:
        return values
    place = where.replace(", column", f", row {int(size.argmax()) + 1}, column")
    expected = f"numbers whose largest lies between {1 / LARGEST:g} and {LARGEST:g} in size (rescale them)"
    raise InputError(place, f"{values[size.argmax()]:g}", expected)


def _check_ids(table: pa.Table, role: str, where: str) -> None:
    row = table[role].index("").as_py()
    if row >= 0:
        raise InputError(where.replace(", column", f", row {row + 1}, column"), "an empty cell", f"a {role}'s id")


def _candidates(table: pa.Table, where: str, name: str) -> IntArray:
    values = _floats(table, "candidate")
    whole = np.isfinite(values) & (np.floor(values) == values) & (np.abs(values) < 2**53)
    if not whole.all():
        row = int(np.flatnonzero(~whole)[0])
        raise InputError(f"{where}, row {row + 1}, column '{name}'", f"{values[row]:g}", "a whole number")
    return values.astype(np.int64)


def parse_scale(word: str) -> Scale:
    """Check a scale that a person typed."""
    if word not in ("utility", "arbitrary"):
        raise InputError("--scale", f"'{word}'", nearest(word, ("utility", "arbitrary")))
    return cast(Scale, word)


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
