"""Name the tools whose exports are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from bestfor.data.read.objects import Row
from bestfor.serving.imports import langfuse, langsmith, openwebui, own, phoenix, table
from bestfor.serving.imports.feedback import OWN, GivenScore, ShownAnswer


@dataclass(frozen=True)
class ExportKind:
    """Layout of a tool's exports.

    Attributes:
        name: as it is typed.
        answer: reads the answer of a row; None where the row holds none.
        scores: reads what a row says of answers, its own or others'.
        expected: what its files hold, for errors.
    """

    name: str
    answer: Callable[[str, Row], ShownAnswer | None]
    scores: Callable[[str, Row], Iterable[GivenScore]]
    expected: str


SOURCES: Mapping[str, ExportKind] = {
    kind.name: kind
    for kind in (
        ExportKind(OWN, own.answer, own.scores, own.EXPECTED),
        ExportKind("csv", table.answer, table.scores, table.EXPECTED),
        ExportKind("langfuse", langfuse.answer, langfuse.scores, langfuse.EXPECTED),
        ExportKind("langsmith", langsmith.answer, langsmith.scores, langsmith.EXPECTED),
        ExportKind("openwebui", openwebui.answer, openwebui.scores, openwebui.EXPECTED),
        ExportKind("phoenix", phoenix.answer, phoenix.scores, phoenix.EXPECTED),
    )
}
"""Layouts by the name of the tool."""
