"""What is kept once the candidates are forgotten: a few numbers a query, and sums by user.

A query's weight in every mean is its user's, and whether a user has collapsed is known of the user, so all curves,
laws, ledgers and quantities follow from sums over each user's queries. Only what depends on single queries is kept of
them: sizes, correlations, and whether the pick is worse than a random candidate. A table of any length can be read in
blocks, and memory grows with the number of queries by little more than their ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bestfor.data.hashing import join_hashes
from bestfor.diagnostics.curves.best_of_n import best_of_n, pool_curves
from bestfor.diagnostics.curves.rules import Rule, curve_by_rule
from bestfor.diagnostics.ids import hash_ids
from bestfor.diagnostics.table.pools import Pools
from bestfor.diagnostics.within import centred, correlations
from bestfor.types import BoolArray, FloatArray, IntArray, Scale

Counts = npt.NDArray[np.int32]
"""Small whole numbers, half the size of the usual ones."""

Statistic = tuple[str, str]
"""A model's name, empty for what models share, and what is summed."""


class Sums:
    """Sums over each user's queries.

    Shared by all models, each of width 1 or as said (K values of N, G of the grid): ``queries``; ``judged``, queries of
    two candidates or more; ``mean``; ``sigma`` and ``variance`` of the utility (ddof 1); ``oracle`` (G); ``headroom``
    (K), the oracle's gains.

    Of a model: ``variance`` of the reward; ``curve`` (G); ``noise`` (K), the variance that one random subset gives;
    ``rule <name>`` (G). Over its varying queries, where neither reward nor utility is constant: ``varying`` (how many),
    ``negative``, ``plus`` and ``minus`` (correlations by sign), ``sigma``, ``growth`` (K), ``reward`` (K), growth sigma
    r, ``pool`` (K), r x the oracle's gain, ``gain`` (K). Over the others: ``rest`` (K), their gain.
    """

    def __init__(self, layout: Mapping[Statistic, slice], values: FloatArray) -> None:
        """Name the columns of a matrix.

        Args:
            layout: where each statistic's columns are.
            values: shape (U, columns).
        """
        self.layout = layout
        self.values = values

    def all(self, what: str, model: str = "") -> FloatArray:
        """All columns of a statistic, shape (U, width)."""
        return self.values[:, self.layout[model, what]]

    def one(self, what: str, model: str = "") -> FloatArray:
        """A statistic of one column, shape (U,)."""
        return self.values[:, self.layout[model, what].start]


@dataclass(frozen=True)
class ModelQueries:
    """One model in every query; Q queries.

    Attributes:
        correlation: shape (Q,), Pearson's r between reward and utility, NaN where either is constant.
        worse: shape (Q,), whether the candidate with the highest reward has less utility than the pool's mean.
    """

    correlation: FloatArray
    worse: BoolArray


@dataclass(frozen=True)
class Queries:
    """Every query; Q queries, U users.

    Attributes:
        user: shape (Q,), codes into ``user_ids``.
        user_ids: the users.
        key: shape (Q,), a hash of the user's and the query's id, so that choices do not follow the order of rows.
        size: shape (Q,), candidates.
        models: name -> the model in every query.
        scales: name -> the scale of its rewards.
        sums: by user.
    """

    user: Counts
    user_ids: tuple[str, ...]
    key: npt.NDArray[np.uint64]
    size: Counts
    models: dict[str, ModelQueries]
    scales: dict[str, Scale]
    sums: Sums

    def __len__(self) -> int:
        return len(self.size)


def doubling_grid(n: IntArray) -> IntArray:
    """The values of N and every power of two up to the largest."""
    powers = 2 ** np.arange(int(n[-1]).bit_length(), dtype=np.int64)
    return np.union1d(n, powers)


def measure_queries(pools: Pools, n: IntArray, rules: Sequence[Rule] = ()) -> Queries:
    """Measure every model in every pool.

    Args:
        pools: all with at least the largest N candidates.
        n: shape (K,), increasing.
        rules: other rules whose curves are wanted.
    """
    shared = _share(pools, n)
    parts: dict[Statistic, FloatArray] = {("", what): values for what, values in shared.statistics(pools).items()}
    models: dict[str, ModelQueries] = {}
    for name, reward in pools.rewards.items():
        r, one = _measure(pools, reward, shared, rules)
        parts |= {(name, what): values for what, values in one.items()}
        picked = pools.utility[np.arange(len(pools)), best_place(pools, reward)]
        models[name] = ModelQueries(r, picked < shared.mean)
    layout, sums = _sum_by_user(parts, pools.user, len(pools.user_ids))
    return Queries(
        user=pools.user.astype(np.int32),
        user_ids=pools.user_ids,
        key=join_hashes(hash_ids(pools.user_ids)[pools.user], hash_ids(pools.query_ids)),
        size=pools.size.astype(np.int32),
        models=models,
        scales=dict(pools.scales),
        sums=Sums(layout, sums),
    )


