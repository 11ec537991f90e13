"""Update a normal posterior of weights by ratings and preferences of one person.

    w ~ N(m, C)
    ratings      y = x'w + c_q + x'e_q + e,   c_q ~ N(0, level),  e_q ~ N(0, slope I) beside the intercept,  e ~ N(0, v)
    preferences  P(a over b) = Phi(d'w / s),   d = x_a - x_b;  a rating's levels cancel in it

Ratings are conditioned on in closed form: with V = X C X' + R, w has mean m + C X'V^-1 (y - X m) and covariance
C - C X'V^-1 X C (Rasmussen & Williams 2006, section 2.2); labels of one prompt share its level, so R has a block for
each. Preferences are approximated by expectation propagation: each probit factor is replaced by the normal one that
gives its tilted distribution the right moments (Rasmussen & Williams 2006, section 3.6; Chu & Ghahramani 2005 for
preferences). One preference is exact. What comes out of it for each preference is a rating of the difference d, with a
target and a variance, so all else stays in closed form.

Whether a person's own part is worth having is judged by leave-one-out log densities of the same labels
(:func:`left_out_log_densities`; Vehtari, Gelman & Gabry 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg, special

from bestfor.types import FloatArray, IntArray

ROUNDS = 400
"""Rounds of expectation propagation at most."""
UNDAMPED = 20
"""Rounds before steps are halved: where labels repeat each other all sites moving at once may swing."""
TOLERANCE = 1e-7
"""Largest relative change of a site after which all have converged."""
_LOG_ROOT = 0.5 * float(np.log(2 * np.pi))


@dataclass(frozen=True)
class Belief:
    """A normal distribution of p weights.

    Attributes:
        mean: shape (p,).
        covariance: shape (p, p).
    """

    mean: FloatArray
    covariance: FloatArray


@dataclass(frozen=True)
class RatedRows:
    """Ratings as rows.

    Attributes:
        x: shape (n, p).
        y: shape (n,).
        noise: shape (n,), variance v of each rating's noise.
        query: shape (n,), codes; rows of one code share a level.
        level: variance of c_q.
        slope: variance of each of e_q's weights; the last column of ``x``, the intercept, has none.
    """

    x: FloatArray
    y: FloatArray
    noise: FloatArray
    query: IntArray
    level: float = 0.0
    slope: float = 0.0

    def cover(self) -> FloatArray:
        """Covariance R of everything but the weights, shape (n, n)."""
        found = np.diag(self.noise)
        if self.level or self.slope:
            shared = np.full(found.shape, self.level)
            if self.slope:
                shared += self.slope * (self.x[:, :-1] @ self.x[:, :-1].T)
            found += np.where(self.query[:, None] == self.query, shared, 0.0)
        return found

    def take(self, rows: IntArray) -> RatedRows:
        """Some of the rows."""
        parts = (self.x[rows], self.y[rows], self.noise[rows], self.query[rows])
        return RatedRows(*parts, self.level, self.slope)

    def reduced(self) -> RatedRows:
        """Give at most p independent rows that say the same: whitened prompt by prompt, then reduced by QR."""
        p = self.x.shape[1]
        if len(self.y) <= p:
            return self
        upper: Any = np.linalg.qr(self._whitened(), mode="r")[:p]
        return RatedRows(upper[:, :p], upper[:, p], np.ones(len(upper)), np.arange(len(upper)))

    def _whitened(self) -> FloatArray:
        """Rows and targets over the root of their covariance, prompt by prompt, shape (n, p + 1)."""
        order = np.argsort(self.query, kind="stable")
        if not (self.level or self.slope):
            # one by one, a thousand preferences took twenty times as long
            return np.column_stack([self.x, self.y])[order] * (1 / np.sqrt(self.noise[order]))[:, None]
        _, starts = np.unique(self.query[order], return_index=True)
        white = []
        for rows in np.split(order, starts[1:]):
            one = self.take(rows)
            lower = np.linalg.cholesky(one.cover())
            white.append(_solved(lower, np.column_stack([one.x, one.y])))
        return np.vstack(white)


@dataclass(frozen=True)
class ComparedTexts:
    """Texts of which each of k preferences names two.

    Attributes:
        x: shape (t, p), features.
        better: shape (k,), codes.
        worse: shape (k,), codes.
    """

    x: FloatArray
    better: IntArray
    worse: IntArray

    def difference(self, values: FloatArray) -> FloatArray:
        """Values of the better texts less those of the worse ones, from values of the texts, (t,) or (t, p)."""
        return values[self.better] - values[self.worse]

    def join(self, other: ComparedTexts) -> ComparedTexts:
        """These texts and preferences, and the others after them."""
        codes = ((self.better, other.better), (self.worse, other.worse))
        better, worse = (np.concatenate([one, two + len(self.x)]) for one, two in codes)
        return ComparedTexts(np.vstack([self.x, other.x]), better, worse)


@dataclass(frozen=True)
class PreferredRows:
    """Preferences as rows.

    Attributes:
        x: shape (k, p), the better text's features less the worse one's.
        noise: shape (k,), s^2.
        texts: whose differences they are, where few texts are compared many times; None where nobody knows.
    """

    x: FloatArray
    noise: FloatArray
    texts: ComparedTexts | None = None


def no_ratings(p: int) -> RatedRows:
    """Ratings of nothing, of p columns."""
    return RatedRows(np.zeros((0, p)), np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.int64))


def no_preferences(p: int) -> PreferredRows:
    """Preferences of nothing, of p columns."""
    return PreferredRows(np.zeros((0, p)), np.zeros(0))


def learn(belief: Belief, rated: RatedRows, preferred: PreferredRows) -> Belief:
    """Posterior of the weights after ratings and preferences."""
    found = condition(belief, rated)
    return condition(found, as_ratings(found, preferred)) if len(preferred.noise) else found


def condition(belief: Belief, rated: RatedRows) -> Belief:
    """Posterior of the weights after ratings, in closed form."""
    rows = rated.reduced()
    if not len(rows.y):
        return belief
    reach = rows.x @ belief.covariance
    lower = np.linalg.cholesky(reach @ rows.x.T + rows.cover())
    half = _solved(lower, np.column_stack([reach, rows.y - rows.x @ belief.mean]))
    gained = half[:, :-1]
    return Belief(belief.mean + half[:, -1] @ gained, belief.covariance - gained.T @ gained)


def as_ratings(belief: Belief, preferred: PreferredRows) -> RatedRows:
    """Ratings of differences that say about the weights what preferences do."""
    (k, p), texts = preferred.x.shape, preferred.texts
    mean = preferred.x @ belief.mean
    if k > p and texts is not None and len(texts.x) < k:
        target, noise = _text_sites(mean, belief.covariance, texts, preferred.noise)
    elif k <= p:
        target, noise = probit_sites(mean, preferred.x @ belief.covariance @ preferred.x.T, preferred.noise)
    else:
        values, axes = np.linalg.eigh(belief.covariance)
        root = preferred.x @ (axes * np.sqrt(np.maximum(values, 0.0)))
        target, noise = probit_sites(mean, root, preferred.noise, rooted=True)
    return RatedRows(preferred.x, target, noise, np.arange(k))


def probit_sites(
    mean: FloatArray, covariance: FloatArray, noise: FloatArray, *, rooted: bool = False
) -> tuple[FloatArray, FloatArray]:
    """Normal factors in place of the probit ones of k differences, by expectation propagation.

    Args:
        mean: shape (k,), prior mean of the differences.
        covariance: shape (k, k), their prior covariance; or (k, r), a root of it.
        noise: shape (k,), s^2: each difference is positive with probability Phi(difference / s).
        rooted: which of both ``covariance`` is.

    Returns:
        Targets and variances, each (k,): the posterior is that of noisy observations of the differences.
    """
    marginals = _rooted_marginals if rooted else _marginals
    return _propagated(noise, lambda precision, pull: marginals(mean, covariance, precision, pull))


def _text_sites(
    mean: FloatArray, covariance: FloatArray, texts: ComparedTexts, noise: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Do the same by the t texts that are compared: a round costs t^3 in the place of k p^2."""
    # what all texts have in common is in no difference, and would cost digits
    x = texts.x - texts.x.mean(axis=0)
    values, axes = np.linalg.eigh(x @ covariance @ x.T)
    root = axes * np.sqrt(np.maximum(values, 0.0))
    return _propagated(noise, lambda precision, pull: _text_marginals(mean, root, texts, (precision, pull)))


