"""Compute utility against generated tokens, for a method that writes one candidate after another and may stop.

A method writes candidates 1, 2, ... of a query, has generated s_k tokens once the k-th is there (whatever it wrote in
between included), and answers with the best scored so far, of utility V_k. At a budget of T tokens

    value(T) = (1 - a) V_k + a V_k+1,    s_k <= T < s_k+1,    a = (T - s_k) / (s_k+1 - s_k)

which is going on to the k+1-th with the chance a that makes the expected number of tokens T: methods are compared at
equal numbers of tokens, and none is held to what lies below its next step. Below s_1 the first candidate counts, beyond
the last the last; ``used`` is what was spent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bestfor.diagnostics.curves.subsets import check_pools, sizes_of
from bestfor.errors import InputError
from bestfor.types import FloatArray


@dataclass(frozen=True)
class TokenCurve:
    """Expected utility by tokens; Q queries, K budgets.

    Attributes:
        budget: shape (K,).
        utility: shape (Q, K).
        reward: shape (Q, K), of the same answers; it never falls with the budget.
        used: shape (Q, K), tokens that are spent, in the mean: the budget, or where all of the query's candidates (or
            not even its first) come within it, theirs.
    """

    budget: FloatArray
    utility: FloatArray
    reward: FloatArray
    used: FloatArray


def best_by_tokens(
    reward: npt.ArrayLike,
    utility: npt.ArrayLike,
    spent: npt.ArrayLike,
    budget: npt.ArrayLike,
    *,
    size: npt.ArrayLike | None = None,
) -> TokenCurve:
    """Compute the expected utility of the best scored candidate within a budget of tokens; ties at random.

    Args:
        reward: shape (Q, M), or (M,) for one query; in the order in which the candidates were written.
        utility: of the same shape.
        spent: of the same shape, tokens generated until each candidate is there; increasing.
        budget: shape (K,), tokens for each query, not negative.
        size: shape (Q,), candidates of each query; M where None.

    Returns:
        The curve, one row a query.

    Raises:
        InputError: shapes that do not fit, numbers that are not finite, or tokens that do not increase.
    """
    scores, values, tokens = (np.atleast_2d(np.asarray(one, dtype=np.float64)) for one in (reward, utility, spent))
    for name, matrix in (("reward", scores), ("spent", tokens)):
        if matrix.shape != values.shape:
            raise InputError(name, f"shape {matrix.shape}", f"{values.shape}, that of the utility")
    counts = sizes_of(values, size)
    check_pools({"reward": scores, "utility": values, "spent": tokens}, counts)
    limits = np.atleast_1d(np.asarray(budget, dtype=np.float64))
    if not np.isfinite(limits).all() or (limits < 0).any():
        raise InputError("budget", str(limits.tolist()), "numbers of tokens")
    found = np.empty((3, len(values), len(limits)))
    for row, m in enumerate(counts.tolist()):
        ends = tokens[row, :m]
        if ends[0] < 0 or (np.diff(ends) <= 0).any():
            raise InputError("spent", f"{ends.tolist()}"[:60], "increasing numbers of tokens")
        highest = np.maximum.accumulate(scores[row, :m])
        for place, column in enumerate((_answers(scores[row, :m], values[row, :m]), highest, ends)):
            found[place, row] = np.interp(limits, ends, column)
    return TokenCurve(limits, found[0], found[1], found[2])


def _answers(reward: FloatArray, utility: FloatArray) -> FloatArray:
    """Compute the utility of the best scored of the first k, k = 1 .. m; the mean of those that tie."""
    best, total, tied = -np.inf, 0.0, 0
    found = np.empty(len(reward))
    for place, (score, value) in enumerate(zip(reward.tolist(), utility.tolist(), strict=True)):
        if score > best:
            best, total, tied = score, 0.0, 0
        if score == best:
            total, tied = total + value, tied + 1
        found[place] = total / tied
    return found
