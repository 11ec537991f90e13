"""Interval of the share of queries whose true correlation is clearly negative.

A query's correlation r from M candidates is a noisy look at its true rho. With z = atanh(r) - r / (2 (M - 1)),

    z_q | zeta_q ~ N(zeta_q, v_q),   v_q = .95 / (M_q - 3) x (1 + c (k_q - 1)),   k_q = mean of a^2 b^2 over candidates,

a and b the query's standardised rewards and utilities. k is 1 for independent ones and larger where both have heavy
tails in the same candidates, which is where Fisher's 1 / (M - 3) is wrong: for bivariate t with 3 degrees of freedom
the variance is 2.6 times as large, and k says so query by query. How far k counts, c, is fitted. (.95 is what
simulated normal, ordinal and skewed pools of 20 and 30 give instead of 1.)

The distribution of zeta is left free (any mixture of points, Kiefer & Wolfowitz 1956). The interval of the share b
below the threshold holds every b whose profile likelihood, over all mixtures with that share and over c, is within
chi2(1) / 2 of the largest; where c = 0 fits clearly worse it is joined with the one of c = 0, since in rare successes
k follows the reward and not the noise. It is wide where the data say little, as they must: with few candidates a
correlation of -.05 cannot be told from 0. Coverage: docs/results/verdicts.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from bestfor.rng import derive
from bestfor.types import BoolArray, FloatArray, IntArray

THRESHOLD = -0.05
"""A true correlation below it is called clearly negative."""
HARM = -0.2
"""The correlation for which the smallest share that can be seen is stated."""
POWER = 0.8
_SPENT = 1.5
"""Evidence needed over that of one known noise: how far tails count is fitted, too (docs/results/verdicts.md)."""

_FISHER = 0.95
_INFLATIONS = (0.0, 0.5, 1.0, 1.25, 1.5, 2.0)
_CELL = 0.04
_LEVELS = 0.3
_STEPS = 150
_FEW_STEPS = 60
_KEPT = 0.9
"""Part of the data's mixture from which resamples start; the rest is spread evenly, so that no point is lost."""
_HALVINGS = 7
_PLAUSIBLE = 2.5
"""Inflations whose log-likelihood is so much below the best are not profiled over."""
_SMALLEST_VARIANCE = 0.25
_SMALLEST_LOG = -400.0
"""Log-densities are cut here, so that large pools far from every point do not divide by 0."""


@dataclass(frozen=True)
class NegativeShare:
    """Share of queries with a clearly negative true correlation.

    Attributes:
        value: the share by maximum likelihood.
        low: lower end of its interval.
        high: upper end.
        level: the interval's nominal coverage.
        visible: the smallest share at a correlation of -.2 that data like these tell from none in 80 % of cases; NaN
            where none can be told.
        heavy_tails: mean of the queries' :func:`tails`, about 1 where they are not heavy together.
        resampled: shape (resamples,), the share when users are drawn again, the same draws whatever the model; empty
            where none were wanted.
    """

    value: float
    low: float
    high: float
    level: float
    visible: float
    heavy_tails: float
    resampled: FloatArray = field(default_factory=lambda: np.zeros(0), repr=False)


@dataclass(frozen=True)
class _NoiseCells:
    """Queries of nearly the same z and noise, merged: arrays of shape (C,); weights sum to the effective number."""

    z: FloatArray
    base: FloatArray
    tails: FloatArray
    weight: FloatArray

    def likelihood(self, points: FloatArray, inflation: float) -> FloatArray:
        """Density of every cell's z at every point, shape (C, K)."""
        v = self.base * np.maximum(1 + inflation * (self.tails - 1), _SMALLEST_VARIANCE)
        log = -0.5 * ((self.z[:, None] - points) ** 2 / v[:, None] + np.log(2 * np.pi * v[:, None]))
        return np.exp(np.maximum(log, _SMALLEST_LOG))


@dataclass(frozen=True)
class _ShareLikelihood:
    """Likelihoods of the share: the points, which of them are negative, and the cells' densities at each inflation."""

    cells: _NoiseCells
    negative: BoolArray
    densities: tuple[FloatArray, ...]

    def at(self, share: float) -> float:
        """Compute the largest log-likelihood with this share of negative points."""
        return max(_fixed_share(one, self.negative, self.cells.weight, share) for one in self.densities)


