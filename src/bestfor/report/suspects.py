"""Show suspicious queries as cards: what was asked, the reward's pick and the best candidate side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bestfor.diagnostics.result import Suspect
from bestfor.report import words

Texts = Mapping[tuple[str, int], str]
"""(query_id, candidate) -> the candidate's text."""

FOLD_AT = 420
"""Longer texts are folded, their beginning shown."""


@dataclass(frozen=True)
class Excerpt:
    """Text as shown.

    Attributes:
        whole: the text, cut at the page's limit.
        preview: its beginning where it is folded, empty where it stands open.
        length: characters of the text before it was cut.
        cut: whether it was.
    """

    whole: str
    preview: str
    length: int
    cut: bool


@dataclass(frozen=True)
class Side:
    """One of the two candidates of a suspect.

    Attributes:
        title: which one it is.
        candidate: its index within the query, None where that is unknown.
        utility: what it is worth, as written.
        excerpt: what it says, None where no text was given.
    """

    title: str
    candidate: int | None
    utility: str
    excerpt: Excerpt | None


@dataclass(frozen=True)
class SuspectCard:
    """A query whose reward's pick and best candidate stand side by side.

    Attributes:
        query: its id.
        user: whose it is.
        facts: correlation, posterior, candidates and mean utility, in words.
        asked: what was asked, None where that is unknown.
        sides: the pick and the best candidate.
        marks: name, utility as written and place in percent of the scale, of pick, mean and best.
    """

    query: str
    user: str
    facts: tuple[str, ...]
    asked: Excerpt | None
    sides: tuple[Side, Side]
    marks: tuple[tuple[str, str, float], ...]


def suspect_card(suspect: Suspect, texts: Texts, inputs: Mapping[str, str], limit: int) -> SuspectCard:
    """Build the card of one suspect with the texts that are known.

    Args:
        suspect: the query.
        texts: (query_id, candidate) -> the candidate's text.
        inputs: query_id -> what was asked.
        limit: characters of a text that are shown at most.
    """
    places = words.decimals([suspect.pick_utility, suspect.best_utility, suspect.mean_utility])

    def side(title: str, candidate: int | None, utility: float) -> Side:
        text = None if candidate is None else texts.get((suspect.query, candidate))
        return Side(title, candidate, words.number(utility, places), None if text is None else excerpt(text, limit))

    asked = inputs.get(suspect.query)
    facts = [f"correlation {words.number(suspect.correlation, 2)}"]
    if words.known(suspect.posterior):
        facts.append(f"reversed with probability {words.number(suspect.posterior, 2)}")
    facts.append(words.plural(suspect.size, "candidate"))
    if words.known(suspect.mean_utility):
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


def is_unlucky(suspect: Suspect) -> bool:
    """Tell whether chance explains a bad pick: its correlation is probably not negative."""
    return suspect.posterior < 0.5


def _marks(suspect: Suspect, places: int) -> tuple[tuple[str, str, float], ...]:
    given = [
        ("pick", suspect.pick_utility),
        ("mean", suspect.mean_utility),
        ("best", suspect.best_utility),
    ]
    known = [(name, value) for name, value in given if words.known(value)]
    low, high = min((v for _, v in known), default=0.0), max((v for _, v in known), default=0.0)
    if high == low:
        return ()
    return tuple(
        (name, words.number(value, places), round(100 * (value - low) / (high - low), 1)) for name, value in known
    )


def excerpt(text: str, limit: int) -> Excerpt:
    """Make a text ready to show: cleaned, cut at the limit, with a preview where it is to be folded."""
    whole = words.clean(text)
    shown = whole[:limit]
    preview = words.clip(shown, 300) if len(shown) > FOLD_AT else ""
    return Excerpt(shown, preview, len(whole), len(whole) > limit)
