"""Read exports of Arize Phoenix: spans with ``input.value`` and ``output.value``, and annotations of spans.

Fields as in its documented formats: a span has ``context.span_id`` and ``attributes`` under the names of OpenInference
(``input.value``, ``output.value``, ``user.id``, ``llm.input_messages``); an annotation has ``span_id``, ``name``,
``annotator_kind`` (``HUMAN``, ``LLM``, ``CODE``), ``result`` with ``label``, ``score`` and ``explanation``, and
perhaps an ``identifier``.
"""

from __future__ import annotations

from collections.abc import Iterator

from bestfor.data.read.objects import Row
from bestfor.serving.imports.feedback import GivenScore, ShownAnswer
from bestfor.serving.imports.fields import answer_of, first_of, name_or_none, time_or_none

EXPECTED = "spans with input.value and output.value, and annotations of spans"

_SPAN = ("context.span_id", "span_id", "spanId")


def answer(where: str, row: Row) -> ShownAnswer | None:
    """Read the answer of a span."""
    return answer_of(
        where,
        row,
        ids=(*_SPAN, "id"),
        outputs=("attributes.output.value", "output.value", "output"),
        inputs=("attributes.input.value", "input.value", "input"),
        users=("attributes.user.id", "user.id", "attributes.metadata.user_id"),
        times=("start_time", "startTime"),
    )


def scores(where: str, row: Row) -> Iterator[GivenScore]:
    """Read an annotation, or those that lie within a span."""
    inner = first_of(row, "annotations", "span_annotations")
    span = name_or_none(first_of(row, *_SPAN))
    if isinstance(inner, list):
        for number, one in enumerate(inner):
            if isinstance(one, dict):
                yield from _annotation(f"{where}, annotations[{number}]", one, span)
    elif first_of(row, "annotator_kind", "annotatorKind", "annotation_name") is not None:
        yield from _annotation(where, row, span)


def _annotation(where: str, row: Row, span: str | None) -> Iterator[GivenScore]:
    about = name_or_none(first_of(row, *_SPAN)) or span
    score = first_of(row, "result.score", "score")
    word, explanation = first_of(row, "result.label", "label"), first_of(row, "result.explanation", "explanation")
    value = score if isinstance(score, bool | int | float | str) else word
    if about is None or (value is None and not explanation):
        return
    name = str(first_of(row, "name", "annotation_name") or "")
    author = name_or_none(row.get("identifier")) or ""
    yield GivenScore(
        about=(about,),
        key=name_or_none(row.get("id")) or f"{about}:{name}:{author}",
        name=name,
        score=value if isinstance(value, bool | int | float | str) else None,
        comment=str(explanation) if explanation else None,
        user=name_or_none(first_of(row, "metadata.user_id")),
        time=time_or_none(first_of(row, "updated_at", "created_at"), f"{where}, field 'created_at'"),
        human=str(first_of(row, "annotator_kind", "annotatorKind") or "HUMAN").upper() == "HUMAN",
        where=where,
    )
