"""Take the sampling noise out of correlations by a normal mixture on Fisher's scale.

A query's correlation r from M candidates is a noisy look at its true rho, and noise alone makes many r negative. With
z = atanh(r) - r / (2 (M - 1)) (Hotelling 1953) and v = 1 / (M - 3),

    z_q | zeta_q ~ N(zeta_q, v_q),    zeta_q ~ sum_k pi_k N(mu_k, s_k^2),    rho_q = tanh(zeta_q)

is fitted by EM with K <= 3 chosen by BIC and s_k >= 0.02. For utilities with few values v is approximate, and a mass of
true correlations close to 0 cannot be told from a small spread around it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from bestfor.types import FloatArray, IntArray

SMALLEST_POOL = 20
FEWEST_QUERIES = 20
_FLOOR = 0.02
_GRID = 0.005
_STARTS: dict[int, tuple[tuple[float, ...], ...]] = {
    1: ((0.5,),),
    2: ((0.1, 0.6), (0.25, 0.75), (0.4, 0.9)),
    3: ((0.1, 0.5, 0.9), (0.05, 0.3, 0.7), (0.3, 0.7, 0.95)),
}


@dataclass(frozen=True)
class Mixture:
    """A normal mixture for zeta = atanh(rho); K components.

    Attributes:
        share: shape (K,), summing to 1.
        mean: shape (K,).
        sd: shape (K,), at least 0.02.
    """

    share: FloatArray
    mean: FloatArray
    sd: FloatArray


@dataclass(frozen=True)
class Corrected:
    """Quantities freed from sampling noise.

    Attributes:
        beta: P(rho < 0).
        beta_05: P(rho < -0.05).
        rho_plus: E[rho | rho >= 0].
        rho_minus: E[rho | rho < 0].
        queries_used: active queries with at least 20 candidates.
        beta_05_low, beta_05_high: interval of the share below -0.05, see
            :mod:`bestfor.diagnostics.quantities.negative`; NaN where it is not known.
        visible: the smallest share at rho = -.2 that data like these tell from none in 80 % of cases; NaN where none.
        heavy_tails: mean of a^2 b^2 (a, b standardised reward and utility), about 1 where tails are not heavy together.
    """

    beta: float
    beta_05: float
    rho_plus: float
    rho_minus: float
    queries_used: int
    beta_05_low: float = math.nan
    beta_05_high: float = math.nan
    visible: float = math.nan
    heavy_tails: float = math.nan


def fisher(correlation: FloatArray, size: IntArray) -> tuple[FloatArray, FloatArray]:
    """Compute the bias-corrected Fisher transform and its variance.

    Args:
        correlation: shape (Q,), cut to +-0.999999 so that it stays finite.
        size: shape (Q,), at least 4.

    Returns:
        z and v, each of shape (Q,).
    """
    r = np.clip(correlation, -0.999999, 0.999999)
    count = size.astype(np.float64)
    return np.arctanh(r) - r / (2.0 * (count - 1)), 1.0 / (count - 3.0)


def fit_mixture(z: FloatArray, v: FloatArray, weight: FloatArray) -> Mixture:
    """Fit the mixture, its number of components by BIC.

    Args:
        z: shape (Q,).
        v: shape (Q,), known noise variances.
        weight: shape (Q,), positive; only their proportions count. BIC takes the effective number of queries.

    Returns:
        The mixture with the lowest BIC.
    """
    queries = float(weight.sum()) ** 2 / float((weight**2).sum())
    z, v, weight = _merge_similar(z, v, weight * (queries / weight.sum()))
    best, lowest = None, np.inf
    for components, starts in _STARTS.items():
        fits = [_em(z, v, weight, _start(z, np.array(start)), (200, 3e-3)) for start in starts]
        fit, likelihood = max(fits, key=lambda pair: pair[1])
        bic = (3 * components - 1) * np.log(queries) - 2 * likelihood
        if bic < lowest:
            best, lowest = fit, bic
    assert best is not None
    return _em(z, v, weight, best, (1000, 1e-5))[0]


def correct(correlation: FloatArray, size: IntArray, weight: FloatArray) -> tuple[Corrected, Mixture] | None:
    """Estimate quantities of the true correlations.

    Args:
        correlation: shape (Q,), of active queries.
        size: shape (Q,), their candidates; queries with fewer than 20 are left out.
        weight: shape (Q,).

    Returns:
        The quantities and the mixture, or None where fewer than 20 queries are left.
    """
    use = size >= SMALLEST_POOL
    if int(use.sum()) < FEWEST_QUERIES:
        return None
    z, v = fisher(correlation[use], size[use])
    mixture = fit_mixture(z, v, weight[use])
    low, high = moments_by_sign(mixture)
    beta = below(mixture, 0.0)
    return Corrected(beta, below(mixture, float(np.arctanh(-0.05))), high, low, int(use.sum())), mixture


def negative_by_chance(rho: float, candidates: float) -> float:
    """Compute P(r < 0) of a sample correlation, for normal rewards and utilities.

    It is T_(M-1)(-sqrt(M - 1) rho / sqrt(1 - rho^2)) with T Student's distribution function.

    Args:
        rho: the true correlation.
        candidates: M, at least 2.

    Returns:
        The chance; NaN where rho is not known or there are fewer candidates.
    """
    if not np.isfinite(rho) or candidates < 2:
        return float("nan")
    if abs(rho) >= 1:
        return float(rho < 0)
    t: float = -((candidates - 1) ** 0.5) * rho / (1 - rho**2) ** 0.5
    return float(special.stdtr(candidates - 1, t))


def below(mixture: Mixture, zeta: float) -> float:
    """Compute P(zeta_q < zeta)."""
    return float(mixture.share @ special.ndtr((zeta - mixture.mean) / mixture.sd))


def moments_by_sign(mixture: Mixture) -> tuple[float, float]:
    """Compute E[tanh zeta | zeta < 0] and E[tanh zeta | zeta >= 0], by quadrature; 0 where that sign has no mass."""
    nodes, node_weights = np.polynomial.legendre.leggauss(200)
    sides: list[float] = []
    for sign in (-1.0, 1.0):
        mass, moment = 0.0, 0.0
        for share, mean, sd in zip(mixture.share, sign * mixture.mean, mixture.sd, strict=True):
            low, high = max(0.0, float(mean - 9 * sd)), float(mean + 9 * sd)
            if high <= 0:
                continue
            zeta = low + (nodes + 1) * (high - low) / 2
            density = share * np.exp(-(((zeta - mean) / sd) ** 2) / 2) / (sd * np.sqrt(2 * np.pi))
            density *= node_weights * (high - low) / 2
            mass += float(density.sum())
            moment += float(density @ np.tanh(zeta))
        sides.append(sign * moment / mass if mass > 1e-15 else 0.0)
    return sides[0], sides[1]


def posterior_below_zero(mixture: Mixture, z: FloatArray, v: FloatArray) -> FloatArray:
    """Compute P(rho_q < 0 | z_q) for every query, shape (Q,)."""
    weight, centre, spread = _posterior(mixture, z, v)
    return (weight * special.ndtr(-centre / np.sqrt(spread))).sum(axis=1)


def prior_by_moments(z: FloatArray, v: FloatArray) -> Mixture:
    """Fit one normal by moments (DerSimonian & Laird 1986), for data too thin for a mixture."""
    weight = 1.0 / v
    mean = float(weight @ z / weight.sum())
    excess = float(weight @ (z - mean) ** 2) - (len(z) - 1)
    scale = float(weight.sum() - (weight**2).sum() / weight.sum())
    variance = max(excess / scale, 0.0) if scale > 0 else 0.0
    return Mixture(np.ones(1), np.array([mean]), np.array([max(variance**0.5, _FLOOR)]))


def _merge_similar(z: FloatArray, v: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Merge queries of the same noise and nearly the same z, so that the fit's cost is bounded."""
    if len(z) <= 250:
        return z, v, weight
    noise, level = np.unique(v, return_inverse=True)
    cell = np.rint((z - z.min()) / _GRID).astype(np.int64)
    _, first, group = np.unique(level * (cell.max() + 1) + cell, return_index=True, return_inverse=True)
    total = np.bincount(group, weight).astype(np.float64)
    return np.bincount(group, weight * z) / total, noise[level[first]], total


