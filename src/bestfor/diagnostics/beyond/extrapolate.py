"""Extrapolate Best-of-N beyond the pool in two ways, on the same candidates; where they disagree, neither is trusted.

What the pool does not show, a cliff or a ceiling behind its last rank, no way of going on can see.

Concomitants (David & Nagaraja 2003): with the reward's rank scale made normal, E[U | Z] = sum_j h_j He_j(Z). The mean
utility at rank k of M is then sum_j h_j E[He_j(Z_(k:M))]; regressing it on these gives h, and Best-of-N gains
sum_j h_j E[He_j(Z_(N:N))] for any N. Order 2: a slope and a bend.

Gao, Schulman & Hilton 2023: the gain is d (a - b d) with d = sqrt(ln N - (N - 1) / N), the root of the divergence
between Best-of-N and the policy; fitted to the exact gains at N = 2 .. M (128 of them where M is larger).

Both are least squares within each query, so their predictions are means over queries, with intervals over users.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy import special

from bestfor.diagnostics.curves.best_of_n import chunks, sort_by_reward, times_weights
from bestfor.diagnostics.intervals.clustered import Panel
from bestfor.diagnostics.intervals.influence import user_influences
from bestfor.diagnostics.intervals.means import ALL_SAMPLED, SampleMean
from bestfor.diagnostics.quantities.queries import query_weights
from bestfor.diagnostics.table.pools import Pools
from bestfor.diagnostics.words_beyond import EXTRAPOLABLE, NOTHING_VARIES, disagree, too_far
from bestfor.types import Averaging, Estimate, FloatArray, IntArray

ORDER = 2
SMALLEST_POOL = 8
FARTHEST = 3
"""Trust is given up to this many times the smallest pool."""

TOLERANCE = 0.1
"""The two predictions agree if they differ by at most this share of the larger one."""

Kind = Literal["order_1", "order_2", "order_3", "gao"]
KINDS: dict[Kind, int] = {"order_1": 1, "order_2": 2, "order_3": 3, "gao": 2}
"""Ways to predict, and how many coefficients each has."""

_ORDERS: dict[Kind, int] = {kind: width for kind, width in KINDS.items() if kind != "gao"}
_REACH, _STEP = 14.0, 0.007
_MOST_FITTED = 128
_ALL_SIZES = 64
_LARGEST_POOL = 10_000


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
    weight = query_weights(pools.user, len(pools.user_ids), averaging)
    columns = {ALL_SAMPLED: np.ones(len(pools)), **coefficients(pools, model)}
    panel = Panel([user_influences(columns, weight, pools.user, pools.user_ids)], level)
    drawn = [int(one) for one in n]

    def predicted(kind: Kind, one: int) -> Estimate:
        return panel.interval(prediction(kind, one), {ALL_SAMPLED: 1.0})

    return [compare_predictions(predicted("order_2", one), predicted("gao", one), one, smallest) for one in drawn]


def coefficients(pools: Pools, model: str, orders: IntArray | None = None) -> dict[SampleMean, FloatArray]:
    """Fit each query's coefficients of the gain beyond its pool; predictions are linear in them (:func:`prediction`).

    Args:
        pools: each with at least 8 candidates.
        model: whose rewards.
        orders: shape (Q, M), a random order of each pool's candidates, those past the size last; with it pools above
            64 candidates are cut at random to one of few sizes, at most 10,000, so that ragged ones do not need a
            table each.

    Returns:
        The coefficients of each kind, h_1 .. h_j and, for ``"gao"``, a and b; each of shape (Q,).
    """
    size = pools.size
    reward, utility = pools.rewards[model], pools.utility
    if orders is not None and (len(np.unique(size)) > 1 or int(size.max()) > _LARGEST_POOL):
        size = np.minimum(_rounded(size), _LARGEST_POOL)
        rows = np.arange(len(pools))[:, None]
        reward, utility = reward[rows, orders], utility[rows, orders]
    result: dict[Kind, FloatArray] = {kind: np.empty((len(pools), width)) for kind, width in KINDS.items()}
    for rows, m in chunks(size):
        ranked = sort_by_reward(reward[rows, :m], utility[rows, :m])[0]
        ranked = np.where(ranked.max(axis=1, keepdims=True) == ranked.min(axis=1, keepdims=True), 0.0, ranked)
        for kind, order in _ORDERS.items():
            result[kind][rows] = ranked @ concomitant_fit(m, order)
        drawn = np.unique(np.linspace(2, m, min(m - 1, _MOST_FITTED)).astype(np.int64))
        curve = times_weights(ranked, m, drawn)
        result["gao"][rows] = (curve - ranked.mean(axis=1, keepdims=True)) @ divergence_fit(drawn)
    return {SampleMean(kind, j): values[:, j] for kind, values in result.items() for j in range(KINDS[kind])}


def prediction(kind: Kind, n: int) -> dict[SampleMean, float]:
    """Express the gain at N as a linear form in the means of the coefficients of one kind.

    Args:
        kind: a key of :func:`coefficients`.
        n: candidates drawn.
    """
    drawn = np.array([n])
    factors = _powers(drawn)[0] if kind == "gao" else hermite_order_statistic(n, n, _ORDERS[kind])[1:]
    return {SampleMean(kind, j): float(factor) for j, factor in enumerate(factors)}


def concomitant_fit(m: int, order: int) -> FloatArray:
    """The linear map from utilities by descending reward to h_1 .. h_order; shape (m, order)."""
    return _inverse(_ranks(m)[::-1, : order + 1]).T[:, 1:]


def concomitant_map(m: int, n: IntArray) -> FloatArray:
    """The linear map from utilities by descending reward to predicted gains of order 2.

    Args:
        m: candidates in the pool.
        n: shape (K,).

    Returns:
        Shape (m, K).
    """
    targets = np.stack([hermite_order_statistic(one, one, ORDER) for one in n.tolist()])
    return concomitant_fit(m, ORDER) @ targets[:, 1:].T


def divergence_fit(drawn: IntArray) -> FloatArray:
    """The linear map from gains at some values of N, each at least 2, to a and b of d (a - b d); shape (J, 2)."""
    return _inverse(_powers(drawn)).T


def divergence_map(drawn: IntArray, n: IntArray) -> FloatArray:
    """The linear map from gains at some values of N to those that d (a - b d) predicts at others.

    Args:
        drawn: shape (J,), where gains are known, each at least 2.
        n: shape (K,).

    Returns:
        Shape (J, K).
    """
    return divergence_fit(drawn) @ _powers(n).T


def both_ends(first: Estimate, second: Estimate) -> tuple[float, float]:
    """Join the intervals of two predictions: from the lower end of both to the upper one.

    They rest on the same candidates (their errors correlate), so that their agreement makes neither surer.
    """
    ends = [end for one in (first, second) for end in (one.value, one.low, one.high) if end is not None]
    return min(ends), max(ends)


def _inverse(matrix: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.pinv(matrix), dtype=np.float64)


def _powers(n: IntArray) -> FloatArray:
    d = divergence(n)
    return np.stack([d, -(d**2)], axis=1)


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
    moments = _moments(m, np.array([k]), order, _STEP)[0]
    moments.setflags(write=False)
    return moments


@lru_cache(maxsize=256)
def _ranks(m: int) -> FloatArray:
    """E[He_j(Z_(k:m))] for every rank, 1 the lowest, and every order that is used: shape (m, orders + 1)."""
    step = min(0.02, 0.6 / m**0.5)
    highest = max(_ORDERS.values())
    parts = [_moments(m, np.arange(first + 1, min(first + 512, m) + 1), highest, step) for first in range(0, m, 512)]
    table = np.concatenate(parts)
    table.setflags(write=False)
    return table


def _moments(m: int, k: IntArray, order: int, step: float) -> FloatArray:
    z = np.arange(-_REACH, _REACH, step)
    rank = k[:, None]
    constant = special.gammaln(m + 1) - 0.5 * np.log(2 * np.pi)
    each = (special.gammaln(k) + special.gammaln(m - k + 1))[:, None]
    below, above = (rank - 1) * special.log_ndtr(z), (m - rank) * special.log_ndtr(-z)
    density = np.exp(constant - each + below + above - z**2 / 2) * step
    return density @ np.polynomial.hermite_e.hermevander(z, order)


def _rounded(size: IntArray) -> IntArray:
    """Pool sizes above 64 rounded down to steps of 5 %."""
    steps = np.floor(_ALL_SIZES * 1.05 ** np.arange(200)).astype(np.int64)
    return np.where(size <= _ALL_SIZES, size, steps[np.searchsorted(steps, size, side="right") - 1])


def compare_predictions(first: Estimate, second: Estimate, n: int, smallest: int) -> Extrapolation:
    """Decide whether two predictions of the gain at N agree, and if not, say why.

    Args:
        first: by concomitants of order 2.
        second: by d (a - b d).
        n: candidates drawn.
        smallest: candidates of the smallest pool.
    """
    apart, largest = abs(first.value - second.value), max(abs(first.value), abs(second.value))
    if n > FARTHEST * smallest:
        verdict = too_far(n, smallest, FARTHEST)
    elif largest == 0:
        verdict = NOTHING_VARIES
    elif not apart <= TOLERANCE * largest:
        verdict = disagree(first.value, second.value)
    else:
        verdict = EXTRAPOLABLE
    return Extrapolation(n, first, second, verdict == EXTRAPOLABLE, verdict)
