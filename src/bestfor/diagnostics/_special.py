"""Compute SciPy's special functions, with types."""

# pyright: basic
# (SciPy ships no types)

from __future__ import annotations

import numpy as np
from scipy import special

from bestfor.types import FloatArray


def ndtr(x: FloatArray) -> FloatArray:
    """Compute the standard normal distribution function."""
    return np.asarray(special.ndtr(x), dtype=np.float64)


def log_ndtr(x: FloatArray) -> FloatArray:
    """Compute the logarithm of the standard normal distribution function, accurate in the tails."""
    return np.asarray(special.log_ndtr(x), dtype=np.float64)


def log_gamma(x: float) -> float:
    """Compute the logarithm of the gamma function."""
    return float(special.gammaln(x))


def binomial(n: FloatArray, k: int) -> FloatArray:
    """Compute binomial coefficients C(n, k)."""
    return np.asarray(special.binom(n, k), dtype=np.float64)


def log_binomial(n: FloatArray, k: FloatArray | float) -> FloatArray:
    """Compute the logarithm of C(n, k); minus infinity where k < 0 or k > n."""
    inside = (np.asarray(k) >= 0) & (n >= k)
    above, below = np.where(inside, n, 0.0), np.where(inside, k, 0.0)
    log = special.gammaln(above + 1) - special.gammaln(below + 1) - special.gammaln(above - below + 1)
    return np.where(inside, log, -np.inf)


def normal_quantile(probability: float) -> float:
    """Compute the standard normal quantile."""
    return float(special.ndtri(probability))


def normal_cdf(x: float) -> float:
    """Compute the standard normal distribution function of one number."""
    return float(special.ndtr(x))


def student_quantile(probability: float, freedom: float) -> float:
    """Compute the quantile of Student's t, also for a fractional number of degrees of freedom."""
    return float(special.stdtrit(freedom, probability))


def student_cdf(x: float, freedom: float) -> float:
    """Compute the distribution function of Student's t, also for a fractional number of degrees of freedom."""
    return float(special.stdtr(freedom, x))
