"""Learn the variances of the mixed model from compact rows (:mod:`bestfor.rewards.hierarchical.labels`).

    y = J(theta_0 + d_u) + e,   theta_0 ~ N(0, G),  d_u ~ N(0, S),  e ~ N(0, R),  R = s2 diag(1 + k w).

**Evidence** of given variances. With V_u = J S J' + R and A = G^-1 + sum_u J'V_u^-1 J

    theta_0 = A^-1 sum_u J'V_u^-1 y,     d_u = S J'V_u^-1 (y - J theta_0),
    log p(y) = -1/2 [ sum log|V_u| + log|G| + log|A| + sum y'V_u^-1 y - theta_0'A theta_0 + rows log 2 pi ],
    d log p / dv = 1/2 sum_u <M_u, dV_u/dv>,
    M_u = aa' - V_u^-1 + V_u^-1 J A^-1 J'V_u^-1,   a = V_u^-1 (y - J theta_0).

**Scales** (a variance of S and of G for each group of features, s2 and k) are where the posterior density of their
logarithms is largest, with normal priors of standard deviation 1: plain marginal likelihood runs to a boundary on very
noisy data.

**Shape** of S, then, by expectation-maximisation,

    S <- S + S (sum_u J'M_u J / users) S,

pulled by as many users as ``shrinkage`` says towards the mean variance of each group of features: that of the step
itself (full), or that of the scales (inverse_wishart: the mode under such a prior around them). At first, and while it
climbs, a step of Fisher scoring that would be exact for users with equal N_u = J'V_u^-1 J takes its place:

    S <- S + c N^-1 (sum_u J'M_u J / users) N^-1,   N = mean of N_u,   c = half (mean tr N_u)^2 / mean (tr N_u)^2.

Sources: Lindley & Smith 1972 (posterior), Rasmussen & Williams 2006, section 5.4.1 (gradient), Laird & Ware 1982 (EM),
Longford 1987 (scoring), Tipping & Bishop 1999 (low rank), Fraley & Raftery 2007 (modes under inverse-Wishart priors).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import optimize

from bestfor.rewards.hierarchical.labels import CompactRows, PaddedRows, pad_batches, select_users
from bestfor.types import FloatArray, IntArray

Covariance = Literal["isotropic", "none", "low_rank", "inverse_wishart", "full"]
CovarianceOption = Literal[Covariance, "auto"]

INTERCEPT_VARIANCE = 100.0
LOG_LIMITS = (-9.0, 5.0)
"""Limits of a log scale about its prior's centre."""
SCALE_USERS = 500
"""Users from whom scales are learned at most."""
SMALLEST = 0.01
"""Least eigenvalue of S after a step of Fisher scoring, over its diagonal."""
SCORING = 0.5
"""First length of a step of Fisher scoring."""
DIAGONAL: tuple[Covariance, ...] = ("none", "isotropic")
STEP = 0.2
"""The first step of the search for scales moves their logarithms by so much at most."""
_FLOOR = 1e-8
_NONE = 1e-10


@dataclass(frozen=True)
class Prior:
    """Variances, utilities having unit variance.

    Attributes:
        deviation: S, shape (p, p), or its diagonal (p,).
        shared: diagonal of G, shape (p,).
        noise: s2.
        ratio: k, the query effect's variance over s2.
    """

    deviation: FloatArray
    shared: FloatArray
    noise: float
    ratio: float

    def full_deviation(self) -> FloatArray:
        """S as a matrix."""
        return np.diag(self.deviation) if self.deviation.ndim == 1 else self.deviation


@dataclass(frozen=True)
class Evidence:
    """Marginal likelihood of the labels under given variances, and what its gradient is made of.

    Attributes:
        shared: shape (p,), theta_0.
        shared_covariance: shape (p, p), A^-1.
        evidence: log marginal likelihood.
        deviation_gradient: shape (p, p), sum of J'M J: twice the gradient in S; (p,), its diagonal, where S is one.
        information: shape (p, p), mean of N_u.
        balance: c, 1 where all users have equally much information.
        noise_gradient: sum of the diagonal of M.
        level_gradient: the same weighted by w.
        users: number of users.
        queries: rows with w > 0.
        rows: compact rows.
    """

    shared: FloatArray
    shared_covariance: FloatArray
    evidence: float
    deviation_gradient: FloatArray
    information: FloatArray
    balance: float
    noise_gradient: float
    level_gradient: float
    users: int
    queries: int
    rows: int


def times_covariance(rows: npt.NDArray[Any], deviation: FloatArray) -> FloatArray:
    """Multiply rows by S, be it a matrix or a diagonal."""
    own = deviation.astype(rows.dtype, copy=False)
    return rows * own if own.ndim == 1 else rows @ own


