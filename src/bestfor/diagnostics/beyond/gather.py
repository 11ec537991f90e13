"""What a sample of pools says beyond the curve: every query's value, so that means, folds and intervals follow.

Everything here is a mean over queries of something known query by query once a few choices are made (a temperature, a
rule's beliefs, a user's N), and choices are judged on queries that did not make them.

From samples to an outlook: intervals and words for what lies beyond the curve, over one or several folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bestfor.diagnostics.beyond.budget import Budget, Personal, beliefs_from, draws_until, personal_n
from bestfor.diagnostics.beyond.extrapolate import FARTHEST, SMALLEST_POOL, coefficients, judge, prediction
from bestfor.diagnostics.beyond.outlook import (
    BestFixed,
    Outlook,
    PerUserN,
    PoolsUsed,
    Precision,
    Reach,
    Soft,
    Step,
    Stopped,
    ThreeDraw,
)
from bestfor.diagnostics.beyond.sample import Sample
from bestfor.diagnostics.curves.best_of_n import best_of_n
from bestfor.diagnostics.curves.rules import soft_best_of_n
from bestfor.diagnostics.intervals.clustered import Form, Panel, Resampling
from bestfor.diagnostics.intervals.influence import Column, Influences, user_influences
from bestfor.diagnostics.quantities.queries import Queries, user_weights
from bestfor.diagnostics.table.pools import Pools
from bestfor.types import Averaging, BoolArray, Estimate, FloatArray, IntArray

TEMPERATURES = (0.25, 0.5, 1.0)
"""Of soft Best-of-N, over the spread of rewards within a query."""

COST = 0.01
"""Of one candidate, in utility units, where one cost has to be chosen."""

SOFT_WORK, SOFT_POOL = 120_000, 128
"""Queries x candidates x N that soft Best-of-N is computed on, and the candidates that a pool is cut to for it."""

DENSE = 64
"""Every N up to this is tried for the best fixed one; beyond, steps of 5 %."""


@dataclass(frozen=True)
class ModelBeyond:
    """One model on one data set's sample.

    Attributes:
        values: the means ("one", 0); ("fixed", N) for each N of the grid; ("order_2", j) and its like, see
            :func:`~bestfor.diagnostics.beyond.extrapolate.coefficients`; ("drawn", 0), ("stopped", 0), ("still", 0) of
            the stopping rule; ("judged", 0), ("own", 0), ("common", 0), ("own_n", 0), ("common_n", 0) of one N a user.
        soft: ("one", 0) and, for the k-th temperature, (f"soft_{k}", N): its difference from the highest reward.
        spread: root mean square of the rewards' standard deviations within queries.
        personal: how many candidates users get.
        unstopped: why no stopping rule could be replayed; empty where one was.
    """

    values: Influences
    soft: Influences
    spread: float
    personal: Personal
    unstopped: str


@dataclass(frozen=True)
class Beyond:
    """One data set's sample.

    Attributes:
        smallest: candidates of the smallest sampled pool.
        queries: how many were sampled.
        of: of how many.
        users: with a sampled query.
        soft_queries: that the soft values rest on.
        noise: name -> shape (K,), variance that one random subset a query would add to the curve, from all queries.
        models: name -> what is known.
    """

    smallest: int
    queries: int
    of: int
    users: int
    soft_queries: int
    noise: dict[str, FloatArray]
    models: dict[str, ModelBeyond]


def gather_beyond(queries: Queries, n: IntArray, averaging: Averaging, sample: Sample) -> Beyond:
    """Measure every model on a sample of pools.

    Args:
        queries: all of them, each with at least the largest N candidates.
        n: shape (K,), the values of N that are reported.
        averaging: whether users or queries weigh the same.
        sample: of them.
    """
    squares = user_weights(queries.sums.one("queries"), averaging) ** 2
    few = _few(sample, int(n[-1]))
    return Beyond(
        smallest=int(sample.pools.size.min()),
        queries=len(sample.pools),
        of=sample.of,
        users=len(sample.pools.user_ids),
        soft_queries=len(few[0]),
        noise={name: squares @ queries.sums.all("noise", name) for name in queries.models},
        models={name: _model(sample, name, n, few) for name in sample.pools.rewards},
    )


def _model(sample: Sample, name: str, n: IntArray, few: tuple[Pools, FloatArray]) -> ModelBeyond:
    pools, smallest = sample.pools, int(sample.pools.size.min())
    grid = fixed_grid(smallest)
    curve = best_of_n(pools.rewards[name], pools.utility, pools.size, grid)
    slope, reward_sd = slopes(pools, name)
    spread = float(np.sqrt(sample.weight @ reward_sd**2))
    budget = Budget(curve, grid, sample.weight, COST)
    personal = personal_n(pools, slope, budget)
    stopped, unstopped = _stopping(sample, name, budget)
    parts = stopped | personal.columns
    if smallest >= SMALLEST_POOL:
        parts |= coefficients(pools, name, sample.orders[0])
    columns: dict[Column, FloatArray] = {("one", 0): np.ones(len(pools))}
    columns |= {("fixed", one): curve[:, k] for k, one in enumerate(grid.tolist())}
    for kind, part in parts.items():
        matrix = part.reshape(len(part), -1)
        columns |= {(kind, j): matrix[:, j] for j in range(int(matrix.shape[1]))}
    soft = user_influences(_soft(few[0], name, n, spread), few[1], few[0].user, few[0].user_ids)
    values = user_influences(columns, sample.weight, pools.user, pools.user_ids)
    return ModelBeyond(values, soft, spread, personal, unstopped)


def fixed_grid(largest: int) -> IntArray:
    """Every N up to 64, then steps of 5 %, up to the largest."""
    if largest <= DENSE:
        return np.arange(1, largest + 1, dtype=np.int64)
    steps = np.geomspace(DENSE, largest, int(np.log(largest / DENSE) / np.log(1.05)) + 2)
    return np.unique(np.r_[np.arange(1, DENSE), steps.round()]).astype(np.int64)


def slopes(pools: Pools, name: str) -> tuple[FloatArray, FloatArray]:
    """Each query's rho sigma = cov(R, U) / sd R, the gain of one standard deviation of the reward, and sd R (ddof 1).

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
    """Few queries, spread over the sample, their pools cut at random to one bounded size."""
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


