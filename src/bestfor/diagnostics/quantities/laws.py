"""Predict what Best-of-N should gain: growth terms, four laws, and the exact ledger from a law to the curve.

Weights w_q >= 0 sum to 1. C = queries of collapsed users, alpha = share of collapsed users, A = active queries (not in
C, sd R > 0, sd U > 0), W = sum_A w, sigma_q = sd U (ddof 1), r_q = correlation, gain_q = exact gain over the pool
mean, G_q = (exact Best-of-N of R by R - mean R) / sd R (ddof 1), sigma_Q = sum w sigma; r_A, sigma_A, G_A are w-means
over A (0 if A is empty), and g = sqrt(2 ln N) or e_N. The product g sigma_Q (1 - alpha) r_A is the unified scaling law
of Zhang & He 2026, since (1 - beta) rho_plus - beta |rho_minus| is identically r_A.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import comb

import numpy as np
from scipy import special

from bestfor.diagnostics.curves.best_of_n import sort_by_reward
from bestfor.types import BoolArray, FloatArray, IntArray

LAWS = ("bound", "normal", "reward", "pool", "pairs")
"""Growth terms: sqrt(2 ln N), e_N, the rewards' own expected maximum, the pool's own oracle curve; and a copula that
pairs alone determine (:mod:`bestfor.diagnostics.quantities.pairs`)."""

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(600)
_REACH = 13.0


@dataclass(frozen=True)
class LawInputs:
    """Inputs of the laws, query by query; Q queries, K values of N.

    Attributes:
        n: shape (K,).
        weight: shape (Q,), summing to 1.
        active: shape (Q,), queries in A.
        alpha: share of collapsed users.
        correlation: shape (Q,), NaN where undefined.
        sigma: shape (Q,), standard deviation of the utility, ddof 1.
        growth: shape (Q, K), G_q(N); anything where the reward is constant.
        gain: shape (Q, K), exact gain over the pool mean.
        oracle_gain: shape (Q, K), the same for the oracle.
    """

    n: IntArray
    weight: FloatArray
    active: BoolArray
    alpha: float
    correlation: FloatArray
    sigma: FloatArray
    growth: FloatArray
    gain: FloatArray
    oracle_gain: FloatArray


@dataclass(frozen=True)
class LawSums:
    """Weighted sums that laws and ledger are made of; arrays of shape (K,).

    Attributes:
        n: shape (K,).
        alpha: share of collapsed users.
        sigma: sum w sigma.
        active: sum over A of w.
        r, sigma_active: sums over A of w r and w sigma.
        growth: sum over A of w G.
        reward: sum over A of w G sigma r.
        pool: sum over A of w r x the oracle's gain.
        gain: sum over A of w gain.
        leakage: sum outside A of w gain.
    """

    n: IntArray
    alpha: float
    sigma: float
    active: float
    r: float
    sigma_active: float
    growth: FloatArray
    reward: FloatArray
    pool: FloatArray
    gain: FloatArray
    leakage: FloatArray


@dataclass(frozen=True)
class Ledger:
    """The exact sum from the normal law to the observed gain at one N; all terms are gains in utility units."""

    law: float
    growth: float
    alpha: float
    sigma: float
    covariance: float
    shape: float
    leakage: float
    observed: float
    n: int


def normal_growth(n: int) -> float:
    """Compute e_N, the expected maximum of N standard normals: the integral over x > 0 of 1 - Phi(x)^N - Phi(-x)^N.

    By Gauss-Legendre quadrature; the relative error is below 1e-12 for N up to a million.

    Raises:
        ValueError: N is below 1.
    """
    if n < 1:
        raise ValueError(f"N is {n}; it must be at least 1")
    return _normal_growth(int(n))


@lru_cache(maxsize=4096)
def _normal_growth(n: int) -> float:
    if n == 1:
        return 0.0
    x = (_NODES + 1) * (_REACH / 2)
    upper = -np.expm1(n * special.log_ndtr(x))
    lower = np.exp(n * special.log_ndtr(-x))
    return float((_WEIGHTS * (upper - lower)).sum() * _REACH / 2)


def normal_growths(n: IntArray) -> FloatArray:
    """Compute e_N for every N, shape (K,)."""
    return np.array([normal_growth(one) for one in n.tolist()], dtype=np.float64)


def bound_growths(n: IntArray) -> FloatArray:
    """Compute sqrt(2 ln N), shape (K,): an upper bound for sub-Gaussian utilities, not the value."""
    return np.sqrt(2.0 * np.log(n))


def free_bound(sigma: float, n: IntArray) -> FloatArray:
    """Bound the gain of any distribution with this standard deviation (Gumbel 1954, Hartley & David 1954).

    sigma (N - 1) / sqrt(2 N - 1), for independent candidates.

    Args:
        sigma: the utility's standard deviation.
        n: shape (K,).

    Returns:
        Shape (K,), gains over the mean.
    """
    return sigma * (n - 1) / np.sqrt(2.0 * n - 1)


def sum_inputs(inputs: LawInputs) -> LawSums:
    """Sum the laws' inputs over queries."""
    active, w = inputs.active, inputs.weight[inputs.active]
    r, sigma, growth = inputs.correlation[active], inputs.sigma[active], inputs.growth[active]
    return LawSums(
        n=inputs.n,
        alpha=inputs.alpha,
        sigma=float(inputs.weight @ inputs.sigma),
        active=float(w.sum()),
        r=float(w @ r),
        sigma_active=float(w @ sigma),
        growth=w @ growth,
        reward=(w * sigma * r) @ growth,
        pool=(w * r) @ inputs.oracle_gain[active],
        gain=w @ inputs.gain[active],
        leakage=inputs.weight[~active] @ inputs.gain[~active],
    )


