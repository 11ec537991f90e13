"""Hold what candidates of a table say, for the page: who gets what, and why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SpokenCandidate:
    """A candidate as shown.

    Attributes:
        who: the user who gets it, or what it is (the pick, the best one, a random one).
        text: what it says.
        reward: that a model gives it.
        utility: what it is worth.
        why: its rank by the reward and by the utility.
    """

    who: str
    text: str
    reward: str
    utility: str
    why: str


@dataclass(frozen=True)
class SpokenRequest:
    """A request with some of its candidates; ``asked`` is empty where the prompt is not known."""

    title: str
    asked: str
    candidates: tuple[SpokenCandidate, ...]


@dataclass(frozen=True)
class SpokenSection:
    """Requests of a table and what is picked for them by one model; ``shared`` where users share a query."""

    model: str
    shared: bool
    requests: tuple[SpokenRequest, ...]
