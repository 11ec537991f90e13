"""Best-of-N beyond the pool, two ways that know nothing of each other; where they disagree, nobody knows.

Concomitants (David & Nagaraja 2003): with the reward's rank scale made normal, E[U | Z] = sum_j h_j He_j(Z). The mean
utility at rank k of M is then sum_j h_j E[He_j(Z_(k:M))]; regressing it on these gives h, and Best-of-N gains
sum_j h_j E[He_j(Z_(N:N))] for any N. Order 2: a slope and a bend.

Gao, Schulman & Hilton 2023: the gain is d (a - b d) with d = sqrt(ln N - (N - 1) / N), the root of the divergence
between Best-of-N and the policy; fitted to the exact gains at N = 2 .. M.

Both are least squares within each query, so their predictions are means over queries, with intervals over users.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bestfor.diagnostics._special import log_gamma, log_ndtr
from bestfor.diagnostics.bootstrap import Panel
from bestfor.diagnostics.curves import best_of_n, chunks, sort_by_reward
from bestfor.diagnostics.influence import user_influences
from bestfor.diagnostics.pools import Pools
from bestfor.diagnostics.within import query_weights
from bestfor.types import Averaging, Estimate, FloatArray, IntArray

ORDER = 2
SMALLEST_POOL = 8
FARTHEST = 3
"""Trust is given up to this many times the smallest pool."""

TOLERANCE = 0.1
"""The two predictions agree if they differ by at most this share of the larger one."""

_REACH, _STEP = 14.0, 0.007


@dataclass(frozen=True)
class Extrapolation:
    """The gain over the pool mean at one N beyond the pool.

    Attributes:
        n: candidates drawn.
        concomitants: prediction of order 2, with a t interval over users.
        divergence: prediction of d (a - b d), likewise.
        trusted: whether the two agree and N is at most three times the smallest pool.
        verdict: ``"extrapolable"``, or ``"not extrapolable: ..."`` with the reason.
    """

    n: int
    concomitants: Estimate
    divergence: Estimate
    trusted: bool
    verdict: str


def extrapolate(
    pools: Pools, model: str, n: IntArray, *, averaging: Averaging = "user", level: float = 0.95
) -> list[Extrapolation]:
    """Predict the gain at values of N that no pool reaches.

    Args:
        pools: each with at least 8 candidates.
        model: whose rewards.
        n: shape (K,), each at least 2.
        averaging: whether users or queries weigh the same.
        level: nominal coverage of the intervals.

    Returns:
        One a value of N.

    Raises:
        ValueError: a pool has fewer than 8 candidates.
    """
    smallest = int(pools.size.min())
    if smallest < SMALLEST_POOL:
        raise ValueError(f"the smallest pool has {smallest} candidates; extrapolation needs at least {SMALLEST_POOL}")
    reward = pools.rewards[model]
    first, second = np.empty((len(pools), len(n))), np.empty((len(pools), len(n)))
    for rows, m in chunks(pools.size):
        ranked = sort_by_reward(reward[rows, :m], pools.utility[rows, :m])[0]
        first[rows] = ranked @ concomitant_map(m, n)
        drawn = np.arange(2, m + 1)
        curve = best_of_n(reward[rows, :m], pools.utility[rows, :m], np.full(len(ranked), m), drawn)
        second[rows] = (curve - ranked.mean(axis=1, keepdims=True)) @ divergence_map(drawn, n)
    weight = query_weights(pools.user, len(pools.user_ids), averaging)
    columns = {("one", 0): np.ones(len(pools))}
    for name, values in (("concomitants", first), ("divergence", second)):
        columns |= {(name, one): values[:, k] for k, one in enumerate(n.tolist())}
    panel = Panel([user_influences(columns, weight, pools.user, pools.user_ids)], level)
    return [_judged(panel, one, smallest) for one in n.tolist()]


def concomitant_map(m: int, n: IntArray) -> FloatArray:
    """The linear map from utilities by descending reward to predicted gains.

    Args:
        m: candidates in the pool.
        n: shape (K,).

    Returns:
        Shape (m, K).
    """
    basis = np.stack([hermite_order_statistic(m, m - j, ORDER) for j in range(m)])
    targets = np.stack([hermite_order_statistic(one, one, ORDER) for one in n.tolist()])
    targets[:, 0] = 0.0
    return np.linalg.pinv(basis).T @ targets.T


def divergence_map(drawn: IntArray, n: IntArray) -> FloatArray:
    """The linear map from gains at some values of N to those that d (a - b d) predicts at others.

    Args:
        drawn: shape (J,), where gains are known, each at least 2.
        n: shape (K,).

    Returns:
        Shape (J, K).
    """
    known, wanted = (np.stack([d, -(d**2)], axis=1) for d in (divergence(drawn), divergence(n)))
    return np.linalg.pinv(known).T @ wanted.T


def divergence(n: IntArray) -> FloatArray:
    """The root of the divergence between Best-of-N and one draw, sqrt(ln N - (N - 1) / N); shape (K,)."""
    return np.sqrt(np.log(n) - (n - 1) / n)


def hermite_order_statistic(m: int, k: int, order: int) -> FloatArray:
    """E[He_j(Z_(k:m))] for j = 0 .. order: Hermite polynomials of the k-th lowest of m standard normals.

    By the trapezoidal rule on the density of the order statistic; the error is below 1e-9 for m up to 100,000.

    Args:
        m: sample size.
        k: rank, 1 the lowest.
        order: the highest j.

    Returns:
        Shape (order + 1,).
    """
    return _hermite(m, k, order)


@lru_cache(maxsize=16384)
def _hermite(m: int, k: int, order: int) -> FloatArray:
    z = np.arange(-_REACH, _REACH, _STEP)
    constant = log_gamma(m + 1) - log_gamma(k) - log_gamma(m - k + 1) - 0.5 * np.log(2 * np.pi)
    density = np.exp(constant + (k - 1) * log_ndtr(z) + (m - k) * log_ndtr(-z) - z**2 / 2) * _STEP
    moments: FloatArray = density @ np.polynomial.hermite_e.hermevander(z, order)
    moments.setflags(write=False)
    return moments


def _judged(panel: Panel, n: int, smallest: int) -> Extrapolation:
    first, second = (panel.interval({(name, n): 1.0}, {("one", 0): 1.0}) for name in ("concomitants", "divergence"))
    apart = abs(first.value - second.value)
    if n > FARTHEST * smallest:
        verdict = (
            f"not extrapolable: N = {n} is more than {FARTHEST} times the {smallest} candidates of the smallest pool"
        )
    elif apart > TOLERANCE * max(abs(first.value), abs(second.value)):
        verdict = f"not extrapolable: the two predictions {first.value:.3f} and {second.value:.3f} disagree"
    else:
        verdict = "extrapolable"
    return Extrapolation(n, first, second, verdict == "extrapolable", verdict)
