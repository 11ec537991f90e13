"""Suspicious queries as cards: what was asked, the reward's pick and the best candidate side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bestfor.report import view, words

Texts = Mapping[tuple[str, int], str]
FOLD_AT = 420
"""Longer texts are folded, their beginning shown."""


@dataclass(frozen=True)
class Excerpt:
    """A text as shown: ``preview`` is empty where the whole stands open."""

    whole: str
    preview: str
    length: int
    cut: bool


@dataclass(frozen=True)
class Side:
    """One of the two candidates of a suspect."""

    title: str
    candidate: int | None
    utility: str
    excerpt: Excerpt | None


@dataclass(frozen=True)
class SuspectCard:
    """A query whose reward's pick and best candidate stand side by side; marks are percent of a scale."""

    query: str
    user: str
    facts: tuple[str, ...]
    asked: Excerpt | None
    sides: tuple[Side, Side]
    marks: tuple[tuple[str, str, float], ...]


def card(suspect: view.Suspect, texts: Texts, inputs: Mapping[str, str], limit: int) -> SuspectCard:
    """One suspect with whatever texts are known; texts longer than ``limit`` characters are cut, and say so."""
    places = words.decimals([suspect.pick_utility, suspect.best_utility, suspect.mean_utility])

    def side(title: str, candidate: int | None, utility: float | None) -> Side:
        text = None if candidate is None else texts.get((suspect.query, candidate))
        return Side(title, candidate, words.number(utility, places), None if text is None else excerpt(text, limit))

    asked = inputs.get(suspect.query)
    facts = [f"correlation {words.number(suspect.correlation, 2)}"]
    if suspect.posterior is not None:
        facts.append(f"reversed with probability {words.number(suspect.posterior, 2)}")
    facts.append(words.plural(suspect.size, "candidate"))
    if suspect.mean_utility is not None:
        facts.append(f"mean utility {words.number(suspect.mean_utility, places)}")
    return SuspectCard(
        query=suspect.query,
        user=suspect.user,
        facts=tuple(facts),
        asked=excerpt(asked, limit) if asked else None,
        sides=(
            side("The reward's pick", suspect.pick, suspect.pick_utility),
            side("Best candidate", suspect.best, suspect.best_utility),
        ),
        marks=_marks(suspect, places),
    )


def _marks(suspect: view.Suspect, places: int) -> tuple[tuple[str, str, float], ...]:
    given = [
        ("pick", suspect.pick_utility),
        ("mean", suspect.mean_utility),
        ("best", suspect.best_utility),
    ]
    known = [(name, value) for name, value in given if value is not None]
    low, high = min((v for _, v in known), default=0.0), max((v for _, v in known), default=0.0)
    if high == low:
        return ()
    return tuple(
        (name, words.number(value, places), round(100 * (value - low) / (high - low), 1)) for name, value in known
    )


def excerpt(text: str, limit: int) -> Excerpt:
    """A text ready to show: cleaned, cut at the limit, with a preview where it is to be folded."""
    whole = words.clean(text)
    shown = whole[:limit]
    preview = words.clip(shown, 300) if len(shown) > FOLD_AT else ""
    return Excerpt(shown, preview, len(whole), len(whole) > limit)
