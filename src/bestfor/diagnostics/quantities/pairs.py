"""Predict the Best-of-N curve from pairs alone: a Gaussian copula between reward and utility.

With the pool's own utility quantiles Q and Z_(N:N) the largest of N standard normals, e normal,

    law_r(N) = E[ Q(Phi(r Z_(N:N) + sqrt(1 - r^2) e)) ] - mean U

so one number r, which pairs give, predicts every N. Q is a step function (a pool's sorted utilities), so the mean is a
sum: the k-th lowest of m candidates has the chance F(x_k) - F(x_k-1) with x_k = Phi^-1(k / m) and F the distribution
function of r Z + sqrt(1 - r^2) e. Its draws are with replacement, so law(2) cannot exceed (1 - 1/m) times the oracle's
gain at 2. Two forms: ``plain`` solves law_r(2) = gain(2) and has no root for good rewards in small pools; ``ratio``
solves law_r(2) / law_1(2) = captured(2) and tells oracle(N) law_r(N) / law_1(N).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import optimize, special
from scipy.interpolate import CubicSpline

from bestfor.types import FloatArray, IntArray

LARGEST = 0.9999
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(800)
_REACH = 9.0
_THETA = np.linspace(-np.pi / 2, np.pi / 2, 25)
_SCORES = np.linspace(-6.0, 6.0, 161)
_NODES_FEW, _WEIGHTS_FEW = np.polynomial.legendre.leggauss(320)
_FINE = 1001
_MOST_SIZES = 64
_LARGEST_SIZE = 512


@dataclass(frozen=True)
class PairLaw:
    """Gains predicted from pairs; K values of N.

    Attributes:
        plain_r: correlation of the plain form; NaN where it has no root.
        ratio_r: correlation of the ratio form, at most 1.
        plain: shape (K,), gains over the pool mean by the plain form; NaN without a root.
        ratio: shape (K,), gains by the ratio form.
    """

    plain_r: float
    ratio_r: float
    plain: FloatArray
    ratio: FloatArray


def copula_weights(m: int, n: int, r: float) -> FloatArray:
    """Compute the chance of each candidate, by ascending utility, under the copula.

    Args:
        m: candidates in the pool.
        n: candidates drawn.
        r: correlation, between -1 and 1.

    Returns:
        Shape (m,), summing to 1.
    """
    return _copula_weights(int(m), int(n), round(float(r), 12))


@lru_cache(maxsize=4096)
def _copula_weights(m: int, n: int, r: float) -> FloatArray:
    level: FloatArray = (np.arange(1, m) / m).astype(np.float64)
    if abs(r) > LARGEST:
        inner: FloatArray = level**n if r > 0 else 1 - (1 - level) ** n
    else:
        z = _NODES * _REACH
        log_density = np.log(n) - z**2 / 2 - 0.5 * np.log(2 * np.pi) + (n - 1) * special.log_ndtr(z)
        mass = _WEIGHTS * _REACH * np.exp(log_density)
        cuts = np.asarray(special.ndtri(level), dtype=np.float64)
        below: FloatArray = np.asarray(special.ndtr((cuts[:, None] - r * z) / np.sqrt(1 - r**2)), dtype=np.float64)
        inner = below @ mass
    return np.diff(np.concatenate([[0.0], inner, [1.0]]))


def copula_gain(profiles: Mapping[int, FloatArray], n: int, r: float) -> float:
    """Compute law_r(N).

    Args:
        profiles: pool size m -> shape (m,), the sum over pools of that size of weight x ascending utilities less the
            pool's mean; the weights of all pools sum to 1.
        n: candidates drawn.
        r: correlation.
    """
    return sum(float(copula_weights(m, n, r) @ profile) for m, profile in profiles.items())


def pair_law(
    profiles: Mapping[int, FloatArray], n: IntArray, gain_of_two: float, oracle: Mapping[int, float]
) -> PairLaw:
    """Predict gains at every N from the gain at 2.

    Args:
        profiles: as for :func:`copula_gain`.
        n: shape (K,).
        gain_of_two: the exact gain of Best-of-2, which pairs give: half the mean of |U_a - U_b|, counted negative where
            the reward orders the pair the other way round.
        oracle: N -> the oracle's gain, for 2 and every one of ``n``.
    """
    solved = _solve(lambda r: copula_gain(profiles, 2, r) - gain_of_two)
    captured = gain_of_two / oracle[2] if oracle[2] > 0 else float("nan")
    top = copula_gain(profiles, 2, 1.0)
    ratio_r = (
        _solve(lambda r: copula_gain(profiles, 2, r) / top - captured) if top > 0 and np.isfinite(captured) else None
    )
    if ratio_r is None and np.isfinite(captured):
        ratio_r = 1.0 if captured > 0 else -1.0
    plain = [float("nan") if solved is None else copula_gain(profiles, one, solved) for one in n.tolist()]
    return PairLaw(
        plain_r=float("nan") if solved is None else solved,
        ratio_r=float("nan") if ratio_r is None else ratio_r,
        plain=np.array(plain),
        ratio=np.array([_ratio(profiles, one, ratio_r, oracle[one]) for one in n.tolist()]),
    )


def _ratio(profiles: Mapping[int, FloatArray], n: int, r: float | None, oracle: float) -> float:
    if n == 1:
        return 0.0
    top = copula_gain(profiles, n, 1.0)
    return float("nan") if r is None or top <= 0 else oracle * copula_gain(profiles, n, r) / top


def _solve(excess: Callable[[float], float]) -> float | None:
    """Find the correlation where an increasing function of it is 0; None where there is none."""
    low, high = float(excess(-1.0)), float(excess(1.0))
    if not (low <= 0 <= high):
        return None
    return float(optimize.brentq(excess, -1.0, 1.0, xtol=1e-9))


@dataclass(frozen=True)
class PairCurve:
    """Law of pairs in its ratio form, tabulated: captured at N = 2 -> captured at every N; G steps, K values of N.

    Attributes:
        captured: shape (G,), law_r(2) / law_1(2), increasing from -1 or so to 1.
        shares: shape (G, K), law_r(N) / law_1(N) at the same r; NaN where utilities do not vary.
        gain_of_two: shape (G,), law_r(2), increasing.
        gains: shape (G, K), law_r(N).
    """

    captured: FloatArray
    shares: FloatArray
    gain_of_two: FloatArray
    gains: FloatArray

    def plain(self, gain_of_two: float) -> FloatArray:
        """Look up the plain form's gains, shape (K,); NaN where no r gives this gain at 2."""
        found = np.full(self.gains.shape[1], np.nan)
        if not self.gain_of_two[0] <= gain_of_two <= self.gain_of_two[-1]:
            return found
        for place in range(len(found)):
            found[place] = np.interp(gain_of_two, self.gain_of_two, self.gains[:, place])
        return found

    def at(self, captured: FloatArray) -> FloatArray:
        """Look up what is captured at every N, shape (R, K), from what is captured at 2, shape (R,)."""
        known = np.isfinite(captured)
        found = np.zeros((len(captured), self.shares.shape[1]))
        for place, column in enumerate(self.shares.T):
            found[:, place] = np.interp(np.where(known, captured, 0.0), self.captured, column)
        found[~known] = np.nan
        return found