def _soft(few: Pools, name: str, n: IntArray, spread: float) -> dict[Column, FloatArray]:
    result: dict[Column, FloatArray] = {("one", 0): np.ones(len(few))}
    n = n[n <= int(few.size.min())]
    if spread == 0 or not len(n):
        return result
    reward = few.rewards[name]
    hard = best_of_n(reward, few.utility, few.size, n)
    for k, share in enumerate(TEMPERATURES):
        difference = soft_best_of_n(reward, few.utility, few.size, n, share * spread, quick=True) - hard
        difference[:, n == 1] = 0.0
        result |= {(f"soft_{k}", one): difference[:, place] for place, one in enumerate(n.tolist())}
    return result


def _stopping(sample: Sample, name: str, budget: Budget) -> tuple[dict[str, FloatArray], str]:
    """Expected improvement and the best fixed N, both learnt from the other half of the users."""
    pools, curve, cost = sample.pools, budget.curve, budget.cost * budget.grid
    group = pools.user if len(pools.user_ids) > 1 else np.arange(len(pools), dtype=np.int64)
    if len(np.unique(group)) < 4:
        return {}, "fewer than four users: nothing could be judged on users that did not teach the rule"
    if int(pools.size.min()) < 2:
        return {}, "a pool has one candidate: there is nothing to stop"
    drawn, stopped, still = (np.zeros(len(pools)) for _ in range(3))
    for half in (0, 1):
        learn, judge = np.flatnonzero(group % 2 != half), np.flatnonzero(group % 2 == half)
        taught = pools.take(learn)
        weight = sample.weight[learn] / sample.weight[learn].sum()
        place = int((weight @ curve[learn] - cost).argmax())
        still[judge] = curve[judge, place] - cost[place]
        drawn[judge], stopped[judge] = _replayed(sample, judge, name, taught)
    return {"drawn": drawn, "stopped": stopped, "still": still}, ""


def _replayed(sample: Sample, judge: IntArray, name: str, taught: Pools) -> tuple[FloatArray, FloatArray]:
    """Candidates drawn and utility earned in a few random orders, averaged; shape (B,) each."""
    beliefs, gain = beliefs_from(taught, name), _gain_per_unit(taught, name)
    drawn, earned = np.zeros(len(judge)), np.zeros(len(judge))
    sizes = sample.pools.size[judge]
    for m in (int(size) for size in np.unique(sizes)):
        own = np.flatnonzero(sizes == m)
        rows = judge[own]
        for order in sample.orders[:, rows, :m]:
            reward = sample.pools.rewards[name][rows[:, None], order]
            count = draws_until(reward, COST, beliefs, gain)
            place: IntArray = np.arange(m)
            pick = np.where(place < count[:, None], reward, -np.inf).argmax(axis=1)
            drawn[own] += count / len(sample.orders)
            earned[own] += sample.pools.utility[rows, order[np.arange(len(rows)), pick]] / len(sample.orders)
    return drawn, earned


