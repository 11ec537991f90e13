"""Choose the labels of models that are fitted again, with few labels of some users.

The users of a fold are those of its third (:func:`bestfor.data.ratings.fold_of`). A model learns from everybody else's
fit part and from the first k prompts of each of them, in an order that is drawn once for a user, and predicts their
test answers. With k = 0 they are unseen. Over three folds every user is such a user once, on a third of the prompts.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from bestfor.data.parts import CandidateParts
from bestfor.data.ratings import fold_of
from bestfor.rng import derive
from bestfor.types import BoolArray, IntArray

Unit = Literal["prompts", "labels"]


def users_of_fold(parts: CandidateParts, fold: int) -> BoolArray:
    """Find the users of a fold; shape (users,)."""
    return np.array([fold_of(user) == fold for user in parts.whole.users], dtype=np.bool_)


def unit_of(parts: CandidateParts) -> Unit:
    """Tell what a shot is: a prompt with its answers, or one label where people have labelled answers to one prompt."""
    whole, labelled = parts.whole, _labelled(parts)
    pairs = np.unique(np.stack([whole.user[labelled], whole.query[labelled]]), axis=1)
    _, count = np.unique(pairs[0], return_counts=True)
    return "prompts" if len(count) and np.median(count) > 1 else "labels"


def with_shots(parts: CandidateParts, fold: int, shots: int | None, *, unit: Unit, seed: int) -> CandidateParts:
    """Keep of a fold's users their test answers and some labels, and of the others their labels.

    Args:
        parts: a fold's candidates.
        fold: its number, which names the users.
        shots: most prompts (or labels) of each of these users; None keeps all.
        unit: what a shot is.
        seed: draws the order of each user's prompts.
    """
    whole, labelled = parts.whole, _labelled(parts)
    target = users_of_fold(parts, fold)[whole.user]
    kept = np.where(parts.tested[whole.query], target, labelled & ~target)
    own = labelled & target
    if shots is None:
        kept |= own
    else:
        shot = whole.query if unit == "prompts" else np.arange(len(whole))
        for user in np.unique(whole.user[own]).tolist():
            rows = np.flatnonzero(own & (whole.user == user))
            kept[rows[np.isin(shot[rows], _first(shot[rows], whole.users[user], shots, seed))]] = True
    return parts.keep(np.flatnonzero(kept))


def _first(shot: IntArray, user: str, count: int, seed: int) -> IntArray:
    """Take the first of a user's shots, in the user's own order: few ones are among more ones."""
    return derive(seed, "shots", user).permutation(np.unique(shot))[:count]


def _labelled(parts: CandidateParts) -> BoolArray:
    whole = parts.whole
    return ~parts.tested[whole.query] & np.isfinite(whole.utility)