def tails(reward: FloatArray, utility: FloatArray) -> FloatArray:
    """Compute the mean of a^2 b^2 over a query's candidates, a and b standardised.

    Args:
        reward: shape (Q, M), finite.
        utility: shape (Q, M).

    Returns:
        Shape (Q,); NaN where either is constant.
    """
    a = reward - reward.mean(axis=1, keepdims=True)
    b = utility - utility.mean(axis=1, keepdims=True)
    scale = (a**2).mean(axis=1) * (b**2).mean(axis=1)
    cross = (a**2 * b**2).mean(axis=1)
    return np.divide(cross, scale, out=np.full(len(cross), np.nan), where=scale > 0)


def negative_share(
    z: FloatArray,
    size: IntArray,
    tail: FloatArray,
    weight: FloatArray,
    user: IntArray,
    *,
    level: float = 0.95,
    resamples: int = 0,
) -> NegativeShare:
    """Estimate the share of queries with a true correlation below -.05, with its interval.

    Args:
        z: shape (Q,), Fisher's transform of each query's correlation, its bias taken off.
        size: shape (Q,), candidates, at least 4.
        tail: shape (Q,), see :func:`tails`.
        weight: shape (Q,), positive; only their proportions count.
        user: shape (Q,), codes of users: queries of one user are not counted as independent.
        level: nominal coverage.
        resamples: how often users are drawn again, for what goes with another model's share.

    Returns:
        The share, between 0 and 1.
    """
    effective = float(weight.sum()) ** 2 / float((weight**2).sum())
    weight = weight * (effective / weight.sum())
    points = _points()
    negative = points <= np.arctanh(THRESHOLD) + 1e-12
    base = (_FISHER / (size - 3.0)).astype(np.float64)
    cells, cell = _merge(z, base, tail, weight)
    fits = [_free(cells.likelihood(points, inflation), cells.weight) for inflation in _INFLATIONS]
    best = int(np.argmax([fit[1] for fit in fits]))
    mixture, inflation = fits[best][0], _INFLATIONS[best]
    density = cells.likelihood(points, inflation)
    posterior = density[:, negative] @ mixture[negative] / (density @ mixture)
    shrink = 1 / design_effect(posterior[cell], weight, user)
    cells = _NoiseCells(cells.z, cells.base, cells.tails, cells.weight * shrink)
    kept = [one for one, fit in zip(_INFLATIONS, fits, strict=True) if fit[1] >= fits[best][1] - _PLAUSIBLE]
    share = float(mixture[negative].sum())
    cut = float(stats.chi2.ppf(level, 1)) / 2
    low, high = _interval(
        _ShareLikelihood(cells, negative, tuple(cells.likelihood(points, c) for c in kept)), share, cut
    )
    if 0.0 not in kept:
        plain = _ShareLikelihood(cells, negative, (cells.likelihood(points, 0.0),))
        ends = _interval(plain, float(fits[0][0][negative].sum()), cut)
        low, high = min(low, ends[0]), max(high, ends[1])
    visible = _visible(cells, inflation, points, negative, mixture, level)
    drawn = _drawn_again(weight, user, cell, resamples)
    resampled = _free_shares(density, drawn, mixture)[:, negative].sum(axis=1)
    return NegativeShare(share, low, high, level, visible, float(np.average(tail, weights=weight)), resampled)


def _interval(profile: _ShareLikelihood, share: float, cut: float) -> tuple[float, float]:
    """Find the shares whose profile likelihood is within the cut of the largest, which is that of ``share``."""
    top = profile.at(share)
    low, high = (_edge(lambda b: top - profile.at(b) - cut, end, share) for end in (0.0, 1.0))
    return low, high


def design_effect(value: FloatArray, weight: FloatArray, user: IntArray) -> float:
    """Compute by how much clustering by user inflates the variance of a weighted mean; at least 1.

    Args:
        value: shape (Q,).
        weight: shape (Q,).
        user: shape (Q,), codes.
    """
    mean = float(weight @ value / weight.sum())
    each = weight * (value - mean)
    alone = float((each**2).sum())
    together = float((np.bincount(user, each) ** 2).sum())
    return max(1.0, together / alone) if alone > 1e-12 else 1.0


def _points() -> FloatArray:
    rho = np.concatenate([np.linspace(-0.85, THRESHOLD, 13), np.linspace(THRESHOLD + 0.001, 0.95, 26)])
    return np.arctanh(rho)


def _merge(z: FloatArray, base: FloatArray, tail: FloatArray, weight: FloatArray) -> tuple[_NoiseCells, IntArray]:
    """Merge queries of nearly the same z and noise, so that the cost stays bounded; also find each query's cell."""
    level = np.rint(np.log(np.maximum(tail, 0.05)) / _LEVELS)
    place = np.rint(z / _CELL)
    _, size = np.unique(base, return_inverse=True)
    key = (size * 1_000 + (level - level.min())) * 10_000 + (place - place.min())
    _, group = np.unique(key, return_inverse=True)
    total = np.bincount(group, weight).astype(np.float64)

    def mean(values: FloatArray) -> FloatArray:
        return np.bincount(group, weight * values).astype(np.float64) / total

    return _NoiseCells(mean(z), mean(base), mean(tail), total), group.astype(np.int64)


