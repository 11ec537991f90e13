"""Gaussian: every user's own mean and variance, trained with the Gaussian negative log-likelihood.

    y_i ~ N(m_i, s_i^2),   m = b_u + x'w_u + c_q,   log s^2 = a_u0 + f'a_u
    loss = sum_i weight_i [ (y_i - m_i)^2 / s_i^2 + log s_i^2 ] / 2,   weight_i = stopped(s_i^2)^beta

beta = 0 is the probabilistic reward model of Zhang & He 2026 (Nix & Weigend 1994): a noisy label's pull is divided by
its variance. beta = 0.5 is beta-NLL (Seitzer et al. 2022), which does not give up on what is hard to fit. Features are
frozen and both heads are linear, so the loss is minimised exactly by turns: weighted ridge for the mean, damped Newton
steps for the log-variance, which is convex, on squared errors that are expected under the mean's posterior (in-sample
residuals are too small). Only the mean selects. Users without fit labels get the pooled ridge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from bestfor.artifacts import Arrays
from bestfor.data.examples import Examples
from bestfor.rewards._base import RewardModel
from bestfor.rewards._features import FeatureConfig
from bestfor.rewards._linear import (
    Blocks,
    Rows,
    apply_rows,
    build_blocks,
    condition,
    query_levels,
    with_intercept,
)
from bestfor.rewards._pool import fit_pool, restore_pool
from bestfor.rewards._users import choose_ratios, precision, predict_users, solve_users
from bestfor.types import FloatArray, RewardEstimate

LOG_LIMITS = (-4.0, 2.0)
NEWTON_STEPS = 5
_INTERCEPT_PENALTY = 0.1


class Config(FeatureConfig):
    """Features, the loss and its penalties.

    Attributes:
        beta: exponent of beta-NLL; 0 is the likelihood, 1 has the gradient of squared error.
        rounds: turns of mean and variance.
        warm_up: first turns that fit the mean alone, with equal variances.
        variance_components: features that the log-variance sees, from the first.
        variance_ridge: penalty on the log-variance's weights.
        slope: prior variance of a mean weight over the noise variance; None estimates it.
    """

    beta: float = Field(default=0.5, ge=0, le=1)
    rounds: int = Field(default=6, ge=1, le=200)
    warm_up: int = Field(default=1, ge=0, le=200)
    variance_components: int = Field(default=8, ge=0, le=4096)
    variance_ridge: float = Field(default=10.0, gt=0)
    slope: float | None = Field(default=None, gt=0)


@dataclass(frozen=True)
class Loss:
    """Value and gradients of beta-NLL, per example."""

    value: FloatArray
    by_mean: FloatArray
    by_log_variance: FloatArray


class Gaussian(RewardModel):
    """A mean and a log-variance per user."""

    kind = "gaussian"
    Config = Config

    def _fit(self, examples: Examples, rng: int) -> None:
        values = self._design(examples).rows()
        self._pool = fit_pool(values, examples)
        target = (examples.utility - self._pool.centre) / self._pool.unit
        rows = Rows(with_intercept(values), target, examples.user, examples.query)
        slope, query = choose_ratios(build_blocks(rows), self.config.slope)
        self._columns = min(self.config.variance_components, values.shape[1])
        heads = [
            _fit_user(_part(rows, start, stop), self._columns, slope, query, self.config)
            for start, stop in zip(rows.segments()[:-1], rows.segments()[1:], strict=True)
        ]
        self._weights = np.array([mean for mean, _ in heads])
        self._spreads = np.array([spread for _, spread in heads])

    def _predict(self, examples: Examples) -> RewardEstimate:
        values, codes = self._design(examples).rows(), self._user_codes(examples)
        mean = predict_users(self._weights, self._pool, values, codes)
        heads = self._spreads[np.where(codes < 0, 0, codes)]
        logs = np.clip(apply_rows(_variance_columns(values, self._columns), heads), *LOG_LIMITS)
        variance = self._pool.unit**2 * np.exp(logs)
        if np.any(codes < 0):
            variance[codes < 0] = self._pool.predict(values[codes < 0])[1]
        self._note_strangers(examples, codes, "pooled")
        return RewardEstimate(mean, np.sqrt(variance))

    def _state(self) -> tuple[dict[str, Any], Arrays]:
        state, arrays = self._pool.state()
        arrays = {**arrays, "weights": self._weights, "spreads": self._spreads}
        return {"pool": state, "columns": self._columns}, arrays

    def _restore(self, state: dict[str, Any], arrays: Arrays) -> None:
        self._pool = restore_pool(state["pool"], arrays)
        self._columns = int(state["columns"])
        self._weights, self._spreads = arrays["weights"], arrays["spreads"]
        users = len(self._users)
        if self._weights.shape != (users, len(self._pool.ridge.weights)):
            raise ValueError(f"weights of shape {self._weights.shape}")
        if self._spreads.shape != (users, self._columns + 1):
            raise ValueError(f"spreads of shape {self._spreads.shape}")


def beta_nll(mean: FloatArray, log_variance: FloatArray, utility: FloatArray, beta: float = 0.0) -> Loss:
    """Gaussian negative log-likelihood weighted by the stopped variance to the power beta, without log sqrt(2 pi).

    Args:
        mean: shape (n,).
        log_variance: shape (n,).
        utility: shape (n,).
        beta: 0 for the likelihood; 1 gives the gradient of half the squared error to the mean.

    Returns:
        Values and gradients, each (n,); the weight s^(2 beta) is a constant to the gradients.
    """
    variance = np.exp(log_variance)
    weight = variance**beta
    error = mean - utility
    value = weight * (error**2 / variance + log_variance) / 2
    return Loss(value, weight * error / variance, weight * (1 - error**2 / variance) / 2)


def fit_log_variance(
    columns: FloatArray, squares: FloatArray, start: FloatArray, weight: FloatArray, ridge: float
) -> FloatArray:
    """Minimise sum_i weight_i [squares_i exp(-f_i'a) + f_i'a] / 2 + ridge |a|^2 / 2 by damped Newton steps.

    Args:
        columns: shape (n, k), the last is the intercept, which is hardly penalised.
        squares: shape (n,), expected squared errors.
        start: shape (k,).
        weight: shape (n,).
        ridge: penalty.

    Returns:
        The weights a, shape (k,).
    """
    penalty = np.full(columns.shape[1], ridge)
    penalty[-1] = _INTERCEPT_PENALTY

    def value(a: FloatArray) -> float:
        logs = np.clip(columns @ a, -20, 20)
        return float(np.sum(weight * (squares * np.exp(-logs) + logs)) + penalty @ a**2) / 2

    current, level = start, value(start)
    for _ in range(NEWTON_STEPS):
        scaled = squares * np.exp(-np.clip(columns @ current, -20, 20))
        gradient = columns.T @ (weight * (1 - scaled)) / 2 + penalty * current
        hessian = (columns.T * (weight * scaled / 2)) @ columns + np.diag(penalty)
        step, size = np.linalg.solve(hessian, gradient), 1.0
        while size > 1e-3 and value(current - size * step) > level:
            size /= 2
        if size <= 1e-3:
            break
        current = current - size * step
        level = value(current)
    return current


def _fit_user(
    rows: Rows, variance_columns: int, slope: float, query: float, config: Config
) -> tuple[FloatArray, FloatArray]:
    """Heads of one user; rows with user code 0 only."""
    columns = _variance_columns(rows.z[:, :-1], variance_columns)
    weights, spread, logs = np.zeros(rows.z.shape[1]), np.zeros(columns.shape[1]), np.zeros(len(rows.y))
    for turn in range(config.warm_up + config.rounds):
        # beta-NLL pulls the mean with s^(2 beta - 2); with geometric mean 1, so that the penalty keeps its size
        noise = np.exp((1 - config.beta) * (logs - logs.mean()))
        blocks = build_blocks(rows, noise)
        weights = solve_users(blocks, slope, query)[0]
        if turn < config.warm_up:
            continue
        error = rows.y - rows.z @ weights
        error -= query_levels(rows, error / noise, blocks.query_weight, query)
        squares = error**2 + _uncertainty(rows, blocks, slope, query, float(np.mean(error**2 / noise)))
        spread = fit_log_variance(columns, squares, spread, np.exp(config.beta * logs), config.variance_ridge)
        logs = np.clip(apply_rows(columns, spread), *LOG_LIMITS)
    return weights, spread


def _uncertainty(rows: Rows, blocks: Blocks, slope: float, query: float, scale: float) -> FloatArray:
    """Posterior variance of each mean: by so much the residuals of a fitted user are too small."""
    matrix = condition(blocks, query).gram[0] + np.diag(precision(rows.z.shape[1], slope))
    return scale * np.sum(np.linalg.solve(matrix, rows.z.T).T * rows.z, axis=1)


def _part(rows: Rows, start: int, stop: int) -> Rows:
    part = slice(start, stop)
    query = np.unique(rows.query[part], return_inverse=True)[1]
    return Rows(rows.z[part], rows.y[part], np.zeros(stop - start, dtype=np.int64), query)


def _variance_columns(values: FloatArray, columns: int) -> FloatArray:
    return with_intercept(values[:, :columns])