def _propagated(
    noise: FloatArray, marginals: Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]
) -> tuple[FloatArray, FloatArray]:
    """Propagate expectations until no site moves.

    Args:
        noise: shape (k,).
        marginals: mean and variance of every difference, each (k,), from the sites' precisions and pulls.
    """
    precision, pull = np.zeros(len(noise)), np.zeros(len(noise))
    for number in range(ROUNDS):
        centre, variance = marginals(precision, pull)
        fresh = _moment_match(centre, np.maximum(variance, 1e-300), precision, pull, noise)
        step = 1.0 if number < UNDAMPED else 0.5
        changes = (fresh[0] - precision, fresh[1] - pull)
        precision, pull = precision + step * changes[0], pull + step * changes[1]
        if all(np.max(np.abs(c) / (np.abs(s) + 1e-300)) < TOLERANCE for c, s in zip(changes, fresh, strict=True)):
            break
    precision = np.maximum(precision, 1e-12 / noise)
    return pull / precision, 1 / precision


def log_probit(z: FloatArray) -> FloatArray:
    """Logarithm of Phi(z), accurate in both tails."""
    return np.asarray(special.log_ndtr(z), dtype=np.float64)


def left_out_log_densities(belief: Belief, rated: Sequence[RatedRows], preferred: PreferredRows) -> FloatArray:
    """Log density of each label given all others, ratings first, then preferences; shape (n + k,).

    A rating's is normal in closed form, e_i = [V^-1 r]_i / [V^-1]_ii with variance 1 / [V^-1]_ii; a preference's is the
    probit of its cavity.

    Args:
        belief: before all labels.
        rated: sets of ratings that share no level.
        preferred: preferences.
    """
    parts, sites = list(rated), None
    n = sum(len(one.y) for one in parts)
    if len(preferred.noise):
        known = belief
        for one in parts:
            known = condition(known, one)
        sites = as_ratings(known, preferred)
        parts.append(sites)
    x, y = np.vstack([one.x for one in parts]), np.concatenate([one.y for one in parts])
    cover = linalg.block_diag(*(one.cover() for one in parts))
    precision = np.linalg.inv(x @ belief.covariance @ x.T + cover)
    variance = 1 / np.diag(precision)
    error = (precision @ (y - x @ belief.mean)) * variance
    found = -0.5 * (error**2 / variance + np.log(variance)) - _LOG_ROOT
    if sites is not None:
        cavity = np.maximum(variance[n:] - sites.noise, 0.0)
        found[n:] = log_probit((sites.y - error[n:]) / np.sqrt(preferred.noise + cavity))
    return found


