"""Probability that each of several normal means is the highest: by quadrature if independent, counted if correlated.

Independent means with densities f_i and distribution functions F_i:

    chance(i) = integral of f_i(x) prod_{j != i} F_j(x) dx

by Gauss-Legendre quadrature between points that lie within a standard deviation or two of each other around every mean;
two correlated means are one normal difference; more are drawn jointly, and the share of draws is its own estimate, with
standard error sqrt(p (1 - p) / draws).
"""

from __future__ import annotations

import numpy as np
from scipy import special

from bestfor.rng import derive
from bestfor.types import FloatArray

DRAWS = 16384
"""Joint draws of correlated means: a standard error of at most .0039."""

_REACH = 9.0
"""Standard deviations beyond which a normal mean is never found (1e-19)."""

_POINTS = np.array([0.0, 1, 2, 3, 4, 5.5, 7, _REACH])
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(10)
_AT_ONCE = 1 << 20
_TINY = 1e-9


def chances_of_highest(mean: FloatArray, spread: FloatArray) -> tuple[FloatArray, FloatArray | None]:
    """Compute the probability that each mean is the highest.

    Args:
        mean: shape (n,), posterior means.
        spread: their standard deviations, shape (n,), where they are independent, or their covariance, shape (n, n).

    Returns:
        Shape (n,), summing to 1, and standard errors of the same shape where the chances were counted among draws.
    """
    if spread.ndim == 2 and np.any(spread - np.diag(np.diag(spread))):
        return _counted(mean, spread) if len(mean) != 2 else (_of_two(mean, spread), None)
    return _independent(mean, spread if spread.ndim == 1 else np.sqrt(np.diag(spread))), None


def _independent(mean: FloatArray, std: FloatArray) -> FloatArray:
    shifted = mean - mean.max()
    if not std.any():
        best = shifted == 0
        return best / best.sum()
    nodes, weights, scale = quadrature(shifted, std)
    result = np.zeros(len(mean))
    for first in range(0, len(nodes), max(_AT_ONCE // len(mean), 1)):
        part = slice(first, first + max(_AT_ONCE // len(mean), 1))
        log_density, log_below = log_normals(nodes[part], shifted, scale)
        others = log_below.sum(axis=0) - log_below
        result += np.exp(log_density + others) @ weights[part]
    return result / result.sum()


def quadrature(mean: FloatArray, std: FloatArray, *, lowest: bool = False) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Place nodes for integrals of products of normal densities and distribution functions.

    Args:
        mean: shape (n,).
        std: shape (n,), not all 0; one of 0 is taken for a billionth of the whole spread.
        lowest: whether nodes reach down to the lowest mean, not only to where the highest of all can be.

    Returns:
        Nodes and weights, each of shape (L,), and the standard deviations to use, shape (n,).
    """
    scale = np.maximum(std, _TINY * max(float(np.ptp(mean)), float(std.max())))
    bottoms = mean - _REACH * scale
    low, high = float(bottoms.min() if lowest else bottoms.max()), float((mean + _REACH * scale).max())
    points = (mean[:, None] + scale[:, None] * np.concatenate([-_POINTS[:0:-1], _POINTS])).reshape(-1)
    # Points nearer than a quarter of the smallest standard deviation add nothing: the integrand is smooth between them.
    step = 0.25 * float(scale[mean + _REACH * scale >= low].min())
    inner = points[(points > low) & (points < high)]
    ends = np.concatenate([[low], np.unique(np.round((inner - low) / step)) * step + low, [high]])
    ends = np.unique(np.clip(ends, low, high))
    half = np.diff(ends)[:, None] / 2
    nodes = ends[:-1, None] + half * (1 + _NODES)
    return nodes.reshape(-1), (half * _WEIGHTS).reshape(-1), scale


def log_normals(nodes: FloatArray, mean: FloatArray, std: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Compute logarithms of normal densities and distribution functions at nodes; each of shape (n, L)."""
    z = (nodes - mean[:, None]) / std[:, None]
    return -0.5 * z**2 - np.log(std * np.sqrt(2 * np.pi))[:, None], special.log_ndtr(z)


def _of_two(mean: FloatArray, covariance: FloatArray) -> FloatArray:
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    difference = float(mean[0] - mean[1])
    if variance <= 1e-15 * float(np.trace(covariance)):
        first = 0.5 * (1 + np.sign(difference))
    else:
        first = float(np.asarray(special.ndtr(difference / np.sqrt(variance)), dtype=np.float64))
    return np.array([first, 1 - first])


def _counted(mean: FloatArray, covariance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Count how often each mean is the highest among joint draws; what is equal in a draw shares it."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    counts, unit = np.zeros(len(mean)), float(np.sqrt(np.diag(covariance).max()))
    noise = derive(0, "thompson", len(mean))
    size = max(_AT_ONCE // len(mean), 1)
    for first in range(0, DRAWS, size):
        drawn = mean - mean.max() + noise.standard_normal((min(size, DRAWS - first), len(mean))) @ root.T
        # Means that are one and the same (equal texts) differ by rounding alone.
        highest = drawn >= drawn.max(axis=1, keepdims=True) - 1e-7 * unit
        counts += (highest / highest.sum(axis=1, keepdims=True)).sum(axis=0)
    chances = counts / counts.sum()
    return chances, np.sqrt(chances * (1 - chances) / DRAWS)
