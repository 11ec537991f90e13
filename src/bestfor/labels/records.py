"""Define what is kept of an answer that was given and of a label that a person gave."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LoggedAnswer:
    """An answer that was given, with all that is needed to learn from it and to evaluate other rules on it.

    Attributes:
        id: names the answer within its tenant.
        user: who asked.
        prompt: what was asked; its SHA-256 where ``hashed``.
        texts: the n candidates; their SHA-256 where ``hashed``.
        mean: n rewards, None where the model had none to give.
        std: n predictive standard deviations, None where the model has none.
        chances: n exact probabilities with which the rule would have shown each candidate.
        chosen: index of the candidate that was shown.
        rule: the rule's name, exploration included.
        model: content hash of the model that scored.
        served: what scored: ``own``, ``everybody`` or ``abstained``.
        tokens: how many were generated for the candidates, None where nobody counted.
        time: seconds since 1970.
        hashed: whether texts are hashes.
    """

    id: str
    user: str
    prompt: str
    texts: tuple[str, ...]
    mean: tuple[float | None, ...]
    std: tuple[float | None, ...] | None
    chances: tuple[float, ...]
    chosen: int
    rule: str
    model: str
    served: str
    tokens: int | None
    time: float
    hashed: bool = False

    @property
    def shown(self) -> str:
        """Text that was shown."""
        return self.texts[self.chosen]


@dataclass(frozen=True)
class Label:
    """A label that a person gave, as it is stored.

    Attributes:
        key: names the label within its tenant: it is counted once however often it is sent.
        user: who gave it.
        kind: a key of :data:`bestfor.labels.kinds.LEARNED`.
        answer: id of the answer that it is about, None where it is about bare texts.
        value: the number of a rating, 1 or 0 of a thumb, None where a kind has none.
        low: lowest number of the scale that ``value`` is on, None where it is on none.
        high: highest number of that scale.
        texts: the texts that it is about, best first in a preference; the final text of an edit; the comment.
        prompt: what was asked where there is no answer that says so.
        weight: precision over that of an ordinary rating.
        time: seconds since 1970 at which it came first.
        changed: seconds since 1970 of the last change of its value, None where there was none.
        withdrawn: seconds since 1970 at which it was withdrawn, None where it holds.
        hashed: whether texts are hashes.
    """

    key: str
    user: str
    kind: str
    answer: str | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    texts: tuple[str, ...] = ()
    prompt: str = ""
    weight: float = 1.0
    time: float = 0.0
    changed: float | None = None
    withdrawn: float | None = None
    hashed: bool = False
