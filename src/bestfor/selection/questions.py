"""Choose which two answers to show a person: the pair whose preference is worth most to later picks.

mu ~ N(m, V) are the candidates' means for this person. A preference of a over b is probit, P = Phi(d'mu / s) with
d = e_a - e_b. One of them is exact by moments:

    k^2 = s^2 + d'V d    z = d'm / k
    E[mu | a] = m + V d phi(z) / (k Phi(z))    E[mu | b] = m - V d phi(z) / (k Phi(-z))

The worth of a pair is the expected increase, over its two answers, of the highest posterior mean (the knowledge
gradient, Frazier, Powell & Dayanik 2009):

    worth(a, b) = Phi(z) max_j E[mu_j | a] + Phi(-z) max_j E[mu_j | b] - max_j m_j >= 0

The optimistic duel shows a = argmax m and b = argmax m_b - m_a + c sd(mu_b - mu_a) (dueling bandits, Yue et al. 2012).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy import special

from bestfor.errors import InputError, nearest
from bestfor.types import FloatArray, IntArray, Scores

PairRule = Literal["expected", "duel", "top-two", "random"]
"""How a pair is chosen: by its worth, as an optimistic duel, the two highest means, or any two."""

MOST = 48
"""Candidates whose pairs are weighed: of more, those with the highest mean plus standard deviations."""

OPTIMISM = 1.0
"""Standard deviations by which the duel's second arm is optimistic."""


def pair_to_show(
    mean: npt.ArrayLike,
    cov: npt.ArrayLike,
    *,
    rule: PairRule = "expected",
    noise: float = 1.0,
    among: Sequence[int] | IntArray | None = None,
    pools: Sequence[Sequence[int] | IntArray] | None = None,
    rng: np.random.Generator | None = None,
) -> tuple[int, int]:
    """Choose the two candidates to show.

    Args:
        mean: shape (n,), posterior means of the candidates for this person.
        cov: shape (n, n), their covariance; shape (n,) for standard deviations of independent ones.
        rule: how; where no pair is worth anything, ``"expected"`` shows the duel's.
        noise: s, the standard deviation of what a person's answer adds to the difference of two means.
        among: candidates that may be shown; all where None.
        pools: later requests' candidates, whose highest means are what a question is worth to (their mean); one pool of
            all candidates where None.
        rng: draws the pair of ``"random"``.

    Returns:
        Two different places; the first has the higher mean, but for ``"random"``, where the order is random too.

    Raises:
        InputError: fewer than two candidates, shapes that do not fit, numbers that are not finite, an unknown rule, or
            ``"random"`` without ``rng``.
    """
    centre, covariance = _posterior(mean, cov)
    if rule not in get_args(PairRule):
        raise InputError("pair_to_show", f"rule '{rule}'", nearest(str(rule), get_args(PairRule)))
    if not (np.isfinite(noise) and noise > 0):
        raise InputError("pair_to_show", f"noise {noise}", "a number above 0")
    shown = _places(among, len(centre))
    if len(shown) < 2:
        raise InputError("pair_to_show", f"{len(shown)} candidates to show", "at least 2")
    if rule == "random":
        if rng is None:
            raise InputError("pair_to_show", "no rng", "one, which draws the pair of rule 'random'")
        first, second = rng.choice(shown, 2, replace=False)
        return int(first), int(second)
    if rule == "top-two":
        order = shown[np.argsort(-centre[shown], kind="stable")]
        return int(order[0]), int(order[1])
    duel = _duel(centre, covariance, shown)
    return duel if rule == "duel" else _most_worth(centre, covariance, shown, pools, noise, duel)


