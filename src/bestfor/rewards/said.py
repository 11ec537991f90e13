"""Learn labels of several kinds at a fit: preferences, weights and all, by those models that learn from people.

Utilities of rows sum up what people said of a text; a preference, and how much a label weighs, are lost in them. A
kind that learns from labels makes each of these people anew from what they said (:meth:`RewardModel.person`), as a
service does with its journal. So that no label counts twice, their rows teach what people share under a name beside the
user's. Kinds that learn at fit alone, or nobody's own part, take the rows under the user's name: that is the reduction.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bestfor.data.candidates import Candidates, History
from bestfor.data.labels import JOURNAL, Labels, Preferred, Rated
from bestfor.data.others import OtherRatings
from bestfor.rewards.person import Person, sort_labels
from bestfor.types import FloatArray, IntArray, Scores

WEAK = 0.25
"""Weight below which labels of a text teach their person alone: rows of a fit all weigh the same."""

Key = tuple[str, str, str]


def split_said(candidates: Candidates, *, personal: bool) -> tuple[Candidates, dict[str, Labels]]:
    """Part what is learned as rows from what persons are made of.

    Args:
        candidates: labelled rows, with what was said of them; of other texts of theirs nothing is taken.
        personal: whether the kind makes persons of what was said.

    Returns:
        The rows without those of weak labels alone, and what each user said; nothing where the kind makes no persons.
    """
    said = candidates.said or {}
    keys = _keys(candidates)
    rows, texts = set(keys), set(candidates.texts)
    known = {
        user: labels.keep(lambda prompt, text, user=user: (user, prompt, text) in rows or text not in texts)
        for user, labels in said.items()
    }
    weights = _weights(known)
    kept = np.array([weights.get(key, WEAK) >= WEAK for key in keys], dtype=np.bool_)
    found = replace(candidates, said=known) if kept.all() else replace(candidates, said=known).take(kept)
    if not personal:
        return found, {}
    named = {user: user + JOURNAL for user in known}
    users = tuple(named.get(user, user) for user in found.users)
    history = found.history
    if history is not None:
        twice = {named[user]: texts for user, texts in history.texts.items() if user in named}
        history = History({**history.texts, **twice}, history.seen, history.tested)
    own = {user: sort_labels(labels) for user, labels in known.items() if len(labels)}
    return replace(found, users=users, history=history), own


def pairs_of(candidates: Candidates) -> tuple[IntArray, IntArray, FloatArray]:
    """Find the rows of every preference that has two: the better ones, the worse ones and the weights, each (k,)."""
    place = {key: row for row, key in enumerate(_keys(candidates))}
    found = []
    for user, labels in sorted((candidates.said or {}).items()):
        for one in sorted(labels.preferred):
            better, worse = (place.get((user, one.prompt, text)) for text in (one.better, one.worse))
            if better is not None and worse is not None:
                found.append((better, worse, one.weight))
    better, worse, weight = zip(*found, strict=True) if found else ((), (), ())
    return np.array(better, dtype=np.int64), np.array(worse, dtype=np.int64), np.array(weight, dtype=np.float64)


def rated_means(candidates: Candidates) -> FloatArray:
    """Mean utility of what ratings alone say of each row, (n,); NaN where none do."""
    sums: dict[Key, tuple[float, float]] = {}
    for user, labels in (candidates.said or {}).items():
        for one in labels.rated:
            total, weight = sums.get((user, one.prompt, one.text), (0.0, 0.0))
            sums[user, one.prompt, one.text] = total + one.weight * one.utility, weight + one.weight
    pairs = [sums.get(key, (np.nan, 1.0)) for key in _keys(candidates)]
    return np.array([total / weight for total, weight in pairs])


def scores_of_people(
    candidates: Candidates, told: Mapping[str, Labels], make: Callable[[str, Sequence[str] | None], Person]
) -> dict[int, tuple[IntArray, Scores]]:
    """Score the queries of people who said something, each by their person.

    Args:
        candidates: the rows.
        told: what people said, by user.
        make: makes the person of a user and of what they wrote before.

    Returns:
        By code of the query, its rows and their scores; other people's queries are not there.
    """
    if not told:
        return {}
    order = np.argsort(candidates.query, kind="stable")
    queries, starts = np.unique(candidates.query[order], return_index=True)
    asked: dict[str, list[tuple[int, IntArray]]] = {}
    for query, rows in zip(queries.tolist(), np.split(order, starts[1:]), strict=True):
        user = candidates.users[candidates.user[rows[0]]]
        if user in told:
            asked.setdefault(user, []).append((query, rows))
    found: dict[int, tuple[IntArray, Scores]] = {}
    for user, theirs in asked.items():
        history = candidates.history
        person = make(user, None if history is None else history.texts.get(user, ()))
        for query, rows in theirs:
            texts = [candidates.texts[code] for code in candidates.text[rows].tolist()]
            wrote = None if history is None else history.before(user, candidates.queries[query])
            found[query] = rows, person.score(candidates.inputs[query], texts, wrote)
    return found


def pack_said(said: Mapping[str, Labels]) -> npt.NDArray[np.uint8]:
    """Write what people said as bytes of JSON, in an order that depends on its content only."""
    plain = {
        user: {
            "rated": [[one.prompt, one.text, one.utility, one.weight] for one in labels.rated],
            "preferred": [[one.prompt, one.better, one.worse, one.weight] for one in labels.preferred],
        }
        for user, labels in said.items()
    }
    return np.frombuffer(json.dumps(plain, sort_keys=True).encode(), dtype=np.uint8)


def unpack_said(stored: npt.NDArray[Any]) -> dict[str, Labels]:
    """Read what :func:`pack_said` wrote.

    Raises:
        ValueError: other bytes.
    """
    plain = json.loads(stored.astype(np.uint8).tobytes())
    return {
        str(user): Labels(
            tuple(Rated(str(a), str(b), float(c), float(d)) for a, b, c, d in labels["rated"]),
            tuple(Preferred(str(a), str(b), str(c), float(d)) for a, b, c, d in labels["preferred"]),
        )
        for user, labels in plain.items()
    }


def _keys(candidates: Candidates) -> list[Key]:
    """User, prompt and text of every row; the user of rows that teach what people share is the one who spoke."""
    users = [user.removesuffix(JOURNAL) for user in candidates.users]
    inputs, texts = candidates.inputs, candidates.texts
    codes = zip(candidates.user.tolist(), candidates.query.tolist(), candidates.text.tolist(), strict=True)
    return [(users[user], inputs[query], texts[text]) for user, query, text in codes]


def _weights(said: Mapping[str, Labels]) -> dict[Key, float]:
    """Sum the weights of what is said of every text."""
    found: dict[Key, float] = {}
    for user, labels in said.items():
        for one in labels.rated:
            found[user, one.prompt, one.text] = found.get((user, one.prompt, one.text), 0.0) + one.weight
        for two in labels.preferred:
            for text in (two.better, two.worse):
                found[user, two.prompt, text] = found.get((user, two.prompt, text), 0.0) + two.weight
    return found


class FittedRows:
    """Scores by the fit's rows alone, for persons of whom what they said tells nothing more."""

    def __init__(self, scores: Callable[[Candidates], list[Scores]], heard: Callable[..., list[Scores]]) -> None:
        self._scores, self._heard = scores, heard

    def score_many(
        self,
        users: Sequence[str],
        prompts: Sequence[str],
        texts: Sequence[Sequence[str]],
        history: History | None = None,
    ) -> list[Scores]:
        """Rewards of the candidates of many requests."""
        return self._scores(Candidates.of(users, prompts, texts, history=history))

    def heard_scores(
        self,
        scores: Sequence[Scores],
        candidates: Candidates,
        others: OtherRatings,
        loading: FloatArray | None = None,
    ) -> list[Scores]:
        """Condition the scores of some requests on what others said of their candidates."""
        return self._heard(scores, candidates, others, loading)


def without_queries(candidates: Candidates, queries: Collection[int]) -> Candidates:
    """Leave out the rows of some queries."""
    return candidates.take(~np.isin(candidates.query, list(queries))) if queries else candidates
