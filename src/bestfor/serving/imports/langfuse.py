"""Read exports of Langfuse: traces or observations with ``input`` and ``output``, and scores.

Fields as in its public interface: a trace has ``id``, ``userId``, ``input``, ``output``, ``timestamp`` and perhaps its
``scores``; a score has ``id``, ``traceId``, ``observationId``, ``name``, ``value`` or ``stringValue``, ``dataType``,
``source`` (``ANNOTATION``, ``API``, ``EVAL``), ``comment`` and ``timestamp``. Tables of its pages have these columns.
"""

from __future__ import annotations

from collections.abc import Iterator

from bestfor.data.read.objects import Row
from bestfor.serving.imports.feedback import GivenScore, Score, ShownAnswer
from bestfor.serving.imports.fields import answer_of, find_field, first_of, name_or_none, time_or_none

EXPECTED = "traces (or observations) with input and output, and scores"


def answer(where: str, row: Row) -> ShownAnswer | None:
    """Read the answer of a trace or an observation."""
    return answer_of(
        where,
        row,
        ids=("id",),
        outputs=("output",),
        inputs=("input",),
        users=("userId", "user_id", "trace.userId", "metadata.user_id"),
        times=("timestamp", "startTime", "createdAt"),
    )


def scores(where: str, row: Row) -> Iterator[GivenScore]:
    """Read a score, or the scores of a trace."""
    inner = row.get("scores")
    if isinstance(inner, list):
        for number, one in enumerate(inner):
            if isinstance(one, dict):
                yield from _score(f"{where}, scores[{number}]", {"traceId": row.get("id"), **one})
    elif first_of(row, "traceId", "trace_id", "observationId") is not None and row.get("name") is not None:
        yield from _score(where, row)


def _score(where: str, row: Row) -> Iterator[GivenScore]:
    about = [name_or_none(row.get(name)) for name in ("observationId", "observation_id", "traceId", "trace_id")]
    known = tuple(one for one in about if one is not None)
    score, comment = _value(row), row.get("comment")
    if not known or (score is None and not comment):
        return
    yield GivenScore(
        about=known,
        key=name_or_none(row.get("id")) or f"{known[0]}:{row.get('name')}",
        name=str(row.get("name") or ""),
        score=score,
        comment=str(comment) if comment else None,
        user=name_or_none(first_of(row, "trace.userId", "userId")),
        time=time_or_none(first_of(row, "timestamp", "createdAt"), f"{where}, field 'timestamp'"),
        human=str(row.get("source") or "API").upper() != "EVAL",
        where=where,
    )


def _value(row: Row) -> Score | None:
    kind = str(find_field(row, "dataType") or "").upper()
    number, word = row.get("value"), first_of(row, "stringValue", "string_value")
    if kind == "BOOLEAN" and number not in (None, ""):
        return str(number).strip().lower() in ("1", "1.0", "true")
    value = word if kind == "CATEGORICAL" and word is not None else number if number not in (None, "") else word
    return value if isinstance(value, bool | int | float | str) else None
