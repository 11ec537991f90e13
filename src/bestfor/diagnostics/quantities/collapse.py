"""Find users whose rewards hardly differ between the candidates of a query: the reward model has collapsed for them.

s_u = sqrt(mean over the user's queries of the within-query variance of R). On the utility's scale s_u is compared with
the same of U. On an arbitrary scale only users can be compared with users, and that tells collapse where their spreads
fall into two groups far apart: log s_u is fitted by one normal and by two (EM, at most 200 steps, standard deviations
of at least 0.15), and the lower group has collapsed where

    BIC prefers two,   the groups' means differ by a factor of 20 or more,   mu_high - 2 sd_high >= mu_low + 2 sd_low.

Otherwise everybody's spread is alike, which holds where nobody has collapsed and where all have: it cannot be judged.
Rewards that do not vary at all have collapsed on any scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bestfor.types import BoolArray, FloatArray, Scale

COLLAPSE = 0.05
"""A spread below this share of what it is compared with counts as collapse."""

ALIKE = (
    "cannot be judged: everybody's spread is alike, as it is where nobody has collapsed and where all have; "
    "rewards in the utility's units can be judged (--scale utility)"
)
"""Why there is no share of collapsed users."""

_FLOOR, _STEPS, _AWAY = 0.15, 200, 2.0


@dataclass(frozen=True)
class Collapse:
    """Users whose predictions are near-constant; U users.

    Attributes:
        ratio: shape (U,), the user's spread over what it is compared with (on an arbitrary scale the median of those
            that have not collapsed); NaN where that is 0.
        collapsed: shape (U,).
        judged: shape (U,), whether the user has a query with two candidates: one alone cannot vary.
        cut: the spread below which a user has collapsed on an arbitrary scale; NaN where no such line can be drawn, and
            on the utility's scale.
        unknown: why the share of collapsed users cannot be judged; empty where it can.
    """

    ratio: FloatArray
    collapsed: BoolArray
    judged: BoolArray
    cut: float = math.nan
    unknown: str = ""


def judge_spreads(reward: FloatArray, utility: FloatArray, judged: FloatArray, scale: Scale) -> Collapse:
    """Find collapsed users from sums by user.

    Args:
        reward: shape (U,), sums of the within-query variances of the reward.
        utility: shape (U,), the same of the utility.
        judged: shape (U,), how many queries they are sums of; a user without any cannot be judged.
        scale: of the rewards.
    """
    known = judged > 0
    count = np.where(known, judged, 1.0)
    spread, against = np.sqrt(reward / count), np.sqrt(utility / count)
    if scale == "arbitrary":
        return _among_users(spread, known)
    ratio = _ratio(spread, against, known)
    return Collapse(ratio, known & ((spread == 0) | (ratio < COLLAPSE)), known)


def _among_users(spread: FloatArray, known: BoolArray) -> Collapse:
    constant, varying = known & (spread == 0), known & (spread > 0)
    cut = separation(spread[varying])
    collapsed = constant | (varying & (spread < cut))
    healthy = spread[known & ~collapsed]
    against = np.full(len(spread), float(np.median(healthy)) if len(healthy) else 0.0)
    told_apart = math.isfinite(cut) or constant.any() or not known.any()
    return Collapse(_ratio(spread, against, known), collapsed, known, cut, "" if told_apart else ALIKE)


def _ratio(spread: FloatArray, against: FloatArray, known: BoolArray) -> FloatArray:
    ratio = np.full(len(spread), np.nan)
    np.divide(spread, against, out=ratio, where=known & (against > 0))
    return ratio


def separation(spread: FloatArray) -> float:
    """Find the line between two groups of spreads that lie far apart.

    Args:
        spread: shape (n,), above 0.

    Returns:
        A spread between the groups, halfway on the logarithmic scale; NaN where there is one group.
    """
    if len(spread) < 2:
        return math.nan
    x = np.sort(np.log(spread))
    if x[-1] - x[0] < math.log(1 / COLLAPSE):
        return math.nan
    share, mean, sd, likelihood = _two_normals(x)
    alone = float(_log_density(x, x.mean(), max(float(x.std()), _FLOOR)).sum())
    apart = mean[1] - mean[0] >= math.log(1 / COLLAPSE)
    empty = mean[1] - _AWAY * sd[1] >= mean[0] + _AWAY * sd[0]
    if not (apart and empty and min(share) > 0 and 2 * (likelihood - alone) > 3 * math.log(len(x))):
        return math.nan
    low, high = mean[0] + _AWAY * sd[0], mean[1] - _AWAY * sd[1]
    return math.exp((low + high) / 2)


def _log_density(x: FloatArray, mean: float, sd: float) -> FloatArray:
    return -0.5 * ((x - mean) / sd) ** 2 - math.log(sd) - 0.5 * math.log(2 * math.pi)


def _two_normals(x: FloatArray) -> tuple[list[float], list[float], list[float], float]:
    """Fit two normals to sorted numbers by EM from the widest gap: shares, means, sds (low first), likelihood."""
    first = int(np.diff(x).argmax()) + 1
    high = (np.arange(len(x)) >= first).astype(np.float64)
    last, likelihood = -math.inf, -math.inf
    share, mean, sd = [0.5, 0.5], [0.0, 0.0], [1.0, 1.0]
    for _ in range(_STEPS):
        for k, weight in enumerate((1 - high, high)):
            total = max(float(weight.sum()), 1e-12)
            share[k], mean[k] = total / len(x), float(weight @ x) / total
            sd[k] = max(math.sqrt(float(weight @ (x - mean[k]) ** 2) / total), _FLOOR)
        lower, upper = (math.log(share[k]) + _log_density(x, mean[k], sd[k]) for k in (0, 1))
        each = np.logaddexp(lower, upper)
        last, likelihood = likelihood, float(each.sum())
        high = np.exp(upper - each)
        if likelihood - last < 1e-9 * len(x):
            break
    return share, mean, sd, likelihood
