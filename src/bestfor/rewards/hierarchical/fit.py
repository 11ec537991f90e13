"""The hierarchical model on rows of features: what is learned, what it predicts, and what was left out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from bestfor import rng as random
from bestfor.rewards._mixed import Prior
from bestfor.rewards._noise import fit_head, left_out, left_out_queries, relative_noise
from bestfor.rewards._slopes import slope_variances
from bestfor.rewards.abstain import abstaining, left_out_levels
from bestfor.rewards.heads.labels import SHARED_FROM
from bestfor.rewards.hierarchical.labels import Compact, compact, round_single
from bestfor.rewards.hierarchical.structure import ROUNDS, Structure, choose, choose_slopes
from bestfor.rewards.hierarchical.users import People, compact_users, means, settle, take_users, variances
from bestfor.rewards.hierarchical.variances import Asked, Learning, learn
from bestfor.rewards.linear.solver import Rows, with_intercept
from bestfor.types import BoolArray, FloatArray, IntArray

WORK = 4e8
"""Multiplications that one pass over the users may cost while variances are learned; beyond, a sample of users stands
for all."""
FEWEST = 300
HELD_OUT = 0.2
LEAST_HELD_OUT = 20


class Options(Protocol):
    """Fields of the configuration that matter here."""

    covariance: Asked
    rank: int
    shrinkage: float
    query_slopes: float | None
    rounds: int
    variance_head: bool
    variance_components: int
    variance_ridge: float
    abstain: bool


@dataclass(frozen=True)
class Fitted:
    """What prediction needs.

    Attributes:
        people: posterior of the users, on the standardised scale.
        head: shape (k + 1,), log noise variance: weights of the first k features, then the intercept.
        centre: mean utility of the fit rows.
        unit: their standard deviation.
        structure: how users and queries differ.
    """

    people: People
    head: FloatArray
    centre: float
    unit: float
    structure: Structure


@dataclass(frozen=True)
class LeftOutUsers:
    """Leave-one-out errors of every fitted user, on the utility's scale; shapes (users,).

    Attributes:
        labels: number of labels.
        error: root mean squared leave-one-out error of the user's own model.
        shared_error: the same of the mean of all users, levels of queries from their other rows (NaN without any).
        ratio: mean of squared error over predicted variance, 1 where the model knows what it does not know.
    """

    labels: FloatArray
    error: FloatArray
    shared_error: FloatArray
    ratio: FloatArray


def fit_rows(
    rows: Rows,
    groups: IntArray,
    options: Options,
    *,
    rng: int,
    scale: tuple[float, float] = (0.0, 1.0),
    structure: Structure | None = None,
) -> Fitted:
    """Learn variances and weights from standardised rows.

    Args:
        rows: n rows sorted by user; the last column of ``z`` is the intercept.
        groups: shape (p,), group of each feature.
        options: shape of S and the variance head.
        rng: seed of the choice of users to learn variances from, where they are too many.
        scale: centre and unit, stored for predictions on the utility's scale.
        structure: None takes that of the options, or chooses.
    """
    levels, some = has_levels(rows), _sample(rows, rng)
    prior, structure, asked = _begin(some, groups, options, structure, levels=levels)
    first = asked if asked in ("full", "low_rank") else "isotropic"
    learning = Learning(groups, first, options.rank, options.shrinkage, options.rounds)
    prior, head, data = _learn_noise(some, learning, options, structure.slopes, prior, levels=levels)
    if asked == "auto":
        structure = choose(data, prior, structure, groups, rng=rng)
    if structure.covariance != first:
        shape = {"covariance": structure.covariance, "shrinkage": structure.shrinkage}
        learning = replace(learning, **shape, rounds=min(options.rounds, ROUNDS))
        prior = learn(data, learning, prior)
    sizes = noise_sizes(rows.z, head)
    head[-1] += np.log(prior.noise)
    data = round_single(data) if some is rows else compact_users(rows, sizes, levels=levels, slopes=structure.slopes)
    return Fitted(settle(data, prior), head, *scale, structure)


def _begin(
    some: Rows, groups: IntArray, options: Options, structure: Structure | None, *, levels: bool
) -> tuple[Prior | None, Structure, Asked]:
    """Where to start, the structure as far as it is known, and which shape is asked for."""
    if structure is not None:
        return None, structure, structure.covariance
    shape = "isotropic" if options.covariance == "auto" else options.covariance
    slopes, prior, notes = options.query_slopes or 0.0, None, ()
    if not levels:
        slopes = 0.0
    elif options.covariance == "auto" and options.query_slopes is None and len(some.y) > len(np.unique(some.query)):
        slopes, prior, notes = choose_slopes(some, groups)
    return prior, Structure(shape, options.shrinkage, slopes, notes), options.covariance


def _learn_noise(
    some: Rows, learning: Learning, options: Options, slopes: float, prior: Prior | None, *, levels: bool
) -> tuple[Prior, FloatArray, Compact]:
    """Variances and the noise head, each learned anew where the other moved, and the rows under this noise."""
    k = head_features(options, some.z.shape[1])
    columns, size = with_intercept(some.z[:, :k]), np.ones(len(some.y))
    data = compact(some, size, levels=levels, slopes=slopes)
    prior, head = learn(data, learning, prior), np.zeros(k + 1)
    for _ in range(2 if k else 0):
        left = left_out(some, size, settle(data, prior), slopes)
        epistemic = np.maximum(left.variance - prior.noise * size, 0.0)
        head = fit_head(columns, left, epistemic, options.variance_ridge)
        size = relative_noise(columns, head)
        head[-1] = -float(np.mean(np.log(size)))
        size = size * np.exp(head[-1])
        data = compact(some, size, levels=levels, slopes=slopes)
        # only noise moved, so the variances are nearly where they were
        prior = learn(data, replace(learning, rounds=-(-options.rounds // 4)), prior)
    return prior, head, data


def held_out_temperature(
    rows: Rows, text: IntArray, groups: IntArray, options: Options, *, rng: int, structure: Structure
) -> float:
    """Mean squared error over predicted variance on a fifth of the labels, by a fit to the others (Laves et al. 2020).

    Where people share texts, whole texts are held out: what everybody makes of a text is an error that its labels
    share, and no leave-one-out error shows it. 1 where too little is left to tell.

    Args:
        rows: n rows sorted by user.
        text: shape (n,), codes of their texts.
        groups: as in :func:`fit_rows`.
        options: as in :func:`fit_rows`.
        rng: seed of what is held out.
        structure: of the fit whose variances are judged.
    """
    draw = random.derive(rng, "temperature")
    shared = len(rows.y) >= SHARED_FROM * len(np.unique(text))
    held = draw.random(int(text.max()) + 1)[text] < HELD_OUT if shared else draw.random(len(rows.y)) < HELD_OUT
    if int(held.sum()) < LEAST_HELD_OUT or int((~held).sum()) < LEAST_HELD_OUT:
        return 1.0
    users, user = np.unique(rows.user[~held], return_inverse=True)
    query = np.unique(rows.query[~held], return_inverse=True)[1]
    kept = Rows(rows.z[~held], rows.y[~held], user, query)
    fitted = fit_rows(kept, groups, options, rng=rng, structure=structure)
    place = np.full(int(rows.user.max()) + 1, -1, dtype=np.int64)
    place[users] = np.arange(len(users))
    mean, _, whole = predict_rows(fitted, rows.z[held], place[rows.user[held]])
    return float(np.mean((rows.y[held] - mean) ** 2 / whole))


def head_features(options: Options, columns: int) -> int:
    """How many of a row's columns, the last of which is the intercept, the variance head sees."""
    return min(options.variance_components, columns - 1) if options.variance_head else 0


