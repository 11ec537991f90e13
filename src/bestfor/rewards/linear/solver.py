"""Linear algebra that the linear reward models share.

Rows of one query have a common random effect c_q ~ N(0, k s2) beside noise s2 D, so their covariance is
s2 (D + k 11'). By Sherman and Morrison its inverse needs nothing but sums:

    (D + k 11')^-1 = D^-1 - k/(1 + k 1'D^-1 1) D^-1 11' D^-1,    log|D + k 11'| = log|D| + log(1 + k 1'D^-1 1).

:class:`Blocks` holds these sums per user and per query; :func:`condition` turns them into normal equations for any k.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize

from bestfor.types import FloatArray, IntArray


@dataclass(frozen=True)
class Blocks:
    """Sums over rows, enough for every model that is linear in the same columns.

    Attributes:
        gram: shape (users, p, p), Z'D^-1 Z of each user.
        moment: shape (users, p), Z'D^-1 y.
        square: shape (users,), y'D^-1 y.
        log_weight: shape (users,), log|D| of each user.
        count: shape (users,), rows of each user.
        query_sum: shape (queries, p), 1'D^-1 Z of each query.
        query_y: shape (queries,), 1'D^-1 y.
        query_weight: shape (queries,), 1'D^-1 1.
        owner: shape (queries,), user of each query.
    """

    gram: FloatArray
    moment: FloatArray
    square: FloatArray
    log_weight: FloatArray
    count: FloatArray
    query_sum: FloatArray
    query_y: FloatArray
    query_weight: FloatArray
    owner: IntArray

    @property
    def has_query_effect(self) -> bool:
        """Whether a query's effect differs from its user's: somebody has two queries."""
        return len(self.owner) > len(np.unique(self.owner))


@dataclass(frozen=True)
class Normal:
    """Normal equations of every user given k, noise variance 1: H = Z'V^-1 Z, h = Z'V^-1 y, q = y'V^-1 y, log|V|."""

    gram: FloatArray
    moment: FloatArray
    square: FloatArray
    log_det: FloatArray


@dataclass(frozen=True)
class Rows:
    """Labelled rows sorted by user.

    Attributes:
        z: shape (n, p), features in single or double precision; the last column is usually the intercept.
        y: shape (n,), utilities.
        user: shape (n,), ascending codes 0..users-1.
        query: shape (n,), codes 0..queries-1; a query belongs to one user.
    """

    z: npt.NDArray[Any]
    y: FloatArray
    user: IntArray
    query: IntArray

    def segments(self) -> IntArray:
        """Offsets of the users' rows, shape (users + 1,)."""
        return np.searchsorted(self.user, np.arange(int(self.user[-1]) + 2))


def with_intercept(values: FloatArray) -> FloatArray:
    """Append a column of ones."""
    return np.column_stack([values, np.ones(len(values))])


def sum_by(codes: IntArray, values: FloatArray, size: int) -> FloatArray:
    """Sum of the values of each code, shape (size,)."""
    return np.asarray(np.bincount(codes, values, minlength=size), dtype=np.float64)


def line_minimum(loss: Callable[[float], float], bounds: tuple[float, float], tolerance: float) -> tuple[float, float]:
    """Where a function of one variable is least within bounds, and its value there (Brent's bounded search)."""
    found: Any = optimize.minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": tolerance})
    return float(found.x), float(found.fun)


def build_blocks(rows: Rows, noise: FloatArray | None = None) -> Blocks:
    """Sum the rows.

    Args:
        rows: n labelled rows sorted by user.
        noise: shape (n,), the diagonal of D; None means ones.
    """
    size = np.ones(len(rows.y)) if noise is None else noise
    weighted = rows.z / size[:, None]
    offsets = rows.segments()
    users, p = len(offsets) - 1, rows.z.shape[1]
    gram, moment = np.zeros((users, p, p)), np.zeros((users, p))
    for user in range(users):
        part = slice(offsets[user], offsets[user + 1])
        gram[user] = weighted[part].T @ rows.z[part]
        moment[user] = weighted[part].T @ rows.y[part]
    queries = int(rows.query.max()) + 1
    query_sum = np.zeros((queries, p))
    np.add.at(query_sum, rows.query, weighted)
    owner = np.zeros(queries, dtype=np.int64)
    owner[rows.query] = rows.user
    return Blocks(
        gram=gram,
        moment=moment,
        square=sum_by(rows.user, rows.y**2 / size, users),
        log_weight=sum_by(rows.user, np.log(size), users),
        count=sum_by(rows.user, np.ones(len(size)), users),
        query_sum=query_sum,
        query_y=sum_by(rows.query, rows.y / size, queries),
        query_weight=sum_by(rows.query, 1 / size, queries),
        owner=owner,
    )


def condition(blocks: Blocks, ratio: float) -> Normal:
    """Normal equations of every user for one ratio k of query-effect variance to noise variance."""
    if ratio <= 0:
        return Normal(blocks.gram, blocks.moment, blocks.square, blocks.log_weight)
    users = len(blocks.square)
    shrink = ratio / (1 + ratio * blocks.query_weight)
    scaled = blocks.query_sum * np.sqrt(shrink)[:, None]
    order = np.argsort(blocks.owner, kind="stable")
    offsets = np.searchsorted(blocks.owner[order], np.arange(users + 1))
    gram = blocks.gram.copy()
    for user in range(users):
        mine = scaled[order[offsets[user] : offsets[user + 1]]]
        gram[user] -= mine.T @ mine
    moment = blocks.moment.copy()
    np.add.at(moment, blocks.owner, -blocks.query_sum * (shrink * blocks.query_y)[:, None])
    taken = sum_by(blocks.owner, shrink * blocks.query_y**2, users)
    widened = sum_by(blocks.owner, np.log1p(ratio * blocks.query_weight), users)
    return Normal(gram, moment, blocks.square - taken, blocks.log_weight + widened)


def query_levels(rows: Rows, weighted_error: FloatArray, query_weight: FloatArray, ratio: float) -> FloatArray:
    """Posterior mean of c_q at each row, shape (n,): k / (1 + k 1'D^-1 1) times the query's sum of D^-1 errors."""
    total = sum_by(rows.query, weighted_error, len(query_weight))
    return (ratio / (1 + ratio * query_weight) * total)[rows.query]


def apply_rows(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Row-wise inner products, shape (n,); a row's bits do not depend on the other rows."""
    return np.sum(values * weights, axis=1)


def quadratic_rows(values: FloatArray, matrices: FloatArray, which: IntArray) -> FloatArray:
    """x_i' A_(which_i) x_i for every row, in blocks of equal ``which`` so that nothing large is copied."""
    out = np.zeros(len(values))
    order = np.argsort(which, kind="stable")
    codes, starts = np.unique(which[order], return_index=True)
    for code, rows in zip(codes, np.split(order, starts[1:]), strict=True):
        part = values[rows]
        out[rows] = np.sum((part @ matrices[code]) * part, axis=1)
    return out
