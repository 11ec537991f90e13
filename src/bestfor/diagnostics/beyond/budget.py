"""How many candidates to draw when each costs something."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bestfor.diagnostics.curves.best_of_n import best_of_n
from bestfor.diagnostics.intervals.clustered import Panel
from bestfor.diagnostics.intervals.influence import user_influences
from bestfor.diagnostics.quantities.laws import normal_growths
from bestfor.diagnostics.table.pools import Pools
from bestfor.diagnostics.within import query_weights
from bestfor.types import Averaging, Estimate, IntArray


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
    """The N that maximises exact Best-of-N minus N x cost, among those that every pool reaches.

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
    columns = {("one", 0): np.ones(len(pools)), ("net", 0): curve[:, best] - cost * (best + 1)}
    panel = Panel([user_influences(columns, weight, pools.user, pools.user_ids)], level)
    return FixedN(best + 1, cost, panel.interval({("net", 0): 1.0}, {("one", 0): 1.0}), best + 1 == len(n))


def best_fixed_n_by_law(relative_cost: float, largest: int = 2000) -> int:
    """The N that maximises e_N - k N, with k = cost / (rho sigma): the normal law, for any N.

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
