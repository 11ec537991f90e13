"""Learn how errors of held-out predictions go together in people who share a text: what others' ratings can tell.

    e_u(t) = l_u + v_t + a_u'd_t + noise,   cov(e_u, e_v | t) = V + k a_u'D_t a_v

e are cross-fitted errors, l_u the level of a person, a_u and D_t the tastes and the variances that the member with
tastes gives a text that it has not seen. V and k are those whose covariances of two people are nearest to the products
of their errors, none below 0 (moments, as in analysis of variance; a text of n errors weighs n). With them a fitted
combination conditions on others' ratings of a new text (:mod:`bestfor.rewards.others`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize

from bestfor.data.candidates import Candidates
from bestfor.rewards.model import RewardModel
from bestfor.rewards.rows import sum_by
from bestfor.types import FloatArray, IntArray

_TINY = 1e-12
LEAST_NOISE = 0.1
"""Share of the errors' variance that is a label's own at least."""
LEAST_TASTES = 1e-3
"""Share of the errors' variance below which tastes of the member tell nothing: k would be a ratio of two near zeros."""


@dataclass(frozen=True)
class Crowd:
    """Errors that people who share a text have in common.

    Attributes:
        text: V, in squared units of the utility.
        tastes: k.
        noise: variance of a label that is left beside V, k and the level.
        level: shape (users,), mean of l_u of the fitted users.
        known: shape (users,), variance of levels that these means take away.
    """

    text: float
    tastes: float
    noise: float
    level: FloatArray
    known: FloatArray

    def state(self) -> dict[str, Any]:
        """JSON values."""
        return {"text": self.text, "tastes": self.tastes, "noise": self.noise}

    def array(self) -> FloatArray:
        """Levels, shape (users, 2)."""
        return np.column_stack([self.level, self.known])


def no_crowd(users: int) -> Crowd:
    """Errors that have nothing in common: others' ratings tell nothing."""
    return Crowd(0.0, 0.0, 1.0, np.zeros(users), np.zeros(users))


def restore_crowd(state: dict[str, Any] | None, levels: FloatArray | None, users: int) -> Crowd:
    """Restore what ``state`` and ``array`` gave; of a model that was stored before there was any, nothing."""
    if state is None and levels is None:
        return no_crowd(users)
    if state is None or levels is None:
        raise ValueError("half of what was learned of people who share a text")
    if levels.shape != (users, 2):
        raise ValueError(f"levels of shape {levels.shape} of {users} users")
    return Crowd(
        float(state["text"]), float(state["tastes"]), float(state["noise"]), levels[:, 0].copy(), levels[:, 1].copy()
    )


def scaled_tastes(model: RewardModel, candidates: Candidates) -> FloatArray | None:
    """Rows of D_t^1/2 a_u, shape (n, k), of a member with tastes; None of one without."""
    if not model.hears:
        return None
    found = model.raters(candidates.users).loading[:, 1:]
    if not found.shape[1]:
        return None
    return found[candidates.user] * np.sqrt(np.maximum(model.text_effects(candidates)[:, 1:], 0.0))


def learn_crowd(
    error: FloatArray, codes: tuple[IntArray, IntArray, IntArray], tastes: FloatArray | None, users: int
) -> Crowd:
    """Learn V, k and the levels.

    Args:
        error: shape (n,), of cross-fitted predictions.
        codes: user, text and fold of each row, each of shape (n,).
        tastes: shape (n, k), rows of D_t^1/2 a_u; None where no member has tastes.
        users: how many; those without rows get the level 0.
    """
    user, text, fold = codes
    # a fold's texts may be better or worse liked than the others: no person's level
    error = error - (np.bincount(fold, error) / np.maximum(np.bincount(fold), 1))[fold]
    level, known = _levels(error, user, users)
    rest = error - level[user]
    whole = float(np.mean(rest**2))
    told = tastes is not None and float(np.mean(np.sum(tastes**2, axis=1))) >= LEAST_TASTES * whole
    q = tastes if told and tastes is not None else np.zeros((len(rest), 0))
    text_effect, scale = _moments(rest, q, np.unique(text, return_inverse=True)[1].astype(np.int64))
    noise = max(whole - text_effect - scale * float(np.mean(np.sum(q**2, axis=1))), LEAST_NOISE * whole)
    return Crowd(text_effect, scale, max(noise, _TINY), level, known)


def _levels(error: FloatArray, user: IntArray, users: int) -> tuple[FloatArray, FloatArray]:
    """Shrunken mean error of each user, and the variance that knowing it takes away."""
    count, total = sum_by(user, np.ones(len(user)), users), sum_by(user, error, users)
    seen = count > 0
    means, rows, groups = float(np.sum(total[seen] ** 2 / count[seen])), len(error), int(seen.sum())
    if rows <= groups + 1:
        return np.zeros(users), np.zeros(users)
    noise = max((float(error @ error) - means) / (rows - groups), _TINY)
    between = max((means - groups * noise) / rows, 0.0)
    shrink = between / (between + noise / np.maximum(count, 1.0)) * seen
    return shrink * total / np.maximum(count, 1.0), shrink * between


def _moments(error: FloatArray, q: FloatArray, text: IntArray) -> tuple[float, float]:
    """V and k by least squares over all pairs of people who share a text."""
    order = np.argsort(text, kind="stable")
    starts = np.flatnonzero(np.diff(text[order], prepend=-1))
    gram, moment = np.zeros((2, 2)), np.zeros(2)
    for rows in np.split(order, starts[1:]):
        n = len(rows)
        if n < 2:
            continue
        e, part = error[rows], q[rows]
        own = np.sum(part**2, axis=1)
        whole = part.sum(axis=0)
        pulled = part.T @ e
        near = float(np.sum((part.T @ part) ** 2) - np.sum(own**2))
        both = float(whole @ whole - own.sum())
        gram += np.array([[n * (n - 1), both], [both, near]]) / (n - 1)
        told = [float(e.sum() ** 2 - e @ e), float(pulled @ pulled - np.sum(own * e**2))]
        moment += np.array(told) / (n - 1)
    if gram[0, 0] <= 0:
        return 0.0, 0.0
    scale = np.sqrt(np.maximum(np.diag(gram), _TINY))
    # non-negative least squares in the form of the normal equations
    matrix = gram / np.outer(scale, scale) + 1e-9 * np.eye(2)
    lower = np.linalg.cholesky(matrix)
    found, _ = optimize.nnls(lower.T, np.linalg.solve(lower, moment / scale))
    text_effect, tastes = found / scale
    return float(text_effect), float(tastes) if gram[1, 1] > _TINY else 0.0
