"""Candidates that were written elsewhere: any table with a query and a text in each row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from bestfor.data.schema import CANDIDATES
from bestfor.data.split import text_id
from bestfor.data.table import Columns, read_table
from bestfor.errors import InputError


def replay(path: str | Path, *, columns: Mapping[str, str] | None = None, policy: str = "replay") -> pa.Table:
    """Read candidates from a table.

    Args:
        path: a .csv, .tsv, .jsonl or .parquet file with columns query_id and text, and perhaps logprob and
            finish_reason (``stop`` where there is none).
        columns: other names for these four.
        policy: what the column ``policy`` says.

    Returns:
        A table of schema ``CANDIDATES``, by query in the order of their ids; a query's candidates keep the file's
        order. The seed is 0.

    Raises:
        InputError: no such file, another format, a missing column, no rows, or an unknown role in ``columns``.
    """
    roles = ("query_id", "text", "logprob", "finish_reason")
    names = {role: role for role in roles} | dict(columns or {})
    for role in names:
        if role not in roles:
            raise InputError("columns", f"'{role}'", "one of " + ", ".join(roles))
    wanted = Columns(
        text={role: names[role] for role in ("query_id", "text", "finish_reason")},
        number={"logprob": names["logprob"]},
        optional=frozenset({"logprob", "finish_reason"}),
    )
    table = read_table(path, wanted)
    if len(table) == 0:
        raise InputError(str(path), "no rows", "at least one candidate")
    table = table.take(pa.array(np.argsort(np.array(table["query_id"].to_pylist()), kind="stable")))
    texts = table["text"].to_pylist()
    count = len(texts)
    ends = table["finish_reason"].to_pylist() if "finish_reason" in table.column_names else [None] * count
    return pa.table(
        {
            "query_id": table["query_id"],
            "candidate": pa.array(_within(table["query_id"].to_pylist()), pa.int32()),
            "text_id": [text_id(text) for text in texts],
            "text": texts,
            "logprob": table["logprob"] if "logprob" in table.column_names else pa.nulls(count, pa.float64()),
            "finish_reason": [reason or "stop" for reason in ends],
            "policy": [policy] * count,
            "seed": pa.array(np.zeros(count, dtype=np.int64)),
        }
    ).cast(CANDIDATES)


def _within(ids: list[str]) -> list[int]:
    """Positions within runs of equal ids."""
    positions: list[int] = []
    for index, name in enumerate(ids):
        positions.append(positions[-1] + 1 if index and ids[index - 1] == name else 0)
    return positions