@dataclass(frozen=True)
class _Shared:
    """What the utilities alone say; Q queries, G values of the grid, K of them asked for.

    Attributes:
        grid: shape (G,), values of N.
        at: shape (K,), where those asked for stand in the grid.
        mean: shape (Q,).
        unit: shape (Q, N), utilities of mean zero and length one.
        sigma: shape (Q,), ddof 1.
        oracle: shape (Q, G).
    """

    grid: IntArray
    at: IntArray
    mean: FloatArray
    unit: FloatArray
    sigma: FloatArray
    oracle: FloatArray

    @property
    def headroom(self) -> FloatArray:
        """The oracle's gains, shape (Q, K)."""
        return self.oracle[:, self.at] - self.mean[:, None]

    def statistics(self, pools: Pools) -> dict[str, FloatArray]:
        """Those of :class:`Sums` that models share, query by query."""
        return {
            "queries": np.ones(len(pools)),
            "judged": (pools.size > 1).astype(np.float64),
            "mean": self.mean,
            "sigma": self.sigma,
            "variance": self.sigma**2,
            "oracle": self.oracle,
            "headroom": self.headroom,
        }


def _share(pools: Pools, n: IntArray) -> _Shared:
    grid = doubling_grid(n)
    mean = np.where(pools.mask, pools.utility, 0.0).sum(axis=1) / pools.size
    oracle = best_of_n(pools.utility, pools.utility, pools.size, grid)
    unit, sigma = centred(pools.utility, pools.mask, pools.size)
    _flatten(oracle, mean, sigma == 0)
    return _Shared(grid, np.searchsorted(grid, n), mean, unit, sigma, oracle)


def _measure(
    pools: Pools, reward: FloatArray, shared: _Shared, rules: Sequence[Rule]
) -> tuple[FloatArray, dict[str, FloatArray]]:
    """A model's correlations, shape (Q,), and its statistics of :class:`Sums`, query by query."""
    mean, sigma, at = shared.mean, shared.sigma, shared.at
    curve, highest, noise = pool_curves(reward, pools.utility, pools.size, shared.grid)
    reward_unit, reward_sd = centred(reward, pools.mask, pools.size)
    constant = (reward_sd == 0) | (sigma == 0)
    _flatten(curve, mean, constant)
    r = correlations(shared.unit, reward_unit)
    varying = np.isfinite(r)
    known = np.where(varying, r, 0.0)
    reward_mean = np.where(pools.mask, reward, 0.0).sum(axis=1) / pools.size
    growth = (highest[:, at] - reward_mean[:, None]) / np.where(reward_sd > 0, reward_sd, 1.0)[:, None]
    growth[~varying] = 0.0
    gain = curve[:, at] - mean[:, None]
    one = {
        "variance": reward_sd**2,
        "curve": curve,
        "noise": noise[:, at],
        "varying": varying.astype(np.float64),
        "negative": (known < 0).astype(np.float64),
        "plus": np.maximum(known, 0.0),
        "minus": np.minimum(known, 0.0),
        "sigma": np.where(varying, sigma, 0.0),
        "growth": growth,
        "reward": growth * (sigma * known)[:, None],
        "pool": shared.headroom * known[:, None],
        "gain": np.where(varying[:, None], gain, 0.0),
        "rest": np.where(varying[:, None], 0.0, gain),
    }
    for rule in rules:
        one[f"rule {rule.name}"] = curve_by_rule(rule.ranked(reward), pools.utility, pools.size, shared.grid, rule)
        _flatten(one[f"rule {rule.name}"], mean, constant)
    return r, one


def best_place(pools: Pools, score: FloatArray) -> IntArray:
    """The place of the highest score in each pool, the first of those that tie; shape (Q,)."""
    return np.where(pools.mask, score, -np.inf).argmax(axis=1).astype(np.int64)


def _sum_by_user(
    parts: Mapping[Statistic, FloatArray], user: IntArray, users: int
) -> tuple[dict[Statistic, slice], FloatArray]:
    layout: dict[Statistic, slice] = {}
    width = 0
    for name, values in parts.items():
        columns = 1 if values.ndim == 1 else int(values.shape[1])
        layout[name] = slice(width, width + columns)
        width += columns
    whole = np.empty((len(user), width))
    for name, values in parts.items():
        whole[:, layout[name]] = values.reshape(len(user), -1)
    if (user[1:] < user[:-1]).any():
        order = np.argsort(user, kind="stable")
        user, whole = user[order], whole[order]
    first = np.flatnonzero(np.r_[True, user[1:] != user[:-1]])
    sums = np.zeros((users, width))
    sums[user[first]] = np.add.reduceat(whole, first, axis=0)
    return layout, sums


def _flatten(curve: FloatArray, mean: FloatArray, constant: BoolArray) -> None:
    """Exactly the pool mean where nothing is drawn or nothing can be told apart, not up to rounding."""
    curve[:, 0] = mean
    curve[constant] = mean[constant, None]
