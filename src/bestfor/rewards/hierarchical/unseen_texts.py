"""Choose the structure of tastes, and whether noise depends on features, by unseen texts, where people share texts.

Held-out users rate the same texts as the others: a covariance that has learned what is peculiar to these texts predicts
them well and says nothing of other texts. So texts are divided into groups. For each group scales and S are learned
from the labels of the others, and every held label is judged by its log density under its user's posterior. The best
mean over texts is taken, or no tastes at all within a standard error over texts (:mod:`.structure` has the rule).
Noise that depends on features is judged likewise: a head with many weights explains the errors of a few dozen texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bestfor import rng as random
from bestfor.rewards.hierarchical.labels import CompactRows, compress_rows
from bestfor.rewards.hierarchical.noise import noise_sizes
from bestfor.rewards.hierarchical.query_slopes import slope_variances
from bestfor.rewards.hierarchical.structure import (
    ENOUGH,
    FEWEST,
    GROUPS,
    ROUNDS,
    WORK,
    Structure,
    best_structure,
    candidate_structures,
)
from bestfor.rewards.hierarchical.texts import TextEffects
from bestfor.rewards.hierarchical.users import UserPosteriors, fit_posteriors, means, variances
from bestfor.rewards.hierarchical.variances import LearningOptions, Prior, learn_scales, learn_variances
from bestfor.rewards.rows import FeatureRows, sum_by
from bestfor.types import BoolArray, FloatArray, IntArray

NOISE_GROUPS = 3
LearnNoise = Callable[[FeatureRows, bool], tuple[Prior, FloatArray, CompactRows]]
"""Learn variances, the noise head (left at 0 unless asked for) and compact rows."""


@dataclass(frozen=True)
class UnseenTexts:
    """Labels on which structures are judged.

    Attributes:
        effects: labels without texts' effects.
        size: shape (n,), the diagonal of D.
        groups: shape (p,), group of each feature.
        levels: whether queries have effects of their own.
    """

    effects: TextEffects
    size: FloatArray
    groups: IntArray
    levels: bool


def choose_by_texts(judged: UnseenTexts, start: Prior, structure: Structure, *, rng: int) -> Structure:
    """Choose the structure that predicts unseen texts best, or no tastes at all where that is nearly as good.

    Args:
        judged: labels of the users to learn from.
        start: scales learned from all of them.
        structure: what is known of it.
        rng: seed of the groups of texts and of the users who are compared.
    """
    draw = random.derive(rng, "structure")
    user, p = judged.effects.rows.user, len(judged.groups)
    counts = np.bincount(user)
    if len(counts) < FEWEST or len(np.unique(judged.effects.text)) < 2 * GROUPS:
        return replace(structure, covariance="isotropic")
    order, work = draw.permutation(len(counts)), np.minimum(counts, p) * float(p) ** 2
    count = min(max(int(np.searchsorted(np.cumsum(work[order]), WORK)), ENOUGH), len(counts))
    structures = candidate_structures(structure, full=float(work[order[:count]].sum()) < 10 * WORK)
    kept = np.isin(user, order[:count])
    texts, text = np.unique(judged.effects.text[kept], return_inverse=True)
    group = draw.permutation(np.arange(len(texts)) % GROUPS)
    evidence, labels = np.zeros((len(structures), len(texts))), np.bincount(text)
    for part in range(GROUPS):
        held = np.zeros(len(user), dtype=np.bool_)
        held[kept] = group[text] == part
        density = _held_out_density(judged, kept & ~held, held, start, structures)
        place = text[held[kept]]
        evidence += [sum_by(place, row, len(texts)) for row in density]
    return best_structure(structures, evidence / labels, "label of an unseen text")


def _held_out_density(
    judged: UnseenTexts, seen: BoolArray, held: BoolArray, start: Prior, structures: Sequence[Structure]
) -> FloatArray:
    """Log density of held labels, everything being learned from the seen ones; shape (structures, held labels)."""
    known, place = _known_rows(judged.effects.rows, seen)
    data = compress_rows(known, judged.size[seen], levels=judged.levels, slopes=structures[0].slopes)
    scales, out = learn_scales(data, judged.groups, start), np.empty((len(structures), int(held.sum())))
    for row, structure in enumerate(structures):
        learning = LearningOptions(judged.groups, structure.covariance, shrinkage=structure.shrinkage, rounds=ROUNDS)
        prior = scales if structure.covariance == "isotropic" else learn_variances(data, learning, scales)
        posteriors = judged.effects.correct(fit_posteriors(data, prior))
        size, codes = judged.size[held], place[judged.effects.rows.user[held]]
        out[row] = _log_density(posteriors, judged.effects, held, (size, codes), structure.slopes)
    return out


def noise_head_tells(effects: TextEffects, learn: LearnNoise, slopes: float, *, rng: int) -> bool:
    """Say whether noise that depends on features predicts labels of unseen texts better, beyond a standard error.

    Args:
        effects: labels of the users to learn from.
        learn: learns noise from some of them.
        slopes: variance of queries' own weights over the noise's.
        rng: seed of the groups of texts.
    """
    texts, text = np.unique(effects.text, return_inverse=True)
    if len(texts) < 2 * NOISE_GROUPS:
        return False
    group = random.derive(rng, "noise").permutation(np.arange(len(texts)) % NOISE_GROUPS)
    gain = np.zeros(len(texts))
    for part in range(NOISE_GROUPS):
        held = group[text] == part
        known, place = _known_rows(effects.rows, ~held)
        for sign, with_head in ((1.0, True), (-1.0, False)):
            prior, head, data = learn(known, with_head)
            posteriors = effects.correct(fit_posteriors(data, prior))
            size, codes = noise_sizes(effects.rows.z[held], head), place[effects.rows.user[held]]
            density = _log_density(posteriors, effects, held, (size, codes), slopes)
            gain += sign * sum_by(text[held], density, len(texts))
    gain /= np.bincount(text)
    return bool(gain.mean() > gain.std() / np.sqrt(len(gain)))


def _known_rows(rows: FeatureRows, seen: BoolArray) -> tuple[FeatureRows, IntArray]:
    """Some rows, coded anew, and the new code of every user, -1 for those without rows."""
    users, user = np.unique(rows.user[seen], return_inverse=True)
    query = np.unique(rows.query[seen], return_inverse=True)[1]
    place = np.full(int(rows.user.max()) + 1, -1, dtype=np.int64)
    place[users] = np.arange(len(users))
    return FeatureRows(rows.z[seen], rows.y[seen], user, query), place


def _log_density(
    posteriors: UserPosteriors,
    effects: TextEffects,
    held: BoolArray,
    asked: tuple[FloatArray, IntArray],
    slopes: float,
) -> FloatArray:
    """Log density of held rows; ``asked`` holds the diagonal of D and the user's code of each."""
    z, y, (size, codes), prior = effects.rows.z[held], effects.rows.y[held], asked, posteriors.prior
    known, mean = codes >= 0, np.empty(len(codes))
    mean[known] = means(posteriors.weights, z[known], codes[known])
    mean[~known] = means(posteriors.shared[None], z[~known], np.zeros(int(np.sum(~known)), dtype=np.int64))
    noise = prior.noise * (size + prior.ratio + slope_variances(z, slopes)) + effects.variance
    whole = variances(posteriors, z, codes) + noise
    return -0.5 * (np.log(2 * np.pi * whole) + (y - mean) ** 2 / whole)
