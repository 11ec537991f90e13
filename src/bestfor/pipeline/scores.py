"""The scores door: a table of somebody else's rewards and utilities, straight to its diagnosis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from bestfor import __version__
from bestfor.data.table import Columns, arrow_table, file_signature, read_table, roles_of
from bestfor.diagnostics import Diagnosis, Reward, diagnose_arrays
from bestfor.errors import InputError, nearest
from bestfor.types import Scale


@dataclass(frozen=True)
class Scores:
    """The names of a table's columns; one row is a candidate.

    Attributes:
        user: user ids.
        query: query ids.
        rewards: one column for each reward model.
        utility: true utilities.
        text: text ids where users share texts, else None.
    """

    user: str = "user"
    query: str = "query"
    rewards: tuple[str, ...] = ("reward",)
    utility: str = "utility"
    text: str | None = None


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
        InputError: bad table (names file, row and column), or an N larger than every pool.
    """
    columns = columns or Scores()
    if len(set(columns.rewards)) < len(columns.rewards):
        raise InputError("reward columns", ", ".join(columns.rewards), "each of them once")
    texts = {"user": columns.user, "query": columns.query}
    if columns.text is not None:
        texts["text"] = columns.text
    numbers = {"utility": columns.utility} | {f"reward {name}": name for name in columns.rewards}
    wanted = Columns(text=texts, number=numbers)
    is_file = isinstance(source, str | Path)
    where = str(source) if is_file else "the table"
    table = read_table(where, wanted) if is_file else roles_of(arrow_table(source), wanted, where)
    if table.num_rows == 0:
        raise InputError(where, "no rows", "one row a candidate")

    def number(role: str) -> np.ndarray:
        return table[role].to_numpy(zero_copy_only=False).astype(np.float64)

    signature = {
        "version": __version__,
        "data": file_signature(where) if is_file else "in memory",
        "reward": list(columns.rewards),
        "rule": "argmax",
    }
    return diagnose_arrays(
        table["user"],
        table["query"],
        number("utility"),
        {name: Reward(number(f"reward {name}"), scale) for name in columns.rewards},
        text=table["text"] if columns.text is not None else None,
        n=n,
        signature=signature,
        name=Path(where).stem if is_file else "table",
    )


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
        if not word.strip().isdigit() or int(word) < 1:
            raise InputError("--n", f"'{word.strip()}'", "positive whole numbers, such as 1,2,4,8")
        numbers.append(int(word))
    return sorted(set(numbers))
