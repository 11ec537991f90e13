"""Linear mixed model with a learned prior covariance, by expectation-maximisation on sums.

    y = Z(theta_0 + d_u) + c_q + e,   theta_0 ~ N(0, G),  d_u ~ N(0, S),  c_q ~ N(0, k s2),  e ~ N(0, s2 D).

With V_0 = s2 (D + k 11'), H_u = Z'V_0^-1 Z, h_u = Z'V_0^-1 y and P_u = (S^-1 + H_u)^-1 (Woodbury):

    A = G^-1 + sum_u H_u (I - P_u H_u),   theta_0 = A^-1 sum_u (I - H_u P_u) h_u,   d_u = P_u (h_u - H_u theta_0),
    cov(theta_u) = P_u + (I - P_u H_u) A^-1 (I - P_u H_u)'.

Sources: Lindley & Smith 1972 (posterior), Laird & Ware 1982 (EM), Tipping & Bishop 1999 (low rank). A full S is pulled
towards its own isotropic fit, and the variance of shared weights has a normal prior on its logarithm, since plain
marginal likelihood runs to a boundary on very noisy data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bestfor.rewards._linear import Blocks, condition, line_minimum
from bestfor.types import FloatArray

Covariance = Literal["isotropic", "low_rank", "full"]

INTERCEPT_VARIANCE = 100.0
RATIO_LIMITS = (-9.0, 5.0)
_FLOOR = 1e-8


@dataclass(frozen=True)
class Prior:
    """Variances of the model, utilities having unit variance.

    Attributes:
        deviation: shape (p, p), covariance S of a user's deviation; the last column is the intercept.
        slope: variance of theta_0's weights.
        noise: s2.
        ratio: k, the query effect's variance over s2.
    """

    deviation: FloatArray
    slope: float
    noise: float
    ratio: float


@dataclass(frozen=True)
class Posterior:
    """Weights given the variances.

    Attributes:
        shared: shape (p,), theta_0.
        shared_covariance: shape (p, p), A^-1.
        deviations: shape (users, p), d_u.
        conditional: shape (users, p, p), P_u.
        covariance: shape (users, p, p), covariance of theta_0 + d_u.
        moment: shape (p, p), mean over users of E[d_u d_u'].
        evidence: log marginal likelihood.
    """

    shared: FloatArray
    shared_covariance: FloatArray
    deviations: FloatArray
    conditional: FloatArray
    covariance: FloatArray
    moment: FloatArray
    evidence: float


@dataclass(frozen=True)
class Learning:
    """How variances are learned.

    Attributes:
        covariance: shape of S.
        rank: directions of a low-rank S.
        shrinkage: how many users' worth of evidence pulls a full S towards its isotropic fit.
        rounds: EM steps at most.
        tolerance: gain of log-evidence per user below which EM stops.
    """

    covariance: Covariance = "full"
    rank: int = 8
    shrinkage: float = 20.0
    rounds: int = 60
    tolerance: float = 3e-3


def posterior(blocks: Blocks, prior: Prior) -> Posterior:
    """Exact posterior of shared and personal weights for given variances."""
    normal = condition(blocks, prior.ratio)
    gram, moment = normal.gram / prior.noise, normal.moment / prior.noise
    p = gram.shape[1]
    inverse = np.linalg.inv(prior.deviation)
    loose = inverse + gram
    conditional = _symmetric(np.linalg.inv(loose))
    kept = gram @ conditional
    precision = np.full(p, 1 / prior.slope)
    precision[-1] = 1 / INTERCEPT_VARIANCE
    matrix = _symmetric(np.diag(precision) + np.sum(gram - kept @ gram, axis=0))
    right = np.sum(moment - np.einsum("uij,uj->ui", kept, moment), axis=0)
    shared_covariance = _symmetric(np.linalg.inv(matrix))
    shared = shared_covariance @ right
    deviations = np.einsum("uij,uj->ui", conditional, moment - gram @ shared)
    held = np.swapaxes(kept, 1, 2)
    pull = np.eye(p) - held
    covariance = conditional + pull @ shared_covariance @ np.swapaxes(pull, 1, 2)
    shift = np.mean(held @ shared_covariance @ kept, axis=0)
    second = _symmetric(conditional.mean(axis=0) + shift + deviations.T @ deviations / len(deviations))
    square = float(np.sum(normal.square)) / prior.noise
    square -= float(np.einsum("ui,uij,uj->", moment, conditional, moment)) + float(right @ shared)
    users, rows = len(moment), float(blocks.count.sum())
    log_det = float(np.sum(normal.log_det) + np.sum(np.linalg.slogdet(loose)[1])) + rows * np.log(prior.noise)
    log_det += users * float(np.linalg.slogdet(prior.deviation)[1])
    log_det += float(np.linalg.slogdet(matrix)[1] - np.sum(np.log(precision)))
    evidence = -0.5 * (rows * np.log(2 * np.pi) + log_det + square)
    return Posterior(shared, shared_covariance, deviations, conditional, covariance, second, evidence)


def learn(blocks: Blocks, start: Prior, learning: Learning) -> tuple[Prior, Posterior]:
    """Variances by EM from a starting point; every step is closed-form or one-dimensional."""
    prior, result = start, posterior(blocks, start)
    users = len(blocks.count)
    for _ in range(learning.rounds):
        prior = improve(blocks, prior, result, learning)
        fresh = posterior(blocks, prior)
        gain, result = fresh.evidence - result.evidence, fresh
        if abs(gain) < learning.tolerance * users:
            break
    return prior, result


def first_guess(p: int) -> Prior:
    """Where EM starts: a tenth of the variance shared, a tenth personal, spread over the features."""
    deviation = np.full(p, 0.1 / p)
    deviation[-1] = 0.1
    return Prior(np.diag(deviation), 0.1 / p, 0.7, 0.1)


def improve(blocks: Blocks, prior: Prior, result: Posterior, learning: Learning) -> Prior:
    """One EM step for all variances."""
    theta = result.shared + result.deviations
    noise = _noise(blocks, prior, theta, result.covariance)
    ratio = _ratio(blocks, replace(prior, noise=noise), theta, result.covariance) if blocks.has_query_effect else 0.0
    weights = result.shared[:-1] ** 2 + np.diag(result.shared_covariance)[:-1]
    slope = log_normal_variance(float(weights.sum()), len(weights), prior.slope)
    return Prior(_deviation(result, prior, learning), slope, noise, ratio)


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


def _deviation(result: Posterior, prior: Prior, learning: Learning) -> FloatArray:
    users, p = result.deviations.shape
    moment = result.moment
    inner = float(np.trace(moment[:-1, :-1])) / max(p - 1, 1)
    flat = np.full(p, max(inner, _FLOOR))
    flat[-1] = max(float(moment[-1, -1]), _FLOOR)
    if learning.covariance == "isotropic":
        return np.diag(flat)
    if learning.covariance == "full":
        weight = learning.shrinkage / (learning.shrinkage + users)
        return (1 - weight) * moment + weight * np.diag(flat)
    scale = np.sqrt(flat)
    values, vectors = np.linalg.eigh(moment / np.outer(scale, scale))
    rest = values[: max(p - learning.rank, 1)]
    kept = np.concatenate([np.full(len(rest), max(float(rest.mean()), _FLOOR)), values[len(rest) :]])
    return _symmetric((vectors * kept) @ vectors.T * np.outer(scale, scale))


def _noise(blocks: Blocks, prior: Prior, theta: FloatArray, covariance: FloatArray) -> float:
    normal = condition(blocks, prior.ratio)
    fitted = np.einsum("ui,uij,uj->", theta, normal.gram, theta) - 2 * np.sum(theta * normal.moment)
    total = float(np.sum(normal.square) + fitted + np.einsum("uij,uji->", normal.gram, covariance))
    return max(total / float(blocks.count.sum()), 1e-6)


def _ratio(blocks: Blocks, prior: Prior, theta: FloatArray, covariance: FloatArray) -> float:
    error = blocks.query_y - np.sum(blocks.query_sum * theta[blocks.owner], axis=1)
    spread = np.einsum("qi,qij,qj->q", blocks.query_sum, covariance[blocks.owner], blocks.query_sum, optimize=True)
    squares = (error**2 + spread) / prior.noise

    def loss(log: float) -> float:
        ratio = float(np.exp(log))
        wide = 1 + ratio * blocks.query_weight
        return float(np.sum(np.log(wide) - ratio / wide * squares)) + (log - np.log(0.1)) ** 2 / 4

    return float(np.exp(line_minimum(loss, RATIO_LIMITS, 1e-4)[0]))


def _symmetric(matrix: npt.NDArray[Any]) -> FloatArray:
    return (matrix + np.swapaxes(matrix, -1, -2)) / 2
