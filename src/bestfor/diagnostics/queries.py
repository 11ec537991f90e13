"""What is kept of every query once its candidates are forgotten: exact curves and a few statistics.

Everything a diagnosis says, but for the effects of texts, follows from these. They are found pool by pool, so a table
of any length can be read in blocks, and memory grows with the number of queries only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bestfor.diagnostics.curves import best_of_n, pool_curves
from bestfor.diagnostics.pools import Pools
from bestfor.diagnostics.within import centred, correlations
from bestfor.types import BoolArray, FloatArray, IntArray, Scale


@dataclass(frozen=True)
class ModelQueries:
    """One model in every query; Q queries, K values of N that are reported, G values of the grid.

    Attributes:
        correlation: shape (Q,), Pearson's r between reward and utility, NaN where either is constant.
        reward_sd: shape (Q,), standard deviation of the reward (ddof 1), exactly 0 where it is constant.
        curve: shape (Q, G), Best-of-N's expected utility.
        growth: shape (Q, K), the expected highest of N rewards over their mean, in their standard deviations.
        noise: shape (Q, K), variance of the utility that one random subset of N gives.
        pick: shape (Q,), index of the candidate with the highest reward (the first of those that tie).
        pick_utility: shape (Q,).
    """

    correlation: FloatArray
    reward_sd: FloatArray
    curve: FloatArray
    growth: FloatArray
    noise: FloatArray
    pick: IntArray
    pick_utility: FloatArray


@dataclass(frozen=True)
class Queries:
    """Every query; Q queries, U users.

    Attributes:
        user: shape (Q,), codes into ``user_ids``.
        user_ids: the users.
        query_ids: shape (Q,).
        size: shape (Q,), candidates.
        mean: shape (Q,), pool means of the utility.
        utility_sd: shape (Q,), standard deviation of the utility (ddof 1), exactly 0 where it is constant.
        oracle: shape (Q, G), Best-of-N by the utility.
        best: shape (Q,), index of a candidate with the highest utility.
        best_utility: shape (Q,).
        models: name -> the model in every query.
        scales: name -> the scale of its rewards.
    """

    user: IntArray
    user_ids: tuple[str, ...]
    query_ids: Sequence[str]
    size: IntArray
    mean: FloatArray
    utility_sd: FloatArray
    oracle: FloatArray
    best: IntArray
    best_utility: FloatArray
    models: dict[str, ModelQueries]
    scales: dict[str, Scale]

    def __len__(self) -> int:
        return len(self.size)


def doubling_grid(n: IntArray) -> IntArray:
    """The values of N and every power of two up to the largest."""
    powers = 2 ** np.arange(int(n[-1]).bit_length(), dtype=np.int64)
    return np.union1d(n, powers)


def measure_queries(pools: Pools, n: IntArray) -> Queries:
    """Measure every model in every pool.

    Args:
        pools: all with at least the largest N candidates.
        n: shape (K,), increasing.
    """
    grid, mask = doubling_grid(n), pools.mask
    mean = np.where(mask, pools.utility, 0.0).sum(axis=1) / pools.size
    oracle = best_of_n(pools.utility, pools.utility, pools.size, grid)
    unit, utility_sd = centred(pools.utility, mask, pools.size)
    _flatten(oracle, mean, utility_sd == 0)
    best, best_utility = _picked(pools, pools.utility, mask)
    models: dict[str, ModelQueries] = {}
    for name, reward in pools.rewards.items():
        curve, highest, noise = pool_curves(reward, pools.utility, pools.size, grid)
        reward_unit, reward_sd = centred(reward, mask, pools.size)
        _flatten(curve, mean, (reward_sd == 0) | (utility_sd == 0))
        reward_mean = np.where(mask, reward, 0.0).sum(axis=1) / pools.size
        at = np.searchsorted(grid, n)
        growth = (highest[:, at] - reward_mean[:, None]) / np.where(reward_sd > 0, reward_sd, 1.0)[:, None]
        pick, pick_utility = _picked(pools, reward, mask)
        models[name] = ModelQueries(
            correlation=correlations(unit, reward_unit),
            reward_sd=reward_sd,
            curve=curve,
            growth=growth,
            noise=noise[:, at],
            pick=pick,
            pick_utility=pick_utility,
        )
    return Queries(
        user=pools.user,
        user_ids=pools.user_ids,
        query_ids=pools.query_ids,
        size=pools.size,
        mean=mean,
        utility_sd=utility_sd,
        oracle=oracle,
        best=best,
        best_utility=best_utility,
        models=models,
        scales=dict(pools.scales),
    )


def _flatten(curve: FloatArray, mean: FloatArray, constant: BoolArray) -> None:
    """Exactly the pool mean where nothing is drawn or nothing can be told apart, not up to rounding."""
    curve[:, 0] = mean
    curve[constant] = mean[constant, None]


def _picked(pools: Pools, score: FloatArray, mask: BoolArray) -> tuple[IntArray, FloatArray]:
    """The candidate with the highest score, and its utility."""
    top = np.where(mask, score, -np.inf).argmax(axis=1)
    rows: IntArray = np.arange(len(pools))
    return pools.candidate[rows, top], pools.utility[rows, top]
