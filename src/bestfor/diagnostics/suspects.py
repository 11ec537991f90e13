"""Queries where the reward model may be hacked, by posterior probability: one query alone convicts nobody."""

from __future__ import annotations

import numpy as np

from bestfor.diagnostics.mixture import Mixture, fisher, posterior_below_zero, prior_by_moments
from bestfor.diagnostics.queries import Queries
from bestfor.diagnostics.results import Suspect
from bestfor.types import BoolArray, FloatArray

MOST = 12
SMALLEST_POOL = 4


def posteriors(queries: Queries, model: str, active: BoolArray, mixture: Mixture | None) -> FloatArray:
    """P(true rho < 0 | r) for every query.

    Args:
        queries: what is known of them.
        model: whose correlations.
        active: shape (Q,).
        mixture: the fitted distribution of zeta; one normal by moments takes its place where there is none.

    Returns:
        Shape (Q,), NaN for queries that are not active or hold fewer than 4 candidates.
    """
    result = np.full(len(queries), np.nan)
    use = active & (queries.size >= SMALLEST_POOL)
    if not use.any():
        return result
    z, v = fisher(queries.models[model].correlation[use], queries.size[use])
    result[use] = posterior_below_zero(prior_by_moments(z, v) if mixture is None else mixture, z, v)
    return result


def find_suspects(queries: Queries, model: str, active: BoolArray, mixture: Mixture | None) -> tuple[Suspect, ...]:
    """The active queries whose pick is worse than a random candidate, the likeliest hacked first, at most 12.

    Args:
        queries: what is known of them.
        model: whose picks.
        active: shape (Q,).
        mixture: as for :func:`posteriors`.
    """
    one = queries.models[model]
    chance = posteriors(queries, model, active, mixture)
    candidates = np.flatnonzero(active & (one.pick_utility < queries.mean))
    order = np.lexsort((one.correlation[candidates], -np.nan_to_num(chance[candidates], nan=-1.0)))
    return tuple(
        Suspect(
            query=str(queries.query_ids[q]),
            user=queries.user_ids[int(queries.user[q])],
            size=int(queries.size[q]),
            correlation=float(one.correlation[q]),
            posterior=float(chance[q]),
            pick=int(one.pick[q]),
            pick_utility=float(one.pick_utility[q]),
            best=int(queries.best[q]),
            best_utility=float(queries.best_utility[q]),
            mean_utility=float(queries.mean[q]),
        )
        for q in (int(code) for code in candidates[order[:MOST]])
    )
