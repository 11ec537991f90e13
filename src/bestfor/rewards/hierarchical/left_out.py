"""Predict each label from the others in closed form: leave-one-out errors of rows and of whole queries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from bestfor.rewards.hierarchical.query_slopes import query_precisions
from bestfor.rewards.hierarchical.users import UserPosteriors, deviation_factors, deviation_variances, means
from bestfor.rewards.rows import FeatureRows, sum_by
from bestfor.types import FloatArray, IntArray

USERS = 512
"""Users whose rows are held in double precision at once."""


@dataclass(frozen=True)
class LeftOutErrors:
    """Errors of each row under the model fitted to the others (theta_0 held), shapes (n,).

    Attributes:
        error: y_i minus its prediction from the other rows.
        variance: predictive variance of y_i given the other rows.
    """

    error: FloatArray
    variance: FloatArray


def left_out_rows(
    rows: FeatureRows, size: FloatArray, posteriors: UserPosteriors, slopes: float = 0.0
) -> LeftOutErrors:
    """Leave-one-out errors in closed form: e_i = [V^-1 r]_i / [V^-1]_ii with variance 1 / [V^-1]_ii.

    Args:
        rows: n rows sorted by user.
        size: shape (n,), the diagonal of D.
        posteriors: of their users.
        slopes: variance of a query's own weights over s2.
    """
    if slopes:
        return _left_out_rows_with_slopes(rows, size, posteriors, slopes)
    prior = posteriors.prior
    queries = int(rows.query.max()) + 1
    weight = sum_by(rows.query, 1 / size, queries)
    shrink = prior.ratio / (1 + prior.ratio * weight)
    level = prior.ratio > 0
    diagonal = (1 / size - shrink[rows.query] / size**2) / prior.noise
    error = rows.y - means(posteriors.weights, rows.z, rows.user)
    total = sum_by(rows.query, error / size, queries)
    solved = (error - (shrink * total)[rows.query]) / (size * prior.noise)
    offsets = rows.segments()
    for first in range(0, len(offsets) - 1, USERS):
        ends = offsets[first : first + USERS + 1]
        part = slice(ends[0], ends[-1])
        plain = rows.z[part].astype(np.float64) / size[part, None]
        if level:
            # a query's rows lie side by side within its user only by code, so their sums are taken by code
            local, place = np.unique(rows.query[part], return_inverse=True)
            by_query = sparse.csr_array((np.ones(len(place)), (place, np.arange(len(place)))))
            sums: FloatArray = np.asarray(by_query @ plain, dtype=np.float64)
            plain -= (shrink[local, None] * sums)[place] / size[part, None]
        diagonal[part] -= deviation_variances(posteriors, plain / prior.noise, ends - ends[0], first)
    diagonal = np.maximum(diagonal, 1e-9)
    return LeftOutErrors(solved / diagonal, 1 / diagonal)


def _left_out_rows_with_slopes(
    rows: FeatureRows, size: FloatArray, posteriors: UserPosteriors, slopes: float
) -> LeftOutErrors:
    prior, offsets = posteriors.prior, rows.segments()
    error, diagonal = rows.y - means(posteriors.weights, rows.z, rows.user), np.empty(len(size))
    pulled = np.empty(rows.z.shape, dtype=np.float64)
    for place, inverse in query_precisions(rows, size, prior.ratio, slopes):
        pulled[place] = inverse @ rows.z[place] / prior.noise
        error[place] = (inverse @ error[place][:, :, None])[:, :, 0] / prior.noise
        diagonal[place] = np.diagonal(inverse, axis1=1, axis2=2) / prior.noise
    diagonal -= deviation_variances(posteriors, pulled, offsets)
    diagonal = np.maximum(diagonal, 1e-9)
    return LeftOutErrors(error / diagonal, 1 / diagonal)


def left_out_queries(rows: FeatureRows, size: FloatArray, posteriors: UserPosteriors, slopes: float) -> FloatArray:
    """Errors of each row under the model fitted to the user's other queries (theta_0 held), shape (n,).

    With q a query's rows: e_q = [V^-1]_qq^-1 [V^-1 r]_q.
    """
    prior, offsets = posteriors.prior, rows.segments()
    out, pulled = rows.y - means(posteriors.weights, rows.z, rows.user), np.empty(rows.z.shape, dtype=np.float64)
    queries: list[tuple[IntArray, FloatArray]] = []
    for place, inverse in query_precisions(rows, size, prior.ratio, slopes):
        pulled[place] = inverse @ rows.z[place] / prior.noise
        out[place] = (inverse @ out[place][:, :, None])[:, :, 0] / prior.noise
        queries.extend(zip(place, inverse / prior.noise, strict=True))
    known, reach, seen = -1, pulled, pulled
    for place, inverse in sorted(queries, key=lambda query: int(query[0][0])):
        user = int(rows.user[place[0]])
        if user != known:
            reach, seen = deviation_factors(posteriors, pulled[offsets[user] : offsets[user + 1]], user)
        known, own = user, place - offsets[user]
        out[place] = np.linalg.solve(inverse - reach[own] @ pulled[place].T + seen[own] @ seen[own].T, out[place])
    return out