def inverse_cholesky(batch: PaddedRows, prior: Prior) -> tuple[FloatArray, float]:
    """Invert the Cholesky factor of V = LL' of every user: L^-1, shape (b, n, n), and the sum of log|V|."""
    covers = times_covariance(batch.rows, prior.deviation) @ batch.rows.swapaxes(1, 2)
    diagonal = np.where(batch.used, prior.noise * (1 + prior.ratio * batch.level), 1.0)
    covers[:, range(diagonal.shape[1]), range(diagonal.shape[1])] += diagonal
    lower = np.linalg.cholesky(covers)
    log_det = 2 * float(np.sum(np.log(np.diagonal(lower, axis1=1, axis2=2))))
    return np.linalg.inv(lower), log_det  # pyright: ignore[reportReturnType]


def evaluate(data: CompactRows, parts: list[PaddedRows], prior: Prior) -> Evidence:
    """Evaluate the marginal likelihood for given variances, in one pass over all users."""
    p = data.rows.shape[1]
    sums = _NormalSums(np.diag(1 / prior.shared), np.zeros(p))
    white = [sums.add(batch, prior) for batch in parts]
    lower = np.linalg.cholesky(sums.normal)
    root = np.asarray(np.linalg.inv(lower).T, dtype=np.float64)
    shared = root @ (root.T @ sums.right)
    spare = data.labels - len(data.target)
    log_det = sums.log_det + spare * np.log(prior.noise) + data.log_size + float(np.sum(np.log(prior.shared)))
    log_det += 2 * float(np.sum(np.log(np.diag(lower))))
    square = sums.square + data.rest / prior.noise - float(sums.right @ shared)
    evidence = -0.5 * (data.labels * np.log(2 * np.pi) + log_det + square)
    users, queries = len(data.ends) - 1, int(np.sum(data.level > 0))
    information = sums.normal - np.diag(1 / prior.shared)
    traces = np.concatenate([np.sum(part.rows**2, axis=(1, 2)) for part in white])
    balance = float(np.mean(traces) ** 2 / max(np.mean(traces**2), 1e-300))
    whole = prior.deviation.ndim > 1
    gradients = [part.gradients(batch, shared, root, whole=whole) for part, batch in zip(white, parts, strict=True)]
    deviation = sum((part for part, _ in gradients), -(information if whole else np.diag(information)))
    diagonal = np.concatenate([rows for _, rows in gradients])
    level = np.concatenate([batch.level[batch.used] for batch in parts])
    noise, weighted = float(np.sum(diagonal)), float(np.sum(diagonal * level))
    rests = (deviation, information / users, balance, noise, weighted)
    return Evidence(shared, root @ root.T, evidence, *rests, users, queries, len(data.target))


@dataclass(frozen=True)
class _WhitenedRows:
    """L^-1, L^-1 J and L^-1 y of a batch, V = LL'."""

    inverse: FloatArray
    rows: FloatArray
    target: FloatArray

    def gradients(
        self, batch: PaddedRows, shared: FloatArray, root: FloatArray, *, whole: bool
    ) -> tuple[FloatArray, FloatArray]:
        """Sum of J'(M + V^-1)J (its diagonal unless ``whole``), and the diagonal of M at the batch's rows."""
        rest = self.target - self.rows @ shared.astype(self.rows.dtype, copy=False)
        reach = self.rows @ root.astype(self.rows.dtype, copy=False)
        crossed = (reach @ reach.swapaxes(1, 2)) @ self.rows
        own = (rest[:, None, :].astype(self.rows.dtype, copy=False) @ self.rows)[:, 0].astype(np.float64)
        turned = self.inverse.swapaxes(1, 2)
        diagonal = (turned @ rest[:, :, None])[:, :, 0] ** 2 - np.sum(self.inverse**2, axis=1)
        diagonal += np.sum((turned @ reach) ** 2, axis=2)
        if not whole:
            return np.einsum("uni,uni->i", self.rows, crossed) + np.sum(own**2, axis=0), diagonal[batch.used]
        p = len(shared)
        return self.rows.reshape(-1, p).T @ crossed.reshape(-1, p) + own.T @ own, diagonal[batch.used]


@dataclass
class _NormalSums:
    """Sums over users: A, its right side, y'V^-1 y and log|V|."""

    normal: FloatArray
    right: FloatArray
    square: float = 0.0
    log_det: float = 0.0

    def add(self, batch: PaddedRows, prior: Prior) -> _WhitenedRows:
        inverse, log_det = inverse_cholesky(batch, prior)
        rows, target = inverse @ batch.rows, (inverse @ batch.target[:, :, None])[:, :, 0]
        flat = rows.reshape(-1, len(self.right))
        self.normal += flat.T @ flat
        self.right += flat.T @ target.ravel()
        self.square += float(np.sum(target**2))
        self.log_det += log_det
        return _WhitenedRows(inverse, rows, target)


