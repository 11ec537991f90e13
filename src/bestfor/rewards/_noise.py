"""A shared head for the noise: where are labels unreliable?

    e_i^2 ~ v_i + epistemic_i,   v_i = exp(f_i'a),   a penalised except for its intercept

e_i are leave-one-out errors of the mean, in closed form, and epistemic_i is what their variance holds beside the noise,
so a well-fitted row does not look noiseless. a maximises the normal log-likelihood.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize

from bestfor.rewards._linear import Rows, apply_rows, sum_by
from bestfor.rewards._people import People, means, own_variances
from bestfor.types import FloatArray

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


def left_out(rows: Rows, size: FloatArray, people: People) -> LeftOut:
    """Leave-one-out errors in closed form: e_i = [V^-1 r]_i / [V^-1]_ii with variance 1 / [V^-1]_ii.

    Args:
        rows: n rows sorted by user.
        size: shape (n,), the diagonal of D.
        people: their posterior.
    """
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
