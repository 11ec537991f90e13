"""Record of textual feedback for a query: candidates in the order written, critiques between them, and their tokens."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bestfor.moved import renamed
from bestfor.policies.base import Prompt, Sampled

__getattr__ = renamed(__name__, {"Step": "FeedbackStep", "Tally": "FeedbackCounts"})

PLAIN = {
    "tie": "whose scores did not differ",
    "unscored": "without scores",
    "no room": "whose feedback found no room",
    "empty critique": "whose critique was empty",
    "empty advice": "whose advice was empty",
}
"""Why a step sampled the request anew instead of revising."""


@dataclass(frozen=True)
class FeedbackStep:
    """Drafts, critique and advice that led to one step's candidates.

    Attributes:
        best: index of the candidate that was revised, None where none was.
        worst: index of the one it was compared with, None where it stood alone.
        critique: the textual loss, None where it was not asked for.
        advice: the textual gradient, likewise.
        plain: why the step sampled the request anew (a key of ``PLAIN``), empty where it revised.
        dropped: turns of the request that found no room in the chats.
    """

    best: int | None = None
    worst: int | None = None
    critique: Sampled | None = None
    advice: Sampled | None = None
    plain: str = ""
    dropped: int = 0

    @property
    def tokens(self) -> int:
        """Generated tokens of critique and advice."""
        return sum(one.tokens for one in (self.critique, self.advice) if one is not None)


@dataclass(frozen=True)
class Trace:
    """Record of all that was written for a query.

    Attributes:
        prompt: the request.
        candidates: n candidates in the order written, ``width`` of them a step.
        scores: one for each, NaN where there is none.
        steps: what led to the second step's candidates, the third's, ...
        width: candidates of a step.
    """

    prompt: Prompt
    candidates: tuple[Sampled, ...]
    scores: tuple[float, ...]
    steps: tuple[FeedbackStep, ...]
    width: int

    @property
    def best(self) -> int:
        """Index of the answer: the highest score, the first of equal ones; 0 where nothing has a score."""
        return extremes(self.scores)[0] or 0

    @property
    def answer(self) -> Sampled:
        """Candidate with the best score."""
        return self.candidates[self.best]

    @property
    def spent(self) -> tuple[int, ...]:
        """Tokens generated until each candidate is there, critiques and advice before it included."""
        total, found = 0, []
        for index, one in enumerate(self.candidates):
            step, place = divmod(index, self.width)
            total += one.tokens + (self.steps[step - 1].tokens if step and place == 0 else 0)
            found.append(total)
        return tuple(found)

    @property
    def critique_tokens(self) -> int:
        """Tokens generated for critiques and advice."""
        return sum(step.tokens for step in self.steps)


@dataclass
class QueryProgress:
    """Query under way.

    Attributes:
        prompt: the request.
        got: candidates by index.
        scores: of these.
        steps: by step, from 1.
        failed: whether a call for it failed, so that it goes no further.
        whole: whether all was written here, so that all tokens are known.
    """

    prompt: Prompt
    got: dict[int, Sampled]
    scores: dict[int, float] = field(default_factory=dict)
    steps: dict[int, FeedbackStep] = field(default_factory=dict)
    failed: bool = False
    whole: bool = True

    def trace(self, n: int, width: int) -> Trace:
        """Build the record of the finished query."""
        steps = tuple(self.steps.get(step, FeedbackStep()) for step in range(1, -(-n // width)))
        candidates = tuple(self.got[index] for index in range(n))
        return Trace(self.prompt, candidates, tuple(self.scores[index] for index in range(n)), steps, width)


@dataclass
class FeedbackCounts:
    """Counts over all queries.

    Attributes:
        steps: steps after the first.
        plain: those that sampled anew, by the reason.
        cut: critiques and advice that ended at their limit.
        dropped: steps whose chats had no room for all earlier turns.
        answers: tokens of candidates.
        feedback: tokens of critiques and advice.
    """

    steps: int = 0
    plain: Counter[str] = field(default_factory=Counter)
    cut: int = 0
    dropped: int = 0
    answers: int = 0
    feedback: int = 0

    def add(self, written: Sequence[Sampled], step: FeedbackStep | None) -> None:
        """Count one step of a query; ``step`` is None for the first."""
        self.answers += sum(one.tokens for one in written)
        if step is None:
            return
        self.steps += 1
        self.feedback += step.tokens
        self.dropped += step.dropped > 0
        self.cut += sum(one is not None and one.finish_reason == "length" for one in (step.critique, step.advice))
        if step.plain:
            self.plain[step.plain] += 1

    def notes(self) -> tuple[str, ...]:
        """Notes for a reader of the results."""
        said = [f"feedback: {self.answers} tokens of candidates, {self.feedback} of critiques and advice"]
        said += [
            f"feedback: {count} of {self.steps} steps, {PLAIN[reason]}, sampled the request anew"
            for reason, count in sorted(self.plain.items())
        ]
        if self.cut:
            said.append(f"feedback: {self.cut} critiques or lists of advice ended at their limit of tokens")
        if self.dropped:
            said.append(f"feedback: {self.dropped} of {self.steps} steps had no room for all earlier turns")
        return tuple(said) if self.answers else ()


def extremes(scores: Sequence[float] | Mapping[int, float]) -> tuple[int | None, int | None]:
    """Indices of the highest and of the lowest score, the first of equal ones; None where there are no scores."""
    items = scores.items() if isinstance(scores, Mapping) else enumerate(scores)
    known = sorted((index, score) for index, score in items if not math.isnan(score))
    if not known:
        return None, None
    return max(known, key=lambda one: one[1])[0], min(known, key=lambda one: one[1])[0]