def worth_of_pairs(
    mean: FloatArray,
    cov: FloatArray,
    pairs: IntArray,
    *,
    noise: float = 1.0,
    pools: Sequence[Sequence[int] | IntArray] | None = None,
) -> FloatArray:
    """Compute the expected increase of the highest posterior mean over the two answers to each question.

    Args:
        mean: shape (n,).
        cov: shape (n, n).
        pairs: shape (P, 2), places of the two that would be shown.
        noise: s.
        pools: as for :func:`pair_to_show`.

    Returns:
        Shape (P,), at least 0, in the means' units.
    """
    a, b = pairs[:, 0], pairs[:, 1]
    along = cov[a] - cov[b]
    rows = np.arange(len(pairs))
    variance = np.maximum(along[rows, a] - along[rows, b], 0.0)
    k = np.sqrt(noise**2 + variance)
    z = (mean[a] - mean[b]) / k
    log_density = -0.5 * z**2 - 0.5 * np.log(2 * np.pi)
    up = np.exp(log_density - special.log_ndtr(z)) / k
    down = np.exp(log_density - special.log_ndtr(-z)) / k
    result = np.zeros(len(pairs))
    sets = [np.arange(len(mean))] if pools is None else [np.asarray(one, dtype=np.int64) for one in pools]
    for one in sets:
        part = along[:, one]
        first = (mean[one] + part * up[:, None]).max(axis=1)
        second = (mean[one] - part * down[:, None]).max(axis=1)
        result += special.ndtr(z) * first + special.ndtr(-z) * second - mean[one].max()
    return np.maximum(result / len(sets), 0.0)


def _duel(mean: FloatArray, cov: FloatArray, shown: IntArray) -> tuple[int, int]:
    first = int(shown[mean[shown].argmax()])
    others = shown[shown != first]
    variance = np.diag(cov)[others] + cov[first, first] - 2 * cov[first, others]
    optimistic = mean[others] - mean[first] + OPTIMISM * np.sqrt(np.maximum(variance, 0.0))
    return first, int(others[optimistic.argmax()])


def _most_worth(
    mean: FloatArray,
    cov: FloatArray,
    shown: IntArray,
    pools: Sequence[Sequence[int] | IntArray] | None,
    noise: float,
    duel: tuple[int, int],
) -> tuple[int, int]:
    if len(shown) > MOST:
        optimistic = mean[shown] + OPTIMISM * np.sqrt(np.maximum(np.diag(cov)[shown], 0.0))
        shown = np.sort(shown[np.argsort(-optimistic, kind="stable")[:MOST]])
    first, second = np.triu_indices(len(shown), 1)
    pairs = np.column_stack([shown[first], shown[second]])
    worth = worth_of_pairs(mean, cov, pairs, noise=noise, pools=pools)
    # Rounding alone would choose among questions of which none is worth anything.
    if worth.max() <= 1e-12 * max(float(np.ptp(mean)), float(np.sqrt(np.diag(cov).max())), 1e-300):
        return duel
    a, b = (int(one) for one in pairs[worth.argmax()])
    return (a, b) if mean[a] >= mean[b] else (b, a)


def _posterior(mean: npt.ArrayLike, cov: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    centre, covariance = np.asarray(mean, dtype=np.float64), np.asarray(cov, dtype=np.float64)
    if centre.ndim != 1 or len(centre) < 2:
        raise InputError("pair_to_show", f"means of shape {centre.shape}", "at least 2 candidates")
    if covariance.shape == centre.shape:
        covariance = np.diag(covariance**2)
    if covariance.shape != (len(centre), len(centre)):
        raise InputError("pair_to_show", f"a covariance of shape {covariance.shape}", f"{(len(centre),) * 2}")
    if not (np.isfinite(centre).all() and np.isfinite(covariance).all()):
        raise InputError("pair_to_show", "a number that is not finite", "finite means and covariances")
    return centre, covariance


def _places(among: Sequence[int] | IntArray | None, count: int) -> IntArray:
    if among is None:
        return np.arange(count)
    places = np.unique(np.asarray(among, dtype=np.int64))
    if len(places) and not (places[0] >= 0 and places[-1] < count):
        raise InputError("pair_to_show", f"places {places[0]} to {places[-1]}", f"places from 0 to {count - 1}")
    return places


def answer_noise(scores: Scores) -> float:
    """Estimate s, the noise of a person's comparison of two candidates, from a model's scores.

    It is that of two ordinary labels, s^2 = 2 mean(std^2 - std_mean^2); where nothing is known of labels' noise it is
    the spread of the means, or 1 where they are all equal.
    """
    if scores.std is not None and scores.std_mean is not None:
        variance = float(np.mean(np.maximum(scores.std**2 - scores.std_mean**2, 0.0)))
        if variance > 0:
            return float(np.sqrt(2 * variance))
    return float(np.std(scores.mean)) or 1.0
