"""Expected maximum of utilities without their noise: sqrt(reliability) for near-normal ones, chances for votes.

U = mu + e with within-query reliability L = var(mu) / var(U). The best of N by mu gains sqrt(L) times what the best of
N by U seems to gain where both are near normal. Where utilities take few values mu is a chance in disguise,
mu = low + (high - low) p, and its distribution is not that of U made narrower: p = 1 / (1 + exp(-(a + b z))), z normal,
is fitted to the mean of U and to L var(U), and its expected maximum of N is a quadrature, since p grows with z.
"""

from __future__ import annotations

import numpy as np
from scipy import optimize, special

from bestfor.types import FloatArray, IntArray

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(400)
_REACH = 9.0
_Z = _NODES * _REACH
_DENSITY = _WEIGHTS * _REACH * np.exp(-(_Z**2) / 2) / np.sqrt(2 * np.pi)
_WIDEST = 50.0


def fit_chances(mean: float, variance: float) -> tuple[float, float]:
    """Fit a logit-normal distribution to the mean and variance of chances.

    Args:
        mean: between 0 and 1, both excluded.
        variance: at least 0; the largest that the family reaches where it is more.

    Returns:
        Location a and scale b on the logit scale.
    """

    def location(scale: float) -> float:
        reach = abs(float(special.logit(mean))) + 10 * scale + 1
        return float(optimize.brentq(lambda a: _moments(a, scale)[0] - mean, -reach, reach, xtol=1e-10))

    def excess(scale: float) -> float:
        return _moments(location(scale), scale)[1] - variance

    if variance <= 0:
        return location(0.0), 0.0
    scale = _WIDEST if excess(_WIDEST) <= 0 else float(optimize.brentq(excess, 0.0, _WIDEST, xtol=1e-8))
    return location(scale), scale


def _moments(location: float, scale: float) -> tuple[float, float]:
    p = special.expit(location + scale * _Z)
    mean = float(_DENSITY @ p)
    return mean, float(_DENSITY @ (p - mean) ** 2)


def chance_gains(mean: float, variance: float, n: IntArray) -> FloatArray:
    """Compute the expected maximum of N chances over their mean, shape (K,).

    Args:
        mean: of the chances.
        variance: of the chances.
        n: shape (K,).
    """
    if not 0 < mean < 1:
        return np.zeros(len(n))
    location, scale = fit_chances(mean, variance)
    p = special.expit(location + scale * _Z)
    log_below = special.log_ndtr(_Z)
    return np.array([float((_DENSITY * k * np.exp((k - 1) * log_below)) @ p) - mean for k in n.tolist()])
