"""What happens inside each query: spreads, correlations, weights, and whose reward model has collapsed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bestfor.diagnostics.table.pools import Pools
from bestfor.types import Averaging, BoolArray, FloatArray, IntArray, Scale

COLLAPSE = 0.05
"""A spread below this share of what it is compared with counts as collapse."""

ROUNDING = 1e-14
"""Correlations below this are 0: few-valued rewards and utilities often have none at all."""

QUARTILE = 75.0
"""The percentile of the users' spreads that stands for a healthy one where the scale is arbitrary."""


@dataclass(frozen=True)
class Within:
    """Per-query statistics of one reward model against the utility; Q queries.

    Attributes:
        correlation: shape (Q,), Pearson's r between reward and utility, NaN where either is constant.
        reward_sd: shape (Q,), standard deviation of the reward (ddof 1), exactly 0 where it is constant.
        utility_sd: shape (Q,), the same of the utility.
    """

    correlation: FloatArray
    reward_sd: FloatArray
    utility_sd: FloatArray


@dataclass(frozen=True)
class Collapse:
    """Which users' predictions are near-constant; U users.

    Attributes:
        ratio: shape (U,), the user's spread over what it is compared with; NaN where that is 0.
        collapsed: shape (U,), True where the ratio is below 0.05 or the rewards are exactly constant in every query.
        judged: shape (U,), whether the user has a query with two candidates: one alone cannot vary.
    """

    ratio: FloatArray
    collapsed: BoolArray
    judged: BoolArray


def centred(values: FloatArray, mask: BoolArray, size: IntArray) -> tuple[FloatArray, FloatArray]:
    """Deviations from each pool's mean, as unit vectors, and the standard deviations (ddof 1).

    Args:
        values: shape (Q, M).
        mask: shape (Q, M).
        size: shape (Q,).

    Returns:
        Shape (Q, M), of norm 1 (0 where constant, and past the size), and shape (Q,), 0 where constant.
    """
    mean = np.where(mask, values, 0.0).sum(axis=1) / size
    deviation = np.where(mask, values - mean[:, None], 0.0)
    high = np.where(mask, values, -np.inf).max(axis=1)
    low = np.where(mask, values, np.inf).min(axis=1)
    deviation[high == low] = 0.0
    largest = np.abs(deviation).max(axis=1)
    largest[largest == 0] = 1.0
    deviation /= largest[:, None]
    norm = np.sqrt((deviation**2).sum(axis=1))
    sd = largest * norm / np.sqrt(np.maximum(size - 1, 1))
    return deviation / np.where(norm > 0, norm, 1.0)[:, None], sd


def correlations(first: FloatArray, second: FloatArray) -> FloatArray:
    """Pearson's r of every pool from unit vectors; NaN where either is 0, and exactly 0 where it is but for rounding.

    Args:
        first: shape (Q, M), from :func:`centred`.
        second: likewise.
    """
    result = np.clip((first * second).sum(axis=1), -1.0, 1.0)
    result[np.abs(result) < ROUNDING] = 0.0
    result[~(first.any(axis=1) & second.any(axis=1))] = np.nan
    return result


def within_queries(pools: Pools, model: str) -> Within:
    """Correlation and spreads of one model in every query."""
    mask = pools.mask
    utility, utility_sd = centred(pools.utility, mask, pools.size)
    reward, reward_sd = centred(pools.rewards[model], mask, pools.size)
    return Within(correlations(utility, reward), reward_sd, utility_sd)


def collapse(within: Within, user: IntArray, users: int, scale: Scale) -> Collapse:
    """Users whose rewards hardly differ between a query's candidates.

    s_u = sqrt(mean over the user's queries of the within-query variance of R). On the utility's scale a user has
    collapsed where kappa_u = s_u / (the same for U) < 0.05; on an arbitrary scale, where s_u < 0.05 x the 75th
    percentile of s over users. Exact constancy always counts.

    Args:
        within: the per-query statistics.
        user: shape (Q,), each query's user.
        users: how many users there are.
        scale: of the rewards.

    Returns:
        The ratio and the verdict for every user.
    """
    judged = np.bincount(user, minlength=users).astype(np.float64)
    reward, utility = (
        np.bincount(user, sd**2, users).astype(np.float64) for sd in (within.reward_sd, within.utility_sd)
    )
    return judge_spreads(reward, utility, judged, scale)


def judge_spreads(reward: FloatArray, utility: FloatArray, judged: FloatArray, scale: Scale) -> Collapse:
    """:func:`collapse` from sums by user.

    Args:
        reward: shape (U,), sums of the within-query variances of the reward.
        utility: shape (U,), the same of the utility.
        judged: shape (U,), how many queries they are sums of; a user without any cannot be judged.
        scale: of the rewards.
    """
    known = judged > 0
    count = np.where(known, judged, 1.0)
    spread = np.sqrt(reward / count)
    against = np.sqrt(utility / count)
    if scale == "arbitrary":
        against = np.full(len(judged), np.percentile(spread[known], QUARTILE) if known.any() else 0.0)
    ratio = np.full(len(judged), np.nan)
    np.divide(spread, against, out=ratio, where=known & (against > 0))
    return Collapse(ratio, known & ((spread == 0) | (ratio < COLLAPSE)), known)


def user_weights(queries: FloatArray, averaging: Averaging) -> FloatArray:
    """The weight that each query of a user has in a mean.

    Args:
        queries: shape (U,), how many each user has, at least 1.
        averaging: as for :func:`query_weights`.

    Returns:
        Shape (U,).
    """
    if averaging == "query":
        return np.full(len(queries), 1.0 / float(queries.sum()))
    return 1.0 / (len(queries) * queries)


def query_weights(user: IntArray, users: int, averaging: Averaging) -> FloatArray:
    """Each query's weight in a mean, summing to 1: 1/n per query, or 1/(users n_u) per user.

    Args:
        user: shape (Q,), each query's user.
        users: how many users there are, each with at least one query.
        averaging: which of the two.

    Returns:
        Shape (Q,).
    """
    if averaging == "query":
        return np.full(len(user), 1.0 / len(user))
    return 1.0 / (users * np.bincount(user, minlength=users)[user])
