"""Keep what people said in a table of a run's folder, and read it again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from bestfor.data.labels import Labels, Preferred, Rated
from bestfor.data.schema import read

FILE = "labels.parquet"
SAID = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("input", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("over", pa.string()),
        pa.field("utility", pa.float64()),
        pa.field("weight", pa.float64()),
        pa.field("comment", pa.string()),
    ]
)
"""Columns of ``labels.parquet``: what persons are made of (rated, preferred), and what was said in words (comment)."""


def said_table(said: Mapping[str, Labels], comments: tuple[tuple[str, str, str, str], ...]) -> pa.Table:
    """Make a table of what people said: user, prompt, text and words of each comment beside their labels."""
    rows: list[dict[str, Any]] = []
    for user, labels in sorted(said.items()):
        for one in sorted(labels.rated):
            about = {"user_id": user, "input": one.prompt, "text": one.text}
            rows.append({**about, "kind": "rated", "utility": one.utility, "weight": one.weight})
        for two in sorted(labels.preferred):
            about = {"user_id": user, "input": two.prompt, "text": two.better}
            rows.append({**about, "kind": "preferred", "over": two.worse, "weight": two.weight})
    names = ("user_id", "input", "text", "comment")
    rows += [{**dict(zip(names, one, strict=True)), "kind": "comment"} for one in sorted(comments)]
    return pa.Table.from_pylist(rows, schema=SAID)


def read_said(folder: Path) -> dict[str, Labels] | None:
    """Read what people said from a run's folder; None where its data hold nothing but ratings.

    Raises:
        InputError: a damaged table.
    """
    if not (folder / FILE).is_file():
        return None
    rated: dict[str, list[Rated]] = {}
    preferred: dict[str, list[Preferred]] = {}
    for row in read(folder / FILE, SAID).to_pylist():
        user, about = row["user_id"], (row["input"], row["text"])
        if row["kind"] == "rated":
            rated.setdefault(user, []).append(Rated(*about, row["utility"], row["weight"]))
        elif row["kind"] == "preferred":
            preferred.setdefault(user, []).append(Preferred(*about, row["over"], row["weight"]))
    users = sorted({*rated, *preferred})
    return {user: Labels(tuple(rated.get(user, ())), tuple(preferred.get(user, ()))) for user in users}
