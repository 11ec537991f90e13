"""Judge by held-out labels: how many passes users' adapters take, how large errors are, who does without a part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bestfor.rewards.abstain import abstaining, left_out_levels
from bestfor.rewards.lora.rows import TokenRows, by_code
from bestfor.rewards.lora.training import TrainingContext
from bestfor.types import BoolArray, FloatArray

LEAST_NOISE = 1e-6
"""Least factor of the variance."""


@dataclass(frozen=True)
class HeldOut:
    """Predictions of held-out rows by models that did not see them, all of shape (2, n): means and log-variances.

    Attributes:
        rows: n held-out rows.
        stranger: without any part of the user's own.
        before: with users' own heads, before they have adapters.
        own: by user's code, after 0, 1, ... passes of the user's adapter, shape (passes + 1, 2, the user's rows).
    """

    rows: TokenRows
    stranger: FloatArray
    before: FloatArray
    own: Mapping[int, FloatArray]

    def after(self, passes: int) -> FloatArray:
        """Take predictions after a number of passes of users' adapters; users without one are served as before."""
        found = self.before.copy()
        for user, values in self.own.items():
            found[:, self.rows.user == user] = values[passes]
        return found

    def passes(self, context: TrainingContext, most: int) -> int:
        """Find how many passes are best for all users together, perhaps none."""
        values = [stopping_value(context, self.rows, self.after(number)) for number in range(most + 1)]
        return int(np.argmin(values))

    def noise(self, passes: int, abstained: BoolArray) -> float:
        """Average squared error over predicted variance of what serves each user, levels of queries not known."""
        mean, log_variance = np.where(abstained[self.rows.user], self.stranger, self.after(passes))
        return max(float(np.mean((self.rows.target - mean) ** 2 / np.exp(log_variance))), LEAST_NOISE)

    def abstained(self, passes: int, users: int, *, pairwise: bool) -> BoolArray:
        """Find who does without a part of their own, shape (users,)."""
        found = np.zeros(users, dtype=np.bool_)
        errors = _pair_errors if pairwise else _errors
        personal, shared = (errors(self.rows, moments[0]) for moments in (self.after(passes), self.stranger))
        judged = abstaining(self.rows.user, personal, shared)
        found[: len(judged)] = judged
        return found


def stopping_value(context: TrainingContext, rows: TokenRows, moments: FloatArray) -> float:
    """Give what is to be small when training stops: the mean loss of held-out rows, or the share of pairs misranked.

    Args:
        context: whose settings say which; rows of which no two can be ranked are judged by the loss.
        rows: n held-out rows.
        moments: shape (2, n), means and log-variances.
    """
    wrong = misranked(rows, moments[0]) if context.config.stop_by == "ranking" else None
    return context.held_loss(rows, moments) / len(rows) if wrong is None else wrong


def misranked(rows: TokenRows, score: FloatArray) -> float | None:
    """Average over queries the share of pairs of unequal targets that scores put in the wrong order, ties by half.

    Args:
        rows: n rows; where queries have one candidate, a user's rows are ranked together.
        score: shape (n,).

    Returns:
        In [0, 1]; None where there is no such pair.
    """
    _, owner = np.unique(rows.user, return_inverse=True)
    code = owner * (int(rows.group.max(initial=0)) + 1) + rows.group if rows.levels else owner
    shares: list[float] = []
    for these in by_code(code):
        sign = np.sign(rows.target[these][:, None] - rows.target[these])
        order = sign * np.sign(score[these][:, None] - score[these])
        if sign.any():
            shares.append(float(np.mean((1.0 - order[sign != 0]) / 2.0)))
    return float(np.mean(shares)) if shares else None


def _errors(rows: TokenRows, mean: FloatArray) -> FloatArray:
    """Compute errors of means, beside the mean error of the query's other rows where queries have levels."""
    error = rows.target - mean
    if not rows.levels:
        return error
    beside = left_out_levels(error, np.unique(rows.group, return_inverse=True)[1])
    return np.where(np.isfinite(beside), beside, error)


def _pair_errors(rows: TokenRows, score: FloatArray) -> FloatArray:
    """Compute the root of a row's mean logistic loss against what it is compared with; NaN for a row without a pair."""
    found = np.full(len(rows), np.nan)
    for these in by_code(rows.group):
        sign = np.sign(rows.target[these][:, None] - rows.target[these])
        loss = np.logaddexp(0.0, -sign * (score[these][:, None] - score[these]))
        count = np.abs(sign).sum(axis=1)
        with np.errstate(invalid="ignore"):
            found[these] = np.sqrt(np.sum(loss * np.abs(sign), axis=1) / count)
    return found
