"""Choose the structure of tastes by how well it predicts users that it was not learned from.

Users are divided into groups. For each group scales and S are learned from the others, and the group's labels are
judged by their log density, theta_0 integrated out,

    log N(y_u; J theta_0, J (S + A^-1) J' + R)

(Vehtari & Ojanen 2012). The best mean over the users is taken, but no tastes at all where that is within a standard
error of it (of the paired differences; Breiman et al. 1984, section 3.4.3). The variance of queries' own weights, one
number, is where the marginal likelihood is largest. Where people share texts,
:mod:`bestfor.rewards.hierarchical.unseen_texts` judges by texts instead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np

from bestfor import rng as random
from bestfor.rewards.hierarchical.labels import CompactRows, compress_rows, pad_batches, select_users
from bestfor.rewards.hierarchical.users import fit_posteriors
from bestfor.rewards.hierarchical.variances import (
    DIAGONAL,
    Covariance,
    LearningOptions,
    Prior,
    evaluate,
    inverse_cholesky,
    learn_scales,
    learn_variances,
)
from bestfor.rewards.rows import FeatureRows
from bestfor.types import FloatArray, IntArray

GROUPS = 5
FEWEST = 12
STRENGTHS = (60.0, 20.0)
SLOPES = (0.3, 1.0, 3.0)
EVIDENT = 3.0
"""Nats of evidence that queries with weights of their own must gain."""
ROUNDS = 12
"""Steps of expectation-maximisation that an inverse-Wishart prior is given: they are slow, and later ones fit noise."""
WORK = 8e6
"""Multiplications that one pass over the users may cost while structures are compared."""
ENOUGH = 40
"""Users who are compared at any cost; no full covariance is tried where a pass over them costs ten times ``WORK``."""
SLOPE_USERS = 500


@dataclass(frozen=True)
class Structure:
    """Covariance of users' tastes and variance of queries' own weights.

    Attributes:
        covariance: shape of S.
        shrinkage: how many users' worth of evidence pulls S towards its isotropic fit.
        slopes: variance of a query's own weights, summed over the features, over the noise's.
        notes: sentences about what was compared; none where nothing was.
    """

    covariance: Covariance
    shrinkage: float
    slopes: float = 0.0
    notes: tuple[str, ...] = ()

    def state(self) -> dict[str, Any]:
        """JSON values to store; the notes are the model's."""
        return {"covariance": self.covariance, "shrinkage": self.shrinkage, "query_slopes": self.slopes}


def restore_structure(state: dict[str, Any]) -> Structure:
    """Restore the structure that :meth:`Structure.state` stored.

    Raises:
        ValueError: it is none.
    """
    covariance, shrinkage, slopes = state["covariance"], float(state["shrinkage"]), float(state["query_slopes"])
    if covariance not in get_args(Covariance) or not (0 <= shrinkage < np.inf and 0 <= slopes < np.inf):
        raise ValueError(f"a covariance {covariance!r}, shrinkage {shrinkage} and query_slopes {slopes}")
    return Structure(covariance, shrinkage, slopes)


def choose_slopes(rows: FeatureRows, groups: IntArray) -> tuple[float, Prior, tuple[str, ...]]:
    """Choose the variance of queries' own weights; gives it, scales under it, and a note where it is not 0.

    Args:
        rows: labels of users some of whom have several queries.
        groups: shape (p,), group of each feature.
    """
    users = int(rows.user[-1]) + 1
    if users > SLOPE_USERS:
        kept = np.isin(rows.user, np.linspace(0, users - 1, SLOPE_USERS).astype(np.int64))
        codes = [np.unique(codes[kept], return_inverse=True)[1] for codes in (rows.user, rows.query)]
        rows = FeatureRows(rows.z[kept], rows.y[kept], *codes)
    plain, prior = _evidence_of_slopes(rows, groups, 0.0, None)
    best, slopes = plain, 0.0
    for tried in SLOPES:
        evidence, found = _evidence_of_slopes(rows, groups, tried, prior)
        if evidence <= best + (0.0 if slopes else EVIDENT):
            break
        best, slopes, prior = evidence, tried, found
    if not slopes:
        return 0.0, prior, ()
    sentence = f"each query weighs features in a way of its own (variance {slopes:g} of the noise's)"
    return slopes, prior, (f"{sentence}: {best - plain:.0f} nats of evidence",)


def _evidence_of_slopes(rows: FeatureRows, groups: IntArray, slopes: float, start: Prior | None) -> tuple[float, Prior]:
    data = compress_rows(rows, np.ones(len(rows.y)), levels=True, slopes=slopes)
    prior = learn_scales(data, groups, start)
    return evaluate(data, list(pad_batches(data)), prior).evidence, prior


