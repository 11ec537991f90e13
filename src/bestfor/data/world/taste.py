"""Compute the true utility of a text to a user of the embedded world from style, fidelity, taste and noise.

All of it is a function of (input, text, taste), so it also holds for texts that no grammar would write.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bestfor.data.world import phrases
from bestfor.data.world.grammar import FIELDS, Facts
from bestfor.types import FloatArray

AXES = ("brevity", "formality", "enthusiasm", "humour", "concreteness")

SHARED = np.array([0.15, 0.0, 0.0, 0.15, 0.15])
"""The taste that users share, before their own is added."""
LOADINGS = np.array([[0.7, 0.0, -0.4, 0.0, 0.0], [0.0, 0.8, -0.4, -0.3, 0.3], [0.0, 0.0, 0.8, 0.3, 0.0]])
"""Three latent traits (patience, starch, cheer) through which the axes go together."""
OWN = 0.5
"""Standard deviation of the part of a taste that belongs to one axis alone."""
TASTE_NORM = 1.0
"""Every user with taste has a taste vector of this length, so that users differ in direction and not in strength."""

FIDELITY_WEIGHT = 0.4
TASTE_WEIGHT = 0.6

_WORD = re.compile(r"[a-z']+|\d+")
_TWICE = re.compile(r"\b(\w+)\s+\1\b", re.IGNORECASE)
_CORE = {"headline": ("event", "place"), "review": ("thing", "good", "bad")}
_LENGTH = {"headline": (14.0, 5.0), "review": (35.0, 9.0)}
_DAYS = frozenset(day.lower() for day in phrases.DAYS)
_RIVALS = {
    "headline": {"place": frozenset(p.lower() for p in phrases.PLACES), "day": _DAYS},
    "review": {"thing": frozenset(phrases.THINGS), "part": frozenset(phrases.PARTS)},
}
_KNOWN_LIMIT = 0.2


@dataclass(frozen=True)
class _Marks:
    """Counts of a text that style is computed from."""

    words: tuple[str, ...]
    formal: int
    keen: int
    funny: int
    concrete: int


def draw_taste(silent: float, *, rng: np.random.Generator) -> FloatArray:
    """Draw one user's weights over ``AXES``: shape (5,), near zero for a share ``silent`` of the users."""
    quiet = rng.random() < silent
    taste = SHARED + rng.standard_normal(3) @ LOADINGS + OWN * rng.standard_normal(5)
    taste = taste * (TASTE_NORM / np.linalg.norm(taste))
    return taste * 0.02 if quiet else taste


def style(text: str, task: str) -> FloatArray:
    """Measure a text on ``AXES``.

    Word counts are compared with the task's usual length, the other axes count words of a lexicon (and exclamation
    marks, figures and days); every axis is squashed to [-1, 1].

    Args:
        text: any text.
        task: ``"headline"`` or ``"review"``, which sets the usual length.

    Returns:
        Shape (5,), each value in [-1, 1].
    """
    marks = _marks(text)
    usual, spread = _LENGTH[task]
    calmer = 0.0 if task == "headline" else 0.5
    raw = (
        (usual - len(marks.words)) / spread,
        marks.formal / (1.5 if task == "headline" else 3.0),
        (marks.keen - calmer) / 1.6,
        (marks.funny - 1.0) / 1.0,
        (marks.concrete - 0.5) / 1.3,
    )
    return np.tanh(np.array(raw))


def fidelity(text: str, facts: Facts) -> float:
    """Measure how far a text states its facts and is well-formed.

    Core facts (event and place; thing, good and bad part) that are named count for it. Rival facts (another place,
    day, number, thing or part), words that the world does not know beyond a fifth of all, immediate repetitions and a
    broken end count against it.

    Returns:
        A value in [0, 1]; 1 for a faithful, well-formed text.
    """
    words = _marks(text).words
    if not words:
        return 0.0
    stated = facts.as_dict()
    core = _CORE[facts.task]
    present = frozenset(words)
    named = sum(all(part in present for part in stated[name].lower().split()) for name in core) / len(core)
    faults = 0.4 * _rivals(present, facts) + 0.5 * (not _ends_well(text, facts.task))
    faults += 0.5 * len(_TWICE.findall(text))
    unknown = sum(word not in vocabulary() and not word.isdigit() for word in words) / len(words)
    faults += max(0.0, unknown - _KNOWN_LIMIT) / (1.0 - _KNOWN_LIMIT)
    return float(max(0.0, named - min(1.0, faults)))


def utility(text: str, facts: Facts, taste: FloatArray) -> float:
    """Compute ``0.4 (2 fidelity - 1) + 0.6 fidelity tanh(taste . style)``, in [-1, 1].

    Style counts as far as the text is faithful: a garbled text pleases nobody by being short.
    """
    faithful = fidelity(text, facts)
    pleased = float(np.tanh(taste @ style(text, facts.task)))
    return FIDELITY_WEIGHT * (2.0 * faithful - 1.0) + TASTE_WEIGHT * faithful * pleased


def noise_weight(text: str, task: str) -> float:
    """Variance of a label on this text relative to the average, where noise differs by text.

    ``exp(-1.1 brevity + 0.9 humour)`` over its mean on texts of the grammar: long and funny texts are noisier.
    """
    axes = style(text, task)
    return float(np.exp(-1.1 * axes[0] + 0.9 * axes[3]) / NOISE_MEAN[task])


NOISE_MEAN = {"headline": 1.802, "review": 1.606}
"""Mean of the unnormalised weight over 20,000 texts of the grammar (the tests measure it again)."""


@lru_cache(maxsize=1)
def vocabulary() -> frozenset[str]:
    """Collect all words that the grammar can write, in lower case."""
    tables = (phrases.HEADLINE, phrases.REVIEW, phrases.QUIP)
    texts = [re.sub(r"\{\w+\}", " ", text) for table in tables for options in table.values() for text in options]
    texts += [value for fields in FIELDS.values() for options in fields.values() for value in options]
    return frozenset(_WORD.findall(" ".join(texts).lower()))


@lru_cache(maxsize=4096)
def _marks(text: str) -> _Marks:
    words = tuple(_WORD.findall(text.lower()))
    formal = keen = funny = concrete = 0
    for word in words:
        formal += (word in phrases.FORMAL) - (word in phrases.CASUAL)
        keen += (word in phrases.KEEN) - (word in phrases.CALM)
        funny += word in phrases.FUNNY
        concrete += (word.isdigit() or word in _DAYS) - (word in phrases.VAGUE)
    return _Marks(words, formal, keen + min(text.count("!"), 3), funny, concrete)


def _rivals(present: frozenset[str], facts: Facts) -> int:
    stated = facts.as_dict()
    own = frozenset(word for value in stated.values() for word in value.lower().split())
    wrong = sum(len((rivals & present) - own) for rivals in _RIVALS[facts.task].values())
    return wrong + sum(word.isdigit() and word not in own for word in present)


def _ends_well(text: str, task: str) -> bool:
    text = text.strip()
    if task == "review":
        return text.endswith((".", "!", "?"))
    return text[-1:].isalnum() or text.endswith((".", "!", "?"))
