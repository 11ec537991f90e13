"""One N for each user: their own slope, shrunk towards everybody's as far as it is noise.

User u's slope b_u is the mean of rho sigma over the user's queries, with noise variance v_u = s^2 / n_u, s^2 pooled
over users. With t^2 the variance between users by moments (DerSimonian & Laird 1986) and b the mean,

    shrunk_u = b + t^2 / (t^2 + v_u) (b_u - b),        N_u = argmax_N  (shrunk_u / b) gain(N) - cost N

so that everybody gets the best common N where users do not differ. Each half of a user's queries is judged with the N
that the other halves chose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bestfor.diagnostics.table.pools import Pools
from bestfor.types import BoolArray, FloatArray, IntArray

ALONE = "each user has one query here: a user's own N cannot be judged on queries that did not choose it"
FLAT = "on average utility does not rise with the reward: one candidate is best for everybody"


@dataclass(frozen=True)
class Budget:
    """What candidates earn and cost.

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
class Personal:
    """What a sample says about one N for each user.

    Attributes:
        columns: ``"judged"`` (1 where a query was), ``"own"`` and ``"common"`` (net utility), ``"own_n"`` and
            ``"common_n"``, each of shape (Q,); empty where nothing could be judged.
        users: with two queries or more.
        trust: mean weight of a user's own slope.
        n: shape (D,), values of N that users get when all their queries are used.
        share: shape (D,), of the users.
        reason: why nothing could be judged; empty where it was.
    """

    columns: dict[str, FloatArray]
    users: int
    trust: float
    n: IntArray
    share: FloatArray
    reason: str


def personal_n(pools: Pools, slope: FloatArray, budget: Budget) -> Personal:
    """Choose N for each user and judge the choice.

    Args:
        pools: for their users.
        slope: shape (Q,), each query's rho sigma.
        budget: what candidates earn and cost.
    """
    users = len(pools.user_ids)
    count = np.bincount(pools.user, minlength=users)
    several = count > 1
    if not several.any():
        return _nothing(ALONE)
    noise = _noise(slope, pools.user, count)
    half = _halves(pools.user, count)
    columns = {name: np.zeros(len(pools)) for name in ("judged", "own", "common", "own_n", "common_n")}
    for judged in (0, 1):
        learn, judge = half == 1 - judged, np.flatnonzero(half == judged)
        chosen = _choose(pools.user, slope, learn, noise, budget)
        if chosen is None:
            return _nothing(FLAT)
        own, common, _ = chosen
        columns["judged"][judge] = 1.0
        for name, place in (("own", own[pools.user[judge]]), ("common", np.full(len(judge), common))):
            columns[f"{name}_n"][judge] = budget.grid[place]
            columns[name][judge] = budget.curve[judge, place] - budget.cost * budget.grid[place]
    whole = _choose(pools.user, slope, np.ones(len(pools), dtype=np.bool_), noise, budget)
    if whole is None:
        return _nothing(FLAT)
    n, given = np.unique(budget.grid[whole[0]], return_counts=True)
    return Personal(columns, int(several.sum()), whole[2], n, given / users, "")


def shrink(mean: FloatArray, variance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Normal means shrunk towards their common mean.

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
    user: IntArray, slope: FloatArray, learn: BoolArray, noise: float, budget: Budget
) -> tuple[IntArray, int, float] | None:
    """Places in the grid of each user's N and of the common one, and the mean trust; None where no slope is positive.

    Users without a query to learn from get the common N.
    """
    users = int(user.max()) + 1
    count = np.bincount(user[learn], minlength=users)
    known = count > 0
    weight = budget.weight * learn
    gain = weight @ budget.curve / weight.sum()
    gain = gain - gain[0]
    common = int((gain - budget.cost * budget.grid).argmax())
    own = np.bincount(user[learn], slope[learn], users)[known] / count[known]
    variance = np.maximum(noise / count[known], 1e-12 * float((own**2).max()))
    if not variance.all():
        return None
    shrunk, trust = shrink(own, variance)
    centre = float(shrunk.mean())
    if centre <= 0:
        return None
    place = np.full(users, common)
    place[known] = ((shrunk / centre)[:, None] * gain - budget.cost * budget.grid).argmax(axis=1)
    return place, common, float(trust.mean())


def _noise(slope: FloatArray, user: IntArray, count: IntArray) -> float:
    """Variance of slopes between the queries of one user, pooled."""
    mean = np.bincount(user, slope) / count
    return float(((slope - mean[user]) ** 2).sum()) / int((count - 1).sum())


def _halves(user: IntArray, count: IntArray) -> IntArray:
    """Each query's half among its user's queries, 0 or 1 in turn; -1 for a user's only query."""
    order = np.argsort(user, kind="stable")
    start = np.cumsum(count) - count
    place = np.empty(len(user), dtype=np.int64)
    place[order] = np.arange(len(user)) - start[user[order]]
    return np.where(count[user] > 1, place % 2, -1)


def _nothing(reason: str) -> Personal:
    return Personal({}, 0, float("nan"), np.zeros(0, dtype=np.int64), np.zeros(0), reason)