@dataclass(frozen=True)
class LearningOptions:
    """Options of learning: the shape of S, and when to stop.

    Attributes:
        groups: shape (p,), group of each feature, from 0; the last feature is the intercept, alone in its group.
        covariance: shape of S.
        rank: directions of a low-rank S.
        shrinkage: how many users' worth of evidence pulls a full S towards its isotropic fit.
        rounds: EM steps at most.
        tolerance: gain of log-evidence per user below which EM stops.
        centre: shape (p,), the isotropic fit that pulls in an inverse-Wishart S; None takes that of the start.
    """

    groups: IntArray
    covariance: Covariance = "full"
    rank: int = 8
    shrinkage: float = 60.0
    rounds: int = 60
    tolerance: float = 5e-3
    centre: FloatArray | None = None


def learn_variances(data: CompactRows, learning: LearningOptions, start: Prior | None = None) -> Prior:
    """Learn scales, then the shape of S.

    Args:
        data: compact rows of the users to learn from.
        learning: shape of S and when to stop.
        start: a prior learned before from nearly the same rows, whose scales are kept.
    """
    # accepted by the evidence alone, steps of scoring would run past the mode under a prior
    scoring = SCORING if start is None and learning.covariance != "inverse_wishart" else 0.0
    if start is None or learning.covariance in DIAGONAL:
        start = learn_scales(data, learning.groups, start, personal=learning.covariance != "none")
    if learning.covariance in DIAGONAL:
        return start
    if learning.centre is None:
        learning = replace(learning, centre=np.diag(start.full_deviation()))
    parts = list(pad_batches(data))
    prior = replace(start, deviation=start.full_deviation())
    found = evaluate(data, parts, prior)
    for _ in range(learning.rounds):
        tried = update_variances(data, prior, found, learning, scoring)
        fresh = evaluate(data, parts, tried)
        if scoring and fresh.evidence < found.evidence:
            scoring = scoring / 2 if scoring > SCORING / 4 else 0.0
            continue
        gain, prior, found = fresh.evidence - found.evidence, tried, fresh
        if abs(gain) < learning.tolerance * found.users:
            break
    return prior


def prior_centre(groups: IntArray) -> Prior:
    """Centre of the priors on the scales: a tenth of the variance shared, a tenth personal, spread over the features.

    Args:
        groups: shape (p,), group of each feature; the last feature is the intercept, alone in its group.
    """
    p = len(groups)
    deviation, shared = np.full(p, 0.1 / p), np.full(p, 0.1 / p)
    deviation[-1], shared[-1] = 0.1, INTERCEPT_VARIANCE
    return Prior(deviation, shared, 0.7, 0.1)


def learn_scales(
    data: CompactRows, groups: IntArray, start: Prior | None = None, *, tolerance: float = 0.1, personal: bool = True
) -> Prior:
    """Learn all log scales at their maximum a posteriori, S and G being diagonal and constant within feature groups.

    A few numbers are learned: of very many users, some (spread evenly) suffice.

    Args:
        data: compact rows.
        groups: shape (p,), group of each feature.
        start: where to begin, None for the centre of the priors.
        tolerance: gain of log-density in a step below which the search stops.
        personal: whether users may differ in more than their level.
    """
    data = _some_users(data)
    parts = list(pad_batches(data))
    centre, last = prior_centre(groups), int(groups.max())
    first = np.array([int(np.flatnonzero(groups == code)[0]) for code in range(last + 1)])
    levels = bool(np.any(data.level > 0))

    def pack(prior: Prior) -> FloatArray:
        return np.log([*prior.deviation[first], *prior.shared[first[:-1]], prior.noise, prior.ratio or centre.ratio])

    def unpack(logs: FloatArray) -> Prior:
        values = np.exp(logs)
        shared = np.append(values[last + 1 : 2 * last + 1], INTERCEPT_VARIANCE)[groups]
        return Prior(values[: last + 1][groups], shared, float(values[-2]), float(values[-1]) if levels else 0.0)

    middle = pack(centre)

    def loss(steps: FloatArray) -> tuple[float, FloatArray]:
        prior = unpack(steps * STEP)
        found = evaluate(data, parts, prior)
        away = steps * STEP - middle
        return -found.evidence + 0.5 * float(away @ away), STEP * (away - _log_gradient(data, prior, found, groups))

    limits = np.stack([middle + LOG_LIMITS[0], middle + LOG_LIMITS[1]], axis=1)
    if not personal:
        limits[:last] = np.log(_NONE)
    begin = np.clip(middle if start is None else pack(start), *limits.T)
    bounds = [(float(low), float(high)) for low, high in limits / STEP]
    # the tolerance is relative to the value, which a normal density per label gives well enough
    found: Any = optimize.minimize(
        loss, begin / STEP, jac=True, bounds=bounds, options={"maxiter": 40, "ftol": tolerance / data.labels}
    )
    return unpack(found.x * STEP)


