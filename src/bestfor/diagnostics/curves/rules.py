"""Compute exact curves of rules that look at rewards only: ranks, mapped rewards, and a softmax.

Sort a pool's rewards descending, j = 0 the top. In a random N-subset the candidate of rank j is drawn and has k of the
others above it with probability C(j, k) C(m-1-j, N-1-k) / C(m, N): the hypergeometric law of order statistics of a
finite population (David & Nagaraja 2003). So a rule that takes the k-th highest of N with probability p_N(k) earns

    W_N(j) = sum_k p_N(k) C(j, k) C(m-1-j, N-1-k) / C(m, N)        estimate(N) = sum_j W_N(j) V_j

with V_j the mean utility of j's tied group; p_N = (1, 0, ...) is Best-of-N. A rule that first maps each reward on its
own (a cap, a lower confidence bound) is the same on the mapped rewards. Any other function of the subset's rewards is
averaged over subsets in :mod:`bestfor.diagnostics.curves.subsets`; the rules themselves stand in
:mod:`bestfor.selection`.

Soft Best-of-N draws N and answers with a candidate chosen by a softmax of the rewards (Verdun et al. 2025). With
a_i = exp(R_i / T), the mean over all N-subsets S of sum_{i in S} U_i a_i / sum_{j in S} a_j is wanted. Since
1 / A = integral over s > 0 of exp(-s A), and exp(-s A) is a product over the subset, this is the integral of the mean
over subsets of sum_i U_i a_i prod_j x_j with x_j = exp(-s a_j): an elementary symmetric polynomial with one marked
factor, found for all N at once by a recursion over the candidates. The integral is taken on log s.
"""

from __future__ import annotations

from functools import lru_cache, partial

import numpy as np
from scipy import special

from bestfor.diagnostics.curves.best_of_n import KEPT, chunks, sort_by_reward, times_table, weights
from bestfor.selection import Rule
from bestfor.types import FloatArray, IntArray

STEP = 0.25
_SPAN = 1000.0
_LOWEST, _QUICK_LOWEST, _HIGHEST = -42.0, -14.0, 5.0
_ROWS = 64


def curve_by_rule(ranked: FloatArray, utility: FloatArray, size: IntArray, n: IntArray, rule: Rule) -> FloatArray:
    """Compute the exact curve of a rule.

    Args:
        ranked: shape (Q, M), from :meth:`Rule.ranked`.
        utility: shape (Q, M).
        size: shape (Q,).
        n: shape (K,).
        rule: which.

    Returns:
        Shape (Q, K), NaN where N exceeds the pool.
    """
    if rule.temperature is not None:
        return soft_best_of_n(ranked, utility, size, n, rule.temperature)
    result = np.empty((len(size), len(n)))
    for rows, m in chunks(size):
        values = sort_by_reward(ranked[rows, :m], utility[rows, :m])[0]
        result[rows] = times_table(values, m, n, partial(chance_table, rule))
    return result


def chance_table(rule: Rule, m: int, n: IntArray) -> FloatArray:
    """Compute W_N(j), the chance that the candidate of rank j in a pool of m is picked.

    Args:
        rule: one that ranks.
        m: candidates in the pool.
        n: shape (K,), candidates drawn.

    Returns:
        Shape (m, K), NaN where N > m.
    """
    if rule.ranks is None:
        return weights(m, n)
    drawn = tuple(n.tolist())
    return _kept_table(rule, m, drawn) if m * len(drawn) <= KEPT else _table(rule, m, drawn)


def _table(rule: Rule, m: int, n: tuple[int, ...]) -> FloatArray:
    result = np.full((m, len(n)), np.nan)
    rank = np.arange(m, dtype=np.float64)
    for column, drawn in enumerate(n):
        if drawn <= m:
            chance = rule.rank_chances(drawn)
            result[:, column] = 0.0
            for k in np.flatnonzero(chance).tolist():
                lead = _log_binomial(rank, float(k)) + _log_binomial(m - 1 - rank, drawn - 1.0 - k)
                result[:, column] += chance[k] * np.exp(lead - _log_binomial(np.array(float(m)), float(drawn)))
            result[:, column] /= result[:, column].sum()
    result.setflags(write=False)
    return result


def _log_binomial(n: FloatArray, k: FloatArray | float) -> FloatArray:
    """Compute the logarithm of C(n, k); minus infinity where k < 0 or k > n."""
    inside = (np.asarray(k) >= 0) & (n >= k)
    above, below = np.where(inside, n, 0.0), np.where(inside, k, 0.0)
    log = special.gammaln(above + 1) - special.gammaln(below + 1) - special.gammaln(above - below + 1)
    return np.where(inside, log, -np.inf)


_kept_table = lru_cache(maxsize=512)(_table)


def soft_best_of_n(
    reward: FloatArray,
    utility: FloatArray,
    size: IntArray,
    n: IntArray,
    temperature: float,
    *,
    quick: bool = False,
) -> FloatArray:
    """Compute the expected utility of a softmax choice among N candidates drawn without replacement.

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
    """Compute soft Best-of-N at N = 1 .. largest for pools of one size, shape (B, largest); nodes: first and step."""
    start, step = nodes
    share = np.maximum(reward - reward.max(axis=1, keepdims=True), -_SPAN)
    centre = utility.mean(axis=1, keepdims=True)
    lowest = min(float(share.min()), 0.0)
    log_s: FloatArray = np.arange(start, _HIGHEST - lowest + step, step)
    scaled = np.exp(log_s[None, None, :] + share[:, :, None])
    marked = _marked_means(np.exp(-scaled), scaled * (utility - centre)[:, :, None], largest)
    return marked.sum(axis=2).T * step + centre


def _marked_means(factor: FloatArray, mark: FloatArray, largest: int) -> FloatArray:
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
