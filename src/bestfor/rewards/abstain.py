"""Choose users who abstain: their own labels do not support a model of their own, everybody's serves them better.

Call it at the end of ``_fit`` and store the answer; :class:`bestfor.rewards.model.RewardModel` does the rest (such
users are served as if they had no labels, stored with the model, listed by ``model.abstained`` and counted in its
notes)::

    self._abstained = abstaining(user, personal, shared)

``personal`` and ``shared`` are leave-one-out errors y_i - prediction_i of each fit row under the user's own model and
under what would serve them instead. Both must know the level of a query equally well, since a level moves no pick:
:func:`left_out_levels` gives that to errors that ignore it.

    d_i = (shared_i^2 - personal_i^2) / s_u,   mean_u d ~ N(gain_u, v_u / n_u),   gain_u ~ N(m, t)

with s_u halfway between the user's own mean of shared^2 and everybody's, since users differ in how noisy they are.

A user abstains where gain_u is not positive even one posterior standard deviation above its posterior mean. m and t
come from all users (Efron & Morris 1973): where personal models help most people it takes evidence against one of them
to be left out, and where they help few, evidence for one to be kept. Comparing two noisy errors of one user at a time
instead would turn down many models that help.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bestfor.rewards.rows import sum_by
from bestfor.types import BoolArray, FloatArray, IntArray

PRIOR_ROWS = 10.0
"""Rows that everybody's spread counts for in a user's own."""
ROUNDS = 200
_TINY = 1e-12


def abstaining(user: IntArray, personal: FloatArray, shared: FloatArray) -> BoolArray:
    """Users whose personal model can hardly be hoped to beat the shared one.

    Args:
        user: shape (n,), codes 0..users-1.
        personal: shape (n,), leave-one-out errors of the users' own models; NaN rows are left out.
        shared: shape (n,), leave-one-out errors of what would serve them instead.

    Returns:
        Shape (users,). A user without a usable row is not among them.
    """
    users = int(user.max()) + 1
    gain, error, counted = _gains(user, _differences(user, personal, shared, users), users)
    if not counted.any():
        return np.zeros(users, dtype=np.bool_)
    return _hopeless(gain, error, counted)


def _hopeless(gain: FloatArray, error: FloatArray, counted: BoolArray) -> BoolArray:
    """Users whose gain is not positive even one posterior standard deviation above its posterior mean."""
    centre, spread = _population(gain[counted], error[counted])
    trust = spread / np.maximum(spread + error, _TINY)
    hoped = centre + trust * (gain - centre) + np.sqrt(trust * error)
    return np.asarray(counted & (hoped <= 0), dtype=np.bool_)


@dataclass(frozen=True)
class AbstainSums:
    """Sums over some users' rows, from which everybody's answer follows when those of all users are put together.

    Attributes:
        count: shape (users,), rows with both errors.
        shared: shape (users,), sum of shared^2.
        gain: shape (users,), mean of w_i = shared_i^2 - personal_i^2.
        spread: shape (users,), sum of (w_i - mean w)^2.
    """

    count: FloatArray
    shared: FloatArray
    gain: FloatArray
    spread: FloatArray


def abstain_sums(user: IntArray, personal: FloatArray, shared: FloatArray) -> AbstainSums:
    """Sum what :func:`abstaining` needs of each user; arguments as there."""
    users = int(user.max()) + 1
    usable = np.isfinite(personal) & np.isfinite(shared)
    owner, squares = user[usable], shared[usable] ** 2
    won = squares - personal[usable] ** 2
    count = np.bincount(owner, minlength=users).astype(np.float64)
    gain = sum_by(owner, won, users) / np.maximum(count, 1)
    spread, total = (sum_by(owner, values, users) for values in ((won - gain[owner]) ** 2, squares))
    return AbstainSums(count, total, gain, spread)


def abstaining_of(parts: Sequence[AbstainSums]) -> BoolArray:
    """Users who abstain, those of all parts one after the other: as :func:`abstaining` of all rows, to rounding."""
    count, shared, gain, spread = (
        np.concatenate([getattr(one, name) for one in parts]) for name in ("count", "shared", "gain", "spread")
    )
    counted = count > 0
    if not counted.any():
        return np.zeros(len(count), dtype=np.bool_)
    common = float(shared.sum()) / max(int(count.sum()), 1)
    unit = np.maximum((shared / np.maximum(count, 1) + common) / 2, _TINY)
    gain, spread, rest = gain / unit, spread / unit**2, np.maximum(count - 1, 0)
    error = _errors(spread, rest, count)
    return _hopeless(gain, error, counted)


def abstain_note(abstained: int, users: int) -> list[str]:
    """Say how many users abstain; nothing where nobody does."""
    served = "were served without a part of their own: their labels say no more than everybody's"
    return [f"{abstained} of {users} users {served}"] if abstained else []


def left_out_levels(error: FloatArray, query: IntArray) -> FloatArray:
    """Errors after the mean error of the query's other rows is taken away; NaN where a query has one row.

    Args:
        error: shape (n,).
        query: shape (n,), codes 0..queries-1.
    """
    count = np.bincount(query)
    mean = np.bincount(query, error) / np.maximum(count, 1)
    rows = count[query].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(rows > 1, (error - mean[query]) * rows / (rows - 1), np.nan)


def _differences(user: IntArray, personal: FloatArray, shared: FloatArray, users: int) -> FloatArray:
    """Compute d_i: squared error of the shared model less that of the user's own, over what such errors are like."""
    usable = np.isfinite(personal) & np.isfinite(shared)
    squares = np.where(usable, shared, 0.0) ** 2
    mean = np.bincount(user, squares, minlength=users) / np.maximum(np.bincount(user, usable, minlength=users), 1)
    common = float(squares.sum()) / max(int(usable.sum()), 1)
    # somebody whose labels are all alike has no shared error at all: their own mean alone would divide by nothing
    return np.where(usable, squares - personal**2, np.nan) / np.maximum((mean + common) / 2, _TINY)[user]


def _gains(user: IntArray, difference: FloatArray, users: int) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Each user's mean difference, its squared standard error, and whether there is one."""
    usable = np.isfinite(difference)
    owner, values = user[usable], difference[usable]
    count = np.bincount(owner, minlength=users).astype(np.float64)
    gain = np.bincount(owner, values, minlength=users) / np.maximum(count, 1)
    squares = sum_by(owner, (values - gain[owner]) ** 2, users)
    return gain, _errors(squares, np.maximum(count - 1, 0), count), count > 0


def _errors(squares: FloatArray, rest: FloatArray, count: FloatArray) -> FloatArray:
    """Squared standard errors of users' mean differences, from their squares about it and rows less one."""
    common = float(squares.sum()) / max(float(rest.sum()), 1.0)
    # few rows say little about their own spread: everybody's is worth PRIOR_ROWS of them
    return (squares + PRIOR_ROWS * common) / (rest + PRIOR_ROWS) / np.maximum(count, 1)


def _population(gain: FloatArray, error: FloatArray) -> tuple[float, float]:
    """Mean and variance of the users' gains by expectation-maximisation."""
    centre, spread = float(gain.mean()), float(gain.var())
    for _ in range(ROUNDS):
        left = spread * error / np.maximum(spread + error, _TINY)
        expected = centre + spread / np.maximum(spread + error, _TINY) * (gain - centre)
        centre = float(expected.mean())
        fresh = float(np.mean((expected - centre) ** 2 + left))
        done, spread = abs(fresh - spread) <= 1e-6 * max(spread, _TINY), fresh
        if done:
            break
    return centre, spread
