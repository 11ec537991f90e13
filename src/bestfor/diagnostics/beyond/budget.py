"""Choose how many candidates to draw when each costs something: one N, one for each user, or a stopping rule.

A fixed N maximises the exact curve minus N times the cost, or by the normal law e_N - k N.

One N for each user rests on their own slope, shrunk towards everybody's as far as it is noise. User u's slope b_u is
the mean of rho sigma over the user's queries, with noise variance v_u = s^2 / n_u, s^2 pooled over users. With t^2 the
variance between users by moments (DerSimonian & Laird 1986) and b the mean,

    shrunk_u = b + t^2 / (t^2 + v_u) (b_u - b),        N_u = argmax_N  (shrunk_u / b) gain(N) - cost N

so that everybody gets the best common N where users do not differ. Each half of a user's queries is judged with the N
that the other halves chose.

A stopping rule looks at the rewards drawn so far and says when to stop; :func:`replay` tries it on a logged pool before
anybody turns it on. Where rewards are normal, stopping by expected improvement earns more than the best fixed N; where
they are skewed it can earn much less. So fixed N is the default, and a rule has to earn its place on the pools at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from bestfor.diagnostics.curves.best_of_n import best_of_n, chunks
from bestfor.diagnostics.intervals.clustered import Panel
from bestfor.diagnostics.intervals.influence import user_influences
from bestfor.diagnostics.intervals.means import ALL_SAMPLED, SampleMean
from bestfor.diagnostics.quantities.laws import normal_growths
from bestfor.diagnostics.quantities.queries import query_weights
from bestfor.diagnostics.table.pools import Pools
from bestfor.diagnostics.words_beyond import NO_SLOPE, ONE_QUERY_EACH, matters
from bestfor.moved import renamed
from bestfor.rng import derive
from bestfor.types import Averaging, BoolArray, Estimate, FloatArray, IntArray

__getattr__ = renamed(__name__, {"Budget": "CostedCurve", "Personal": "PerUserChoice"})


@dataclass(frozen=True)
class FixedN:
    """The best fixed number of candidates at a cost.

    Attributes:
        n: candidates to draw.
        cost: of one candidate, in utility units.
        net: utility minus n x cost, with a t interval over users.
        at_edge: whether the pools end here, so that more might pay still.
    """

    n: int
    cost: float
    net: Estimate
    at_edge: bool


def best_fixed_n(
    pools: Pools, model: str, cost: float, *, averaging: Averaging = "user", level: float = 0.95
) -> FixedN:
    """Find the N that maximises exact Best-of-N minus N x cost, among those that every pool reaches.

    The maximum of an estimated curve is a little optimistic; the interval does not know that N was chosen.

    Args:
        pools: of candidates.
        model: whose rewards.
        cost: of one candidate, in utility units, at least 0.
        averaging: whether users or queries weigh the same.
        level: nominal coverage.
    """
    n: IntArray = np.arange(1, int(pools.size.min()) + 1)
    curve = best_of_n(pools.rewards[model], pools.utility, pools.size, n)
    weight = query_weights(pools.user, len(pools.user_ids), averaging)
    best = int((weight @ curve - cost * n).argmax())
    columns = {ALL_SAMPLED: np.ones(len(pools)), SampleMean("net"): curve[:, best] - cost * (best + 1)}
    panel = Panel([user_influences(columns, weight, pools.user, pools.user_ids)], level)
    return FixedN(best + 1, cost, panel.interval({SampleMean("net"): 1.0}, {ALL_SAMPLED: 1.0}), best + 1 == len(n))


def best_fixed_n_by_law(relative_cost: float, largest: int = 2000) -> int:
    """Find the N that maximises e_N - k N, with k = cost / (rho sigma): the normal law, for any N.

    Args:
        relative_cost: k, the cost of a candidate over the gain of one standard deviation, above 0.
        largest: where the search ends.

    Returns:
        The best N: 6 at k = .1, 10 at .05, 22 at .02, 40 at .01, 74 at .005.

    Raises:
        ValueError: k is not above 0.
    """
    if not relative_cost > 0:
        raise ValueError(f"the relative cost is {relative_cost}; it must be above 0")
    low, high = 1, largest
    while low < high:
        middle = (low + high) // 2
        step = normal_growths(np.array([middle, middle + 1]))
        low, high = (middle + 1, high) if step[1] - step[0] > relative_cost else (low, middle)
    return low


@dataclass(frozen=True)
class CostedCurve:
    """Best-of-N by query with the cost of a candidate.

    Attributes:
        curve: shape (Q, G), each query's exact Best-of-N.
        grid: shape (G,), the values of N.
        weight: shape (Q,), of the queries in a mean.
        cost: of one candidate, in utility units.
    """

    curve: FloatArray
    grid: IntArray
    weight: FloatArray
    cost: float


@dataclass(frozen=True)
class PerUserChoice:
    """One N for each user, and what that earned on queries that did not choose it.

    Attributes:
        columns: the means ``"judged"`` (1 where a query was), ``"own"`` and ``"common"`` (net utility), ``"own_n"`` and
            ``"common_n"``, each of shape (Q,); empty where nothing could be judged.
        users: with two queries or more.
        trust: mean weight of a user's own slope.
        n: shape (D,), values of N that users get when all their queries are used.
        share: shape (D,), of the users.
        reason: why nothing could be judged; empty where it was.
    """

    columns: dict[SampleMean, FloatArray]
    users: int
    trust: float
    n: IntArray
    share: FloatArray
    reason: str


def personal_n(pools: Pools, slope: FloatArray, costed: CostedCurve) -> PerUserChoice:
    """Choose N for each user, and judge the choice on the other half of the user's queries.

    Args:
        pools: for their users.
        slope: shape (Q,), each query's rho sigma.
        costed: what candidates earn and cost.
    """
    users = len(pools.user_ids)
    count = np.bincount(pools.user, minlength=users)
    several = count > 1
    if not several.any():
        return _no_choice(ONE_QUERY_EACH)
    noise = _noise(slope, pools.user, count)
    half = _halves(pools.user, count)
    judged_in = np.zeros(len(pools))
    earned, given_n = ({who: np.zeros(len(pools)) for who in ("own", "common")} for _ in range(2))
    for judged in (0, 1):
        learn, judge = half == 1 - judged, np.flatnonzero(half == judged)
        chosen = _choose(pools.user, slope, learn, noise, costed)
        if chosen is None:
            return _no_choice(NO_SLOPE)
        own, common, _ = chosen
        judged_in[judge] = 1.0
        for name, place in (("own", own[pools.user[judge]]), ("common", np.full(len(judge), common))):
            given_n[name][judge] = costed.grid[place]
            earned[name][judge] = costed.curve[judge, place] - costed.cost * costed.grid[place]
    whole = _choose(pools.user, slope, np.ones(len(pools), dtype=np.bool_), noise, costed)
    if whole is None:
        return _no_choice(NO_SLOPE)
    n, given = np.unique(costed.grid[whole[0]], return_counts=True)
    columns = {
        SampleMean("judged"): judged_in,
        SampleMean("own"): earned["own"],
        SampleMean("common"): earned["common"],
        SampleMean("own_n"): given_n["own"],
        SampleMean("common_n"): given_n["common"],
    }
    return PerUserChoice(columns, int(several.sum()), whole[2], n, given / users, "")


def shrink(mean: FloatArray, variance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Shrink normal means towards their common mean.

    Args:
        mean: shape (U,).
        variance: shape (U,), known noise of each, positive.

    Returns:
        The shrunk means and the weight of each user's own mean, both of shape (U,).
    """
    weight = 1.0 / variance
    centre = float(weight @ mean / weight.sum())
    excess = float(weight @ (mean - centre) ** 2) - (len(mean) - 1)
    scale = float(weight.sum() - (weight**2).sum() / weight.sum())
    between = max(excess / scale, 0.0) if scale > 0 else 0.0
    trust = between / (between + variance)
    total = 1.0 / (between + variance)
    centre = float(total @ mean / total.sum())
    return centre + trust * (mean - centre), trust


