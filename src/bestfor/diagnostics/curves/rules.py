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
from bestfor.diagnostics.curves.marked import marked_means
from bestfor.diagnostics.curves.thompson import thompson_best_of_n
from bestfor.selection import Rule
from bestfor.types import FloatArray, IntArray

STEP = 0.25
_SPAN = 600.0
"""Temperatures between the rewards of a pool beyond which long gaps are shortened."""

_GAP = 45.0
"""Temperatures between neighbours that leave the lower one a share of e^-45: nothing in double precision."""

_MOST = 7.0
_AT_ONCE = 4096
_LOWEST, _QUICK_LOWEST, _HIGHEST = -42.0, -14.0, 5.0
_ROWS = 64


def curve_by_rule(
    ranked: FloatArray, utility: FloatArray, size: IntArray, n: IntArray, rule: Rule, std: FloatArray | None = None
) -> FloatArray:
    """Compute the exact curve of a rule.

    Args:
        ranked: shape (Q, M), from :meth:`Rule.ranked`.
        utility: shape (Q, M).
        size: shape (Q,).
        n: shape (K,).
        rule: which.
        std: shape (Q, M), standard deviations of the means, which ``thompson`` needs.

    Returns:
        Shape (Q, K), NaN where N exceeds the pool.

    Raises:
        InputError: ``thompson`` without standard deviations.
    """
    if rule.thompson:
        return thompson_best_of_n(ranked, std, utility, size, n)
    if rule.temperature is not None:
        return soft_best_of_n(ranked, utility, size, n, rule.temperature)
    result = np.empty((len(size), len(n)))
    for rows, m in chunks(size):
        values = sort_by_reward(ranked[rows, :m], utility[rows, :m])[0]
        result[rows] = times_table(values, m, n, partial(chance_table, rule))
    place: IntArray = np.arange(int(ranked.shape[1]))
    result[(np.isnan(ranked) & (place < size[:, None])).any(axis=1)] = np.nan
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
        at most 200 temperatures; where they span more, gaps of over 45 temperatures count as 45, which changes a
        choice by less than 1e-19.

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
            scaled = _in_temperatures(reward[rows, :m], temperature)
            curve = _block(scaled, utility[rows, :m], int(n[known].max()), nodes)
            result[rows] = _columns(curve, n, known)
    return result


def _in_temperatures(reward: FloatArray, temperature: float) -> FloatArray:
    """Measure rewards in temperatures; gaps that no softmax can tell from infinite ones are shortened."""
    with np.errstate(over="ignore"):
        scaled = reward / temperature
    span = np.full(len(scaled), np.inf)
    finite = np.isfinite(scaled).all(axis=1)
    span[finite] = np.ptp(scaled[finite], axis=1)
    wide = (span > _SPAN) & ~np.isnan(reward).any(axis=1)
    if wide.any():
        order = np.argsort(reward[wide], axis=1, kind="stable")
        with np.errstate(over="ignore"):
            gaps = np.diff(np.take_along_axis(reward[wide], order, axis=1), axis=1) / temperature
        places = np.cumsum(np.minimum(gaps, _GAP), axis=1)
        places = np.concatenate([np.zeros((len(places), 1)), places], axis=1)
        shortened = np.empty(places.shape)
        np.put_along_axis(shortened, order, places, axis=1)
        scaled[wide] = shortened
    return scaled


def _columns(curve: FloatArray, n: IntArray, known: IntArray) -> FloatArray:
    result = np.full((len(curve), len(n)), np.nan)
    result[:, known] = curve[:, n[known] - 1]
    return result


def _block(reward: FloatArray, utility: FloatArray, largest: int, nodes: tuple[float, float]) -> FloatArray:
    """Compute soft Best-of-N at N = 1 .. largest for pools of one size, shape (B, largest); nodes: first and step."""
    start, step = nodes
    share = reward - reward.max(axis=1, keepdims=True)
    centre = utility.mean(axis=1, keepdims=True)
    lowest = float(np.fmin.reduce(share, axis=None, initial=0.0))  # a pool with a NaN must not disturb the others
    log_s: FloatArray = np.arange(start, _HIGHEST - lowest + step, step)
    total = np.zeros((largest, len(reward)))
    for first in range(0, len(log_s), _AT_ONCE):
        # Above e^7 a factor exp(-scaled) is 0 in double precision; its mark only has to stay finite.
        scaled = np.exp(np.minimum(log_s[None, None, first : first + _AT_ONCE] + share[:, :, None], _MOST))
        total += marked_means(np.exp(-scaled), scaled * (utility - centre)[:, :, None], largest).sum(axis=2)
    return total.T * step + centre
