"""Prepare labelled rows for the training of heads: split off held-out rows, draw pairs, add a user for everybody."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bestfor.data.candidates import Candidates
from bestfor.rewards.rows import share_texts
from bestfor.rewards.said import pairs_of, rated_means
from bestfor.types import FloatArray, IntArray


@dataclass(frozen=True)
class HeadLabels:
    """Labelled rows of features, utilities on a standard scale.

    Attributes:
        values: shape (n, p), features.
        target: shape (n,), utilities with mean 0 and variance 1.
        user: shape (n,), codes 0..users-1.
        query: shape (n,), codes 0..queries-1.
        text: shape (n,), codes 0..texts-1.
        weight: shape (n,), how often each row counts.
        users: number of users; the last may stand for everybody (:func:`with_pooled_user`).
        people: number of users without that one.
        query_levels: whether queries have levels of their own: somebody has two.
        text_levels: whether texts have: most are rated by several people.
        pair: shape (n,), which preference a row belongs to, whose other row is the only one that it is compared with;
            -1 where it is a rating. None where there are ratings only.
    """

    values: FloatArray
    target: FloatArray
    user: IntArray
    query: IntArray
    text: IntArray
    weight: FloatArray
    users: int
    people: int
    query_levels: bool
    text_levels: bool
    pair: IntArray | None = None

    def hold_out(self, share: float, draw: np.random.Generator) -> tuple[IntArray, IntArray]:
        """Split rows into kept and held out, about a share of every user's.

        Where people share texts, whole texts are held out, because candidates to come are texts that nobody rated.
        """
        n = len(self.target)
        if self.text_levels:
            held = (draw.random(int(self.text.max()) + 1) < share)[self.text]
            return np.flatnonzero(~held), np.flatnonzero(held)
        order = np.lexsort((draw.random(n), self.user))
        counts = np.bincount(self.user, minlength=self.users)
        first = np.cumsum(counts) - counts
        quota = np.floor(share * counts + 0.5).astype(np.int64)
        held = np.arange(n) - first[self.user[order]] < quota[self.user[order]]
        return np.sort(order[~held]), np.sort(order[held])


def build_labels(values: FloatArray, candidates: Candidates, centre: float, unit: float) -> HeadLabels:
    """Put labelled rows on the standard scale.

    Args:
        values: shape (n, p).
        candidates: the n labelled rows, with codes in use only.
        centre: mean utility.
        unit: standard deviation of the utilities.
    """
    n, users = len(candidates), int(candidates.user.max()) + 1
    pairs = np.unique(candidates.user * (int(candidates.query.max()) + 1) + candidates.query)
    return HeadLabels(
        values=values,
        target=(candidates.utility - centre) / unit,
        user=candidates.user,
        query=candidates.query,
        text=candidates.text,
        weight=np.ones(n),
        users=users,
        people=users,
        query_levels=len(pairs) > users,
        text_levels=share_texts(candidates.text),
    )


def with_preferences(labels: HeadLabels, candidates: Candidates, centre: float, unit: float) -> HeadLabels:
    """Put preferences as they are in the place of what rows make of them: each is one comparison of its two texts.

    Args:
        labels: of the candidates' rows.
        candidates: the rows, with what was said of them.
        centre: mean utility.
        unit: standard deviation of the utilities.
    """
    better, worse, weight = pairs_of(candidates)
    if not len(weight):
        return labels
    mean = rated_means(candidates)
    spoken = np.isin(np.arange(len(mean)), np.concatenate([better, worse]))
    rated = np.flatnonzero(np.isfinite(mean) | ~spoken)
    target = np.where(np.isfinite(mean), (mean - centre) / unit, labels.target)
    rows = np.concatenate([rated, better, worse])
    number = np.arange(len(weight))
    return replace(
        labels,
        values=labels.values[rows],
        target=np.concatenate([target[rated], np.ones(len(weight)), -np.ones(len(weight))]),
        user=labels.user[rows],
        query=labels.query[rows],
        text=labels.text[rows],
        weight=np.concatenate([labels.weight[rated], weight / 2, weight / 2]),
        pair=np.concatenate([np.full(len(rated), -1), number, number]),
    )


def with_pooled_user(labels: HeadLabels) -> HeadLabels:
    """Add all rows once more as those of one more user, whose head serves users without labels."""
    pair = labels.pair
    if pair is not None:
        pair = np.concatenate([pair, np.where(pair < 0, -1, pair + pair.max() + 1)])
    twice = {name: np.concatenate([getattr(labels, name)] * 2) for name in ("target", "query", "text", "weight")}
    return HeadLabels(
        values=np.vstack([labels.values, labels.values]),
        user=np.concatenate([labels.user, np.full(len(labels.user), labels.users)]),
        users=labels.users + 1,
        people=labels.users,
        query_levels=labels.query_levels,
        text_levels=labels.text_levels,
        pair=pair,
        **twice,
    )


def partners(rows: IntArray, pool: IntArray, group: IntArray, draw: np.random.Generator) -> IntArray:
    """Draw for each of some rows another row of its group; the row itself where there is no other.

    Args:
        rows: shape (k,), all of them in the pool.
        pool: shape (m,), distinct rows.
        group: shape (n,), group of every row.
        draw: of the choice.
    """
    order = pool[np.argsort(group[pool], kind="stable")]
    groups = group[order]
    first = np.searchsorted(groups, group[rows], side="left")
    size = np.searchsorted(groups, group[rows], side="right") - first
    place = np.empty(len(group), dtype=np.int64)
    place[order] = np.arange(len(order))
    step = 1 + np.floor(draw.random(len(rows)) * np.maximum(size - 1, 1)).astype(np.int64)
    return order[first + (place[rows] - first + step) % size]
