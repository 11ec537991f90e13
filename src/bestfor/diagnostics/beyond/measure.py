"""Measure on a sample of pools what lies beyond the curve, query by query, so that means, folds and intervals follow.

Soft Best-of-N, predictions for larger pools, fixed N at a cost, one N for each user and a stopping rule are all means
over queries of something known query by query once a few choices are made (a temperature, a rule's prior, a user's N),
and choices are judged on queries that did not make them. :mod:`bestfor.diagnostics.beyond.outlook` makes estimates and
sentences of these means.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bestfor.diagnostics.beyond.budget import CostedCurve, PerUserChoice, beliefs_from, draws_until, personal_n
from bestfor.diagnostics.beyond.extrapolate import SMALLEST_POOL, coefficients
from bestfor.diagnostics.beyond.sample import Sample
from bestfor.diagnostics.curves.best_of_n import best_of_n
from bestfor.diagnostics.curves.rules import soft_best_of_n
from bestfor.diagnostics.intervals.influence import Influences, user_influences
from bestfor.diagnostics.intervals.means import ALL_SAMPLED, ALL_SOFT, SampleMean, SoftMean
from bestfor.diagnostics.price import CANDIDATE_PRICE, Price
from bestfor.diagnostics.quantities.queries import Queries, doubling_grid, user_weights
from bestfor.diagnostics.table.pools import Pools
from bestfor.diagnostics.words_beyond import FEW_TO_JUDGE, NOTHING_TO_STOP
from bestfor.types import Averaging, BoolArray, FloatArray, IntArray

TEMPERATURES = (0.25, 0.5, 1.0)
"""Of soft Best-of-N, over the spread of rewards within a query."""

SOFT_WORK, SOFT_POOL = 120_000, 128
"""Queries x candidates x N that soft Best-of-N is computed on, and the candidates that a pool is cut to for it."""

PARTS = 10
"""Users are judged in so many parts, each by a rule and a fixed N that the other parts taught."""

DENSE = 64
"""Every N up to this is tried for the best fixed one; beyond, steps of 5 %."""


@dataclass(frozen=True)
class SampleMeasurements:
    """Measurements of one data set's sample.

    Attributes:
        smallest: candidates of the smallest sampled pool.
        queries: how many were sampled.
        of: of how many.
        users: with a sampled query.
        soft_queries: that the soft values rest on.
        noise: name -> shape (K,), variance that one random subset a query would add to the curve, from all queries.
        models: name -> what was measured of it.
        price: of one candidate in utility units, at which users' own N and the stopping rule are judged.
        headroom: what a perfect pick gains at the largest N.
        sd: of utilities within a query (Gini's).
    """

    smallest: int
    queries: int
    of: int
    users: int
    soft_queries: int
    noise: dict[str, FloatArray]
    models: dict[str, ModelMeasurements]
    price: float = 0.0
    headroom: float = 0.0
    sd: float = 0.0


@dataclass(frozen=True)
class ModelMeasurements:
    """Measurements of one model on a data set's sample.

    Attributes:
        values: the means, those of :func:`~bestfor.diagnostics.beyond.extrapolate.coefficients`, the stopping rule and
            one N a user where they could be had.
        soft: difference from the highest reward at each temperature.
        spread: root mean square of the rewards' standard deviations within queries.
        personal: how many candidates users get.
        unstopped: why no stopping rule could be replayed; empty where one was.
    """

    values: Influences[SampleMean]
    soft: Influences[SoftMean]
    spread: float
    personal: PerUserChoice
    unstopped: str


def measure_sample(
    queries: Queries, n: IntArray, averaging: Averaging, sample: Sample, price: Price | None = None
) -> SampleMeasurements:
    """Measure every model on a sample of pools.

    Args:
        queries: all of them, each with at least the largest N candidates.
        n: shape (K,), the values of N that are reported.
        averaging: whether users or queries weigh the same.
        sample: of them.
        price: as stated; of a candidate it is the one at which choices are judged, else :data:`CANDIDATE_PRICE` is.
    """
    weight = user_weights(queries.sums.utility.queries, averaging)
    squares = weight**2
    headroom, sd = _scales(queries, n, weight)
    each = price if price is not None and price.per == "candidate" else CANDIDATE_PRICE
    cost = each.in_utility(headroom, sd)
    few = _few(sample, int(n[-1]))
    return SampleMeasurements(
        smallest=int(sample.pools.size.min()),
        queries=len(sample.pools),
        of=sample.of,
        users=len(sample.pools.user_ids),
        soft_queries=len(few[0]),
        noise={name: squares @ queries.sums.models[name].noise for name in queries.models},
        models={name: _model(sample, name, n, few, cost) for name in sample.pools.rewards},
        price=cost,
        headroom=headroom,
        sd=sd,
    )


def _scales(queries: Queries, n: IntArray, weight: FloatArray) -> tuple[float, float]:
    """Measure the headroom at the largest N, and the spread of utilities within a query."""
    utility = queries.sums.utility
    above: FloatArray = weight @ (utility.oracle - utility.mean[:, None])
    two = np.flatnonzero(doubling_grid(n) == 2)
    return float(above[-1]), float(np.pi**0.5 * above[two[0]]) if len(two) else 0.0


def _model(sample: Sample, name: str, n: IntArray, few: tuple[Pools, FloatArray], price: float) -> ModelMeasurements:
    pools, smallest = sample.pools, int(sample.pools.size.min())
    grid = fixed_grid(smallest)
    curve = best_of_n(pools.rewards[name], pools.utility, pools.size, grid)
    slope, reward_sd = slopes(pools, name)
    spread = float(np.sqrt(sample.weight @ reward_sd**2))
    costed = CostedCurve(curve, grid, sample.weight, price)
    personal = personal_n(pools, slope, costed)
    stopped, unstopped = _stopping(sample, name, costed)
    parts = stopped | personal.columns
    if smallest >= SMALLEST_POOL:
        parts |= coefficients(pools, name, sample.orders[0])
    columns = {ALL_SAMPLED: np.ones(len(pools))}
    columns |= {SampleMean("fixed", one): curve[:, k] for k, one in enumerate(grid.tolist())}
    columns |= parts
    soft = user_influences(_soft(few[0], name, n, spread), few[1], few[0].user, few[0].user_ids)
    values = user_influences(columns, sample.weight, pools.user, pools.user_ids)
    return ModelMeasurements(values, soft, spread, personal, unstopped)


def fixed_grid(largest: int) -> IntArray:
    """Make a grid of N: every one up to 64, then steps of 5 %, up to the largest."""
    if largest <= DENSE:
        return np.arange(1, largest + 1, dtype=np.int64)
    steps = np.geomspace(DENSE, largest, int(np.log(largest / DENSE) / np.log(1.05)) + 2)
    return np.unique(np.r_[np.arange(1, DENSE), steps.round()]).astype(np.int64)


def slopes(pools: Pools, name: str) -> tuple[FloatArray, FloatArray]:
    """Compute each query's rho sigma = cov(R, U) / sd R, the gain of one sd of the reward, and sd R (ddof 1).

    Returns:
        Both of shape (Q,), 0 where the reward is constant.
    """
    mask, freedom = pools.mask, np.maximum(pools.size - 1, 1)
    reward = _centred(pools.rewards[name], mask, pools.size)
    utility = _centred(pools.utility, mask, pools.size)
    sd = np.sqrt((reward**2).sum(axis=1) / freedom)
    covariance = (reward * utility).sum(axis=1) / freedom
    slope = np.zeros(len(pools))
    np.divide(covariance, sd, out=slope, where=sd > 0)
    return slope, sd


def _centred(values: FloatArray, mask: BoolArray, size: IntArray) -> FloatArray:
    mean = np.where(mask, values, 0.0).sum(axis=1) / size
    deviation = np.where(mask, values - mean[:, None], 0.0)
    constant = np.where(mask, values, -np.inf).max(axis=1) == np.where(mask, values, np.inf).min(axis=1)
    deviation[constant] = 0.0  # rounding of the mean must not look like a spread
    return deviation


def _few(sample: Sample, largest: int) -> tuple[Pools, FloatArray]:
    """Take few queries, spread over the sample, and cut their pools at random to one bounded size."""
    pools = sample.pools
    width = min(int(pools.size.min()), SOFT_POOL)
    count = min(len(pools), max(SOFT_WORK // (width * min(largest, width)), 32))
    rows = np.unique(np.linspace(0, len(pools) - 1, count).round().astype(np.int64))
    few = pools.take(rows)
    places = np.arange(len(rows))[:, None]
    order = sample.orders[0][rows][:, :width]
    weight = sample.weight[rows]
    cut = replace(
        few,
        size=np.full(len(rows), width, dtype=np.int64),
        utility=few.utility[places, order],
        candidate=few.candidate[places, order],
        rewards={name: reward[places, order] for name, reward in few.rewards.items()},
    )
    return cut, weight / weight.sum()


def _soft(few: Pools, name: str, n: IntArray, spread: float) -> dict[SoftMean, FloatArray]:
    result = {ALL_SOFT: np.ones(len(few))}
    n = n[n <= int(few.size.min())]
    if spread == 0 or not len(n):
        return result
    reward = few.rewards[name]
    hard = best_of_n(reward, few.utility, few.size, n)
    for k, share in enumerate(TEMPERATURES):
        difference = soft_best_of_n(reward, few.utility, few.size, n, share * spread, quick=True) - hard
        difference[:, n == 1] = 0.0
        result |= {SoftMean(k, one): difference[:, place] for place, one in enumerate(n.tolist())}
    return result


def _stopping(sample: Sample, name: str, costed: CostedCurve) -> tuple[dict[SampleMean, FloatArray], str]:
    """Replay expected improvement beside the best fixed N, both learnt from the users of the other parts.

    Where a part is a tenth, both know nearly as much as they would in use; halves made the fixed N worse than it is.
    """
    pools, curve, cost = sample.pools, costed.curve, costed.cost * costed.grid
    group = pools.user if len(pools.user_ids) > 1 else np.arange(len(pools), dtype=np.int64)
    if len(np.unique(group)) < 4:
        return {}, FEW_TO_JUDGE
    if int(pools.size.min()) < 2:
        return {}, NOTHING_TO_STOP
    drawn, stopped, fixed = (np.zeros(len(pools)) for _ in range(3))
    parts = min(PARTS, len(np.unique(group)))
    for part in range(parts):
        learn, judge = np.flatnonzero(group % parts != part), np.flatnonzero(group % parts == part)
        learnt_from = pools.take(learn)
        weight = sample.weight[learn] / sample.weight[learn].sum()
        place = int((weight @ curve[learn] - cost).argmax())
        fixed[judge] = curve[judge, place] - cost[place]
        drawn[judge], stopped[judge] = _replayed(sample, judge, name, learnt_from, costed.cost)
    return {SampleMean("drawn"): drawn, SampleMean("stopped"): stopped, SampleMean("still"): fixed}, ""


def _replayed(
    sample: Sample, judge: IntArray, name: str, learnt_from: Pools, price: float
) -> tuple[FloatArray, FloatArray]:
    """Average candidates drawn and utility earned over a few random orders; shape (B,) each."""
    beliefs, gain = beliefs_from(learnt_from, name), _gain_per_unit(learnt_from, name)
    drawn, earned = np.zeros(len(judge)), np.zeros(len(judge))
    sizes = sample.pools.size[judge]
    for m in (int(size) for size in np.unique(sizes)):
        own = np.flatnonzero(sizes == m)
        rows = judge[own]
        for order in sample.orders[:, rows, :m]:
            reward = sample.pools.rewards[name][rows[:, None], order]
            count = draws_until(reward, price, beliefs, gain)
            place: IntArray = np.arange(m)
            pick = np.where(place < count[:, None], reward, -np.inf).argmax(axis=1)
            drawn[own] += count / len(sample.orders)
            earned[own] += sample.pools.utility[rows, order[np.arange(len(rows)), pick]] / len(sample.orders)
    return drawn, earned


def _gain_per_unit(pools: Pools, name: str) -> float:
    """Compute the utility gained per unit of reward: the slope of utility on reward within queries."""
    mask = pools.mask
    reward = _centred(pools.rewards[name], mask, pools.size)
    utility = _centred(pools.utility, mask, pools.size)
    spread = float((reward**2).sum())
    return float((reward * utility).sum()) / spread if spread > 0 else 0.0