def pair_curve(profiles: Mapping[int, FloatArray], n: IntArray) -> PairCurve:
    """Tabulate the law of pairs.

    The copula's distribution function is found on a grid of r = sin(theta) and of normal scores, and read off at every
    pool's steps by cubic splines; against :func:`pair_law` it is exact to 1e-5.

    Args:
        profiles: as for :func:`copula_gain`, of any weights.
        n: shape (K,).
    """
    fewer = group_sizes(profiles)
    gains = {one: _tabulated_gains(fewer, one) for one in {2, *n.tolist()}}
    fine = np.linspace(-np.pi / 2, np.pi / 2, _FINE)
    smooth = {one: np.asarray(CubicSpline(_THETA, values)(fine), dtype=np.float64) for one, values in gains.items()}
    shares = {one: _share(values, one) for one, values in smooth.items()}
    captured, of_two = np.maximum.accumulate(shares[2]), np.maximum.accumulate(smooth[2])
    whole = [np.stack([table[one] for one in n.tolist()], axis=1) for table in (shares, smooth)]
    return PairCurve(captured, whole[0], of_two, whole[1])


def _share(gains: FloatArray, n: int) -> FloatArray:
    """Divide by the gain at r = 1; 0 where nothing is drawn, NaN where nothing can be won."""
    if n == 1:
        return np.zeros_like(gains)
    return gains / gains[-1] if gains[-1] > 0 else np.full_like(gains, np.nan)


def group_sizes(profiles: Mapping[int, FloatArray]) -> dict[int, FloatArray]:
    """Bring profiles to at most 64 sizes of at most 512 candidates: means of the utilities' quantiles over equal cells.

    Args:
        profiles: pool size m -> shape (m,).
    """
    sizes = sorted(profiles)
    targets = sizes
    if len(sizes) > _MOST_SIZES:
        targets = [sizes[(place * (len(sizes) - 1)) // (_MOST_SIZES - 1)] for place in range(_MOST_SIZES)]
    found: dict[int, FloatArray] = {}
    for size in sizes:
        near = min(min(targets, key=lambda one: abs(one - size)), _LARGEST_SIZE)
        profile = profiles[size]
        if near != size:
            area = np.concatenate([[0.0], np.cumsum(profile)]) / size
            profile = np.diff(np.interp(np.linspace(0, 1, near + 1), np.linspace(0, 1, size + 1), area)) * near
        found[near] = found[near] + profile if near in found else profile
    return found


def _tabulated_gains(profiles: Mapping[int, FloatArray], n: int) -> FloatArray:
    """Compute law_r(N) at every r of the grid."""
    total = np.zeros(len(_THETA))
    spline = CubicSpline(_SCORES, _distribution(n), axis=1)
    for m, profile in profiles.items():
        cuts = np.asarray(special.ndtri(np.arange(1, m) / m), dtype=np.float64)
        inner = np.asarray(spline(cuts), dtype=np.float64).reshape(len(_THETA), -1)
        ends = np.zeros((len(_THETA), 1))
        total += np.diff(np.concatenate([ends, inner, ends + 1], axis=1), axis=1) @ profile
    return total


@lru_cache(maxsize=256)
def _distribution(n: int) -> FloatArray:
    """Compute F_r(x), the distribution function of r Z_(N:N) + sqrt(1 - r^2) e, shape (thetas, scores)."""
    z, weight = _NODES_FEW * _REACH, _WEIGHTS_FEW * _REACH
    log_density = np.log(n) - z**2 / 2 - 0.5 * np.log(2 * np.pi) + (n - 1) * special.log_ndtr(z)
    mass = weight * np.exp(log_density)
    level = np.asarray(special.ndtr(_SCORES), dtype=np.float64)
    rows: list[FloatArray] = [1 - (1 - level) ** n]
    for theta in _THETA[1:-1]:
        r, rest = np.sin(theta), np.cos(theta)
        rows.append(np.asarray(special.ndtr((_SCORES[:, None] - r * z) / rest), dtype=np.float64) @ mass)
    return np.stack([*rows, level**n])