def _posterior(mixture: Mixture, z: FloatArray, v: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Compute responsibilities, posterior means and posterior variances of zeta, each of shape (Q, K)."""
    prior = mixture.sd**2
    total = prior + v[:, None]
    gap = z[:, None] - mixture.mean
    log = np.log(np.maximum(mixture.share, 1e-300)) - 0.5 * (np.log(2 * np.pi * total) + gap**2 / total)
    log -= log.max(axis=1, keepdims=True)
    weight = np.exp(log)
    weight /= weight.sum(axis=1, keepdims=True)
    return weight, mixture.mean + gap * prior / total, prior * v[:, None] / total


def _log_likelihood(mixture: Mixture, z: FloatArray, v: FloatArray, weight: FloatArray) -> float:
    total = mixture.sd**2 + v[:, None]
    log = np.log(np.maximum(mixture.share, 1e-300))
    log = log - 0.5 * (np.log(2 * np.pi * total) + (z[:, None] - mixture.mean) ** 2 / total)
    top = log.max(axis=1)
    return float(weight @ (top + np.log(np.exp(log - top[:, None]).sum(axis=1))))


def _start(z: FloatArray, quantiles: FloatArray) -> Mixture:
    """Start from equal components with means at these quantiles of z."""
    components = len(quantiles)
    spread = max(float(z.std()) / components, _FLOOR)
    return Mixture(np.full(components, 1 / components), np.quantile(z, quantiles), np.full(components, spread))


def _em(
    z: FloatArray, v: FloatArray, weight: FloatArray, mixture: Mixture, stop: tuple[int, float]
) -> tuple[Mixture, float]:
    """Run expectation-maximisation for at most so many steps, or until ten of them add less than so much likelihood."""
    previous = -np.inf
    for step in range(stop[0]):
        chance, centre, variance = _posterior(mixture, z, v)
        chance = chance * weight[:, None]
        mass = np.maximum(chance.sum(axis=0), 1e-12)
        mean = (chance * centre).sum(axis=0) / mass
        sd = np.sqrt((chance * (variance + (centre - mean) ** 2)).sum(axis=0) / mass)
        mixture = Mixture(mass / mass.sum(), mean, np.maximum(sd, _FLOOR))
        if step % 10 == 9:
            current = _log_likelihood(mixture, z, v, weight)
            if current - previous < stop[1]:
                break
            previous = current
    return mixture, _log_likelihood(mixture, z, v, weight)
