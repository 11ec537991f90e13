"""Hold the trained body and the users' heads, and predict with them; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bestfor.artifacts import Arrays
from bestfor.rewards.heads.settings import LOG_LIMITS, UNIT_PRECISION
from bestfor.rewards.rows import apply_rows
from bestfor.threads import for_size
from bestfor.types import FloatArray, IntArray

ROWS = 1 << 15
"""Rows that are predicted at a time."""


@dataclass(frozen=True)
class UserHeads:
    """Trained heads on the standard scale; one row more than users, the last for users without labels.

    Attributes:
        body: shape (p, hidden).
        body_shift: shape (hidden,).
        mean: shape (users + 1, k), k = p + hidden + 1.
        spread: shape (users + 1, k), log-variance heads, or (users + 1, 0) where no variance is learned.
        noise: factor of the variance, from held-out labels.
        natural: whether ``mean`` and ``spread`` are heads on natural parameters.
    """

    body: FloatArray
    body_shift: FloatArray
    mean: FloatArray
    spread: FloatArray
    noise: float
    natural: bool

    def columns(self, values: npt.NDArray[np.floating]) -> FloatArray:
        """Compute phi(x), shape (n, k), of features (n, p)."""
        with for_size(values.shape[1]):
            hidden = np.tanh(values @ self.body + self.body_shift)
        return np.asarray(np.hstack([values, hidden, np.ones((len(values), 1))]), dtype=np.float64)

    def predict(self, design: tuple[FloatArray, IntArray], codes: IntArray) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of n rows, each (n,).

        Args:
            design: features of distinct pairs, shape (pairs, p), and the pair of each row, shape (n,).
            codes: shape (n,), the user of each row, -1 for those without labels.
        """
        values, row = design
        columns = self.columns(values)
        mean, log_variance = np.empty(len(row)), np.zeros(len(row))
        for start in range(0, len(row), ROWS):
            part = slice(start, start + ROWS)
            seen, who = columns[row[part]], codes[part]
            mean[part] = apply_rows(seen, self.mean[who])
            if self.spread.shape[1]:
                log_variance[part] = apply_rows(seen, self.spread[who])
        if self.natural:
            precision = np.maximum(np.logaddexp(0.0, log_variance + UNIT_PRECISION), np.exp(-LOG_LIMITS[1]))
            mean, log_variance = mean / precision, -np.log(precision)
        return mean, self.noise * np.exp(np.clip(log_variance, *LOG_LIMITS))

    def arrays(self) -> Arrays:
        """Arrays to store, users' rows apart from the one of users without labels."""
        return {
            "body": self.body.astype(np.float32),
            "body_shift": self.body_shift.astype(np.float32),
            "user.mean": self.mean[:-1].astype(np.float32),
            "user.spread": self.spread[:-1].astype(np.float32),
            "stranger.mean": self.mean[-1].astype(np.float32),
            "stranger.spread": self.spread[-1].astype(np.float32),
        }


def restore_heads(arrays: Arrays, users: int, noise: float, natural: bool) -> UserHeads:
    """Restore the heads that :meth:`UserHeads.arrays` stored.

    Raises:
        ValueError: shapes that do not belong together.
    """
    stored = {name: arrays[name].astype(np.float64) for name in ("body", "body_shift")}
    for name in ("mean", "spread"):
        rows, stranger = arrays[f"user.{name}"], arrays[f"stranger.{name}"]
        if rows.shape != (users, *stranger.shape):
            raise ValueError(f"{name} heads of shape {rows.shape} for {users} users")
        stored[name] = np.vstack([rows, stranger]).astype(np.float64)
    body, columns = stored["body"], stored["mean"].shape[1]
    if body.ndim != 2 or stored["body_shift"].shape != body.shape[1:] or columns != sum(body.shape) + 1:
        raise ValueError(f"a body of shape {body.shape} and heads of {columns} columns")
    if stored["spread"].shape[1] not in (0, columns):
        raise ValueError(f"log-variance heads of {stored['spread'].shape[1]} columns")
    return UserHeads(**stored, noise=noise, natural=natural)