def _some_users(data: CompactRows) -> CompactRows:
    users = len(data.ends) - 1
    return data if users <= SCALE_USERS else select_users(data, np.linspace(0, users - 1, SCALE_USERS).astype(np.int64))


def update_variances(
    data: CompactRows, prior: Prior, found: Evidence, learning: LearningOptions, scoring: float = 0.0
) -> Prior:
    """Take one step of expectation-maximisation for all variances, or of Fisher scoring for S where ``scoring`` > 0."""
    noise = found.rows * prior.noise + prior.noise**2 * found.noise_gradient + data.rest
    noise = log_normal_variance(noise, data.labels, 0.7)
    ratio = 0.0
    if found.queries:
        level = prior.noise * prior.ratio
        squares = found.queries * level + level**2 * found.level_gradient
        ratio = log_normal_variance(squares, found.queries, 0.1 * noise) / noise
    weights = found.shared**2 + np.diag(found.shared_covariance)
    shared, centre = prior.shared.copy(), prior_centre(learning.groups).shared
    for group in range(int(learning.groups[-1])):
        same = np.flatnonzero(learning.groups == group)
        shared[same] = log_normal_variance(float(weights[same].sum()), len(same), float(centre[same[0]]))
    return Prior(_update_covariance(prior, found, learning, scoring), shared, noise, ratio)


def log_normal_variance(squares: float, count: float, centre: float, spread: float = 1.0) -> float:
    """Variance v that maximises -count/2 log v - squares/(2v) - (log v - log centre)^2 / (2 spread^2).

    Args:
        squares: expected sum of squares.
        count: number of squares.
        centre: where the prior sits.
        spread: standard deviation of the prior on log v.
    """
    log = np.log(max(squares / max(count, 1), _FLOOR))
    for _ in range(20):
        pull = squares * np.exp(-log) / 2
        slope = pull - count / 2 - (log - np.log(centre)) / spread**2
        log += slope / (pull + 1 / spread**2)
    return float(max(np.exp(log), _FLOOR))


def _log_gradient(data: CompactRows, prior: Prior, found: Evidence, groups: IntArray) -> FloatArray:
    """Gradient of the log-evidence in the packed logarithms."""
    size = int(groups.max()) + 1
    deviation = 0.5 * np.bincount(groups, prior.deviation * found.deviation_gradient, minlength=size)
    weights = found.shared**2 + np.diag(found.shared_covariance)
    shared = 0.5 * np.bincount(groups, weights / prior.shared - 1, minlength=size)[:-1]
    level = 0.5 * prior.noise * prior.ratio * found.level_gradient
    noise = 0.5 * prior.noise * found.noise_gradient + level
    noise -= 0.5 * (data.labels - found.rows - data.rest / prior.noise)
    return np.array([*deviation, *shared, noise, level])


def _update_covariance(prior: Prior, found: Evidence, learning: LearningOptions, scoring: float) -> FloatArray:
    """Update S by one step, and draw it to the shape that is asked for."""
    users, groups, p, centre = found.users, learning.groups, len(prior.shared), learning.centre
    reach = prior.deviation
    if scoring:
        ridge = 1e-6 * np.trace(found.information) / p
        reach = np.sqrt(scoring * found.balance) * np.linalg.inv(found.information + ridge * np.eye(p))
    moment = _symmetric(prior.deviation + reach @ (found.deviation_gradient / users) @ reach)
    flat = np.maximum((np.bincount(groups, np.diag(moment)) / np.bincount(groups))[groups], _FLOOR)
    if learning.covariance == "inverse_wishart" and centre is not None:
        flat = centre
    if scoring:
        values, vectors = np.linalg.eigh(moment / np.sqrt(np.outer(flat, flat)))
        moment = _symmetric((vectors * np.maximum(values, SMALLEST)) @ vectors.T * np.sqrt(np.outer(flat, flat)))
    if learning.covariance != "low_rank":
        weight = learning.shrinkage / (learning.shrinkage + users)
        return _symmetric((1 - weight) * moment + weight * np.diag(flat))
    scale = np.sqrt(flat)
    values, vectors = np.linalg.eigh(moment / np.outer(scale, scale))
    rest = values[: max(p - learning.rank, 1)]
    kept = np.concatenate([np.full(len(rest), max(float(rest.mean()), _FLOOR)), values[len(rest) :]])
    return _symmetric((vectors * kept) @ vectors.T * np.outer(scale, scale))


def _symmetric(matrix: FloatArray) -> FloatArray:
    return (matrix + matrix.T) / 2
