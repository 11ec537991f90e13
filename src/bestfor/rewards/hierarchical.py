"""Hierarchical: every user has an own reward, and all users' rewards are drawn from one learned distribution.

    y = z'(theta_0 + d_u) + c_q + e,   theta_0 ~ N(0, G),  d_u ~ N(0, S),  c_q ~ N(0, t_q),  e ~ N(0, s2 v(x))

z are the features and an intercept. S says along which directions people differ; it is learned from all users
(isotropic, low-rank or full), so a few labels of a new user go a long way, and without any label theta_0 answers.
Everything is closed-form empirical Bayes (Lindley & Smith 1972; Laird & Ware 1982); the optional variance head v
weighs labels down where leave-one-out errors are large for everybody.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic import Field

from bestfor.artifacts import Arrays
from bestfor.data.examples import Examples
from bestfor.rewards._base import RewardModel
from bestfor.rewards._features import FeatureConfig
from bestfor.rewards._linear import Rows, apply_rows, build_blocks, quadratic_rows, with_intercept
from bestfor.rewards._mixed import Covariance, Learning, Posterior, Prior, first_guess, learn
from bestfor.rewards._noise import fit_head, left_out, relative_noise
from bestfor.types import FloatArray, IntArray, RewardEstimate


class Config(FeatureConfig):
    """Features, the shape of S, and the variance head.

    Attributes:
        covariance: shape of S: isotropic, low_rank or full.
        rank: directions of a low-rank S.
        shrinkage: how many users' worth of evidence pulls a full S towards its isotropic fit.
        rounds: EM steps at most.
        variance_head: whether noise depends on the features.
        variance_components: features that the variance head sees, from the first.
        variance_ridge: penalty on the head's weights.
    """

    covariance: Covariance = "full"
    rank: int = Field(default=8, ge=1, le=512)
    shrinkage: float = Field(default=20.0, ge=0)
    rounds: int = Field(default=60, ge=1, le=1000)
    variance_head: bool = True
    variance_components: int = Field(default=48, ge=1, le=512)
    variance_ridge: float = Field(default=3.0, gt=0)


@dataclass(frozen=True)
class Fitted:
    """What prediction needs, on the standardised scale.

    Attributes:
        shared: shape (p,), theta_0.
        weights: shape (users, p), theta_0 + d_u.
        covariance: shape (users + 1, p, p), of each user's weights; the last is a stranger's.
        head: shape (k + 1,), log noise variance: weights of the first k features, then the intercept.
        query: variance of c_q.
        centre: mean utility of the fit rows.
        unit: their standard deviation.
    """

    shared: FloatArray
    weights: FloatArray
    covariance: FloatArray
    head: FloatArray
    query: float
    centre: float
    unit: float


class Hierarchical(RewardModel):
    """Personal weights under a learned prior."""

    kind = "hierarchical"
    Config = Config

    def _fit(self, examples: Examples, rng: int) -> None:
        values = self._design(examples).rows()
        centre, unit = float(np.mean(examples.utility)), float(np.std(examples.utility)) or 1.0
        rows = Rows(with_intercept(values), (examples.utility - centre) / unit, examples.user, examples.query)
        self._fitted_values = fit_rows(rows, self.config, centre, unit)

    def _predict(self, examples: Examples) -> RewardEstimate:
        design, codes = self._design(examples), self._user_codes(examples)
        mean, variance = predict_rows(self._fitted_values, with_intercept(design.rows()), codes)
        self._note_strangers(examples, codes, "the mean of all users")
        return RewardEstimate(mean, np.sqrt(variance))

    def _state(self) -> tuple[dict[str, Any], Arrays]:
        fitted = self._fitted_values
        names = ("shared", "weights", "covariance", "head")
        state = {name: float(getattr(fitted, name)) for name in ("query", "centre", "unit")}
        return state, {name: getattr(fitted, name) for name in names}

    def _restore(self, state: dict[str, Any], arrays: Arrays) -> None:
        names = ("shared", "weights", "covariance", "head")
        scalars = {name: float(state[name]) for name in ("query", "centre", "unit")}
        tensors = {name: arrays[name] for name in names}
        fitted = Fitted(**tensors, **scalars)  # pyright: ignore[reportArgumentType]
        users, p = len(self._users), len(fitted.shared)
        if fitted.weights.shape != (users, p) or fitted.covariance.shape != (users + 1, p, p) or len(fitted.head) > p:
            raise ValueError(f"weights {fitted.weights.shape} and covariance {fitted.covariance.shape}")
        self._fitted_values = fitted


def fit_rows(rows: Rows, config: Config, centre: float = 0.0, unit: float = 1.0) -> Fitted:
    """Learn variances and weights from standardised rows.

    Args:
        rows: n rows sorted by user; the last column of ``z`` is the intercept.
        config: shape of S and the variance head.
        centre: stored for predictions on the utility's scale.
        unit: likewise.
    """
    learning = Learning(config.covariance, config.rank, config.shrinkage, config.rounds)
    size = np.ones(len(rows.y))
    blocks = build_blocks(rows)
    prior, result = learn(blocks, first_guess(rows.z.shape[1]), learning)
    columns = with_intercept(rows.z[:, : min(config.variance_components, rows.z.shape[1] - 1)])
    head = np.zeros(columns.shape[1])
    for _ in range(2 if config.variance_head else 0):
        theta = result.shared + result.deviations
        left = left_out(rows, blocks, theta, result.conditional, (prior.noise, prior.ratio, size))
        epistemic = np.maximum(left.variance - prior.noise * size, 0.0)
        head = fit_head(columns, left, epistemic, config.variance_ridge)
        size = relative_noise(columns, head)
        head[-1] = -float(np.mean(np.log(size)))
        size = size * np.exp(head[-1])
        blocks = build_blocks(rows, size)
        # only noise moved, so the variances are nearly where they were
        prior, result = learn(blocks, prior, replace(learning, rounds=-(-config.rounds // 4)))
    head[-1] += np.log(prior.noise)
    return _fitted(prior, result, head, centre, unit)


def predict_rows(fitted: Fitted, z: FloatArray, codes: IntArray) -> tuple[FloatArray, FloatArray]:
    """Mean and predictive variance of n rows on the utility's scale; ``codes`` is -1 for strangers."""
    users = len(fitted.weights)
    which = np.where(codes < 0, users, codes)
    every = np.vstack([fitted.weights, fitted.shared])
    columns = with_intercept(z[:, : len(fitted.head) - 1])
    noise = relative_noise(columns, fitted.head) * np.exp(fitted.head[-1])
    variance = quadratic_rows(z, fitted.covariance, which) + noise + fitted.query
    mean = fitted.centre + fitted.unit * apply_rows(z, every[which])
    return mean, fitted.unit**2 * np.maximum(variance, 1e-12)


def _fitted(prior: Prior, result: Posterior, head: FloatArray, centre: float, unit: float) -> Fitted:
    stranger = prior.deviation + result.shared_covariance
    covariance = np.concatenate([result.covariance, stranger[None]])
    weights = result.shared + result.deviations
    return Fitted(result.shared, weights, covariance, head, prior.ratio * prior.noise, centre, unit)