def _moment_match(
    centre: FloatArray, variance: FloatArray, precision: FloatArray, pull: FloatArray, noise: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Give new sites: natural parameters that give each tilted distribution its mean and variance."""
    free = np.maximum(1 / variance - precision, 1e-12 / variance)
    cavity = 1 / free
    away = cavity * (centre / variance - pull)
    width = np.sqrt(noise + cavity)
    z = away / width
    ratio = np.exp(-0.5 * z**2 - _LOG_ROOT - log_probit(z))
    slope, bend = ratio / width, ratio * (z + ratio) / width**2
    left = 1 - cavity * bend
    return bend / left, (slope + away * bend) / left


def _marginals(
    mean: FloatArray, covariance: FloatArray, precision: FloatArray, pull: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Mean and variance of every difference under the sites, B = I + T^1/2 K T^1/2."""
    root = np.sqrt(precision)
    lower = np.linalg.cholesky(np.eye(len(root)) + root[:, None] * covariance * root)
    half = _solved(lower, root[:, None] * covariance)
    variance = np.diag(covariance) - np.sum(half**2, axis=0)
    rest = pull - precision * mean
    return mean + covariance @ rest - half.T @ (half @ rest), variance


def _rooted_marginals(
    mean: FloatArray, root: FloatArray, precision: FloatArray, pull: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """The same where more differences than weights are compared: K = GG', P = I + G'TG."""
    lower = np.linalg.cholesky(np.eye(root.shape[1]) + root.T @ (precision[:, None] * root))
    half = _solved(lower, root.T)
    return mean + half.T @ (half @ (pull - precision * mean)), np.sum(half**2, axis=0)


def _text_marginals(
    mean: FloatArray, root: FloatArray, texts: ComparedTexts, sites: tuple[FloatArray, FloatArray]
) -> tuple[FloatArray, FloatArray]:
    """The same by texts, G = DR: the sites' precisions D'TD of the texts are a weighted graph's Laplacian."""
    (precision, pull), t = sites, len(root)
    better, worse = texts.better, texts.worse
    edges = np.bincount(better * t + worse, precision, minlength=t * t).reshape(t, t)
    edges += edges.T
    laplacian = np.diag(edges.sum(axis=1)) - edges
    lower = np.linalg.cholesky(np.eye(t) + root.T @ laplacian @ root)
    half = _solved(lower, root.T)
    known = half.T @ half
    variance = np.diag(known)[better] + np.diag(known)[worse] - 2 * known[better, worse]
    rest = pull - precision * mean
    moved = known @ (np.bincount(better, rest, minlength=t) - np.bincount(worse, rest, minlength=t))
    return mean + texts.difference(moved), variance


def _solved(lower: npt.NDArray[Any], right: FloatArray) -> FloatArray:
    """Solve with a lower triangle."""
    return np.asarray(linalg.solve_triangular(lower, right, lower=True, check_finite=False), dtype=np.float64)