def laws(sums: LawSums) -> dict[str, FloatArray]:
    """Predict the gain over the pool mean by each law but that of pairs, which needs more than these sums.

    `bound` and `normal`: g sigma_Q (1 - alpha) r_A. `reward`: sum_A w G sigma r. `pool`: sum_A w r x oracle gain.

    Returns:
        Name of a law -> shape (K,).
    """
    product = sums.sigma * (1.0 - sums.alpha) * _mean(sums.r, sums.active)
    return {
        "bound": bound_growths(sums.n) * product,
        "normal": normal_growths(sums.n) * product,
        "reward": sums.reward,
        "pool": sums.pool,
    }


def ledger(sums: LawSums, column: int = -1) -> Ledger:
    """Split the difference of normal law and exact curve into a telescoping sum: law + six terms = observed.

    growth (G_A - g) sigma_Q (1-alpha) r_A; alpha G_A sigma_Q (W - (1-alpha)) r_A; sigma G_A (sigma_A - sigma_Q) W r_A;
    covariance W [mean_A(G sigma r) - G_A sigma_A r_A]; shape W mean_A(gain - G sigma r); leakage: gain outside A.

    Args:
        sums: as for :func:`laws`.
        column: which N.

    Returns:
        The terms; they add up to ``observed`` to rounding.
    """
    n, share = int(sums.n[column]), sums.active
    g, sigma_all, kept = normal_growth(n), sums.sigma, 1.0 - sums.alpha
    growth, sigma, r = (_mean(one, share) for one in (float(sums.growth[column]), sums.sigma_active, sums.r))
    local, gain, leakage = (float(one[column]) for one in (sums.reward, sums.gain, sums.leakage))
    return Ledger(
        law=g * sigma_all * kept * r,
        growth=(growth - g) * sigma_all * kept * r,
        alpha=growth * sigma_all * (share - kept) * r,
        sigma=growth * (sigma - sigma_all) * share * r,
        covariance=local - share * growth * sigma * r,
        shape=gain - local,
        leakage=leakage,
        observed=gain + leakage,
        n=n,
    )


def _mean(total: float, weight: float) -> float:
    return total / weight if weight > 0 else 0.0


def l_moments(reward: FloatArray, utility: FloatArray, order: int) -> FloatArray:
    """Compute L-moments of the utility along the reward's rank (L-comoments in the sense of Serfling & Xiao 2007).

    l_r = sum_k (-1)^(r-k) C(r, k) C(r+k, k) b_k with b_k = mean_i [C(rank_i - 1, k) / C(m - 1, k)] U_i, rank 1 the
    lowest reward. The binomials alternate in sign, so orders beyond about 15 lose precision.

    Args:
        reward: shape (m,), at least two candidates; ties share their mean utility.
        utility: shape (m,).
        order: the highest r, at most m - 1.

    Returns:
        Shape (order + 1,): l_0 is the mean.
    """
    m = len(reward)
    values = sort_by_reward(reward[None], utility[None])[0][0][::-1]
    ranks = np.arange(m, dtype=np.float64)
    top = np.array([m - 1.0])
    b = [float((special.binom(ranks, k) / special.binom(top, k) * values).mean()) for k in range(order + 1)]
    moments = [
        sum((-1) ** (r - k) * comb(r, k) * comb(r + k, k) * b[k] for k in range(r + 1)) for r in range(order + 1)
    ]
    return np.array(moments, dtype=np.float64)


def gain_from_l_moments(moments: FloatArray, n: int) -> float:
    """Compute the exact gain at N: sum_{r=1}^{N-1} (2r + 1) prod_{i<=r} [(N - i) / (N + i)] l_r.

    Args:
        moments: shape (at least N,), from :func:`l_moments`.
        n: candidates drawn.

    Returns:
        The gain over the pool mean, in the utility's units.
    """
    total, product = 0.0, 1.0
    for r in range(1, n):
        product *= (n - r) / (n + r)
        total += (2 * r + 1) * product * float(moments[r])
    return total
