"""Compute exact Best-of-N from a finite pool, for every N at once.

The expectation over a uniformly random N-subset of a pool of m candidates, ties broken at random. Sort the rewards
descending, j = 0 the top:

    w_N(j) = C(m-1-j, N-1) / C(m, N)        estimate(N) = sum_j w_N(j) V_j,    V_j = mean utility of j's tied group

This is the complete U-statistic, so it is unbiased for independent candidates at every N <= m; with a binary utility
chosen by itself it is pass@k (Chen et al. 2021). Rewards are compared as given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np

from bestfor.types import BoolArray, FloatArray, IntArray

ROWS = 4096
"""Pools that are worked on at a time: their matrices stay in the processor's cache."""

KEPT = 1 << 14
"""Entries of a table of weights that is kept for the next pools of that size; 512 of them take 64 MB at most."""

LARGEST_TABLE = 1 << 20
"""Entries of a table of weights that are made at a time: 8 MB."""


def weights(m: int, n: IntArray) -> FloatArray:
    """Compute the chance that a random N-subset's best candidate is the one of rank j.

    By recursion down the ranks: w_N(0) = N / m and w_N(j + 1) = w_N(j) (m - j - N) / (m - 1 - j); the relative error
    is below 1e-13 at m = 1000.

    Args:
        m: candidates in the pool.
        n: shape (K,), candidates drawn, each at least 1.

    Returns:
        Shape (m, K); columns sum to 1, or are NaN where N > m.
    """
    drawn = tuple(int(one) for one in n)
    return _kept_weights(m, drawn) if m * len(drawn) <= KEPT else _weights(m, drawn)


def _weights(m: int, n: tuple[int, ...]) -> FloatArray:
    drawn = np.array(n, dtype=np.float64)
    rank = np.arange(m - 1, dtype=np.float64)[:, None]
    result = np.empty((m, len(n)))
    result[0] = drawn / m
    result[1:] = np.maximum(m - rank - drawn, 0.0) / (m - 1 - rank)
    np.cumprod(result, axis=0, out=result)
    result[:, drawn > m] = np.nan
    result.setflags(write=False)
    return result


_kept_weights = lru_cache(maxsize=512)(_weights)


def times_weights(ranked: FloatArray, m: int, n: IntArray) -> FloatArray:
    """Multiply utilities by descending reward, shape (B, m), by the weights of every N: shape (B, K)."""
    return times_table(ranked, m, n, weights)


