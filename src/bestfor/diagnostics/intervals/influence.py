"""Compute how much every user and every text moves each mean: what intervals are made of.

All reported numbers are ratios of linear forms in a few means over queries: the pool mean, the oracle at every N, each
model at every N, and the means behind alpha, beta and rho. For every such mean this module keeps its total, each
user's share of it, and the exact change when a text leaves all pools that hold it. Two-way intervals come from these
values and not from resampled texts: a resampled pool holds duplicates, and Best-of-N from a pool with duplicates is
biased low.

When a text leaves, correlations, their signs and collapse change too. With deviations u_i, r_i from a pool's means and
k = m / (m - 1), leaving candidate i out turns each sum of products S into S - k times i's own product, so every
correlation and variance without one candidate has a closed form. A sign or a verdict that flips counts as a whole
change; over many pools these jumps average to a slope. As for curves each pool's part is scaled by sqrt((m - 1) / m)
and centred, so that squares sum to the variance of a mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic

import numpy as np
import numpy.typing as npt

from bestfor.diagnostics.curves.best_of_n import chunks, sort_by_reward, weights
from bestfor.diagnostics.curves.rules import chance_table
from bestfor.diagnostics.intervals.means import CurveMean, LinearForm, Mean, QuantityMean
from bestfor.diagnostics.quantities.collapse import COLLAPSE, Collapse
from bestfor.diagnostics.quantities.queries import ROUNDING as SMALLEST_CORRELATION
from bestfor.diagnostics.table.pools import Pools
from bestfor.diagnostics.table.rows import decode
from bestfor.selection import Rule
from bestfor.types import BoolArray, FloatArray, IntArray

ROWS = 512
ROUNDING = 1e-12
"""Sums of squares that fall below this share are constant without the candidate."""


@dataclass(frozen=True)
class Texts:
    """Effects of texts on the means; T texts, S means.

    Attributes:
        ids: the texts.
        effect: shape (T, S), the mean with the text minus the mean without it, the text leaving one pool after the
            other; each pool's part is scaled by sqrt((m - 1) / m), so that squares sum to the variance of a mean.
        cells: shape (S, S), sums of products of the effects of one text in one pool: what users and texts both count.
    """

    ids: tuple[str, ...]
    effect: FloatArray
    cells: FloatArray


@dataclass(frozen=True)
class Influences(Generic[Mean]):
    """Means over queries and what each user and text contributes; U users, S means.

    Attributes:
        columns: names of the S means.
        total: shape (S,).
        user_ids: the users.
        users: shape (U, S), each user's share; the sum over users is the total.
        texts: what texts do, None where no two users share one.
    """

    columns: tuple[Mean, ...]
    total: FloatArray
    user_ids: tuple[str, ...]
    users: FloatArray
    texts: Texts | None

    def form(self, parts: LinearForm[Mean]) -> FloatArray:
        """Lay out the coefficients of a linear form in the means, shape (S,)."""
        place = {column: index for index, column in enumerate(self.columns)}
        coefficients = np.zeros(len(self.columns))
        for column, coefficient in parts.items():
            coefficients[place[column]] = coefficient
        return coefficients


def user_influences(
    values: Mapping[Mean, FloatArray], weight: FloatArray, user: IntArray, user_ids: tuple[str, ...]
) -> Influences[Mean]:
    """Sum weighted per-query values by user.

    Args:
        values: a mean's name -> shape (Q,), its value in every query.
        weight: shape (Q,), summing to 1.
        user: shape (Q,), codes into the ids.
        user_ids: the users.

    Returns:
        The influences, without texts.
    """
    return sum_by_user(values.items(), weight, user, user_ids)


def sum_by_user(
    values: Iterable[tuple[Mean, FloatArray]], weight: FloatArray, user: IntArray, user_ids: tuple[str, ...]
) -> Influences[Mean]:
    """Sum as :func:`user_influences`, from pairs made one after the other, so that one is in memory at a time."""
    names: list[Mean] = []
    sums: list[FloatArray] = []
    for name, column in values:
        names.append(name)
        sums.append(np.bincount(user, weight * column, len(user_ids)).astype(np.float64))
    users = np.stack(sums, axis=1)
    return Influences(tuple(names), users.sum(axis=0), user_ids, users, None)


def shares_texts(pools: Pools) -> bool:
    """Decide whether any text stands in the pools of two users."""
    if pools.text is None or len(pools.user_ids) < 2:
        return False
    mask = pools.mask
    text = pools.text[mask]
    owner = np.broadcast_to(pools.user[:, None], mask.shape)[mask]
    low = np.full(len(pools.text_ids), len(pools.user_ids))
    high = np.full(len(pools.text_ids), -1)
    np.minimum.at(low, text, owner)
    np.maximum.at(high, text, owner)
    return bool((high > low).any())


def text_effects(
    pools: Pools, weight: FloatArray, columns: tuple[CurveMean, ...], n: IntArray, rules: Sequence[Rule] = ()
) -> Texts:
    """Compute the exact change of every mean when one text leaves the pools.

    Args:
        pools: with texts.
        weight: shape (Q,), summing to 1.
        columns: the means, in the order one, pool, oracle at every N, each model at every N, then for each model each
            other rule at every N.
        n: shape (K,).
        rules: the other rules.

    Returns:
        Effects and products, for the texts that stand in a pool.
    """
    assert pools.text is not None
    size, width = len(pools.text_ids), len(columns)
    effect, present, cells = np.zeros((size, width)), np.zeros(size, dtype=np.bool_), np.zeros((width, width))
    for rows, m in chunks(pools.size, ROWS):
        block = _block(pools, rows, m, n, rules) * (weight[rows] * np.sqrt((m - 1) / m))[:, None, None]
        flat = block.reshape(-1, width)
        cells += flat.T @ flat
        text = pools.text[rows, :m].ravel()
        order = np.argsort(text, kind="stable")
        first = np.flatnonzero(np.r_[True, np.diff(text[order]) > 0])
        effect[text[order][first]] += np.add.reduceat(flat[order], first, axis=0)
        present[text] = True
    kept = np.flatnonzero(present)
    return Texts(decode(pools.text_ids, kept), effect[kept], cells)


def _block(pools: Pools, rows: IntArray | slice, m: int, n: IntArray, rules: Sequence[Rule]) -> FloatArray:
    """Compute the change of every mean when a candidate leaves, for pools of one size; shape (B, m, S)."""
    utility = pools.utility[rows, :m]
    mean = leave_one_out_mean(utility)[:, :, None]
    parts = [np.zeros_like(mean), mean]
    ranked = [(reward[rows, :m], weights) for reward in (pools.utility, *pools.rewards.values())]
    ranked += [
        (one.ranked(reward[rows, :m]), partial(chance_table, one)) for reward in pools.rewards.values() for one in rules
    ]
    for values, table in ranked:
        effect = leave_one_out(values, utility, n, table)
        effect[:, :, n == 1] = mean
        parts.append(effect)
    return np.concatenate(parts, axis=2)


def leave_one_out_mean(utility: FloatArray) -> FloatArray:
    """Compute the pool mean minus that without each candidate: (U_i - mean) / (m - 1); shape (B, m), 0 where m = 1."""
    m = int(utility.shape[1])
    return (utility - utility.mean(axis=1, keepdims=True)) / max(m - 1, 1)


def leave_one_out(
    reward: FloatArray, utility: FloatArray, n: IntArray, chances: Callable[[int, IntArray], FloatArray] = weights
) -> FloatArray:
    """Compute Best-of-N from a pool minus that without each candidate, exactly and for all at once.

    Ranks above the leaver keep their weight w_N(j) of a pool of m - 1, ranks below move up by one, and the leaver's
    own tied group loses a member and changes its mean: prefix sums over ranks, one term for the group. Where N = m the
    others only offer Best-of-(m-1). The differences of a pool average 0 (by themselves for N < m, centred for N = m).

    Args:
        reward: shape (B, m), no padding.
        utility: shape (B, m).
        n: shape (K,), each at most m.
        chances: pool size and values of N -> what a rank weighs, shape (m, K); those of another rule may be given.

    Returns:
        Shape (B, m, K), in the order of the candidates; 0 where m = 1.
    """
    rows, m = int(reward.shape[0]), int(reward.shape[1])
    if m == 1:
        return np.zeros((rows, 1, len(n)))
    values, order, start = sort_by_reward(reward, utility)
    table = chances(m - 1, np.minimum(n, m - 1))
    above = np.zeros((rows, m, len(n)))
    np.cumsum(values[:, :-1, None] * table, axis=1, out=above[:, 1:])
    below = np.zeros((rows, m + 1, len(n)))
    below[:, 1:m] = np.cumsum((values[:, 1:, None] * table)[:, ::-1], axis=1)[:, ::-1]
    without = np.empty((rows, m, len(n)))
    tied = _has_ties(start)
    without[~tied] = above[~tied] + below[~tied, 1:]
    if tied.any():
        ranked = np.take_along_axis(utility[tied], order[tied], axis=1)
        without[tied] = _without_tied(values[tied], ranked, start[tied], (above[tied], below[tied]), table)
    difference = (values @ chances(m, n))[:, None, :] - without
    difference -= difference.mean(axis=1, keepdims=True)
    result = np.empty_like(difference)
    np.put_along_axis(result, order[:, :, None], difference, axis=1)
    return result


def _has_ties(start: IntArray) -> BoolArray:
    position: IntArray = np.arange(int(start.shape[1]))
    return (start != position).any(axis=1)


def _without_tied(
    values: FloatArray, ranked: FloatArray, start: IntArray, sums: tuple[FloatArray, FloatArray], table: FloatArray
) -> FloatArray:
    """Compute Best-of-N without each candidate where groups tie: what is above, the group without it, what is below."""
    above, below = sums
    m = int(start.shape[1])
    position: IntArray = np.arange(m)
    last = np.where(
        np.concatenate([start[:, 1:] == position[1:], np.ones((len(start), 1), np.bool_)], axis=1), position, m
    )
    end = np.minimum.accumulate(last[:, ::-1], axis=1)[:, ::-1] + 1
    members = end - start
    mean_without = (members * values - ranked) / np.maximum(members - 1, 1)
    mass = np.concatenate([np.zeros((1, table.shape[1])), np.cumsum(table, axis=0)])
    group = (mass[end - 1] - mass[start]) * mean_without[:, :, None]
    return (
        np.take_along_axis(above, start[:, :, None], axis=1)
        + group
        + np.take_along_axis(below, end[:, :, None], axis=1)
    )


@dataclass(frozen=True)
class UserSpread:
    """Sums by user that decide who has collapsed; U users.

    Attributes:
        weight: shape (U,), the weight of each query of a user.
        judged: shape (U,), queries with two candidates or more.
        variance: shape (U,), sums of the within-query variances of the utility.
        rewards: name of a model -> the same of its rewards.
        collapses: name of a model -> its collapse, by the rule of its scale and by the other one.
        on_utility: name of a model -> whether its own scale is the utility's.
    """

    weight: FloatArray
    judged: FloatArray
    variance: FloatArray
    rewards: dict[str, FloatArray]
    collapses: dict[str, tuple[Collapse, Collapse]]
    on_utility: dict[str, bool]


def quantity_effects(
    pools: Pools, user: npt.NDArray[np.integer], columns: tuple[QuantityMean, ...], spread: UserSpread
) -> Texts:
    """Compute the change of every mean behind alpha, beta and rho when one text leaves the pools.

    Args:
        pools: with texts.
        user: shape (Q,), the pools' users among all users.
        columns: the means.
        spread: of all users.

    Returns:
        Effects and products, for the texts that stand in a pool; 0 for what no text moves.
    """
    assert pools.text is not None
    width = len(columns)
    effect, cells = np.zeros((len(pools.text_ids), width)), np.zeros((width, width))
    present = np.zeros(len(pools.text_ids), dtype=np.bool_)
    for rows, m in chunks(pools.size, ROWS):
        block = _text_block(pools, rows, m, columns, (user[rows], spread))
        block -= block.mean(axis=1, keepdims=True)
        flat = (block * np.sqrt((m - 1) / m)).reshape(-1, width)
        cells += flat.T @ flat
        text = pools.text[rows, :m].ravel()
        np.add.at(effect, text, flat)
        present[text] = True
    kept = np.flatnonzero(present)
    return Texts(decode(pools.text_ids, kept), effect[kept], cells)


def _text_block(
    pools: Pools,
    rows: IntArray | slice,
    m: int,
    columns: tuple[QuantityMean, ...],
    users: tuple[npt.NDArray[np.integer], UserSpread],
) -> FloatArray:
    """Compute what a pool adds to each mean, with the candidate minus without it; shape (B, m, columns)."""
    user, spread = users
    utility = _LeaveOneOut(pools.utility[rows, :m])
    result = np.zeros((len(user), m, len(columns)))
    if m < 2:
        return result
    place = {column: index for index, column in enumerate(columns)}
    weight, each = spread.weight[user][:, None], 1.0 / max(float((spread.judged > 0).sum()), 1.0)
    for name, reward in pools.rewards.items():
        own, other = spread.collapses[name]
        scores, on_utility = _LeaveOneOut(reward[rows, :m]), spread.on_utility[name]
        changes = {
            QuantityMean("collapsed", name): each
            * _flips(scores, utility if on_utility else None, user, (spread, name, own)),
            QuantityMean("other", name): each
            * _flips(scores, None if on_utility else utility, user, (spread, name, other)),
        }
        active = weight * ~own.collapsed[user][:, None]
        for column, change in _correlation_changes(scores, utility, name).items():
            changes[column] = active * change
        for column, change in changes.items():
            result[:, :, place[column]] = change
    return result


def _correlation_changes(scores: _LeaveOneOut, utility: _LeaveOneOut, name: str) -> dict[QuantityMean, FloatArray]:
    """Compute what varies, is negative, and the correlation by sign, with the candidate minus without it."""
    cross = (scores.unit * utility.unit).sum(axis=1)
    together, varying = _correlation(scores.total, utility.total, cross)
    before, known = together[:, None], varying[:, None]
    after, known_left = _correlation(
        scores.left, utility.left, cross[:, None] - scores.factor * scores.unit * utility.unit
    )
    return {
        QuantityMean("active", name): known.astype(np.float64) - known_left,
        QuantityMean("negative", name): ((before < 0) & known).astype(np.float64) - ((after < 0) & known_left),
        QuantityMean("plus", name): np.maximum(before, 0.0) - np.maximum(after, 0.0),
        QuantityMean("minus", name): np.minimum(before, 0.0) - np.minimum(after, 0.0),
    }


class _LeaveOneOut:
    """Deviations of pools of one size in units of the largest one, and sums of squares with and without a candidate."""

    def __init__(self, values: FloatArray) -> None:
        m = int(values.shape[1])
        deviation = values - values.mean(axis=1, keepdims=True)
        deviation[values.max(axis=1) == values.min(axis=1)] = 0.0
        largest = np.abs(deviation).max(axis=1)
        self.scale = np.where(largest > 0, largest, 1.0)
        self.unit = deviation / self.scale[:, None]
        self.factor = m / max(m - 1, 1)
        self.total = (self.unit**2).sum(axis=1)
        self.left = self.total[:, None] - self.factor * self.unit**2
        self.left[self.left <= ROUNDING * self.total[:, None]] = 0.0
        self._m = m

    def variances(self) -> tuple[FloatArray, FloatArray]:
        """Compute the variance of the whole pool, shape (B, 1), and without each candidate, shape (B, m); ddof 1."""
        square = self.scale[:, None] ** 2
        return square * self.total[:, None] / (self._m - 1), square * self.left / max(self._m - 2, 1)


def _correlation(first: FloatArray, second: FloatArray, cross: FloatArray) -> tuple[FloatArray, BoolArray]:
    """Compute correlations, 0 where either sum of squares is 0, and where neither is."""
    known = (first > 0) & (second > 0)
    result = np.zeros(cross.shape)
    np.divide(cross, np.sqrt(np.where(known, first * second, 1.0)), out=result, where=known)
    result[np.abs(result) < SMALLEST_CORRELATION] = 0.0
    return np.clip(result, -1.0, 1.0), known


def _flips(
    scores: _LeaveOneOut,
    utility: _LeaveOneOut | None,
    user: npt.NDArray[np.integer],
    found: tuple[UserSpread, str, Collapse],
) -> FloatArray:
    """Compute collapsed minus collapsed without each candidate, shape (B, m); arbitrary scales keep their threshold."""
    spread, name, verdict = found
    judged = spread.judged[user][:, None]
    whole, left = scores.variances()
    without = np.maximum(spread.rewards[name][user][:, None] - whole + left, 0.0) / judged
    without[(left == 0) & (np.abs(spread.rewards[name][user][:, None] - whole) <= ROUNDING * whole)] = 0.0
    if utility is None:
        low = np.sqrt(without) < verdict.cut
    else:
        whole, left = utility.variances()
        against = np.maximum(spread.variance[user][:, None] - whole + left, 0.0) / judged
        low = (against > 0) & (without < COLLAPSE**2 * against)
    return verdict.collapsed[user][:, None].astype(np.float64) - (low | (without == 0)).astype(np.float64)
