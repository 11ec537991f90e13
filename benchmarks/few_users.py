"""Simulate few users, rare successes and one user with most of the queries: how often an interval is given, and holds.

    python benchmarks/few_users.py

Gains are compared with the mean of the gain over all simulated tables of the setting; pools hold 16, N = 8.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bestfor.diagnostics import Panel
from bestfor.diagnostics.evidence import evidence_of_pools
from bestfor.diagnostics.intervals.means import ONE, POOL, CurveMean
from bestfor.diagnostics.table.pools import pools_from_rows
from bestfor.rng import derive
from bestfor.types import Averaging

TABLES, CANDIDATES, N = 300, 16, np.array([1, 8])


def normal(rng: np.random.Generator, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw utilities and rewards that correlate with .4."""
    utility, noise = rng.standard_normal((2, queries, CANDIDATES))
    return utility, 0.4 * utility + 0.84**0.5 * noise


def rare(rng: np.random.Generator, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw successes of chance .03 and rewards that know a little of them."""
    utility = (rng.random((queries, CANDIDATES)) < 0.03).astype(float)
    return utility, utility + rng.standard_normal(utility.shape)


def row(name: str, counts: list[int], world: Callable[..., tuple[np.ndarray, np.ndarray]], how: Averaging) -> str:
    """Simulate one setting: share of tables with an interval, and its coverage of gain and of captured."""
    owner = np.repeat(np.arange(len(counts)), counts)
    gain, headroom = {CurveMean("pick", 8, "x"): 1.0, POOL: -1.0}, {CurveMean("oracle", 8): 1.0, POOL: -1.0}
    found, sums = [], []
    for table in range(TABLES):
        utility, reward = world(derive(0, "few", name, str(table)), len(owner))
        query = np.repeat(np.arange(len(owner)), CANDIDATES)
        pools = pools_from_rows(owner[query], query, utility.ravel(), {"x": reward.ravel()})
        panel = Panel([evidence_of_pools(pools, N, how).curves])
        sums.append([panel.value(gain, {ONE: 1.0}), panel.value(headroom, {ONE: 1.0})])
        found.append((panel.interval(gain, {ONE: 1.0}), panel.interval(gain, headroom)))
    above, below = np.mean(sums, axis=0)
    cells = []
    for k, truth in ((0, above), (1, above / below)):
        given = [one[k] for one in found if one[k].low is not None and one[k].high is not None]
        held = np.mean([one.low <= truth <= one.high for one in given]) if given else np.nan
        cells.append(f"{len(given) / TABLES:.2f} {held:.3f}")
    return f"{name:32} {cells[0]:>12} {cells[1]:>12}"


def main() -> None:
    """Print one row a setting."""
    print(f"{'setting':32} {'gain: given, held':>12} {'captured: given, held':>12}")
    for users, queries in ((3, 1), (5, 1), (5, 3), (8, 1), (20, 1), (40, 3)):
        print(row(f"normal {users} x {queries}", [queries] * users, normal, "user"), flush=True)
        print(row(f"rare {users} x {queries}", [queries] * users, rare, "user"), flush=True)
    print(row("one of 20 has 80 % per query", [76] + [1] * 19, normal, "query"))
    print(row("one of 20 has 80 % per user", [76] + [1] * 19, normal, "user"))


if __name__ == "__main__":
    main()
