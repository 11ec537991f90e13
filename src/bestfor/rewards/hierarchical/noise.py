"""Fit a head for the noise, shared by all users: it learns which labels are unreliable.

    e_i^2 ~ v_i + epistemic_i,   v_i = exp(f_i'a),   a penalised except for its intercept

e_i are leave-one-out errors of the mean (:mod:`bestfor.rewards.hierarchical.left_out`), and epistemic_i is what their
variance holds beside the noise, so a well-fitted row does not look noiseless. a maximises the normal log-likelihood.
"""

from __future__ import annotations

import numpy as np
from scipy import optimize

from bestfor.rewards.hierarchical.left_out import LeftOutErrors
from bestfor.rewards.rows import apply_rows
from bestfor.types import FloatArray

LOG_LIMITS = (-4.0, 4.0)
"""Limits of the relative log-variance."""


def fit_noise_head(columns: FloatArray, left: LeftOutErrors, epistemic: FloatArray, ridge: float) -> FloatArray:
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
    """Relative noise exp(f'a) without its intercept, shape (n,); the caller takes out its geometric mean.

    Args:
        columns: shape (n, k) or more, f beside other columns.
        head: shape (k + 1,).
    """
    logs = apply_rows(columns[:, : len(head) - 1], head[:-1])
    return np.exp(np.minimum(np.maximum(logs, LOG_LIMITS[0]), LOG_LIMITS[1]))


def noise_sizes(z: FloatArray, head: FloatArray) -> FloatArray:
    """Noise exp(f'a) of every row, f the first features and a constant, some rows at a time."""
    out = np.empty(len(z))
    for start in range(0, len(z), 8192):
        part = slice(start, start + 8192)
        out[part] = relative_noise(z[part], head) * np.exp(head[-1])
    return out
