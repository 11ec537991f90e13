"""Read exports of LangSmith: runs with ``inputs`` and ``outputs``, and feedback.

Fields as in its documented formats: a run has ``id``, ``inputs``, ``outputs``, ``start_time`` and ``extra.metadata``;
feedback has ``id``, ``run_id``, ``key``, ``score``, ``value``, ``comment``, ``correction``, ``created_at`` and
``feedback_source``, whose ``type`` is ``model`` where no person said it.
"""

from __future__ import annotations

from collections.abc import Iterator

from bestfor.data.read.objects import Row
from bestfor.serving.imports.feedback import GivenScore, Score, ShownAnswer
from bestfor.serving.imports.fields import answer_of, first_of, name_or_none, time_or_none, words_of

EXPECTED = "runs with inputs and outputs, and feedback"


def answer(where: str, row: Row) -> ShownAnswer | None:
    """Read the answer of a run."""
    return answer_of(
        where,
        row,
        ids=("id",),
        outputs=("outputs",),
        inputs=("inputs",),
        users=("extra.metadata.user_id", "metadata.user_id", "extra.metadata.user", "extra.metadata.userId"),
        times=("start_time", "end_time"),
    )


def scores(where: str, row: Row) -> Iterator[GivenScore]:
    """Read a record of feedback, or those that lie within a run."""
    inner = row.get("feedback")
    if isinstance(inner, list):
        for number, one in enumerate(inner):
            if isinstance(one, dict):
                yield from _feedback(f"{where}, feedback[{number}]", {"run_id": row.get("id"), **one})
    elif row.get("key") is not None and first_of(row, "run_id", "trace_id") is not None:
        yield from _feedback(where, row)


def _feedback(where: str, row: Row) -> Iterator[GivenScore]:
    about = [name_or_none(row.get(name)) for name in ("run_id", "trace_id")]
    known = tuple(one for one in about if one is not None)
    comment, edit = row.get("comment"), words_of(row.get("correction"), "assistant")
    score = _value(row)
    if not known or (score is None and not comment and edit is None):
        return
    yield GivenScore(
        about=known,
        key=name_or_none(row.get("id")) or f"{known[0]}:{row.get('key')}",
        name=str(row.get("key") or ""),
        score=score,
        edit=edit,
        comment=str(comment) if comment else None,
        user=name_or_none(first_of(row, "extra.user_id", "feedback_source.metadata.user_id")),
        time=time_or_none(first_of(row, "created_at", "modified_at"), f"{where}, field 'created_at'"),
        human=str(first_of(row, "feedback_source.type", "feedback_source_type") or "api") not in ("model", "auto_eval"),
        where=where,
    )


def _value(row: Row) -> Score | None:
    found = next((row[name] for name in ("score", "value") if row.get(name) not in (None, "")), None)
    return found if isinstance(found, bool | int | float | str) else None