def noise_sizes(z: FloatArray, head: FloatArray) -> FloatArray:
    """exp(f'a) of every row, f the first features and a constant, some rows at a time."""
    out = np.empty(len(z))
    for start in range(0, len(z), 8192):
        part = slice(start, start + 8192)
        out[part] = relative_noise(with_intercept(z[part, : len(head) - 1]), head) * np.exp(head[-1])
    return out


def predict_rows(fitted: Fitted, z: FloatArray, codes: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean, variance of the mean, and predictive variance of n rows on the utility's scale; -1 codes strangers."""
    people, unit = fitted.people, fitted.unit
    mean, known = np.empty(len(z)), codes >= 0
    mean[known] = means(people.weights, z[known], codes[known])
    mean[~known] = means(people.shared[None], z[~known], np.zeros(int(np.sum(~known)), dtype=np.int64))
    own = variances(people, z, codes)
    level = people.prior.ratio * people.prior.noise
    level += people.prior.noise * slope_variances(z, fitted.structure.slopes)
    whole = np.maximum(own + noise_sizes(z, fitted.head) + level, 1e-12)
    return fitted.centre + unit * mean, unit**2 * own, unit**2 * whole


def judge(rows: Rows, fitted: Fitted) -> tuple[LeftOutUsers, BoolArray]:
    """Leave-one-out errors of every user, and whose own labels say no more than everybody's.

    Both errors are weighted as the noise of their rows asks before they are compared. Where queries have weights of
    their own, a query's other labels tell of these, so that users are judged by what their other queries tell.
    """
    people, unit, slopes = fitted.people, fitted.unit, fitted.structure.slopes
    size = noise_sizes(rows.z, fitted.head) / people.prior.noise
    left = left_out(rows, size, people, slopes)
    plain = means(people.shared[None], rows.z, np.zeros(len(rows.y), dtype=np.int64))
    shared = left_out_levels(rows.y - plain, rows.query)
    root = np.sqrt(size)
    labels = np.bincount(rows.user).astype(np.float64)
    usable = np.isfinite(shared)
    counted = np.bincount(rows.user[usable], minlength=len(labels))
    with np.errstate(invalid="ignore"):
        others = np.bincount(rows.user[usable], shared[usable] ** 2, minlength=len(labels)) / counted
    error = np.bincount(rows.user, left.error**2) / labels
    ratio = np.bincount(rows.user, left.error**2 / left.variance) / labels
    summary = LeftOutUsers(labels, unit * np.sqrt(error), unit * np.sqrt(others), ratio)
    if fitted.structure.covariance == "none":
        return summary, np.zeros(len(labels), dtype=np.bool_)
    own = left_out_levels(left_out_queries(rows, size, people, slopes), rows.query) if slopes else left.error
    return summary, abstaining(rows.user, own / root, shared / root)


def has_levels(rows: Rows) -> bool:
    """Whether a query's effect differs from its user's: somebody has two queries."""
    return len(np.unique(rows.query)) > len(np.unique(rows.user))


def _sample(rows: Rows, rng: int) -> Rows:
    """All users, or as many as may be learned from at acceptable cost."""
    offsets, p = rows.segments(), rows.z.shape[1]
    users, work = len(offsets) - 1, np.minimum(np.diff(offsets), p) * float(p) ** 2
    order = random.derive(rng, "users").permutation(users)
    count = max(int(np.searchsorted(np.cumsum(work[order]), WORK)), FEWEST)
    return rows if count >= users else take_users(rows, np.sort(order[:count]), offsets)
