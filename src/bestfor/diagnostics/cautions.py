"""Warn of data whose figures mislead whatever the model: leaks, one user who decides, rows that cost candidates.

Each sentence says what was seen, what it does to the figures, and what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from bestfor.diagnostics.table.rows import SortedRows
from bestfor.types import FloatArray, IntArray

if TYPE_CHECKING:
    from bestfor.diagnostics.result import DiagnosisResult, ModelDiagnosis

LEAK = 0.995
"""A model that captures more of the headroom at every N than any real one could."""

FEWEST_FOR_LEAK = 5
"""Users with something to win, at least, before a perfect order is suspicious."""

HALF = 0.5
SHARP = 0.2
"""Width of the interval of a mean correlation above which it may be anything."""

FEWEST_FOR_SHARE = 3


def reward_is_utility(diagnosis: DiagnosisResult, model: ModelDiagnosis) -> str | None:
    """Warn where the reward orders candidates as the utility does."""
    shares = model.captured.value[diagnosis.n > 1]
    known = int((model.per_user.headroom > 0).sum())
    if not len(shares) or known < FEWEST_FOR_LEAK or not (shares >= LEAK).all():
        return None
    return (
        f"The reward is the utility, or nearly: it captures {100 * float(shares.min()):.1f}% or more of the headroom "
        "at every N. That is a leak or an oracle, not a prediction: check that the model did not see these utilities."
    )


def one_user_decides(diagnosis: DiagnosisResult, model: ModelDiagnosis) -> str | None:
    """Warn where one user holds most of the queries that count alike, or makes most of the gain."""
    table = model.per_user
    users = len(table.user)
    if users < FEWEST_FOR_SHARE or not table.queries.any() or np.isnan(table.gain).any():
        return None
    weight = _weights(diagnosis, table.queries)
    heaviest = int(weight.argmax())
    if weight[heaviest] > HALF:
        return (
            f"User '{table.user[heaviest]}' has {100 * weight[heaviest]:.0f}% of the queries, and all queries weigh "
            "the same: the figures are about this user. Average per user (averaging = 'user'), or leave the user out."
        )
    parts = weight * table.gain
    total, largest = float(parts.sum()), int(parts.argmax())
    if total <= 0 or parts[largest] <= HALF * float(np.abs(parts).sum()):
        return None
    others = (total - float(parts[largest])) / (1 - float(weight[largest]))
    return (
        f"User '{table.user[largest]}' alone makes {100 * min(parts[largest] / total, 9.99):.0f}% of the gain: without "
        f"this user it is {others:.3g} where it is {total:.3g}. Look at this user's queries before anything else."
    )


def _weights(diagnosis: DiagnosisResult, queries: IntArray) -> FloatArray:
    if diagnosis.averaging == "query":
        return queries / queries.sum()
    return np.full(len(queries), 1 / len(queries))


def lowered_n(without: int, offered: int, rows: int) -> str | None:
    """Warn where rows that are not finite lower the largest N.

    Args:
        without: the largest N when these rows are left out.
        offered: what it would be with them.
        rows: how many they are.
    """
    if without >= offered:
        return None
    missing = "1 row has" if rows == 1 else f"{rows} rows have"
    return (
        f"{missing} no finite utility or no finite reward, and that lowers the largest N from {offered} to {without}. "
        "Fill them in, or leave out the queries that they belong to."
    )


def says_nothing(model: ModelDiagnosis) -> bool:
    """Decide whether correlations are those of a reward that knows nothing: mean 0, as many negative as by chance."""
    q = model.quantities
    if q.rho.low is None or q.rho.high is None or q.beta.low is None or q.beta.high is None:
        return False
    sharp = q.rho.high - q.rho.low <= SHARP
    return sharp and q.rho.low <= 0 <= q.rho.high and q.beta.low <= q.beta_by_chance <= q.beta.high


def sure_mean(values: FloatArray, level: float) -> bool:
    """Decide whether the t interval of a mean lies above 0; not of fewer than three values."""
    if len(values) < FEWEST_FOR_SHARE:
        return False
    half = float(special.stdtrit(len(values) - 1, 0.5 + level / 2)) * float(values.std(ddof=1)) / len(values) ** 0.5
    return float(values.mean()) > half


def copies(rows: SortedRows) -> str | None:
    """Warn where candidates of a query are copies of one another: equal in utility and in every reward.

    Equal marks are no copies: values must not recur between queries, and equal utilities must go with equal rewards.
    """
    query = np.repeat(np.arange(len(rows.size)), rows.size)
    utility = rows.utility[rows.order]
    rewards = [column[rows.order] for column in rows.rewards.values()]
    by_utility, by_reward = _distinct(query, [utility]), _distinct(query, rewards)
    both = _distinct(query, [utility, *rewards])
    copied = (by_utility == both) & (by_reward == both) & (both > 1) & (both < rows.size)
    if not copied.any() or len(np.unique(utility)) < HALF * int(both.sum()):
        return None
    extra, total = int((rows.size - both)[copied].sum()), int(rows.size.sum())
    return (
        f"{extra:,} of {total:,} candidates are copies of another one of their query, with equal utility and rewards "
        f"({int(copied.sum()):,} of {len(rows.size):,} queries hold some). Remove them: pools are smaller than they "
        "look, and chance makes more negative correlations than the figures allow for."
    )


def _distinct(query: IntArray, columns: list[FloatArray]) -> IntArray:
    """Count the distinct rows of some columns in each query."""
    order = np.lexsort((*columns, query))
    new = np.r_[True, query[order][1:] != query[order][:-1]]
    for column in columns:
        ranked = column[order]
        new[1:] |= ranked[1:] != ranked[:-1]
    return np.bincount(query[order], new).astype(np.int64)
