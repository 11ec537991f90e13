"""Queries where the reward model may be hacked, by posterior probability: one query alone convicts nobody."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bestfor.diagnostics.quantities.mixture import Mixture, fisher, posterior_below_zero, prior_by_moments
from bestfor.diagnostics.quantities.queries import Queries, best_place
from bestfor.diagnostics.result import Suspect
from bestfor.diagnostics.table.pools import Pools
from bestfor.types import FloatArray, IntArray

MOST = 12
SMALLEST_POOL = 4
CHUNK = 1 << 16
"""Queries whose posteriors are found at a time."""


@dataclass(frozen=True)
class Ranked:
    """Suspects, the likeliest first; at most 12.

    Attributes:
        rows: shape (S,), their places among all queries.
        correlation: shape (S,).
        posterior: shape (S,), NaN where the pool holds fewer than 4 candidates.
    """

    rows: IntArray
    correlation: FloatArray
    posterior: FloatArray


def find_suspects(queries: Queries, model: str, active: IntArray, mixture: Mixture | None) -> Ranked:
    """The active queries whose pick is worse than a random candidate, the likeliest hacked first, at most 12.

    Args:
        queries: what is known of them.
        model: whose picks.
        active: shape (A,), places of the active queries.
        mixture: the fitted distribution of zeta; one normal by moments takes its place where there is none.
    """
    one = queries.models[model]
    large = active[queries.size[active] >= SMALLEST_POOL]
    if mixture is None and len(large):
        mixture = prior_by_moments(*fisher(one.correlation[large], queries.size[large].astype(np.int64)))
    rows = active[one.worse[active]]
    chance = np.full(len(rows), np.nan)
    for low in range(0, len(rows), CHUNK):
        here = rows[low : low + CHUNK]
        use = queries.size[here] >= SMALLEST_POOL
        if mixture is not None and use.any():
            z, v = fisher(one.correlation[here[use]], queries.size[here[use]].astype(np.int64))
            chance[low : low + CHUNK][use] = posterior_below_zero(mixture, z, v)
    order = np.lexsort((queries.key[rows], one.correlation[rows], -np.nan_to_num(chance, nan=-1.0)))[:MOST]
    return Ranked(rows[order], one.correlation[rows[order]], chance[order])


def describe(pools: Pools, place: IntArray, model: str, ranked: Ranked) -> tuple[Suspect, ...]:
    """Suspects in full.

    Args:
        pools: that hold them, whole.
        place: shape (S,), where each is among the pools.
        model: whose picks.
        ranked: the same suspects.
    """
    pick, best = best_place(pools, pools.rewards[model]), best_place(pools, pools.utility)
    told: list[Suspect] = []
    rows: list[int] = place.tolist()
    for k, row in enumerate(rows):
        size, chosen, top = int(pools.size[row]), int(pick[row]), int(best[row])
        told.append(
            Suspect(
                query=pools.query_ids[row],
                user=pools.user_ids[int(pools.user[row])],
                size=size,
                correlation=float(ranked.correlation[k]),
                posterior=float(ranked.posterior[k]),
                pick=int(pools.candidate[row, chosen]),
                pick_utility=float(pools.utility[row, chosen]),
                best=int(pools.candidate[row, top]),
                best_utility=float(pools.utility[row, top]),
                mean_utility=float(pools.utility[row, :size].mean()),
            )
        )
    return tuple(told)
