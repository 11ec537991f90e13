"""Name the states of candidates that have no text, and of queries that have no candidates.

They stand in a pool's column ``finish_reason``. Such rows say what became of a request; nothing scores them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

THOUGHT = "thought"
THOUGHT_CUT = "thought_cut"
TOOL = "tool_calls"
FILTERED = "content_filter"
REFUSED = "refusal"
EMPTY = "empty"
NO_CANDIDATES = "no_candidates"
"""State of a query whose prompt a server refuses: one row, whose text is the server's reason."""

WITHOUT_TEXT = (THOUGHT, THOUGHT_CUT, TOOL, FILTERED, REFUSED, EMPTY)
"""States of candidates that have no text. A text that a filter cut short is one: it keeps what there is."""

_CAUSES = {
    THOUGHT: "{n} hold a chain of thought and no answer: switch thinking off (extra_body)",
    THOUGHT_CUT: "{n} stopped at {limit} before any answer, mostly while thinking (reasoning_content): raise {limit}, "
    "or switch thinking off (extra_body)",
    TOOL: '{n} call a tool instead: extra_body = {{ tool_choice = "none" }}, or a model that answers',
    FILTERED: "{n} were withheld by the server's content filter: another model, or the filter's settings",
    REFUSED: "{n} were refused by the model: another instruction or model",
    EMPTY: "{n} ended before the first word: the model's chat template or the texts of 'stop' may not fit",
}


def has_text(reason: str, text: str) -> bool:
    """Decide whether a candidate is one, by its finish_reason and its text."""
    return reason != NO_CANDIDATES and (bool(text) or reason not in WITHOUT_TEXT)


def with_text(candidates: pa.Table) -> pa.Table:
    """Leave out the rows of a table of schema ``CANDIDATES`` that have no text."""
    reasons = pc.unique(candidates["finish_reason"]).to_pylist()  # pyright: ignore[reportAttributeAccessIssue]
    if not {*WITHOUT_TEXT, NO_CANDIDATES} & set(reasons):
        return candidates
    rows = zip(candidates["finish_reason"].to_pylist(), candidates["text"].to_pylist(), strict=True)
    return candidates.filter(pa.array([has_text(*row) for row in rows]))


def textless_note(who: str, states: Iterable[str], total: int, limit: str) -> str:
    """Write how many candidates have no text and why, with what helps; empty where all have one.

    Args:
        who: names what wrote them.
        states: of those without a text, one each.
        total: candidates in all.
        limit: the setting that limits their length.
    """
    count = Counter(states)
    if not count:
        return ""
    causes = "; ".join(_CAUSES[state].format(n=n, limit=limit) for state, n in count.most_common())
    return f"{count.total()} of {total} candidates of {who} have no text and are left out: {causes}"


def cause(state: str, n: int, limit: str) -> str:
    """Write why n answers have no text, and what helps."""
    return _CAUSES[state].format(n=n, limit=limit)
