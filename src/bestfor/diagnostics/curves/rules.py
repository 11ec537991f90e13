"""Exact curves of other rules than the highest reward, as long as a rule looks at rewards only.

Sort a pool's rewards descending, j = 0 the top. In a random N-subset the candidate of rank j is drawn and has k of the
others above it with probability C(j, k) C(m-1-j, N-1-k) / C(m, N): the hypergeometric law of order statistics of a
finite population (David & Nagaraja 2003). So a rule that takes the k-th highest of N with probability p_N(k) earns

    W_N(j) = sum_k p_N(k) C(j, k) C(m-1-j, N-1-k) / C(m, N)        estimate(N) = sum_j W_N(j) V_j

with V_j the mean utility of j's tied group; p_N = (1, 0, ...) is Best-of-N. A rule that first maps each reward on its
own (a cap, a lower confidence bound) is the same on the mapped rewards. Any other function of the subset's rewards is
averaged over all subsets where these are few, and over a seeded sample with its standard error where they are not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from bestfor.diagnostics._special import log_binomial
from bestfor.diagnostics.curves.best_of_n import KEPT, chunks, sort_by_reward, times_table, weights
from bestfor.diagnostics.soft import soft_best_of_n
from bestfor.errors import InputError
from bestfor.types import FloatArray, IntArray

Ranks = Callable[[int], FloatArray]
"""N -> shape (N,), the chance that the k-th highest reward of the subset is taken, k = 0 the highest."""


@dataclass(frozen=True)
class Rule:
    """A rule with an exact curve.

    Attributes:
        name: as it is typed, such as ``"top:3"``.
        ranks: chances of the subset's ranks; None takes the highest.
        value: maps rewards, shape (Q, M), and their standard deviations (None where there are none) to what is ranked;
            None ranks the rewards themselves.
        temperature: of a softmax choice, in the reward's units; None for all other rules.
    """

    name: str
    ranks: Ranks | None = field(default=None, repr=False)
    value: Callable[[FloatArray, FloatArray | None], FloatArray] | None = field(default=None, repr=False)
    temperature: float | None = None

    def table(self, m: int, n: IntArray) -> FloatArray:
        """W_N(j): the chance that the candidate of rank j in a pool of m is picked; shape (m, K), NaN where N > m."""
        if self.ranks is None:
            return weights(m, n)
        drawn = tuple(n.tolist())
        return _kept_table(self, m, drawn) if m * len(drawn) <= KEPT else _table(self, m, drawn)

    def ranked(self, reward: FloatArray, std: FloatArray | None = None) -> FloatArray:
        """What the rule ranks; shape (Q, M)."""
        return reward if self.value is None else self.value(reward, std)


def curve_by_rule(ranked: FloatArray, utility: FloatArray, size: IntArray, n: IntArray, rule: Rule) -> FloatArray:
    """The exact curve of a rule.

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
        result[rows] = times_table(values, m, n, rule.table)
    return result


def _table(rule: Rule, m: int, n: tuple[int, ...]) -> FloatArray:
    result = np.full((m, len(n)), np.nan)
    rank = np.arange(m, dtype=np.float64)
    for column, drawn in enumerate(n):
        if drawn <= m and rule.ranks is not None:
            chance = _checked(rule.ranks(drawn), drawn, rule.name)
            result[:, column] = 0.0
            for k in np.flatnonzero(chance).tolist():
                lead = log_binomial(rank, float(k)) + log_binomial(m - 1 - rank, drawn - 1.0 - k)
                result[:, column] += chance[k] * np.exp(lead - log_binomial(np.array(float(m)), float(drawn)))
            result[:, column] /= result[:, column].sum()
    result.setflags(write=False)
    return result


_kept_table = lru_cache(maxsize=512)(_table)


def _checked(chance: FloatArray, drawn: int, name: str) -> FloatArray:
    if chance.shape != (drawn,) or not (chance >= 0).all() or abs(float(chance.sum()) - 1) > 1e-9:
        raise InputError(f"rule {name}", f"{chance.tolist()} at N = {drawn}", f"{drawn} chances that sum to 1")
    return chance