def _gain_per_unit(pools: Pools, name: str) -> float:
    """Utility gained per unit of reward: the slope of utility on reward within queries."""
    mask = pools.mask
    reward = _centred(pools.rewards[name], mask, pools.size)
    utility = _centred(pools.utility, mask, pools.size)
    spread = float((reward**2).sum())
    return float((reward * utility).sum()) / spread if spread > 0 else 0.0


DRAWS = 3
"""Random subsets a query that the usual protocol averages over."""

CANDIDATE_COSTS = (0.005, 0.01, 0.02, 0.05)
"""Costs of one candidate, in utility units, for which the best fixed N is told."""

REACHES = (1.0, 1.5, 2.0, 2.5, 3.0)
"""Values of N that are predicted, over the smallest pool."""

ROUNDING = 1e-6
"""Standard deviations below this share of the largest are rounding."""

ONE: Form = {("one", 0): 1.0}


@dataclass(frozen=True)
class Known:
    """What the curves have said already.

    Attributes:
        n: shape (K,).
        utility: shape (K,), the exact curve.
        mean: pool mean.
        level: nominal coverage.
        resampling: of bootstrap intervals; None for t intervals.
    """

    n: IntArray
    utility: FloatArray
    mean: float
    level: float
    resampling: Resampling | None = None


def outlook(name: str, beyond: Sequence[Beyond], known: Known, needed: tuple[Precision, ...]) -> Outlook:
    """Put together what one model's samples say.

    Args:
        name: of the model.
        beyond: one a fold.
        known: from the curves.
        needed: more data for the curves and quantities.
    """
    models = [one.models[name] for one in beyond]
    panel = Panel([model.values for model in models], known.level, known.resampling)
    smallest = min(one.smallest for one in beyond)
    return Outlook(
        three_draw=ThreeDraw(known.n, _protocol_sd([one.noise[name] for one in beyond])),
        soft=_soft_estimates(models, known, sum(one.soft_queries for one in beyond)),
        extrapolation=_reach(panel, known, smallest),
        best_fixed_n=tuple(_fixed(panel, cost) for cost in CANDIDATE_COSTS),
        per_user_n=_per_user(panel, models),
        stopping=_stopped(panel, models),
        needed=needed,
    )


def pools_used(beyond: Sequence[Beyond]) -> PoolsUsed:
    """How large the samples were, over all folds."""
    return PoolsUsed(
        sum(one.queries for one in beyond), sum(one.of for one in beyond), sum(one.users for one in beyond)
    )


def _protocol_sd(noise: list[FloatArray]) -> FloatArray:
    sd = np.sqrt(np.sum(noise, axis=0) / DRAWS) / len(noise)
    return np.where(sd > ROUNDING * sd.max(), sd, 0.0)  # where N is the whole pool there is nothing to draw


def _soft_estimates(models: list[ModelBeyond], known: Known, queries: int) -> tuple[Soft, ...]:
    if not all(model.spread > 0 for model in models):
        return ()
    panel = Panel([model.soft for model in models], known.level, known.resampling)
    measured = _shared(panel)
    told: list[Soft] = []
    for k, share in enumerate(TEMPERATURES):
        columns = [(f"soft_{k}", one) for one in known.n.tolist()]
        each = [
            panel.interval({column: 1.0}, ONE) if column in measured else Estimate(float("nan")) for column in columns
        ]
        difference = np.array([one.value for one in each])
        low, high = (np.array([np.nan if end is None else end for end in ends]) for ends in _ends(each))
        temperature = share * float(np.mean([model.spread for model in models]))
        told.append(Soft(share, temperature, known.utility + difference, difference, low, high, queries))
    return tuple(told)


def _shared(panel: Panel) -> set[Column]:
    """The means that every fold has."""
    shared = set(panel.folds[0].columns)
    for fold in panel.folds[1:]:
        shared &= set(fold.columns)
    return shared


def _ends(estimates: list[Estimate]) -> tuple[list[float | None], list[float | None]]:
    return [one.low for one in estimates], [one.high for one in estimates]


