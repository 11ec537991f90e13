"""Soft Best-of-N: draw N, answer with a candidate chosen by a softmax of the rewards (Verdun et al. 2025), exactly.

With a_i = exp(R_i / T), the mean over all N-subsets S of sum_{i in S} U_i a_i / sum_{j in S} a_j is wanted. Since
1 / A = integral over s > 0 of exp(-s A), and exp(-s A) is a product over the subset, this is the integral of the mean
over subsets of sum_i U_i a_i prod_j x_j with x_j = exp(-s a_j): an elementary symmetric polynomial with one marked
factor, found for all N at once by a recursion over the candidates. The integral is taken on log s.
"""

from __future__ import annotations

import numpy as np

from bestfor.diagnostics.curves.best_of_n import chunks
from bestfor.types import FloatArray, IntArray

STEP = 0.25
_SPAN = 1000.0
_LOWEST, _QUICK_LOWEST, _HIGHEST = -42.0, -14.0, 5.0
_ROWS = 64


def soft_best_of_n(
    reward: FloatArray,
    utility: FloatArray,
    size: IntArray,
    n: IntArray,
    temperature: float,
    *,
    quick: bool = False,
) -> FloatArray:
    """Expected utility of a softmax choice among N candidates drawn without replacement.

    Args:
        reward: shape (Q, M).
        utility: shape (Q, M).
        size: shape (Q,), candidates in each pool.
        n: shape (K,).
        temperature: T, in units of the reward; towards 0 this becomes Best-of-N, towards infinity the pool mean.
        quick: a fifth of the work; the error is then below 1e-5 of the utilities' spread.

    Returns:
        Shape (Q, K), NaN where N exceeds the pool. The relative error is below 1e-9 while the rewards of a pool span
        at most 200 temperatures.

    Raises:
        ValueError: the temperature is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"the temperature is {temperature}; it must be above 0")
    result = np.full((len(size), len(n)), np.nan)
    for rows, m in chunks(size, _ROWS):
        known = np.flatnonzero(n <= m)
        if len(known):
            nodes = (_QUICK_LOWEST, 2 * STEP) if quick else (_LOWEST, STEP)
            curve = _block(reward[rows, :m] / temperature, utility[rows, :m], int(n[known].max()), nodes)
            result[rows] = _columns(curve, n, known)
    return result


def _columns(curve: FloatArray, n: IntArray, known: IntArray) -> FloatArray:
    result = np.full((len(curve), len(n)), np.nan)
    result[:, known] = curve[:, n[known] - 1]
    return result


def _block(reward: FloatArray, utility: FloatArray, largest: int, nodes: tuple[float, float]) -> FloatArray:
    """Shape (B, largest): soft Best-of-N at N = 1 .. largest for pools of one size; nodes: first and step."""
    start, step = nodes
    share = np.maximum(reward - reward.max(axis=1, keepdims=True), -_SPAN)
    centre = utility.mean(axis=1, keepdims=True)
    lowest = min(float(share.min()), 0.0)
    log_s: FloatArray = np.arange(start, _HIGHEST - lowest + step, step)
    scaled = np.exp(log_s[None, None, :] + share[:, :, None])
    marked = _marked_means(np.exp(-scaled), scaled * (utility - centre)[:, :, None], largest)
    return marked.sum(axis=2).T * step + centre


def _marked_means(factor: FloatArray, mark: FloatArray, largest: int) -> FloatArray:
    """Mean over N-subsets of (sum of marks) x (product of factors), for N = 1 .. largest.

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
