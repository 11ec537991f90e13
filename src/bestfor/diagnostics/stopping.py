"""Replay a stopping rule on a logged pool before anybody turns it on.

A rule looks at the rewards drawn so far and says when to stop. Where rewards are normal, stopping by expected
improvement earns more than the best fixed N; where they are skewed it can earn much less. So fixed N is the default,
and a rule has to earn its place on the pools at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bestfor.diagnostics._special import ndtr
from bestfor.diagnostics.beyond.budget import FixedN, best_fixed_n
from bestfor.diagnostics.curves.best_of_n import best_of_n, chunks
from bestfor.diagnostics.intervals.clustered import Panel
from bestfor.diagnostics.intervals.influence import user_influences
from bestfor.diagnostics.table.pools import Pools
from bestfor.diagnostics.within import query_weights
from bestfor.rng import derive
from bestfor.types import Averaging, BoolArray, Estimate, FloatArray, IntArray

StoppingRule = Callable[[FloatArray], BoolArray]
"""Rewards drawn so far, shape (B, k) -> shape (B,), True where drawing stops."""


@dataclass(frozen=True)
class Replay:
    """What a stopping rule would have earned.

    Attributes:
        cost: of one candidate, in utility units.
        drawn: mean number of candidates.
        utility: mean utility of the picks.
        net: utility minus cost x drawn.
        fixed: the best fixed N at the same cost, on the same pools.
        advantage: net minus the fixed N's net, paired, with a t interval over users.
        pays: whether the advantage is above 0 by more than its interval.
    """

    cost: float
    drawn: Estimate
    utility: Estimate
    net: Estimate
    fixed: FixedN
    advantage: Estimate
    pays: bool


@dataclass(frozen=True)
class Beliefs:
    """What is known of rewards before any is drawn: R = mean + N(0, between^2) per query + N(0, within^2)."""

    mean: float
    between: float
    within: float


def beliefs_from(pools: Pools, model: str) -> Beliefs:
    """Beliefs by analysis of variance over the pools (of the fit part, if the rule is to be judged on the test part).

    Raises:
        ValueError: fewer than two pools, or none with two candidates.
    """
    if len(pools) < 2 or int(pools.size.max()) < 2:
        raise ValueError("beliefs need at least two pools, and one with two candidates")
    reward = np.where(pools.mask, pools.rewards[model], 0.0)
    means = reward.sum(axis=1) / pools.size
    squares = float((np.where(pools.mask, reward - means[:, None], 0.0) ** 2).sum())
    within = squares / max(int((pools.size - 1).sum()), 1)
    between = max(float(means.var(ddof=1)) - within * float((1.0 / pools.size).mean()), 0.0)
    return Beliefs(float(means.mean()), between**0.5, within**0.5)


def expected_improvement(cost: float, beliefs: Beliefs, slope: float = 1.0) -> StoppingRule:
    """Stop when one more candidate is expected to add less than it costs (Mockus 1978; normal rewards).

    After k rewards the query's mean has the posterior N(m, v) and the next reward is N(m, s^2) with
    s^2 = within^2 + v; with z = (best - m) / s, EI = s [phi(z) - z (1 - Phi(z))]. Stop where slope x EI < cost.

    Args:
        cost: of one candidate, in utility units.
        beliefs: what is known before the first draw.
        slope: utility gained per unit of reward; 1 for rewards in the utility's units.
    """

    def rule(rewards: FloatArray) -> BoolArray:
        drawn: IntArray = np.full(1, rewards.shape[1])
        return slope * improvement(beliefs, drawn, rewards.mean(axis=1), rewards.max(axis=1)) < cost

    return rule


def improvement(beliefs: Beliefs, drawn: IntArray, mean: FloatArray, best: FloatArray) -> FloatArray:
    """What one more candidate is expected to add to the highest reward, as in :func:`expected_improvement`.

    Args:
        beliefs: what is known before the first draw.
        drawn: how many rewards were seen, of a shape that broadcasts with the others.
        mean: of these rewards.
        best: the highest of them.
    """
    noise = beliefs.within**2 / drawn
    between = beliefs.between**2
    trust = between / (between + noise) if between > 0 else np.zeros_like(noise)
    sd = np.sqrt(beliefs.within**2 + trust * noise)
    z = (best - beliefs.mean - trust * (mean - beliefs.mean)) / np.where(sd > 0, sd, 1.0)
    return sd * (np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) - z * ndtr(-z))


def draws_until(rewards: FloatArray, cost: float, beliefs: Beliefs, slope: float) -> IntArray:
    """How many candidates :func:`expected_improvement` draws, for whole orders at once.

    Args:
        rewards: shape (B, m), in the order of drawing.
        cost: of one candidate, in utility units.
        beliefs: what is known before the first draw.
        slope: utility gained per unit of reward.

    Returns:
        Shape (B,), m where the rule never stops.
    """
    drawn: IntArray = np.arange(1, int(rewards.shape[1]) + 1)
    mean = np.cumsum(rewards, axis=1) / drawn
    best = np.maximum.accumulate(rewards, axis=1)
    stop = slope * improvement(beliefs, drawn, mean, best) < cost
    stop[:, -1] = True
    return stop.argmax(axis=1).astype(np.int64) + 1


def replay(
    pools: Pools,
    model: str,
    rule: StoppingRule,
    cost: float,
    *,
    seed: int = 0,
    orders: int = 8,
    averaging: Averaging = "user",
) -> Replay:
    """Draw every pool's candidates in random orders until the rule stops, and pick the highest reward.

    Args:
        pools: of candidates; where the rule never stops, a pool ends.
        model: whose rewards.
        rule: the stopping rule.
        cost: of one candidate, in utility units.
        seed: the orders are keyed by it and by user and query.
        orders: random orders per pool; their mean counts as one observation.
        averaging: whether users or queries weigh the same.

    Returns:
        The rule's earnings beside those of the best fixed N.
    """
    drawn, utility = _drawn(pools, model, rule, seed, orders)
    fixed = best_fixed_n(pools, model, cost, averaging=averaging)
    still = best_of_n(pools.rewards[model], pools.utility, pools.size, np.array([fixed.n]))[:, 0] - cost * fixed.n
    columns = {
        ("one", 0): np.ones(len(pools)),
        ("drawn", 0): drawn,
        ("utility", 0): utility,
        ("net", 0): utility - cost * drawn,
        ("fixed", 0): still,
    }
    weight = query_weights(pools.user, len(pools.user_ids), averaging)
    panel = Panel([user_influences(columns, weight, pools.user, pools.user_ids)])
    one = {("one", 0): 1.0}
    advantage = panel.interval({("net", 0): 1.0, ("fixed", 0): -1.0}, one)
    return Replay(
        cost=cost,
        drawn=panel.interval({("drawn", 0): 1.0}, one),
        utility=panel.interval({("utility", 0): 1.0}, one),
        net=panel.interval({("net", 0): 1.0}, one),
        fixed=fixed,
        advantage=advantage,
        pays=advantage.low is not None and advantage.low > 0,
    )


def _drawn(pools: Pools, model: str, rule: StoppingRule, seed: int, orders: int) -> tuple[FloatArray, FloatArray]:
    """Candidates drawn and utility earned, means over the orders, each of shape (Q,)."""
    drawn, utility = np.zeros(len(pools)), np.zeros(len(pools))
    for rows, m in chunks(pools.size):
        places = np.arange(len(pools))[rows]
        for order in _orders(pools, places, m, seed, orders):
            where = (places[:, None], order)
            stopped, earned = _run(pools.rewards[model][where], pools.utility[where], rule)
            drawn[places] += stopped / orders
            utility[places] += earned / orders
    return drawn, utility


def _orders(pools: Pools, places: IntArray, m: int, seed: int, orders: int) -> IntArray:
    """Shape (orders, B, m): random orders, the same for a query whatever else is replayed."""
    result = np.empty((orders, len(places), m), dtype=np.int64)
    for row, place in enumerate(places):
        rng = derive(seed, "replay", pools.user_ids[int(pools.user[place])], pools.query_ids[int(place)])
        result[:, row] = rng.permuted(np.tile(np.arange(m), (orders, 1)), axis=1)
    return result


def _run(rewards: FloatArray, utility: FloatArray, rule: StoppingRule) -> tuple[FloatArray, FloatArray]:
    """Candidates drawn and utility earned for pools in a given order; of equal rewards the first drawn is picked."""
    rows, m = int(rewards.shape[0]), int(rewards.shape[1])
    drawn = np.full(rows, m, dtype=np.int64)
    going: IntArray = np.arange(rows)
    for k in range(1, m):
        stop = rule(rewards[going, :k])
        drawn[going[stop]] = k
        going = going[~stop]
        if not len(going):
            break
    seen = np.arange(m) < drawn[:, None]
    pick = np.where(seen, rewards, -np.inf).argmax(axis=1)
    return drawn.astype(np.float64), utility[np.arange(rows), pick]
