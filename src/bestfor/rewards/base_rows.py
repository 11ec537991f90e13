"""Labels of the fit as rows of features, kept with a model whose weights alone do not say what is known of a user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bestfor.artifacts import ENDS, Arrays
from bestfor.types import FloatArray, IntArray

NAME = "user.rows"
WITHOUT_BASE = (
    "a model of an earlier version, without the labels of the fit: further ones count for more than they should"
)
"""Note of a person whose labels of the fit are not known."""


@dataclass(frozen=True)
class BaseRows:
    """Labels by user.

    Attributes:
        rows: shape (labels, p + 2), single precision: features, the utility on the standard scale, and a number that
            tells a user's queries apart.
        ends: shape (users + 1,), where each user's end, from 0.
    """

    rows: npt.NDArray[np.float32]
    ends: IntArray

    @classmethod
    def build(cls, features: FloatArray, target: FloatArray, user: IntArray, query: IntArray) -> BaseRows:
        """Keep labels that are sorted by user; codes of users from 0, all in use."""
        ends = np.searchsorted(user, np.arange(int(user.max()) + 2)).astype(np.int64)
        first = query[ends[:-1]][user]
        return cls(np.column_stack([features, target, query - first]).astype(np.float32), ends)

    def of(self, code: int) -> tuple[FloatArray, FloatArray, IntArray]:
        """Features, utilities and queries of one user's labels; none of code -1."""
        part = slice(0, 0) if code < 0 else slice(int(self.ends[code]), int(self.ends[code + 1]))
        rows = self.rows[part].astype(np.float64)
        return rows[:, :-2], rows[:, -2], rows[:, -1].astype(np.int64)

    def arrays(self) -> Arrays:
        """Arrays to store."""
        return {NAME: self.rows, f"{NAME}{ENDS}": self.ends}


def restore_base_rows(arrays: Mapping[str, npt.NDArray[Any]], users: int, features: int) -> BaseRows | None:
    """Restore what :meth:`BaseRows.arrays` stored; None where an earlier version stored none.

    Raises:
        ValueError: shapes that do not belong together.
    """
    if NAME not in arrays and f"{NAME}{ENDS}" not in arrays:
        return None
    rows, ends = arrays[NAME], arrays[f"{NAME}{ENDS}"]
    if ends.shape != (users + 1,) or rows.shape != (int(ends[-1]), features + 2):
        raise ValueError(f"labels of shape {rows.shape} and ends of shape {ends.shape} for {users} users")
    return BaseRows(rows, ends)
