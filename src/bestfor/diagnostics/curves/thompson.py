"""Compute the exact curve of Thompson sampling: each of N drawn is taken as often as its mean is the highest.

With independent posteriors of densities f_i and distribution functions F_i the mean over all N-subsets S of
sum_{i in S} U_i integral f_i prod_{j in S, j != i} F_j is wanted: at every x a product over the subset with one marked
factor, F_i f_i / F_i, found for all N at once as for a softmax.
"""

from __future__ import annotations

import numpy as np

from bestfor.diagnostics.curves.marked import marked_means
from bestfor.errors import InputError
from bestfor.selection.posterior import log_normals, quadrature
from bestfor.types import FloatArray, IntArray

_AT_ONCE = 2048


def thompson_best_of_n(
    mean: FloatArray, std: FloatArray | None, utility: FloatArray, size: IntArray, n: IntArray
) -> FloatArray:
    """Compute the expected utility of a choice by independent draws from the posteriors of the means.

    Args:
        mean: shape (Q, M).
        std: shape (Q, M), standard deviations of the means; one of 0 counts as a billionth of its pool's spread.
        utility: shape (Q, M).
        size: shape (Q,).
        n: shape (K,).

    Returns:
        Shape (Q, K), NaN where N exceeds the pool.

    Raises:
        InputError: no standard deviations, or ones that are negative or not finite.
    """
    if std is None or std.shape != mean.shape:
        found = "no standard deviations" if std is None else f"shape {std.shape}"
        raise InputError("rule thompson", found, f"standard deviations of the means, of shape {mean.shape}")
    result = np.full((len(size), len(n)), np.nan)
    for row, m in enumerate(size.tolist()):
        known = n <= m
        if not (np.isfinite(std[row, :m]).all() and (std[row, :m] >= 0).all()):
            raise InputError("std", "a number that is negative or not finite", "finite ones, 0 or more")
        if known.any():
            curve = _pool(mean[row, :m], std[row, :m], utility[row, :m], int(n[known].max()))
            result[row, known] = curve[n[known] - 1]
    return result


def _pool(mean: FloatArray, std: FloatArray, utility: FloatArray, largest: int) -> FloatArray:
    """Compute the curve of one pool at N = 1 .. largest."""
    shifted, centre = mean - mean.max(), float(utility.mean())
    if not (std.any() or shifted.any()):
        return np.full(largest, centre)
    curve = np.zeros(largest)
    nodes, weights, scale = quadrature(shifted, std, lowest=True)
    for first in range(0, len(nodes), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        log_density, log_below = log_normals(nodes[part], shifted, scale)
        # Far below a mean both vanish; their ratio there is multiplied by what is 0.
        mark = np.exp(np.minimum(log_density - log_below, 600.0)) * (utility - centre)[:, None]
        curve += marked_means(np.exp(log_below)[None], mark[None], largest)[:, 0] @ weights[part]
    return curve + centre
