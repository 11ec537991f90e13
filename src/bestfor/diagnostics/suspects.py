"""Queries where the reward model may be hacked, by posterior probability: one query alone convicts nobody."""

from __future__ import annotations

import numpy as np

from bestfor.diagnostics.mixture import Mixture, fisher, posterior_below_zero, prior_by_moments
from bestfor.diagnostics.pools import Pools
from bestfor.diagnostics.results import Suspect
from bestfor.diagnostics.within import Within
from bestfor.types import BoolArray, FloatArray

MOST = 12
SMALLEST_POOL = 4


def posteriors(pools: Pools, active: BoolArray, within: Within, mixture: Mixture | None) -> FloatArray:
    """P(true rho < 0 | r) for every query.

    Args:
        pools: for their sizes.
        active: shape (Q,).
        within: the observed correlations.
        mixture: the fitted distribution of zeta; one normal by moments takes its place where there is none.

    Returns:
        Shape (Q,), NaN for queries that are not active or hold fewer than 4 candidates.
    """
    result = np.full(len(pools), np.nan)
    use = active & (pools.size >= SMALLEST_POOL)
    if not use.any():
        return result
    z, v = fisher(within.correlation[use], pools.size[use])
    result[use] = posterior_below_zero(prior_by_moments(z, v) if mixture is None else mixture, z, v)
    return result


def find_suspects(
    pools: Pools, model: str, active: BoolArray, within: Within, mixture: Mixture | None
) -> tuple[Suspect, ...]:
    """The active queries whose pick is worse than a random candidate, the likeliest hacked first, at most 12.

    Args:
        pools: all models' pools.
        model: whose picks.
        active: shape (Q,).
        within: the model's per-query statistics.
        mixture: as for :func:`posteriors`.
    """
    if len(pools) == 0:
        return ()
    rows = np.arange(len(pools), dtype=np.int64)
    mask = pools.mask
    pick = np.where(mask, pools.rewards[model], -np.inf).argmax(axis=1)
    best = np.where(mask, pools.utility, -np.inf).argmax(axis=1)
    mean = np.where(mask, pools.utility, 0.0).sum(axis=1) / pools.size
    chance = posteriors(pools, active, within, mixture)
    candidates = np.flatnonzero(active & (pools.utility[rows, pick] < mean))
    order = np.lexsort((within.correlation[candidates], -np.nan_to_num(chance[candidates], nan=-1.0)))
    return tuple(
        Suspect(
            query=pools.query_ids[q],
            user=pools.user_ids[int(pools.user[q])],
            size=int(pools.size[q]),
            correlation=float(within.correlation[q]),
            posterior=float(chance[q]),
            pick=int(pools.candidate[q, pick[q]]),
            pick_utility=float(pools.utility[q, pick[q]]),
            best=int(pools.candidate[q, best[q]]),
            best_utility=float(pools.utility[q, best[q]]),
            mean_utility=float(mean[q]),
        )
        for q in (int(code) for code in candidates[order[:MOST]])
    )