def _choose(
    user: IntArray, slope: FloatArray, learn: BoolArray, noise: float, costed: CostedCurve
) -> tuple[IntArray, int, float] | None:
    """Choose each user's N and a common one, as places in the grid; None where no slope is positive.

    The third number returned is the mean weight of users' own slopes. Users without a query to learn from get the
    common N.
    """
    users = int(user.max()) + 1
    count = np.bincount(user[learn], minlength=users)
    known = count > 0
    weight = costed.weight * learn
    gain = weight @ costed.curve / weight.sum()
    gain = gain - gain[0]
    common = int((gain - costed.cost * costed.grid).argmax())
    own = np.bincount(user[learn], slope[learn], users)[known] / count[known]
    variance = np.maximum(noise / count[known], 1e-12 * float((own**2).max()))
    if not variance.all():
        return None
    shrunk, trust = shrink(own, variance)
    centre = float(shrunk.mean())
    if centre <= 0:
        return None
    place = np.full(users, common)
    place[known] = ((shrunk / centre)[:, None] * gain - costed.cost * costed.grid).argmax(axis=1)
    return place, common, float(trust.mean())


def _noise(slope: FloatArray, user: IntArray, count: IntArray) -> float:
    """Pool over users the variance of slopes between the queries of one user."""
    mean = np.bincount(user, slope) / count
    return float(((slope - mean[user]) ** 2).sum()) / int((count - 1).sum())


