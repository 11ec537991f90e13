"""Measure every query, and keep of its candidates only a few numbers and sums by user.

Within a query: spreads and correlation of reward and utility. By user: the weight of a query in every mean, and whether
the reward model has collapsed (its rewards hardly differ between a query's candidates). So all curves, laws, ledgers
and quantities follow from sums over each user's queries. Only what depends on single queries is kept of them: sizes,
correlations, and whether the pick is worse than a random candidate. A table of any length can be read in blocks, and
memory grows with the number of queries by little more than their ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from bestfor.data.text import join_hashes
from bestfor.diagnostics.curves.best_of_n import best_of_n, pool_curves
from bestfor.diagnostics.curves.rules import curve_by_rule
from bestfor.diagnostics.quantities.accuracy import ordered_pairs
from bestfor.diagnostics.quantities.collapse import Collapse, judge_spreads
from bestfor.diagnostics.table.copies import distinct_candidates
from bestfor.diagnostics.table.pools import Pools
from bestfor.diagnostics.table.rows import hash_ids
from bestfor.moved import renamed
from bestfor.selection import Rule
from bestfor.types import Averaging, BoolArray, FloatArray, IntArray, Scale

__getattr__ = renamed(__name__, {"Sums": "SumsByUser", "Within": "QueryStatistics"})


ROUNDING = 1e-14
"""Correlations below this are 0: few-valued rewards and utilities often have none at all."""

RESOLUTION = {np.float32: 2.0**-22, np.float64: 2.0**-50}
"""Spreads below this share of the rewards' size are rounding of numbers of this kind."""

FEW_VALUES = 20
"""Utilities with at most so many distinct values are marks or votes."""

_GLANCE = 1000

Counts = npt.NDArray[np.int32]
"""Small whole numbers, half the size of the usual ones."""


@dataclass(frozen=True)
class QueryStatistics:
    """Per-query statistics of one reward model against the utility; Q queries.

    Attributes:
        correlation: shape (Q,), Pearson's r between reward and utility, NaN where either is constant.
        reward_sd: shape (Q,), standard deviation of the reward (ddof 1), exactly 0 where it is constant.
        utility_sd: shape (Q,), the same of the utility.
    """

    correlation: FloatArray
    reward_sd: FloatArray
    utility_sd: FloatArray


def within_queries(pools: Pools, model: str) -> QueryStatistics:
    """Compute correlation and spreads of one model in every query."""
    mask = pools.mask
    utility, utility_sd = centred(pools.utility, mask, pools.size)
    reward, reward_sd = centred(pools.rewards[model], mask, pools.size)
    return QueryStatistics(correlations(utility, reward), reward_sd, utility_sd)


def centred(values: FloatArray, mask: BoolArray, size: IntArray) -> tuple[FloatArray, FloatArray]:
    """Compute deviations from each pool's mean, as unit vectors, and the standard deviations (ddof 1).

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
    """Compute Pearson's r of every pool from unit vectors; NaN where either is 0, exactly 0 where it is but rounding.

    Args:
        first: shape (Q, M), from :func:`centred`.
        second: likewise.
    """
    result = np.clip((first * second).sum(axis=1), -1.0, 1.0)
    result[np.abs(result) < ROUNDING] = 0.0
    result[~(first.any(axis=1) & second.any(axis=1))] = np.nan
    return result


def collapse(within: QueryStatistics, user: IntArray, users: int, scale: Scale) -> Collapse:
    """Find users whose rewards hardly differ between a query's candidates, from per-query statistics.

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


def user_weights(queries: FloatArray, averaging: Averaging) -> FloatArray:
    """Compute the weight that each query of a user has in a mean.

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
    """Compute each query's weight in a mean, summing to 1: 1/n per query, or 1/(users n_u) per user.

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


@dataclass(frozen=True)
class UtilityStatistics:
    """Statistics of the utilities, of queries or summed over each user's; R rows, G values of the grid, K asked for.

    Attributes:
        queries: shape (R,), 1 a query.
        judged: shape (R,), queries of two candidates or more.
        pairs: shape (R,), pairs of candidates with different utilities.
        mean: shape (R,), a random candidate's utility.
        sigma: shape (R,), standard deviation, ddof 1.
        variance: shape (R,), its square.
        oracle: shape (R, G).
        headroom: shape (R, K), the oracle's gain.
    """

    queries: FloatArray
    judged: FloatArray
    pairs: FloatArray
    mean: FloatArray
    sigma: FloatArray
    variance: FloatArray
    oracle: FloatArray
    headroom: FloatArray

    def columns(self) -> list[FloatArray]:
        """List the statistics in the order of the attributes."""
        return [getattr(self, one.name) for one in fields(self)]


