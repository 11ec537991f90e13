"""Compute intervals of any statistic of sums that add up over users, by letting one user after the other leave.

With theta the statistic of all sums and theta_u that without user u, the variance is (U-1)/U sum (theta_u - theta)^2
over the U users whose leaving moves it, and the interval Student's with U - 1 degrees of freedom (Efron & Stein 1981).
Of a plain mean over users it is the t interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import special

from bestfor.diagnostics.intervals.clustered import wilson
from bestfor.types import Estimate, FloatArray, IntArray

Statistic = Callable[[FloatArray], FloatArray]
"""Sums of shape (rows, columns) -> values of shape (rows, outputs)."""

_CHUNK = 1 << 14


def jackknife(parts: FloatArray, statistic: Statistic) -> tuple[FloatArray, FloatArray, IntArray]:
    """Compute values with their standard errors when one user after the other leaves.

    Args:
        parts: shape (users, columns), sums that add up over users.
        statistic: of such sums.

    Returns:
        Shape (outputs,) each: the values, their standard errors (NaN where fewer than two users move them, or nothing
        is known without one of them), and how many users move them.
    """
    total = parts.sum(axis=0, keepdims=True)
    value = statistic(total)[0]
    squares, carried = np.zeros_like(value), np.zeros(len(value), dtype=np.int64)
    lost = np.zeros(len(value), dtype=np.bool_)
    for low in range(0, len(parts), _CHUNK):
        with np.errstate(divide="ignore", invalid="ignore"):  # where nobody is left
            moved = statistic(total - parts[low : low + _CHUNK]) - value
        unknown = ~np.isfinite(moved)
        lost |= unknown.any(axis=0)
        moved[unknown] = 0.0
        squares += (moved**2).sum(axis=0)
        carried += (moved != 0).sum(axis=0)
    several = (carried >= 2) & ~lost
    error = np.full(len(value), np.nan)
    error[several] = np.sqrt((carried[several] - 1) / carried[several] * squares[several])
    return value, error, carried


def half_width(error: float, users: int, level: float) -> float:
    """Compute half of an interval: Student's quantile times a standard error; NaN where there is none."""
    return float(special.stdtrit(users - 1.0, 0.5 + level / 2)) * float(error) if np.isfinite(error) else math.nan


def interval(parts: FloatArray, statistic: Statistic, level: float) -> Estimate:
    """Estimate the first output of a statistic with its interval; none where fewer than two users move it."""
    values, errors, carried = jackknife(parts, statistic)
    known = float(values[0])
    half = half_width(float(errors[0]), int(carried[0]), level)
    return (
        Estimate(known, None, None, level) if math.isnan(half) else Estimate(known, known - half, known + half, level)
    )


def exponential(estimate: Estimate) -> Estimate:
    """Take the exponential of an estimate and of its interval."""
    low, high = (None if end is None else float(np.exp(end)) for end in (estimate.low, estimate.high))
    return Estimate(float(np.exp(estimate.value)), low, high, estimate.level)


def share(parts: FloatArray, statistic: Statistic, level: float) -> Estimate:
    """Estimate a share with Wilson's interval (1927) on the effective number of users.

    Args:
        parts: shape (users, columns).
        statistic: the share, of one output.
        level: nominal coverage.
    """
    values, errors, carried = jackknife(parts, statistic)
    known, error, users = float(values[0]), float(errors[0]), len(parts)
    if math.isnan(known):
        return Estimate(known, None, None, level)
    found = min(max(known, 0.0), 1.0)
    if users < 2 or (math.isnan(error) and carried[0]):
        return Estimate(found, None, None, level)
    variance = error**2 if carried[0] else 0.0
    size = found * (1 - found) / variance * users / (users - 1) if variance > 0 and 0 < found < 1 else float(users)
    low, high = wilson(found, size, level)
    return Estimate(found, low, high, level)
