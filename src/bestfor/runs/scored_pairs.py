"""Read pairs whose answers a reward model has scored already, as reward benchmarks write them, one pair a row.

A row holds the reward of the better answer and that of the worse one, or lists of several. It becomes a pool in which
the better ones have utility 1 and the worse ones 0: the utility at N = 2 is the share of pairs told right. With one
good answer among four, the best of four is good as often as RewardBench 2 counts.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from bestfor.data.read.cells import NOBODY
from bestfor.data.read.objects import KINDS, Row, read_rows, text_of
from bestfor.data.read.tables import Columns, columns_of, read_table
from bestfor.errors import InputError

_CHOSEN = re.compile(r"[_\-. ]*chosen[_\-. ]*", re.IGNORECASE)


@dataclass(frozen=True)
class PairColumns:
    """Columns of a table of scored pairs.

    Attributes:
        user: whose pair it is; a subset or a category does, too.
        rewards: model -> the columns with the rewards of the better and of the worse answers.
    """

    user: str
    rewards: Mapping[str, tuple[str, str]]

    @classmethod
    def of(cls, user: str, chosen: list[str], rejected: list[str]) -> PairColumns:
        """Name models after their columns, ``score`` for ``score_chosen`` and ``score_rejected``.

        Raises:
            InputError: not one column of worse answers for each of better ones.
        """
        if len(chosen) != len(rejected) or not chosen:
            found = f"{len(chosen)} columns with --chosen and {len(rejected)} with --rejected"
            raise InputError("--chosen, --rejected", found, "both, as often")
        names = ["_".join(filter(None, _CHOSEN.split(name))) or "reward" for name in chosen]
        names = names if len(set(names)) == len(names) else chosen
        return cls(user, dict(zip(names, zip(chosen, rejected, strict=True), strict=True)))


def read_scored_pairs(path: Path, columns: PairColumns) -> pa.Table:
    """Read scored pairs as a table of candidates: user, query, utility, and a column of rewards for each model.

    Args:
        path: CSV, TSV, JSON, JSON lines or Parquet.
        columns: what to read.

    Raises:
        InputError: a column is missing, or a cell holds something else; names row and field.
    """
    rows: dict[str, list[object]] = {name: [] for name in ("user", "query", "utility", *columns.rewards)}
    for where, row in _rows(path):
        user = text_of(row, columns.user, where).strip() if columns.user in row else None
        if user is None or user in NOBODY:
            found = f"no column '{columns.user}'" if user is None else f"'{user}'"
            raise InputError(where, found, f"whose pair it is: --user with one of {', '.join(list(row)[:12])}")
        sides = {name: [_numbers(row, one, where) for one in pair] for name, pair in columns.rewards.items()}
        sizes = {(len(better), len(worse)) for better, worse in sides.values()}
        if len(sizes) > 1:
            raise InputError(where, "models with rewards of different numbers of answers", "the same answers for each")
        better, worse = sizes.pop()
        rows["user"] += [user] * (better + worse)
        rows["query"] += [where.rpartition(" ")[2]] * (better + worse)
        rows["utility"] += [1.0] * better + [0.0] * worse
        for name, (ones, others) in sides.items():
            rows[name] += [*ones, *others]
    if not rows["user"]:
        raise InputError(str(path), "no pair", "at least one")
    return pa.table(rows)


def _rows(path: Path) -> Iterator[tuple[str, Row]]:
    if path.name.endswith(KINDS):
        yield from read_rows(path)
        return
    names = columns_of(path)
    table = read_table(path, Columns({name: name for name in names}, {}, frozenset(names)))
    for number, row in enumerate(table.to_pylist(), 1):
        yield f"{path}, row {number}", row


def _numbers(row: Row, name: str, where: str) -> list[float]:
    """Read a number, a list of numbers, or either as text; a list of one reward's parts, ``[[1.2]]``, is flattened."""
    value = row.get(name)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    listed = value if isinstance(value, list) else [value]
    flat = [one[0] if isinstance(one, list) and len(one) == 1 else one for one in listed]
    numbers = [float(one) for one in flat if isinstance(one, int | float) and math.isfinite(one)]
    if not flat or len(numbers) < len(flat):
        found = f"'{str(row.get(name))[:40]}'" if name in row else f"no field '{name}'"
        raise InputError(f"{where}, field '{name}'", found, "a number, or a list of numbers")
    return numbers