def _reach(panel: Panel, known: Known, smallest: int) -> Reach:
    farthest = FARTHEST * smallest
    if smallest < SMALLEST_POOL:
        verdict = f"not extrapolable: the smallest pool has {smallest} candidates; {SMALLEST_POOL} are needed"
        return Reach(smallest, farthest, None, verdict, ())
    steps = tuple(_step(panel, known, round(share * smallest), smallest) for share in REACHES)
    trusted = None
    for step in steps:
        if not step.trusted:
            break
        trusted = step.n
    if trusted is None or trusted == smallest:
        verdict = next(step.verdict for step in steps if not step.trusted)
        return Reach(smallest, farthest, None, verdict, steps)
    last = next(step for step in steps if step.n == trusted)
    verdict = (
        f"extrapolable to N = {trusted}: the two predictions of the gain, {last.order_2.value:.3f} and "
        f"{last.gao.value:.3f}, agree"
    )
    if trusted < steps[-1].n:
        verdict += f"; at N = {steps[-1].n} they do not"
    return Reach(smallest, farthest, trusted, verdict, steps)


def _step(panel: Panel, known: Known, n: int, smallest: int) -> Step:
    second, gao = (panel.interval(prediction(kind, n), ONE) for kind in ("order_2", "gao"))
    first, third = (panel.value(prediction(kind, n), ONE) for kind in ("order_1", "order_3"))
    judged = judge(second, gao, n, smallest)
    return Step(n, first, second, third, gao, known.mean + second.value, judged.trusted, judged.verdict)


def _fixed(panel: Panel, cost: float) -> BestFixed:
    tried = sorted(n for kind, n in _shared(panel) if kind == "fixed")
    net = [panel.value({("fixed", n): 1.0}, ONE) - cost * n for n in tried]
    best = tried[int(np.argmax(net))]
    estimate = panel.interval({("fixed", best): 1.0, ("one", 0): -cost * best}, ONE)
    return BestFixed(cost, best, estimate, best == tried[-1])


def _per_user(panel: Panel, models: list[ModelBeyond]) -> PerUserN:
    reason = next((model.personal.reason for model in models if model.personal.reason), "")
    nothing = float("nan")
    if reason:
        none = np.zeros(0, dtype=np.int64)
        return PerUserN(COST, 0, nothing, none, np.zeros(0), nothing, nothing, Estimate(nothing), reason)
    given = np.unique(np.concatenate([model.personal.n for model in models]))
    share = np.zeros(len(given))
    for model in models:
        share[np.searchsorted(given, model.personal.n)] += model.personal.share / len(models)
    judged: Form = {("judged", 0): 1.0}
    return PerUserN(
        cost_per_candidate=COST,
        users=max(model.personal.users for model in models),
        trust=float(np.mean([model.personal.trust for model in models])),
        n=given,
        share=share,
        own_n=panel.value({("own_n", 0): 1.0}, judged),
        common_n=panel.value({("common_n", 0): 1.0}, judged),
        gain=panel.interval({("own", 0): 1.0, ("common", 0): -1.0}, judged),
        reason="",
    )


def _stopped(panel: Panel, models: list[ModelBeyond]) -> Stopped:
    reason = next((model.unstopped for model in models if model.unstopped), "")
    nothing = float("nan")
    if reason:
        return Stopped(COST, nothing, nothing, nothing, None, nothing, Estimate(nothing), False, "", reason)
    fixed = _fixed(panel, COST)
    net: Form = {("stopped", 0): 1.0, ("drawn", 0): -COST}
    drawn = panel.value({("drawn", 0): 1.0}, ONE)
    advantage = panel.interval({**net, ("still", 0): -1.0}, ONE)
    pays = advantage.low is not None and advantage.low > 0
    return Stopped(
        cost_per_candidate=COST,
        drawn=drawn,
        utility=panel.value({("stopped", 0): 1.0}, ONE),
        net=panel.value(net, ONE),
        fixed_n=fixed.n,
        fixed_net=panel.value({("still", 0): 1.0}, ONE),
        advantage=advantage,
        pays=pays,
        verdict=_verdict(advantage, drawn, fixed.n),
        reason="",
    )


def _verdict(advantage: Estimate, drawn: float, fixed: int) -> str:
    seen = f"it draws {drawn:.1f} candidates on average where the best fixed N is {fixed}"
    if advantage.low is None or advantage.high is None:
        return f"Stopping early: {seen}; too few users to tell whether it earns more. Keep N fixed."
    if advantage.low > 0:
        return f"Stopping early pays: {seen}, and earns {advantage.value:.3f} more, the cost of candidates paid."
    if advantage.high < 0:
        return f"Stopping early loses {-advantage.value:.3f}, the cost of candidates paid: {seen}. Keep N fixed."
    return f"Stopping early earns nothing that can be told from zero: {seen}. Keep N fixed."
