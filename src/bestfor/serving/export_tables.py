"""Write a journal for other tools: its labels as a table, or its shown answers for Vowpal Wabbit.

Vowpal Wabbit reads the latter with ``--cb_adf``: for each answer a line ``shared |u`` with its user, then one for each
candidate with its words, and ``0:COST:CHANCE`` before the one that was shown. The cost is 1 minus the outcome, which is
the mean of what labels say of the shown text between 0, the worst, and 1, the best; answers without an outcome are left
out, since such a line needs one.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bestfor.errors import InputError, nearest
from bestfor.files import hash_text, writing
from bestfor.labels.records import Label, LoggedAnswer
from bestfor.progress import Progress
from bestfor.serving.logs import JournalSource, shown_outcomes

if TYPE_CHECKING:
    from bestfor.serving.journal import Journal

PORTION = 10_000
"""Rows that are written at a time."""

SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in ("key", "tenant", "user", "kind")),
        *(pa.field(name, pa.float64()) for name in ("value", "low", "high")),
        *(pa.field(name, pa.string()) for name in ("prompt", "text")),
        pa.field("texts", pa.list_(pa.string())),
        pa.field("answer", pa.string()),
        pa.field("candidates", pa.list_(pa.string())),
        *(pa.field(name, pa.float64()) for name in ("weight", "time", "changed", "withdrawn")),
        pa.field("hashed", pa.bool_()),
    ]
)
"""Columns of a table of labels: ``text`` is what is spoken of, ``texts`` all that a label names, best first."""

_SIGNS = re.compile(r"[\s:|]+")


def export_file(journal: Journal, out: Path, to: str, tenant: str | None = None) -> int:
    """Write a journal into a file, which is there whole or not at all.

    Args:
        journal: an open one.
        out: the file.
        to: a key of :data:`FORMATS`.
        tenant: whose users; None writes everybody's.

    Returns:
        How many labels, or for Vowpal Wabbit answers, were written.

    Raises:
        InputError: an unknown format.
        JournalError: the journal could not be read.
    """
    write = FORMATS.get(to)
    if write is None:
        raise InputError("--to", f"'{to}'", nearest(to, FORMATS))
    with writing(out) as partial:
        return write(journal, partial, tenant)


def label_rows(journal: Journal, tenant: str | None = None) -> Iterator[dict[str, Any]]:
    """List all labels of a journal as rows of :data:`SCHEMA`, withdrawn ones among them, person by person."""
    people = list(journal.people(tenant))
    with Progress("people written", len(people), after=1.0) as progress:
        for owner, user in people:
            for label, answer in journal.labels_of(owner, user):
                yield _row(owner, label, answer)
            progress.advance()


def _row(tenant: str, label: Label, answer: LoggedAnswer | None) -> dict[str, Any]:
    spoken_of = answer.shown if answer is not None and label.kind == "edit" else label.texts[0]
    if label.kind == "comment":
        spoken_of = label.texts[-1]
    return {
        **{name: getattr(label, name) for name in SCHEMA.names if hasattr(label, name)},
        "tenant": tenant,
        "prompt": label.prompt if answer is None else answer.prompt,
        "text": spoken_of,
        "texts": list(label.texts),
        "candidates": None if answer is None else list(answer.texts),
    }


def _write_csv(journal: Journal, out: Path, tenant: str | None) -> int:
    count = 0
    with out.open("w", encoding="utf-8", errors="surrogatepass", newline="") as handle:
        writer = csv.DictWriter(handle, SCHEMA.names)
        writer.writeheader()
        for count, row in enumerate(label_rows(journal, tenant), 1):  # noqa: B007 - the number of the last row
            writer.writerow({name: _cell(value) for name, value in row.items()})
    return count


def _cell(value: object) -> object:
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value


def _write_lines(journal: Journal, out: Path, tenant: str | None) -> int:
    count = 0
    with out.open("w", encoding="utf-8") as handle:
        for count, row in enumerate(label_rows(journal, tenant), 1):  # noqa: B007 - the number of the last row
            handle.write(json.dumps(row) + "\n")
    return count


def _write_parquet(journal: Journal, out: Path, tenant: str | None) -> int:
    count = 0
    with pq.ParquetWriter(out, SCHEMA) as writer:
        portion: list[dict[str, Any]] = []
        for count, row in enumerate(label_rows(journal, tenant), 1):  # noqa: B007 - the number of the last row
            portion.append(row)
            if len(portion) == PORTION:
                writer.write_table(pa.Table.from_pylist(portion, SCHEMA))
                portion = []
        writer.write_table(pa.Table.from_pylist(portion, SCHEMA))
    return count


def _write_vw(journal: Journal, out: Path, tenant: str | None) -> int:
    count = 0
    with out.open("w", encoding="utf-8", errors="replace") as handle:
        for answer, person, outcome in shown_outcomes(journal, JournalSource(tenant=tenant)):
            if np.isfinite(outcome):
                handle.write(_example(answer, person, outcome))
                count += 1
    return count


def _example(answer: LoggedAnswer, person: str, outcome: float) -> str:
    """Write an answer as an example of several lines; the user under a hash, since signs have a meaning there."""
    lines = [f"shared |u user_{hash_text(person)[:16]} |p {_words(answer.prompt)}"]
    for place, text in enumerate(answer.texts):
        shown = f"0:{1 - outcome:.6g}:{answer.chances[place]:.6g} " if place == answer.chosen else ""
        reward = answer.mean[place]
        given = "" if reward is None else f" |r reward:{reward:.6g}"
        lines.append(f"{shown}|a {_words(text)}{given}")
    return "\n".join(lines) + "\n\n"


def _words(text: str) -> str:
    return " ".join(word for word in _SIGNS.split(text) if word)


FORMATS: Mapping[str, Callable[[Journal, Path, str | None], int]] = {
    "csv": _write_csv,
    "jsonl": _write_lines,
    "parquet": _write_parquet,
    "vw": _write_vw,
}
"""Formats of an export by name."""
