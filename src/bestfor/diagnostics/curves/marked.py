"""Average products over all subsets of a pool, with one factor marked: what soft and posterior choices are made of."""

from __future__ import annotations

import numpy as np

from bestfor.types import FloatArray


def marked_means(factor: FloatArray, mark: FloatArray, largest: int) -> FloatArray:
    """Average over N-subsets (sum of marks) x (product of factors), for N = 1 .. largest.

    With e_k the mean product over k-subsets of the first j candidates and d_k the marked one,
    e_k <- ((j - k) e_k + k x_j e_{k-1}) / j and d_k <- ((j - k) d_k + k x_j (d_{k-1} + mark_j e_{k-1})) / j.

    Args:
        factor: shape (B, m, L), in [0, 1].
        mark: shape (B, m, L).
        largest: N.

    Returns:
        Shape (largest, B, L).
    """
    rows, m, nodes = factor.shape
    plain = np.zeros((largest + 1, rows, nodes))
    marked = np.zeros_like(plain)
    plain[0] = 1.0
    for j in range(1, m + 1):
        top = min(j, largest)
        keep = ((j - np.arange(1, top + 1)) / j)[:, None, None]
        grow = (np.arange(1, top + 1) / j)[:, None, None] * factor[None, :, j - 1]
        marked[1 : top + 1] = keep * marked[1 : top + 1] + grow * (marked[:top] + mark[:, j - 1] * plain[:top])
        plain[1 : top + 1] = keep * plain[1 : top + 1] + grow * plain[:top]
    return marked[1:]
