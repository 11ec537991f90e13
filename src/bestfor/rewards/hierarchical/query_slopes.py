"""Give every query weights of its own: what is worth much in one query's candidates need not be in the next one's.

    y = z'(theta_u + e_q) + c_q + e,   e_q ~ N(0, s2 (t / p) I),   e ~ N(0, s2 D)

on the p features without the intercept (c_q is its part). A user's few queries share none of e_q, but their mean looks
like a taste: where t is left out, what queries ask for is learned as what people want. Random slopes of groups within
groups (Laird & Ware 1982). t is learned from users with several queries of several labels
(:func:`bestfor.rewards.hierarchical.structure.choose_slopes`), and is 0 elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bestfor.rewards.rows import FeatureRows
from bestfor.types import FloatArray, IntArray

WHITENED_NUMBERS = 1 << 19
"""Numbers in whitened rows that are held at a time."""


@dataclass(frozen=True)
class WhitenedQueries:
    """Whitening matrices of queries of equally many labels.

    Attributes:
        place: shape (b, n), their rows.
        inverse: shape (b, n, n), L^-1 of D + Z t Z' / p = LL'.
        log_det: sum of log|LL'|.
    """

    place: IntArray
    inverse: FloatArray
    log_det: float


def whiten_queries(rows: FeatureRows, size: FloatArray, slopes: float) -> Iterator[WhitenedQueries]:
    """Whiten the labels of each query.

    Args:
        rows: n rows; the last column of ``z`` is the intercept.
        size: shape (n,), the diagonal of D.
        slopes: t.
    """
    order = np.argsort(rows.query, kind="stable")
    count = np.bincount(rows.query)
    first = np.cumsum(count) - count
    for n in np.unique(count[count > 0]).tolist():
        queries = np.flatnonzero(count == n)
        step = max(WHITENED_NUMBERS // (n * rows.z.shape[1]), 1)
        for start in range(0, len(queries), step):
            place = order[first[queries[start : start + step], None] + np.arange(n)]
            covers = slope_covariances(rows.z[place], slopes)
            covers[:, range(n), range(n)] += size[place]
            lower = np.linalg.cholesky(covers)
            log_det = 2 * float(np.sum(np.log(np.diagonal(lower, axis1=1, axis2=2))))
            yield WhitenedQueries(place, np.asarray(np.linalg.inv(lower), dtype=np.float64), log_det)


def slope_covariances(z: FloatArray, slopes: float) -> FloatArray:
    """Covariance Z t Z' / p of rows of one query, or of several: shape (..., n, n)."""
    features = z[..., :-1].astype(np.float64)
    return slopes / max(features.shape[-1], 1) * (features @ features.swapaxes(-1, -2))


def slope_variances(z: FloatArray, slopes: float) -> FloatArray:
    """Variance that its query's own weights add to every row, z'z t / p, over s2; shape (n,)."""
    if not slopes:
        return np.zeros(len(z))
    features = z[:, :-1]
    return slopes / max(features.shape[1], 1) * np.einsum("np,np->n", features, features, dtype=np.float64)


def query_precisions(
    rows: FeatureRows, size: FloatArray, ratio: float, slopes: float
) -> Iterator[tuple[IntArray, FloatArray]]:
    """Inverse of D + Z t Z' / p + k 11' of every query: rows (b, n) of queries of one size, and matrices (b, n, n).

    Args:
        rows: n rows; the last column of ``z`` is the intercept.
        size: shape (n,), the diagonal of D.
        ratio: k.
        slopes: t.
    """
    for some in whiten_queries(rows, size, slopes):
        one = some.inverse.sum(axis=2)[:, :, None]
        shrink = ratio / (1 + ratio * np.sum(one**2, axis=1, keepdims=True))
        turned = some.inverse.swapaxes(1, 2)
        pulled = turned @ one
        yield some.place, turned @ some.inverse - shrink * pulled @ pulled.swapaxes(1, 2)
