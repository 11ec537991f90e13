"""Write scores and picks one by one as JSON lines, or as a Parquet file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from bestfor.data.requests import AnswerRequest
from bestfor.errors import InputError
from bestfor.files import writing
from bestfor.runs.picks import PickedAnswer
from bestfor.types import FloatArray, Scores

SUFFIXES = (".jsonl", ".ndjson", ".parquet")
"""Endings of files that :func:`write_objects` writes."""

_ROWS = 4096

SCORE_COLUMNS = pa.schema(
    [
        pa.field("query", pa.string()),
        pa.field("user", pa.string()),
        pa.field("candidate", pa.int32()),
        pa.field("text", pa.string()),
        pa.field("mean", pa.float64()),
        pa.field("std", pa.float64()),
        pa.field("std_mean", pa.float64()),
        pa.field("served", pa.string()),
        pa.field("model", pa.string()),
    ]
)
PICK_COLUMNS = pa.schema(
    [
        pa.field("query", pa.string()),
        pa.field("user", pa.string()),
        pa.field("candidate", pa.int32()),
        pa.field("text", pa.string()),
        pa.field("reward", pa.float64()),
        pa.field("std", pa.float64()),
        pa.field("rule", pa.string()),
        pa.field("chance", pa.float64()),
        pa.field("candidates", pa.list_(pa.int32())),
        pa.field("rewards", pa.list_(pa.float64())),
        pa.field("chances", pa.list_(pa.float64())),
        pa.field("served", pa.string()),
        pa.field("model", pa.string()),
    ]
)


def score_object(request: AnswerRequest, scores: Scores, model: str) -> dict[str, Any]:
    """One request's scores as JSON can hold them: lists with a number, or null, for each candidate."""
    count = len(request.texts)
    return {
        "query": request.query,
        "user": request.user,
        "candidate": [request.number(place) for place in range(count)],
        "text": list(request.texts),
        "mean": _numbers(scores.mean),
        "std": None if scores.std is None else _numbers(scores.std),
        "std_mean": None if scores.std_mean is None else _numbers(scores.std_mean),
        "served": scores.served,
        "model": model,
    }


def score_rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    """One request's scores as rows, one a candidate."""
    lists = [name for name, value in found.items() if isinstance(value, list)]
    same = {name: value for name, value in found.items() if name not in lists}
    return [{**same, **{name: found[name][place] for name in lists}} for place in range(len(found["text"]))]


def pick_object(answer: PickedAnswer, model: str) -> dict[str, Any]:
    """A pick as JSON can hold it, with the chances of all candidates that were looked at."""
    place, request, pick = answer.pick.index, answer.request, answer.pick
    std = None if answer.scores.std is None else _numbers(answer.scores.std)[place]
    return {
        "query": request.query,
        "user": request.user,
        "candidate": request.number(place),
        "text": request.texts[place],
        "reward": float(answer.scores.mean[place]),
        "std": std,
        "rule": pick.rule,
        "chance": pick.chance,
        "candidates": [request.number(one) for one in range(len(request.texts))],
        "rewards": _numbers(answer.scores.mean),
        "chances": _numbers(pick.chances),
        "served": answer.scores.served,
        "model": model,
    }


def check_suffix(path: Path) -> None:
    """Refuse, before any work, a file that would be neither JSON lines nor Parquet."""
    if path.suffix not in SUFFIXES:
        raise InputError("--out", f"a file ending in '{path.suffix}'", "one of " + ", ".join(SUFFIXES))


def write_objects(
    objects: Iterable[dict[str, Any]],
    out: Path | None,
    stream: IO[str],
    columns: pa.Schema,
    rows: Callable[[dict[str, Any]], list[dict[str, Any]]] = lambda one: [one],
) -> int:
    """Write objects as they come: a line each, which is flushed, or rows of a Parquet file.

    Args:
        objects: what is written.
        out: a file, which is whole or as before; None writes lines to the stream.
        stream: standard output.
        columns: of the Parquet file.
        rows: gives an object's rows in it.

    Returns:
        How many objects were written.
    """
    if out is None:
        count = 0
        for one in objects:
            stream.write(_line(one))
            stream.flush()
            count += 1
        return count
    with writing(out) as partial:
        if out.suffix == ".parquet":
            return _write_parquet(objects, partial, columns, rows)
        count = 0
        with partial.open("w", encoding="utf-8") as handle:
            for one in objects:
                handle.write(_line(one))
                count += 1
        return count


def _write_parquet(
    objects: Iterable[dict[str, Any]],
    path: Path,
    columns: pa.Schema,
    rows: Callable[[dict[str, Any]], list[dict[str, Any]]],
) -> int:
    kept: list[dict[str, Any]] = []
    count = 0
    with pq.ParquetWriter(path, columns, compression="zstd") as file:
        for one in objects:
            kept += rows(one)
            count += 1
            if len(kept) >= _ROWS:
                file.write_table(pa.Table.from_pylist(kept, schema=columns))
                kept = []
        file.write_table(pa.Table.from_pylist(kept, schema=columns))
    return count


def _line(one: dict[str, Any]) -> str:
    return json.dumps(one, ensure_ascii=False, allow_nan=False) + "\n"


def _numbers(values: FloatArray) -> list[float | None]:
    return [None if value != value else value for value in values.tolist()]