def _free(density: FloatArray, weight: FloatArray) -> tuple[FloatArray, float]:
    """Fit the mixture's shares by EM; returns them and the log-likelihood."""
    share = np.full(density.shape[1], 1 / density.shape[1])
    total = float(weight.sum())
    for _ in range(_STEPS):
        share = share * (density.T @ (weight / (density @ share))) / total
    return share, float(weight @ np.log(density @ share))


def _drawn_again(weight: FloatArray, user: IntArray, cell: IntArray, resamples: int) -> FloatArray:
    """Draw users again, each as often as Poisson's law of mean 1 says; shape (resamples, cells), the weights."""
    users = int(user.max()) + 1
    drawn = np.zeros((resamples, int(cell.max()) + 1))
    for place, row in enumerate(drawn):
        row += np.bincount(cell, weight * derive(0, "users drawn again", place).poisson(1.0, users)[user])
    drawn[~drawn.any(axis=1)] = 1.0  # nobody was drawn
    return drawn


def _free_shares(density: FloatArray, weight: FloatArray, mixture: FloatArray) -> FloatArray:
    """Fit a mixture's shares to each row of weights by EM, from those of the data; shape (rows, points)."""
    share = np.tile(_KEPT * mixture + (1 - _KEPT) / len(mixture), (len(weight), 1))
    total = weight.sum(axis=1, keepdims=True)
    for _ in range(_FEW_STEPS):
        share = share * ((weight / (share @ density.T)) @ density) / total
    return share


def _fixed_share(density: FloatArray, negative: BoolArray, weight: FloatArray, share: float) -> float:
    """Compute the largest log-likelihood of the mixtures that put this share on the negative points."""
    below, above = density[:, negative], density[:, ~negative]
    p, q = np.full(below.shape[1], 1 / below.shape[1]), np.full(above.shape[1], 1 / above.shape[1])
    for _ in range(_STEPS):
        ratio = weight / (share * (below @ p) + (1 - share) * (above @ q))
        if share > 0:
            p = p * (below.T @ ratio)
            p /= p.sum()
        if share < 1:
            q = q * (above.T @ ratio)
            q /= q.sum()
    return float(weight @ np.log(share * (below @ p) + (1 - share) * (above @ q)))


def _edge(excess: Callable[[float], float], outside: float, inside: float) -> float:
    """Find where the profile likelihood crosses the cut between a share inside the interval and an end of the range."""
    if excess(outside) <= 0:
        return outside
    for _ in range(_HALVINGS):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if excess(middle) > 0 else (outside, middle)
    return (outside + inside) / 2


def _visible(
    cells: _NoiseCells, inflation: float, points: FloatArray, negative: BoolArray, mixture: FloatArray, level: float
) -> float:
    """Compute the smallest share at -.2 that such data tell from none.

    The data are replaced by what is expected of them (Cowan, Cranmer, Gross & Vitells 2011): the cells' noise, the
    mixture's positive part, and the share at -.2. Fitting how far tails count costs a third of the evidence.
    """
    v = cells.base * np.maximum(1 + inflation * (cells.tails - 1), _SMALLEST_VARIANCE)
    noise = float(np.average(v, weights=cells.weight))
    others = np.where(negative, 0.0, mixture)
    if others.sum() < 1e-6:
        return float("nan")
    others /= others.sum()
    at = np.arange(points[0] - 4 * noise**0.5, points[-1] + 4 * noise**0.5, 0.05)
    density = np.exp(np.maximum(-0.5 * (at[:, None] - points) ** 2 / noise, _SMALLEST_LOG)) / np.sqrt(2 * np.pi * noise)
    harm = np.exp(-0.5 * (at - np.arctanh(HARM)) ** 2 / noise) / np.sqrt(2 * np.pi * noise)
    wanted = _SPENT * float(stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(POWER)) ** 2 / 2

    def excess(share: float) -> float:
        expected = np.maximum((1 - share) * (density @ others) + share * harm, np.exp(_SMALLEST_LOG))
        weight = expected * (cells.weight.sum() / expected.sum())
        # the truth's own likelihood; the largest of the free mixture is no smaller
        truth = float(weight @ np.log(expected))
        return truth - _fixed_share(density, negative, weight, 0.0) - wanted

    if excess(1.0) < 0:
        return float("nan")
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if excess(middle) > 0 else (middle, high)
    return high
