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
    """A request with some of its candidates.

    Attributes:
        title: whose request, and its id.
        asked: the prompt, empty where it is not known.
        candidates: those shown.
    """

    title: str
    asked: str
    candidates: tuple[SpokenCandidate, ...]


@dataclass(frozen=True)
class SpokenSection:
    """Requests of a table and what one model picks for them.

    Attributes:
        model: whose rewards pick.
        shared: whether users share a query: then one request stands for several people.
        requests: those shown.
    """

    model: str
    shared: bool
    requests: tuple[SpokenRequest, ...]