def times_table(ranked: FloatArray, m: int, n: IntArray, table: Callable[[int, IntArray], FloatArray]) -> FloatArray:
    """Multiply utilities by descending reward by a table of chances; one too large to hold is made in parts.

    Args:
        ranked: shape (B, m).
        m: candidates in each pool.
        n: shape (K,).
        table: pool size and values of N -> shape (m, K).

    Returns:
        Shape (B, K).
    """
    width = max(LARGEST_TABLE // m, 1)
    if len(n) <= width:
        return ranked @ table(m, n)
    parts = [ranked @ table(m, n[low : low + width]) for low in range(0, len(n), width)]
    return np.concatenate(parts, axis=1)


def best_of_n(reward: FloatArray, utility: FloatArray, size: IntArray, n: IntArray) -> FloatArray:
    """Compute the expected utility of the candidate with the highest reward among N drawn without replacement.

    Args:
        reward: shape (Q, M), what selects; ties are broken at random.
        utility: shape (Q, M), what is gained; pass the reward for the expected highest reward, and the utility as
            reward for the oracle.
        size: shape (Q,), candidates in each pool, at least 1.
        n: shape (K,), candidates drawn, each at least 1.

    Returns:
        Shape (Q, K), NaN where N exceeds the pool, and where a reward is NaN: such a pool has no order.
    """
    result = np.empty((len(size), len(n)))
    for rows, m in chunks(size):
        ranking = _Ranking(_cut(reward, rows, m))
        values = ranking.shared(ranking.ranked(_cut(utility, rows, m)))
        result[rows] = ranking.known(times_weights(values, m, n))
    return result


def subset_variance(reward: FloatArray, utility: FloatArray, size: IntArray, n: IntArray) -> FloatArray:
    """Compute the variance of one random N-subset's best utility: sum_j w V2_j - estimate^2, at least 0.

    V2_j is the mean squared utility of j's tied group. A protocol that draws S subsets and averages has this variance
    over S on top of the exact curve, and needs it at none.

    Args:
        reward: shape (Q, M).
        utility: shape (Q, M).
        size: shape (Q,).
        n: shape (K,).

    Returns:
        Shape (Q, K), NaN where N exceeds the pool.
    """
    return pool_curves(reward, utility, size, n)[2]


def pool_curves(
    reward: FloatArray, utility: FloatArray, size: IntArray, n: IntArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Compute from one sort of each pool its curve, highest rewards and subset variance.

    Args:
        reward: shape (Q, M).
        utility: shape (Q, M).
        size: shape (Q,).
        n: shape (K,).

    Returns:
        Best-of-N's expected utility, the expected highest reward of N, and the variance of
        :func:`subset_variance`; each of shape (Q, K).
    """
    curve, highest, variance = (np.empty((len(size), len(n))) for _ in range(3))
    for rows, m in chunks(size):
        scores, values = _cut(reward, rows, m), _cut(utility, rows, m)
        ranking = _Ranking(scores)
        centre = values.mean(axis=1, keepdims=True)
        ranked = ranking.ranked(values)
        squares = ranking.shared((ranked - centre) ** 2)
        ranked = ranking.shared(ranked)
        curve[rows] = ranking.known(times_weights(ranked, m, n))
        highest[rows] = times_weights(ranking.ranked(scores), m, n)
        variance[rows] = np.maximum(times_weights(squares, m, n) - times_weights(ranked - centre, m, n) ** 2, 0.0)
    return curve, highest, variance


def chunks(size: IntArray, rows: int = ROWS) -> Iterator[tuple[IntArray | slice, int]]:
    """Iterate over blocks of pools of the same size, as (rows, size); a plain slice where all pools have one size."""
    if len(size) and int(size.min()) == int(size.max()):
        for start in range(0, len(size), rows):
            yield slice(start, start + rows), int(size[0])
        return
    small = size.astype(np.uint16) if len(size) and int(size.max()) < 1 << 16 else size  # sorted in linear time
    order = np.argsort(small, kind="stable")
    ordered = size[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]][: len(size)])
    for low, high in zip(first.tolist(), [*first[1:].tolist(), len(size)], strict=True):
        for start in range(low, high, rows):
            yield order[start : min(start + rows, high)], int(ordered[low])


def _cut(matrix: FloatArray, rows: IntArray | slice, m: int) -> FloatArray:
    """The first m columns of some rows."""
    return matrix[rows, :m] if isinstance(rows, slice) else np.take(matrix, rows, axis=0)[:, :m]


def sort_by_reward(reward: FloatArray, utility: FloatArray) -> tuple[FloatArray, IntArray, IntArray]:
    """Sort utilities by descending reward, each replaced by the mean of those that tie with it.

    Args:
        reward: shape (B, m), no padding.
        utility: shape (B, m).

    Returns:
        The tied-group means, shape (B, m); the order of the candidates, shape (B, m); the first position of each
        position's tied group, shape (B, m).
    """
    ranking = _Ranking(reward)
    start: IntArray = np.broadcast_to(np.arange(int(reward.shape[1])), reward.shape)
    if ranking.new is not None:
        start = np.maximum.accumulate(np.where(ranking.new, start, 0), axis=1)
    return ranking.shared(ranking.ranked(utility)), ranking.order, start


class _Ranking:
    """Candidates by descending reward; ``new``, shape (B, m), is True where a tied group begins, None without ties."""

    def __init__(self, reward: FloatArray) -> None:
        self._unordered = np.isnan(reward).any(axis=1)
        self.order = np.argsort(-reward, axis=1)  # ties are averaged, so the fast unstable sort will do
        rows, m = int(reward.shape[0]), int(reward.shape[1])
        self._place = self.order + (np.arange(rows) * m)[:, None]
        ranked = self.ranked(reward)
        tied = ranked[:, 1:] == ranked[:, :-1]
        self.new: BoolArray | None = None
        if tied.any():
            self.new = np.ones(reward.shape, dtype=np.bool_)
            np.logical_not(tied, out=self.new[:, 1:])
            member = ~self.new
            member[:, :-1] |= tied
            self._members = np.flatnonzero(member)
            self._first = np.flatnonzero(self.new.ravel()[self._members])
            self._count = np.diff(np.r_[self._first, len(self._members)])

    def known(self, curve: FloatArray) -> FloatArray:
        """Set a curve, in place, to NaN in pools with a reward that is NaN."""
        curve[self._unordered] = np.nan
        return curve

    def ranked(self, values: FloatArray) -> FloatArray:
        """Put values of the candidates into this order."""
        return np.take(values.ravel(), self._place)

    def shared(self, ranked: FloatArray) -> FloatArray:
        """Replace values in this order, in place, by the mean of their tied group."""
        if self.new is not None:
            flat = ranked.reshape(-1)
            means = np.add.reduceat(flat[self._members], self._first) / self._count
            flat[self._members] = np.repeat(means, self._count)
        return ranked
