"""Fit the hierarchical model to rows of features, predict rows, and judge users by their leave-one-out errors.

Variances and the noise head are learned in turns, the structure is chosen, and the posterior of all users is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from bestfor import rng as random
from bestfor.rewards.abstain import abstaining, left_out_levels
from bestfor.rewards.hierarchical.labels import CompactRows, compress_rows, round_single
from bestfor.rewards.hierarchical.left_out import left_out_queries, left_out_rows
from bestfor.rewards.hierarchical.noise import fit_noise_head, noise_sizes, relative_noise
from bestfor.rewards.hierarchical.query_slopes import slope_variances
from bestfor.rewards.hierarchical.structure import ROUNDS, Structure, choose_slopes, choose_structure
from bestfor.rewards.hierarchical.texts import TextEffects, without_text_effects
from bestfor.rewards.hierarchical.unseen_texts import LearnNoise, UnseenTexts, choose_by_texts, noise_head_tells
from bestfor.rewards.hierarchical.users import (
    UserPosteriors,
    compress_rows_in_chunks,
    fit_posteriors,
    means,
    take_users,
    variances,
)
from bestfor.rewards.hierarchical.variances import CovarianceOption, LearningOptions, Prior, learn_variances
from bestfor.rewards.rows import FeatureRows, share_texts, with_intercept
from bestfor.types import BoolArray, FloatArray, IntArray

WORK = 4e8
"""Multiplications that one pass over the users may cost while variances are learned; beyond, a sample of users stands
for all."""
FEWEST = 300
"""Users who are learned from at any cost."""
HELD_OUT = 0.2
LEAST_HELD_OUT = 20


class HierarchicalOptions(Protocol):
    """Fields of the configuration that matter here."""

    covariance: CovarianceOption
    rank: int
    shrinkage: float
    query_slopes: float | None
    rounds: int
    variance_head: bool
    variance_components: int
    variance_ridge: float
    text_effects: bool
    abstain: bool


@dataclass(frozen=True)
class HierarchicalFit:
    """Posterior, noise and structure: all that prediction needs.

    Attributes:
        posteriors: of the users, on the standardised scale.
        head: shape (k + 1,), log noise variance: weights of the first k features, then the intercept.
        centre: mean utility of the fit rows.
        unit: their standard deviation.
        structure: in what users and queries differ.
        text: variance of what everybody makes of a text beyond its features, on the standardised scale.
    """

    posteriors: UserPosteriors
    head: FloatArray
    centre: float
    unit: float
    structure: Structure
    text: float = 0.0


@dataclass(frozen=True)
class LeftOutUsers:
    """Leave-one-out errors of every fitted user, on the utility's scale; shapes (users,).

    Attributes:
        labels: number of labels.
        error: root mean squared leave-one-out error of the user's own model.
        shared_error: the same of the mean of all users, levels of queries from their other rows (NaN without any).
        ratio: mean of squared error over predicted variance, 1 where the variances are calibrated.
    """

    labels: FloatArray
    error: FloatArray
    shared_error: FloatArray
    ratio: FloatArray


def fit_rows(
    rows: FeatureRows,
    groups: IntArray,
    options: HierarchicalOptions,
    *,
    rng: int,
    scale: tuple[float, float] = (0.0, 1.0),
    structure: Structure | None = None,
    effects: TextEffects | None = None,
) -> HierarchicalFit:
    """Learn variances and weights from standardised rows.

    Args:
        rows: n rows sorted by user; the last column of ``z`` is the intercept.
        groups: shape (p,), group of each feature.
        options: shape of S and the variance head.
        rng: seed of the choice of users to learn variances from, where they are too many.
        scale: centre and unit, stored for predictions on the utility's scale.
        structure: None takes that of the options, or chooses.
        effects: what was taken off the rows' labels, where people share texts.
    """
    levels, some = has_query_levels(rows), _sample_users(rows, rng)
    labels = None
    if effects is not None and effects.variance:
        labels = effects if some is rows else effects.take(some, _is_sampled(rows, rng))
    prior, head, structure, data = learn_prior(
        some, groups, options, rng=rng, structure=structure, levels=levels, labels=labels
    )
    sizes = noise_sizes(rows.z, head)
    head[-1] += np.log(prior.noise)
    if some is rows:
        data = round_single(data)
    else:
        data = compress_rows_in_chunks(rows, sizes, levels=levels, slopes=structure.slopes)
    posteriors, text = fit_posteriors(data, prior), 0.0
    if effects is not None:
        posteriors, text = effects.correct(posteriors), effects.variance
    return HierarchicalFit(posteriors, head, *scale, structure, text)


def learn_prior(
    some: FeatureRows,
    groups: IntArray,
    options: HierarchicalOptions,
    *,
    rng: int,
    structure: Structure | None,
    levels: bool,
    labels: TextEffects | None = None,
) -> tuple[Prior, FloatArray, Structure, CompactRows]:
    """Learn variances, the noise head (relative to s2) and the structure; also gives the rows under this noise.

    Args:
        some: rows of users to learn from, as :func:`fit_rows` takes them, and so are the others.
        groups: group of each feature.
        options: shape of S and the variance head.
        rng: seed of the groups of users that structures are compared on.
        structure: None takes that of the options, or chooses.
        levels: whether queries have effects of their own.
        labels: these rows and their texts, where unseen texts are to judge; None where held-out users are.
    """
    begin, structure, option = _start_structure(some, groups, options, structure, levels=levels)
    first, slopes = option if option in ("full", "low_rank") else "isotropic", structure.slopes
    learning = LearningOptions(groups, first, options.rank, options.shrinkage, options.rounds)

    def learn(known: FeatureRows, with_head: bool) -> tuple[Prior, FloatArray, CompactRows]:
        start = begin if known is some else None
        return _learn_noise(known, learning, options, (slopes, levels), start, with_head=with_head)

    with_head, structure = _judge_head(options.variance_head, labels, learn, structure, rng=rng)
    prior, head, data = learn(some, with_head)
    if option == "auto":
        judged = None if labels is None else UnseenTexts(labels, noise_sizes(some.z, head), groups, levels)
        structure = _choose(judged, data, prior, structure, groups, rng=rng)
    if structure.covariance != first:
        prior = learn_variances(data, _shaped(learning, structure), prior)
    return prior, head, structure, data


def _shaped(learning: LearningOptions, structure: Structure) -> LearningOptions:
    """Options that learn S in the shape that was chosen."""
    shape = {"covariance": structure.covariance, "shrinkage": structure.shrinkage}
    return replace(learning, **shape, rounds=min(learning.rounds, ROUNDS))


def _judge_head(
    asked: bool, labels: TextEffects | None, learn: LearnNoise, structure: Structure, *, rng: int
) -> tuple[bool, Structure]:
    """Decide whether noise depends on features, as asked for or as unseen texts say, and note it on the structure."""
    if not asked or labels is None:
        return asked, structure
    tells = noise_head_tells(labels, learn, structure.slopes, rng=rng)
    sentence = f"noise {'depends' if tells else 'does not depend'} on features: so unseen texts say"
    return tells, replace(structure, notes=(*structure.notes, sentence))


def _choose(
    judged: UnseenTexts | None, data: CompactRows, prior: Prior, structure: Structure, groups: IntArray, *, rng: int
) -> Structure:
    """Choose the structure by unseen texts where people share them, else by held-out users."""
    if judged is None:
        return choose_structure(data, prior, structure, groups, rng=rng)
    return choose_by_texts(judged, prior, structure, rng=rng)


def _start_structure(
    some: FeatureRows, groups: IntArray, options: HierarchicalOptions, structure: Structure | None, *, levels: bool
) -> tuple[Prior | None, Structure, CovarianceOption]:
    """Start: variances if known, the structure as far as it is known, and the option for S."""
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
    some: FeatureRows,
    learning: LearningOptions,
    options: HierarchicalOptions,
    queries: tuple[float, bool],
    prior: Prior | None,
    *,
    with_head: bool,
) -> tuple[Prior, FloatArray, CompactRows]:
    """Learn variances and the noise head in turns; also gives the rows under this noise.

    Args:
        some: rows to learn from.
        learning: shape of S.
        options: of the head.
        queries: variance of queries' own weights, and whether queries have levels.
        prior: where to begin.
        with_head: False leaves the head's weights at 0.
    """
    (slopes, levels), k = queries, noise_features(options, some.z.shape[1])
    columns, size = with_intercept(some.z[:, :k]), np.ones(len(some.y))
    data = compress_rows(some, size, levels=levels, slopes=slopes)
    prior, head = learn_variances(data, learning, prior), np.zeros(k + 1)
    for _ in range(2 if k and with_head else 0):
        left = left_out_rows(some, size, fit_posteriors(data, prior), slopes)
        epistemic = np.maximum(left.variance - prior.noise * size, 0.0)
        head = fit_noise_head(columns, left, epistemic, options.variance_ridge)
        size = relative_noise(columns, head)
        head[-1] = -float(np.mean(np.log(size)))
        size = size * np.exp(head[-1])
        data = compress_rows(some, size, levels=levels, slopes=slopes)
        # only noise moved, so the variances are nearly where they were
        prior = learn_variances(data, replace(learning, rounds=-(-options.rounds // 4)), prior)
    return prior, head, data


def held_out_temperature(
    rows: FeatureRows, text: IntArray, groups: IntArray, options: HierarchicalOptions, *, rng: int, structure: Structure
) -> float:
    """Mean squared error over predicted variance on a fifth of the labels, by a fit to the others (Laves et al. 2020).

    Where people share texts, whole texts are held out: what everybody makes of a text is an error that its labels
    share, and no leave-one-out error shows it. 1 where too few labels are left.

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
    known = np.unique(text[~held], return_inverse=True)[1]
    effects = without_text_effects(kept, known) if options.text_effects else TextEffects(kept)
    fitted = fit_rows(effects.rows, groups, options, rng=rng, structure=structure, effects=effects)
    place = np.full(int(rows.user.max()) + 1, -1, dtype=np.int64)
    place[users] = np.arange(len(users))
    mean, _, whole = predict_rows(fitted, rows.z[held], place[rows.user[held]])
    return float(np.mean((rows.y[held] - mean) ** 2 / whole))


