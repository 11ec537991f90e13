"""Warn of data whose figures mislead whatever the model: leaks, one user who decides, rows that cost candidates.

Each sentence says what was seen, what it does to the figures, and what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from bestfor.diagnostics.quantities.queries import Counts
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
    """Decide whether correlations are those of a reward that knows nothing: mean 0, as many negative as by chance.

    A reward whose picks pay all the same knows the best candidates and nothing of the others.
    """
    q = model.quantities
    if model.best_n and model.best_n[0].verdict == "pays":
        return False
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


def repeated_rows(merged: int, rows: int) -> str | None:
    """Say that rows which repeat others count once.

    Args:
        merged: rows that repeated another one.
        rows: all finite rows.
    """
    if not merged:
        return None
    return (
        f"{merged:,} of {rows:,} candidates are copies of another one of their query, and there every candidate stands "
        "as often as the others: the table repeats its rows. Each candidate counts once, with its mean utility."
    )


def copies(size: Counts, distinct: Counts) -> str | None:
    """Say that a policy drew the same candidates again.

    Args:
        size: shape (Q,), candidates of every query.
        distinct: shape (Q,), those that are no copies of another one.
    """
    extra, total = int((size - distinct).sum(dtype=np.int64)), int(size.sum(dtype=np.int64))
    if not extra:
        return None
    return (
        f"{extra:,} of {total:,} candidates are copies of another one of their query "
        f"({int((distinct < size).sum()):,} of {len(size):,} queries hold some). The curve counts them as the draws "
        "that they are; the noise of correlations counts each candidate once."
    )