@dataclass(frozen=True)
class ModelStatistics:
    """Statistics of a model, of queries or summed over each user's; R rows, G values of the grid, K asked for.

    Attributes:
        variance: shape (R,), of the reward; 0 where it is but rounding.
        curve: shape (R, G).
        noise: shape (R, K), the variance that one random subset gives.
        right: shape (R,), pairs of candidates with different utilities in their order, those of equal rewards half.
        varying: shape (R,), queries where neither reward nor utility is constant; the next seven are 0 elsewhere.
        negative: shape (R,), whether the correlation is.
        plus, minus: shape (R,), the correlation by sign.
        sigma: shape (R,), of the utility.
        growth: shape (R, K), G_q(N).
        reward: shape (R, K), growth sigma r.
        pool: shape (R, K), r x the oracle's gain.
        gain: shape (R, K).
        rest: shape (R, K), the gain of queries that do not vary.
        rules: name of another rule -> shape (R, G).
    """

    variance: FloatArray
    curve: FloatArray
    noise: FloatArray
    right: FloatArray
    varying: FloatArray
    negative: FloatArray
    plus: FloatArray
    minus: FloatArray
    sigma: FloatArray
    growth: FloatArray
    reward: FloatArray
    pool: FloatArray
    gain: FloatArray
    rest: FloatArray
    rules: dict[str, FloatArray]

    def columns(self) -> list[FloatArray]:
        """List the statistics in the order of the attributes, the other rules last."""
        return [*(getattr(self, one.name) for one in fields(self) if one.name != "rules"), *self.rules.values()]


@dataclass(frozen=True)
class SumsByUser:
    """Sums over each user's queries, U users.

    Attributes:
        utility: what all models share.
        models: name of a model -> its own.
    """

    utility: UtilityStatistics
    models: dict[str, ModelStatistics]

    def matrix(self) -> FloatArray:
        """Lay all sums side by side, shape (U, columns)."""
        parts = [self.utility.columns(), *(model.columns() for model in self.models.values())]
        return np.concatenate([_wide(one) for part in parts for one in part], axis=1)

    def from_matrix(self, matrix: FloatArray) -> SumsByUser:
        """Read a matrix of other rows with the columns of :meth:`matrix`; the sums are views of it."""
        taken = 0

        def read(like: FloatArray) -> FloatArray:
            nonlocal taken
            first, taken = taken, taken + int(_wide(like).shape[1])
            return matrix[:, first] if like.ndim == 1 else matrix[:, first:taken]

        utility = UtilityStatistics(*map(read, self.utility.columns()))
        models = {name: _read_model(model, read) for name, model in self.models.items()}
        return SumsByUser(utility, models)


def _read_model(like: ModelStatistics, read: Callable[[FloatArray], FloatArray]) -> ModelStatistics:
    known = {one.name: read(getattr(like, one.name)) for one in fields(like) if one.name != "rules"}
    return ModelStatistics(**known, rules={rule: read(values) for rule, values in like.rules.items()})


def _wide(values: FloatArray) -> FloatArray:
    return values.reshape(len(values), -1)


@dataclass(frozen=True)
class ModelQueries:
    """One model in every query; Q queries.

    Attributes:
        correlation: shape (Q,), Pearson's r between reward and utility, NaN where either is constant.
        worse: shape (Q,), whether the candidate with the highest reward (the mean of several that tie) has less
            utility than the pool's mean.
        tails: shape (Q,), mean of a^2 b^2 over candidates, a and b standardised reward and utility; 0 where constant.
    """

    correlation: FloatArray
    worse: BoolArray
    tails: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Queries:
    """Every query; Q queries, U users.

    Attributes:
        user: shape (Q,), codes into ``user_ids``.
        user_ids: the users.
        key: shape (Q,), a hash of the user's and the query's id, so that choices do not follow the order of rows.
        size: shape (Q,), candidates.
        distinct: shape (Q,), candidates that are no copies of another one.
        models: name -> the model in every query.
        scales: name -> the scale of its rewards.
        sums: by user.
        profiles: pool size m -> shape (m,), the sum over its queries of ascending utilities less the query's mean.
        values: the distinct utilities, where they are at most 20; else None.
    """

    user: Counts
    user_ids: tuple[str, ...]
    key: npt.NDArray[np.uint64]
    size: Counts
    distinct: Counts
    models: dict[str, ModelQueries]
    scales: dict[str, Scale]
    sums: SumsByUser
    profiles: dict[int, FloatArray]
    values: tuple[float, ...] | None

    def __len__(self) -> int:
        return len(self.size)