def noise_features(options: HierarchicalOptions, columns: int) -> int:
    """Number of a row's columns, the last of which is the intercept, that the noise head sees."""
    return min(options.variance_components, columns - 1) if options.variance_head else 0


def predict_rows(fitted: HierarchicalFit, z: FloatArray, codes: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean, variance of the mean, and predictive variance of n rows on the utility's scale; code -1 has no labels."""
    posteriors, unit = fitted.posteriors, fitted.unit
    known = codes >= 0
    if known.all():
        mean = means(posteriors.weights, z, codes)
    else:
        mean = np.empty(len(z))
        mean[known] = means(posteriors.weights, z[known], codes[known])
        mean[~known] = means(posteriors.shared[None], z[~known], np.zeros(int(np.sum(~known)), dtype=np.int64))
    own = variances(posteriors, z, codes)
    level = posteriors.prior.ratio * posteriors.prior.noise
    level += posteriors.prior.noise * slope_variances(z, fitted.structure.slopes)
    whole = np.maximum(own + noise_sizes(z, fitted.head) + level + fitted.text, 1e-12)
    return fitted.centre + unit * mean, unit**2 * own, unit**2 * whole


def judge_users(rows: FeatureRows, fitted: HierarchicalFit) -> tuple[LeftOutUsers, BoolArray]:
    """Judge users by leave-one-out errors: the errors, and who abstains (labels that say no more than everybody's).

    Both errors are divided by the root of their rows' noise before they are compared. Where queries have weights of
    their own, a query's other labels inform these, so users are judged by predictions from their other queries.
    """
    posteriors, unit, slopes = fitted.posteriors, fitted.unit, fitted.structure.slopes
    size = noise_sizes(rows.z, fitted.head) / posteriors.prior.noise
    left = left_out_rows(rows, size, posteriors, slopes)
    plain = means(posteriors.shared[None], rows.z, np.zeros(len(rows.y), dtype=np.int64))
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
    own = left_out_levels(left_out_queries(rows, size, posteriors, slopes), rows.query) if slopes else left.error
    return summary, abstaining(rows.user, own / root, shared / root)


def abstain_errors(rows: FeatureRows, fitted: HierarchicalFit) -> tuple[FloatArray, FloatArray]:
    """Leave-one-out errors under each user's own model and under everybody's, over the root of the noise; each (n,)."""
    posteriors, slopes = fitted.posteriors, fitted.structure.slopes
    size = noise_sizes(rows.z, fitted.head) / posteriors.prior.noise
    plain = means(posteriors.shared[None], rows.z, np.zeros(len(rows.y), dtype=np.int64))
    shared = left_out_levels(rows.y - plain, rows.query)
    if slopes:
        own = left_out_levels(left_out_queries(rows, size, posteriors, slopes), rows.query)
    else:
        own = left_out_rows(rows, size, posteriors, slopes).error
    return own / np.sqrt(size), shared / np.sqrt(size)


def has_query_levels(rows: FeatureRows) -> bool:
    """Say whether a query's effect differs from its user's: somebody has two queries."""
    return len(np.unique(rows.query)) > len(np.unique(rows.user))


def _sample_users(rows: FeatureRows, rng: int) -> FeatureRows:
    """Rows of all users, or of as many as may be learned from at acceptable cost."""
    offsets = rows.segments()
    chosen = sampled_users(np.diff(offsets), rows.z.shape[1], rng)
    return rows if chosen is None else take_users(rows, chosen, offsets)


def _is_sampled(rows: FeatureRows, rng: int) -> BoolArray:
    """Mark the rows that :func:`_sample_users` takes, shape (n,)."""
    chosen = sampled_users(np.diff(rows.segments()), rows.z.shape[1], rng)
    return np.ones(len(rows.y), dtype=np.bool_) if chosen is None else np.isin(rows.user, chosen)


def sampled_users(labels: IntArray, p: int, rng: int) -> IntArray | None:
    """Users to learn variances from, as many as may be at acceptable cost; None where all may.

    Args:
        labels: shape (users,), labels of each.
        p: number of features.
        rng: seed of the choice.
    """
    users, work = len(labels), np.minimum(labels, p) * float(p) ** 2
    order = random.derive(rng, "users").permutation(users)
    count = max(int(np.searchsorted(np.cumsum(work[order]), WORK)), FEWEST)
    return None if count >= users else np.sort(order[:count])
