"""Which candidates a judge compares, and by whose persona and rubrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bestfor.data.candidates import Examples
from bestfor.rewards._judge_prompts import GENERAL, Scheme
from bestfor.rewards.judge.personas import Profile
from bestfor.rewards.judge.questions import Contest
from bestfor.types import IntArray


@dataclass(frozen=True)
class Docket:
    """What is to be judged.

    Attributes:
        contests: one for each user and query.
        places: for each, its rows and which of its texts stands in each of them.
        notes: who was judged by what, in plain sentences.
    """

    contests: list[Contest]
    places: list[tuple[IntArray, IntArray]]
    notes: list[str]


def docket(examples: Examples, profiles: Mapping[str, Profile], share: float) -> Docket:
    """Put candidates and schemes together.

    Args:
        examples: the rows.
        profiles: by user; others, and queries from before a persona's texts, are judged by the general rubric.
        share: weight of all neighbours together.
    """
    pair = examples.user * len(examples.queries) + examples.query
    order = np.argsort(pair, kind="stable")
    _, starts = np.unique(pair[order], return_index=True)
    seen = {} if examples.history is None else examples.history.seen
    contests: list[Contest] = []
    places: list[tuple[IntArray, IntArray]] = []
    early = 0
    for rows in np.split(order, starts[1:]):
        user, code = examples.users[examples.user[rows[0]]], int(examples.query[rows[0]])
        query, profile = examples.queries[code], profiles.get(user, Profile())
        late = profile.persona is not None and seen.get(query, profile.shown) < profile.shown
        early += late
        own = [examples.texts[one] for one in examples.text[rows]]
        place = {text: at for at, text in enumerate(sorted(set(own)))}
        used = (GENERAL,) if late else schemes(profile, profiles, share)
        contests.append(Contest(query, examples.inputs[code], tuple(place), used))
        places.append((rows, np.array([place[text] for text in own])))
    notes = _users(examples, profiles)
    if early:
        said = "came before texts that the persona rests on: judged by the general rubric"
        notes.append(f"{early} of {len(contests)} queries {said}")
    return Docket(contests, places, notes)


def schemes(profile: Profile, profiles: Mapping[str, Profile], share: float) -> tuple[Scheme, ...]:
    """The user's own rubrics and their neighbours' first ones, with weights that add up to 1."""
    own = profile.persona
    if own is None:
        return (GENERAL,)
    known = ((profiles.get(name, Profile()).persona, part) for name, part in profile.neighbours)
    near = [(persona, part) for persona, part in known if persona is not None]
    total, lent = sum(part for _, part in near), share if near else 0.0
    found = [Scheme(own.persona, rubric, (1 - lent) / len(own.rubrics)) for rubric in own.rubrics]
    found += [Scheme(one.persona, one.rubrics[0], lent * part / total) for one, part in near]
    return tuple(found)


def _users(examples: Examples, profiles: Mapping[str, Profile]) -> list[str]:
    asked = [examples.users[code] for code in np.unique(examples.user)]
    known = [profiles[user].persona for user in asked if user in profiles]
    bare, edited = sum(one is None for one in known), sum(one is not None and one.edited for one in known)
    said: list[str] = []
    if bare:
        said.append(f"{bare} of {len(asked)} users have no persona: judged by the general rubric")
    if edited:
        said.append(f"{edited} of {len(asked)} users were judged by a persona that a person edited")
    return said