def doubling_grid(n: IntArray) -> IntArray:
    """Join the values of N and every power of two up to the largest."""
    powers = 2 ** np.arange(int(n[-1]).bit_length(), dtype=np.int64)
    return np.union1d(n, powers)


def measure_queries(pools: Pools, n: IntArray, rules: Sequence[Rule] = ()) -> Queries:
    """Measure every model in every pool.

    Args:
        pools: all with at least the largest N candidates.
        n: shape (K,), increasing.
        rules: other rules whose curves are wanted.
    """
    pairs, right = ordered_pairs(pools)
    shared = _utilities(pools, n, pairs)
    statistics: dict[str, ModelStatistics] = {}
    models: dict[str, ModelQueries] = {}
    for name, reward in pools.rewards.items():
        r, tails, statistics[name] = _model_statistics(pools, (reward, right[name]), shared, rules)
        models[name] = ModelQueries(r, picked_utility(pools, reward) < shared.mean, tails.astype(np.float32))
    return Queries(
        user=pools.user.astype(np.int32),
        user_ids=pools.user_ids,
        key=join_hashes(hash_ids(pools.user_ids)[pools.user], hash_ids(pools.query_ids)),
        size=pools.size.astype(np.int32),
        distinct=distinct_candidates(pools),
        models=models,
        scales=dict(pools.scales),
        sums=_sum_by_user(SumsByUser(shared.statistics(pools), statistics), pools.user, len(pools.user_ids)),
        profiles=utility_profiles(pools, shared.mean),
        values=few_values(pools.utility[pools.mask]),
    )


def few_values(utility: FloatArray) -> tuple[float, ...] | None:
    """List the distinct utilities where they are few; a glance at the first thousand mostly shows that they are not."""
    if len(np.unique(utility[:_GLANCE])) > FEW_VALUES:
        return None
    values: list[float] = np.unique(utility).tolist()
    return tuple(values) if len(values) <= FEW_VALUES else None


def utility_profiles(pools: Pools, mean: FloatArray) -> dict[int, FloatArray]:
    """Sum the ascending utilities less their mean over the queries of each pool size, which all weigh the same.

    Args:
        pools: of any size.
        mean: shape (Q,), the pools' mean utilities.
    """
    found: dict[int, FloatArray] = {}
    for size in np.unique(pools.size).tolist():
        rows = pools.size == size
        found[size] = (np.sort(pools.utility[rows, :size], axis=1) - mean[rows, None]).sum(axis=0)
    return found


@dataclass(frozen=True)
class _Utilities:
    """Utilities of the pools; Q queries, G values of the grid, K of them asked for.

    Attributes:
        grid: shape (G,), values of N.
        at: shape (K,), where those asked for stand in the grid.
        pairs: shape (Q,), pairs of candidates with different utilities.
        mean: shape (Q,).
        unit: shape (Q, N), utilities of mean zero and length one.
        sigma: shape (Q,), ddof 1.
        oracle: shape (Q, G).
    """

    grid: IntArray
    at: IntArray
    pairs: FloatArray
    mean: FloatArray
    unit: FloatArray
    sigma: FloatArray
    oracle: FloatArray

    @property
    def headroom(self) -> FloatArray:
        """The oracle's gains, shape (Q, K)."""
        return self.oracle[:, self.at] - self.mean[:, None]

    def statistics(self, pools: Pools) -> UtilityStatistics:
        """Return the statistics that models share, query by query."""
        return UtilityStatistics(
            queries=np.ones(len(pools)),
            judged=(pools.size > 1).astype(np.float64),
            pairs=self.pairs,
            mean=self.mean,
            sigma=self.sigma,
            variance=self.sigma**2,
            oracle=self.oracle,
            headroom=self.headroom,
        )


def _utilities(pools: Pools, n: IntArray, pairs: FloatArray) -> _Utilities:
    grid = doubling_grid(n)
    mean = np.where(pools.mask, pools.utility, 0.0).sum(axis=1) / pools.size
    oracle = best_of_n(pools.utility, pools.utility, pools.size, grid)
    unit, sigma = centred(pools.utility, pools.mask, pools.size)
    _set_constant(oracle, mean, sigma == 0)
    return _Utilities(grid, np.searchsorted(grid, n), pairs, mean, unit, sigma, oracle)


