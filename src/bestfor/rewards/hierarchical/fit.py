"""The hierarchical model on rows of features: what is learned, what it predicts, and what was left out.

A shared head for the noise: where are labels unreliable?

    e_i^2 ~ v_i + epistemic_i,   v_i = exp(f_i'a),   a penalised except for its intercept

e_i are leave-one-out errors of the mean, in closed form, and epistemic_i is what their variance holds beside the noise,
so a well-fitted row does not look noiseless. a maximises the normal log-likelihood.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy import optimize

from bestfor import rng as random
from bestfor.rewards.abstain import abstaining, left_out_levels
from bestfor.rewards.hierarchical.labels import Compact, compact, precisions, round_single, slope_variances
from bestfor.rewards.hierarchical.structure import ROUNDS, Structure, choose, choose_slopes
from bestfor.rewards.hierarchical.users import (
    People,
    compact_users,
    means,
    own_reach,
    own_variances,
    settle,
    take_users,
    variances,
)
from bestfor.rewards.hierarchical.variances import Asked, Learning, Prior, learn
from bestfor.rewards.rows import FeatureRows, apply_rows, share_texts, sum_by, with_intercept
from bestfor.types import BoolArray, FloatArray, IntArray

LOG_LIMITS = (-4.0, 4.0)


@dataclass(frozen=True)
class LeftOut:
    """Errors of each row under the model fitted to the others (theta_0 held), shapes (n,).

    Attributes:
        error: y_i minus its prediction from the other rows.
        variance: predictive variance of y_i given the other rows.
    """

    error: FloatArray
    variance: FloatArray


def left_out(rows: FeatureRows, size: FloatArray, people: People, slopes: float = 0.0) -> LeftOut:
    """Leave-one-out errors in closed form: e_i = [V^-1 r]_i / [V^-1]_ii with variance 1 / [V^-1]_ii.

    Args:
        rows: n rows sorted by user.
        size: shape (n,), the diagonal of D.
        people: their posterior.
        slopes: variance of a query's own weights over s2.
    """
    if slopes:
        return _left_out_slopes(rows, size, people, slopes)
    prior = people.prior
    queries = int(rows.query.max()) + 1
    weight = sum_by(rows.query, 1 / size, queries)
    shrink = prior.ratio / (1 + prior.ratio * weight)
    level = prior.ratio > 0
    diagonal = (1 / size - shrink[rows.query] / size**2) / prior.noise
    error = rows.y - means(people.weights, rows.z, rows.user)
    total = sum_by(rows.query, error / size, queries)
    solved = (error - (shrink * total)[rows.query]) / (size * prior.noise)
    offsets = rows.segments()
    for user in range(len(offsets) - 1):
        part = slice(offsets[user], offsets[user + 1])
        z, query = rows.z[part].astype(np.float64), rows.query[part]
        plain = z / size[part, None]
        if level:
            # a query's rows lie side by side within its user only by code, so their sums are taken by code
            local, place = np.unique(query, return_inverse=True)
            sums = np.zeros((len(local), z.shape[1]))
            np.add.at(sums, place, plain)
            plain -= (shrink[local, None] * sums)[place] / size[part, None]
        diagonal[part] -= own_variances(people, plain / prior.noise, user)
    diagonal = np.maximum(diagonal, 1e-9)
    return LeftOut(solved / diagonal, 1 / diagonal)


def _left_out_slopes(rows: FeatureRows, size: FloatArray, people: People, slopes: float) -> LeftOut:
    prior, offsets = people.prior, rows.segments()
    error, diagonal = rows.y - means(people.weights, rows.z, rows.user), np.empty(len(size))
    pulled = np.empty(rows.z.shape, dtype=np.float64)
    for place, inverse in precisions(rows, size, prior.ratio, slopes):
        pulled[place] = inverse @ rows.z[place] / prior.noise
        error[place] = (inverse @ error[place][:, :, None])[:, :, 0] / prior.noise
        diagonal[place] = np.diagonal(inverse, axis1=1, axis2=2) / prior.noise
    for user in range(len(offsets) - 1):
        part = slice(offsets[user], offsets[user + 1])
        diagonal[part] -= own_variances(people, pulled[part], user)
    diagonal = np.maximum(diagonal, 1e-9)
    return LeftOut(error / diagonal, 1 / diagonal)


def left_out_queries(rows: FeatureRows, size: FloatArray, people: People, slopes: float) -> FloatArray:
    """Errors of each row under the model fitted to the user's other queries (theta_0 held), shape (n,).

    With q a query's rows: e_q = [V^-1]_qq^-1 [V^-1 r]_q.
    """
    prior, offsets = people.prior, rows.segments()
    out, pulled = rows.y - means(people.weights, rows.z, rows.user), np.empty(rows.z.shape, dtype=np.float64)
    queries: list[tuple[IntArray, FloatArray]] = []
    for place, inverse in precisions(rows, size, prior.ratio, slopes):
        pulled[place] = inverse @ rows.z[place] / prior.noise
        out[place] = (inverse @ out[place][:, :, None])[:, :, 0] / prior.noise
        queries.extend(zip(place, inverse / prior.noise, strict=True))
    known, reach, seen = -1, pulled, pulled
    for place, inverse in sorted(queries, key=lambda query: int(query[0][0])):
        user = int(rows.user[place[0]])
        if user != known:
            reach, seen = own_reach(people, pulled[offsets[user] : offsets[user + 1]], user)
        known, mine = user, place - offsets[user]
        out[place] = np.linalg.solve(inverse - reach[mine] @ pulled[place].T + seen[mine] @ seen[mine].T, out[place])
    return out


def fit_head(columns: FloatArray, left: LeftOut, epistemic: FloatArray, ridge: float) -> FloatArray:
    """Weights a of the log-variance, shape (k,); the last column of ``columns`` is the intercept."""
    penalty = np.full(columns.shape[1], ridge)
    penalty[-1] = 0.0
    squares = left.error**2
    start = np.zeros(columns.shape[1])
    start[-1] = np.log(max(float(np.mean(squares - epistemic)), 0.05 * float(np.mean(squares)), 1e-6))

    def loss(a: FloatArray) -> tuple[float, FloatArray]:
        own = np.exp(np.clip(columns @ a, -20, 20))
        total = own + epistemic
        value = float(np.sum(np.log(total) + squares / total) + penalty @ a**2) / 2
        slope = columns.T @ (own * (1 / total - squares / total**2)) / 2 + penalty * a
        return value, slope

    return optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 100}).x


def relative_noise(columns: FloatArray, head: FloatArray) -> FloatArray:
    """exp(f'a) without its intercept, shape (n,); the fit part's geometric mean is taken out by the caller."""
    return np.exp(np.clip(apply_rows(columns[:, :-1], head[:-1]), *LOG_LIMITS))


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
    rows: FeatureRows,
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
    some: FeatureRows, groups: IntArray, options: Options, structure: Structure | None, *, levels: bool
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
    some: FeatureRows, learning: Learning, options: Options, slopes: float, prior: Prior | None, *, levels: bool
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
    rows: FeatureRows, text: IntArray, groups: IntArray, options: Options, *, rng: int, structure: Structure
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
    by_text = share_texts(text)
    held = draw.random(int(text.max()) + 1)[text] < HELD_OUT if by_text else draw.random(len(rows.y)) < HELD_OUT
    if int(held.sum()) < LEAST_HELD_OUT or int((~held).sum()) < LEAST_HELD_OUT:
        return 1.0
    users, user = np.unique(rows.user[~held], return_inverse=True)
    query = np.unique(rows.query[~held], return_inverse=True)[1]
    kept = FeatureRows(rows.z[~held], rows.y[~held], user, query)
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


def judge(rows: FeatureRows, fitted: Fitted) -> tuple[LeftOutUsers, BoolArray]:
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


def has_levels(rows: FeatureRows) -> bool:
    """Whether a query's effect differs from its user's: somebody has two queries."""
    return len(np.unique(rows.query)) > len(np.unique(rows.user))


def _sample(rows: FeatureRows, rng: int) -> FeatureRows:
    """All users, or as many as may be learned from at acceptable cost."""
    offsets, p = rows.segments(), rows.z.shape[1]
    users, work = len(offsets) - 1, np.minimum(np.diff(offsets), p) * float(p) ** 2
    order = random.derive(rng, "users").permutation(users)
    count = max(int(np.searchsorted(np.cumsum(work[order]), WORK)), FEWEST)
    return rows if count >= users else take_users(rows, np.sort(order[:count]), offsets)