def choose_structure(data: CompactRows, start: Prior, structure: Structure, groups: IntArray, *, rng: int) -> Structure:
    """Choose the structure that predicts unseen users best, or no tastes at all where that is nearly as good.

    Args:
        data: compact rows of the users to learn from.
        start: scales learned from all of them.
        structure: what is known of it.
        groups: shape (p,), group of each feature.
        rng: seed of the groups of users.
    """
    users, p, draw = len(data.ends) - 1, len(groups), random.derive(rng, "structure")
    if users < FEWEST:
        return replace(structure, covariance="isotropic")
    order, work = draw.permutation(users), np.diff(data.ends) * float(p) ** 2
    count = min(max(int(np.searchsorted(np.cumsum(work[order]), WORK)), ENOUGH), users)
    structures = candidate_structures(structure, full=float(work[order[:count]].sum()) < 10 * WORK)
    if count < users:
        data = select_users(data, np.sort(order[:count]))
    evidence, group = np.empty((len(structures), count)), draw.permutation(np.arange(count) % GROUPS)
    for part in range(GROUPS):
        held = group == part
        evidence[:, held] = held_out_evidence(
            data, np.flatnonzero(~held), np.flatnonzero(held), groups, start, structures
        )
    return best_structure(structures, evidence, "held-out user")


def candidate_structures(structure: Structure, *, full: bool) -> list[Structure]:
    """List structures from the simplest to the freest; ``full`` says whether full covariances are among them."""
    found = [replace(structure, covariance=name) for name in DIAGONAL]
    if full:
        found += [replace(structure, covariance="inverse_wishart", shrinkage=strength) for strength in STRENGTHS]
    return found


def held_out_evidence(
    data: CompactRows, seen: IntArray, held: IntArray, groups: IntArray, start: Prior, structures: list[Structure]
) -> FloatArray:
    """Log density of held-out users' labels, S and theta_0 being learned from the others.

    Args:
        data: compact rows of all users.
        seen: codes of the users to learn from.
        held: codes of the others.
        groups: shape (p,), group of each feature.
        start: scales to begin with.
        structures: structures, from the simplest to the freest.

    Returns:
        Shape (structures, held-out users).
    """
    known, unseen = select_users(data, seen), select_users(data, held)
    scales, out = learn_scales(known, groups, start), np.empty((len(structures), len(held)))
    for row, structure in enumerate(structures):
        learning = LearningOptions(groups, structure.covariance, shrinkage=structure.shrinkage, rounds=ROUNDS)
        prior = scales if structure.covariance == "isotropic" else learn_variances(known, learning, scales)
        posteriors = fit_posteriors(known, prior)
        out[row] = user_evidence(unseen, prior, posteriors.shared, posteriors.shared_covariance)
    return out


def user_evidence(data: CompactRows, prior: Prior, shared: FloatArray, covariance: FloatArray) -> FloatArray:
    """Log density of each user's labels where theta_0 ~ N(shared, covariance); shape (users,).

    Squares that compact rows leave out are of nobody: users get them by their rows.
    """
    wide, out = replace(prior, deviation=prior.full_deviation() + covariance), np.empty(len(data.ends) - 1)
    for batch in pad_batches(data):
        inverse, _ = inverse_cholesky(batch, wide)
        rest = np.where(batch.used, batch.target - batch.rows @ shared, 0.0)
        white = (inverse @ rest[:, :, None])[:, :, 0]
        logs = np.sum(np.log(np.diagonal(inverse, axis1=1, axis2=2)), axis=1)
        out[batch.users] = logs - 0.5 * (np.sum(white**2, axis=1) + batch.used.sum(axis=1) * np.log(2 * np.pi))
    count, spare = np.diff(data.ends), data.labels - len(data.target)
    left = spare * np.log(2 * np.pi * prior.noise) + data.rest / prior.noise + data.log_size
    return out - 0.5 * left * count / max(len(data.target), 1)


def best_structure(structures: list[Structure], evidence: FloatArray, what: str) -> Structure:
    """Take the best, or none where that is within a standard error of it.

    Args:
        structures: none first, isotropic second.
        evidence: shape (structures, n), log density of each held-out unit.
        what: the name of a unit.
    """
    best = int(np.argmax(evidence[1:].mean(axis=1))) + 1
    gain, error = _mean_and_error(evidence[best] - evidence[0])
    taken = 0 if gain <= error else best
    other = 0 if taken == 1 else 1
    gain, error = _mean_and_error(evidence[taken] - evidence[other])
    margin = f"{gain:+.3f} nats a {what} against {_describe(structures[other])} (standard error {error:.3f})"
    return replace(
        structures[taken],
        notes=(*structures[taken].notes, f"covariance of tastes: {_describe(structures[taken])}, {margin}"),
    )


def _mean_and_error(difference: FloatArray) -> tuple[float, float]:
    """Mean and standard error over users."""
    return float(difference.mean()), float(difference.std() / np.sqrt(len(difference)))


def _describe(structure: Structure) -> str:
    if structure.covariance == "none":
        return "none beyond a level"
    return (
        structure.covariance
        if structure.covariance in DIAGONAL
        else f"full, drawn to isotropic by {structure.shrinkage:g} users"
    )