def _model_statistics(
    pools: Pools, ranked: tuple[FloatArray, FloatArray], shared: _Utilities, rules: Sequence[Rule]
) -> tuple[FloatArray, FloatArray, ModelStatistics]:
    """Compute a model's correlations and tails, of shape (Q,), and its statistics, query by query.

    Args:
        pools: of the queries.
        ranked: rewards, shape (Q, M), and pairs in the right order, shape (Q,).
        shared: what all models share.
        rules: other rules.
    """
    reward, right = ranked
    mean, sigma, at = shared.mean, shared.sigma, shared.at
    curve, highest, noise = pool_curves(reward, pools.utility, pools.size, shared.grid)
    reward_unit, reward_sd = centred(reward, pools.mask, pools.size)
    constant = (reward_sd == 0) | (sigma == 0)
    _set_constant(curve, mean, constant)
    r = correlations(shared.unit, reward_unit)
    tails = pools.size * (shared.unit**2 * reward_unit**2).sum(axis=1)
    varying = np.isfinite(r)
    known = np.where(varying, r, 0.0)
    reward_mean = np.where(pools.mask, reward, 0.0).sum(axis=1) / pools.size
    growth = (highest[:, at] - reward_mean[:, None]) / np.where(reward_sd > 0, reward_sd, 1.0)[:, None]
    growth[~varying] = 0.0
    gain = curve[:, at] - mean[:, None]
    others: dict[str, FloatArray] = {}
    for rule in rules:
        others[rule.name] = curve_by_rule(rule.ranked(reward), pools.utility, pools.size, shared.grid, rule)
        _set_constant(others[rule.name], mean, constant)
    statistics = ModelStatistics(
        variance=np.where(_rounding(pools, reward, reward_sd), 0.0, reward_sd**2),
        curve=curve,
        noise=noise[:, at],
        right=right,
        varying=varying.astype(np.float64),
        negative=(known < 0).astype(np.float64),
        plus=np.maximum(known, 0.0),
        minus=np.minimum(known, 0.0),
        sigma=np.where(varying, sigma, 0.0),
        growth=growth,
        reward=growth * (sigma * known)[:, None],
        pool=shared.headroom * known[:, None],
        gain=np.where(varying[:, None], gain, 0.0),
        rest=np.where(varying[:, None], 0.0, gain),
        rules=others,
    )
    return r, tails, statistics


def _rounding(pools: Pools, reward: FloatArray, reward_sd: FloatArray) -> BoolArray:
    """Find the pools whose rewards vary by no more than the rounding of single or double precision, shape (Q,)."""
    known = np.where(pools.mask, reward, 0.0)
    with np.errstate(over="ignore"):
        single = (known == known.astype(np.float32)).all(axis=1)
    share = np.where(single, RESOLUTION[np.float32], RESOLUTION[np.float64])
    return reward_sd < share * np.abs(known).max(axis=1)


def _highest(pools: Pools, score: FloatArray) -> BoolArray:
    """Mark the candidates that no other one surpasses, shape (Q, M)."""
    known = np.where(pools.mask, score, -np.inf)
    return pools.mask & (known == known.max(axis=1, keepdims=True))


def picked_utility(pools: Pools, score: FloatArray) -> FloatArray:
    """Compute the utility of the candidate with the highest score, the mean of those that tie; shape (Q,)."""
    highest = _highest(pools, score)
    return np.where(highest, pools.utility, 0.0).sum(axis=1) / highest.sum(axis=1)


def best_place(pools: Pools, score: FloatArray) -> IntArray:
    """Find the place of the highest score in each pool, of those that tie the most typical one; shape (Q,)."""
    highest, typical = _highest(pools, score), picked_utility(pools, score)
    away = np.where(highest, np.abs(pools.utility - typical[:, None]), np.inf)
    return away.argmin(axis=1).astype(np.int64)


def _sum_by_user(statistics: SumsByUser, user: IntArray, users: int) -> SumsByUser:
    """Sum statistics of queries over each user's."""
    whole = statistics.matrix()
    if (user[1:] < user[:-1]).any():
        order = np.argsort(user, kind="stable")
        user, whole = user[order], whole[order]
    first = np.flatnonzero(np.r_[True, user[1:] != user[:-1]])
    sums = np.zeros((users, int(whole.shape[1])))
    sums[user[first]] = np.add.reduceat(whole, first, axis=0)
    return statistics.from_matrix(sums)


def _set_constant(curve: FloatArray, mean: FloatArray, constant: BoolArray) -> None:
    """Set a curve to exactly the pool mean where nothing is drawn or nothing can be told apart, not up to rounding."""
    curve[:, 0] = mean
    curve[constant] = mean[constant, None]
