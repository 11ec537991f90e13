"""A shared head for the noise: where are labels unreliable?

    e_i^2 ~ v_i + epistemic_i,   v_i = exp(f_i'a),   a penalised except for its intercept

e_i are leave-one-out errors of the mean, in closed form, and epistemic_i is what their variance holds beside the noise,
so a well-fitted row does not look noiseless. a maximises the normal log-likelihood.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize

from bestfor.rewards._slopes import precisions
from bestfor.rewards.hierarchical.users import People, means, own_reach, own_variances
from bestfor.rewards.linear.solver import Rows, apply_rows, sum_by
from bestfor.types import FloatArray, IntArray

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


def left_out(rows: Rows, size: FloatArray, people: People, slopes: float = 0.0) -> LeftOut:
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


def _left_out_slopes(rows: Rows, size: FloatArray, people: People, slopes: float) -> LeftOut:
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


def left_out_queries(rows: Rows, size: FloatArray, people: People, slopes: float) -> FloatArray:
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
