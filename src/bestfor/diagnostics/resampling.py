"""Users drawn again with replacement: intervals that need no linearisation and may be lopsided.

A resample counts user u c_u times. Every mean is a sum over users, so each resample's means are c' X with X the users'
shares: the resamples work on these sufficient statistics and never on candidates, and all numbers see the same draws.
The interval is BCa (Efron 1987): with z0 the normal quantile of the share of resamples below the estimate and a = sum
D^3 / (6 (sum D^2)^1.5) from the exact changes D_u when a user leaves, its ends are the quantiles at

    Phi(z0 + (z0 + z) / (1 - a (z0 + z)))       z = -+ sqrt(U / (U - 1)) t_{U-1}(level)

where t in place of the normal quantile makes up for the bootstrap's variance being too small by (U - 1) / U and for few
users (Hesterberg 2015).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bestfor.diagnostics._special import normal_cdf, normal_quantile, student_quantile
from bestfor.rng import derive
from bestfor.types import FloatArray, IntArray

CELLS = 1 << 22
"""Counts that are held at a time: resamples x users."""


@dataclass(frozen=True)
class Resampling:
    """How often users are drawn again.

    Attributes:
        resamples: how often.
        seed: of the draws.
    """

    resamples: int = 2000
    seed: int = 0


def resampled_means(
    folds: Sequence[tuple[FloatArray, IntArray]], users: int, resampling: Resampling
) -> list[FloatArray]:
    """Every fold's means in every resample of the users, who are the same in all folds.

    Args:
        folds: users' shares, shape (users of the fold, S), and the places of these users among all.
        users: how many there are in all.
        resampling: how often.

    Returns:
        For each fold, shape (resamples, S).
    """
    rng = derive(resampling.seed, "resampled users")
    means = [np.empty((resampling.resamples, int(shares.shape[1]))) for shares, _ in folds]
    step = max(CELLS // max(users, 1), 1)
    even = np.full(users, 1 / users)
    for low in range(0, resampling.resamples, step):
        counts = rng.multinomial(users, even, size=min(step, resampling.resamples - low)).astype(np.float64)
        for mean, (shares, place) in zip(means, folds, strict=True):
            mean[low : low + len(counts)] = counts[:, place] @ shares
    return means


def bca_interval(value: float, resamples: FloatArray, moves: FloatArray, level: float) -> tuple[float, float]:
    """The bias-corrected and accelerated interval.

    Args:
        value: the estimate.
        resamples: shape (B,), the estimate in every resample, at least one of them finite.
        moves: shape (U,), how far it moves when each of the U users that carry it leaves, at least two.
        level: nominal coverage.

    Returns:
        Lower and upper end.
    """
    known = resamples[np.isfinite(resamples)]
    users = len(moves)
    below = float((known < value).mean() + (known == value).mean() / 2)
    bias = normal_quantile(min(max(below, 0.5 / len(known)), 1 - 0.5 / len(known)))
    centred = moves - moves.mean()
    spread = float((centred**2).sum())
    skew = float((centred**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    reach = (users / (users - 1)) ** 0.5 * student_quantile(0.5 + level / 2, users - 1)
    ends: list[float] = []
    for z in (-reach, reach):
        away = 1 - skew * (bias + z)
        place = normal_cdf(bias + (bias + z) / away) if away > 0 else float(z > 0)
        ends.append(float(np.quantile(known, place)))
    return ends[0], ends[1]
