"""A ridge per user: independent weights, common ratios of variances."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from bestfor.rewards._pool import Pool
from bestfor.rewards.linear.solver import (
    Blocks,
    Rows,
    apply_rows,
    condition,
    line_minimum,
    query_levels,
    with_intercept,
)
from bestfor.types import FloatArray, IntArray

INTERCEPT_VARIANCE = 10.0
SLOPE_LIMITS = (-14.0, 3.0)
QUERY_LIMITS = (-8.0, 4.0)


def choose_ratios(blocks: Blocks, slope: float | None) -> tuple[float, float]:
    """Ratios g and k that maximise the summed evidence of the users; k is 0 where nobody has two queries."""

    def best_slope(query: float) -> tuple[float, float]:
        if slope is not None:
            return slope, -evidence(blocks, slope, query)
        log, value = line_minimum(lambda log: -evidence(blocks, float(np.exp(log)), query), SLOPE_LIMITS, 0.1)
        return float(np.exp(log)), value

    if not blocks.has_query_effect:
        return best_slope(0.0)[0], 0.0
    query = float(np.exp(line_minimum(lambda log: best_slope(float(np.exp(log)))[1], QUERY_LIMITS, 0.2)[0]))
    return best_slope(query)[0], query


def evidence(blocks: Blocks, slope: float, query: float) -> float:
    """Log marginal likelihood of all users' independent ridges, the common noise variance profiled out."""
    normal = condition(blocks, query)
    penalty = precision(blocks.gram.shape[1], slope)
    matrices = normal.gram + np.diag(penalty)
    weights = np.linalg.solve(matrices, normal.moment[:, :, None])[:, :, 0]
    rows = float(blocks.count.sum())
    noise = max(float(np.sum(normal.square - np.sum(weights * normal.moment, axis=1))) / rows, 1e-12)
    log_det = np.linalg.slogdet(matrices)[1] - np.sum(np.log(penalty)) + normal.log_det
    return -0.5 * (rows * (np.log(2 * np.pi * noise) + 1) + float(np.sum(log_det)))


def solve_users(blocks: Blocks, slope: float, query: float) -> FloatArray:
    """Each user's weights, shape (users, p)."""
    normal = condition(blocks, query)
    matrices = normal.gram + np.diag(precision(blocks.gram.shape[1], slope))
    return np.asarray(np.linalg.solve(matrices, normal.moment[:, :, None])[:, :, 0], dtype=np.float64)


def left_out_users(rows: Rows, blocks: Blocks, slope: float, query: float) -> FloatArray:
    """Errors of each row under the ridge of its user's other rows, shape (n,): [C^-1 y]_i / [C^-1]_ii.

    C = I + k 11' + Z P^-1 Z' is the rows' covariance over the noise's, so that C^-1 = V^-1 - V^-1 Z H^-1 Z'V^-1.

    Args:
        rows: the n rows that the blocks sum.
        blocks: their sums, all rows weighing 1.
        slope: ratio g.
        query: ratio k.
    """
    normal, offsets = condition(blocks, query), rows.segments()
    inverse = np.linalg.inv(normal.gram + np.diag(precision(rows.z.shape[1], slope)))
    weights = np.einsum("uij,uj->ui", inverse, normal.moment)
    shrink = query / (1 + query * blocks.query_weight)
    error = rows.y - apply_rows(rows.z, weights[rows.user])
    solved = error - query_levels(rows, error, blocks.query_weight, query)
    plain = rows.z - (shrink[:, None] * blocks.query_sum)[rows.query]
    diagonal = 1 - shrink[rows.query]
    for user, (start, end) in enumerate(pairwise(offsets)):
        part = slice(start, end)
        diagonal[part] -= np.sum((plain[part] @ inverse[user]) * plain[part], axis=1)
    return solved / np.maximum(diagonal, 1e-9)


def predict_users(weights: FloatArray, pool: Pool, values: FloatArray, codes: IntArray) -> FloatArray:
    """Means of n rows: the user's own weights where ``codes`` >= 0, the pool's elsewhere; both on the pool's unit."""
    known = codes >= 0
    every = np.tile(pool.ridge.weights, (len(codes), 1))
    every[known] = weights[codes[known]]
    return pool.centre + pool.unit * apply_rows(with_intercept(values), every)


def precision(columns: int, slope: float) -> FloatArray:
    """Prior precisions over the noise's; the last column is the intercept."""
    values = np.full(columns, 1 / slope)
    values[-1] = 1 / INTERCEPT_VARIANCE
    return values