def _halves(user: IntArray, count: IntArray) -> IntArray:
    """Assign each query to half 0 or 1 of its user's queries in turn; -1 for a user's only query."""
    order = np.argsort(user, kind="stable")
    start = np.cumsum(count) - count
    place = np.empty(len(user), dtype=np.int64)
    place[order] = np.arange(len(user)) - start[user[order]]
    return np.where(count[user] > 1, place % 2, -1)


def _no_choice(reason: str) -> PerUserChoice:
    return PerUserChoice({}, 0, float("nan"), np.zeros(0, dtype=np.int64), np.zeros(0), reason)


StoppingRule = Callable[[FloatArray], BoolArray]
"""Rewards drawn so far, shape (B, k) -> shape (B,), True where drawing stops."""


@dataclass(frozen=True)
class Beliefs:
    """Prior of rewards before any is drawn: R = mean + N(0, between^2) per query + N(0, within^2)."""

    mean: float
    between: float
    within: float


def beliefs_from(pools: Pools, model: str) -> Beliefs:
    """Estimate the prior of rewards by analysis of variance over pools.

    Take the pools of the fit part if the rule is to be judged on the test part.

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
    """Compute what one more candidate is expected to add to the highest reward, as in :func:`expected_improvement`.

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
    return sd * (np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) - z * special.ndtr(-z))


def draws_until(rewards: FloatArray, cost: float, beliefs: Beliefs, slope: float) -> IntArray:
    """Count the candidates that :func:`expected_improvement` draws, for whole orders at once.

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


@dataclass(frozen=True)
class Replay:
    """A stopping rule's earnings on logged pools, beside the best fixed N.

    Attributes:
        cost: of one candidate, in utility units.
        drawn: mean number of candidates.
        utility: mean utility of the picks.
        net: utility minus cost x drawn.
        fixed: the best fixed N at the same cost, on the same pools.
        advantage: net minus the fixed N's net, paired, with a t interval over users.
        pays: whether the advantage is above 0 by more than its interval, and at least 2 % of what can be won.
    """

    cost: float
    drawn: Estimate
    utility: Estimate
    net: Estimate
    fixed: FixedN
    advantage: Estimate
    pays: bool


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
    fixed_net = best_of_n(pools.rewards[model], pools.utility, pools.size, np.array([fixed.n]))[:, 0] - cost * fixed.n
    columns = {
        ALL_SAMPLED: np.ones(len(pools)),
        SampleMean("drawn"): drawn,
        SampleMean("utility"): utility,
        SampleMean("net"): utility - cost * drawn,
        SampleMean("still"): fixed_net,
    }
    weight = query_weights(pools.user, len(pools.user_ids), averaging)
    panel = Panel([user_influences(columns, weight, pools.user, pools.user_ids)])
    one = {ALL_SAMPLED: 1.0}
    top = best_of_n(pools.utility, pools.utility, pools.size, np.array([1, int(pools.size.min())]))
    advantage = panel.interval({SampleMean("net"): 1.0, SampleMean("still"): -1.0}, one)
    return Replay(
        cost=cost,
        drawn=panel.interval({SampleMean("drawn"): 1.0}, one),
        utility=panel.interval({SampleMean("utility"): 1.0}, one),
        net=panel.interval({SampleMean("net"): 1.0}, one),
        fixed=fixed,
        advantage=advantage,
        pays=matters(advantage, float(weight @ (top[:, -1] - top[:, 0]))),
    )


def _drawn(pools: Pools, model: str, rule: StoppingRule, seed: int, orders: int) -> tuple[FloatArray, FloatArray]:
    """Average candidates drawn and utility earned over the orders, each of shape (Q,)."""
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
    """Draw random orders, the same for a query whatever else is replayed; shape (orders, B, m)."""
    result = np.empty((orders, len(places), m), dtype=np.int64)
    for row, place in enumerate(places):
        rng = derive(seed, "replay", pools.user_ids[int(pools.user[place])], pools.query_ids[int(place)])
        result[:, row] = rng.permuted(np.tile(np.arange(m), (orders, 1)), axis=1)
    return result


def _run(rewards: FloatArray, utility: FloatArray, rule: StoppingRule) -> tuple[FloatArray, FloatArray]:
    """Replay the rule on pools in a given order: candidates drawn and utility earned.

    Of equal rewards the first drawn is picked.
    """
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
