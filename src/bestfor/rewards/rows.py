"""Labelled rows of features, and the row-wise arithmetic that reward models share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bestfor.types import FloatArray, IntArray

LABELS_PER_TEXT = 2.0
"""From so many labels a text on, people are said to share texts."""


@dataclass(frozen=True)
class FeatureRows:
    """Labelled rows sorted by user.

    Attributes:
        z: shape (n, p), features in single or double precision; the last column is usually the intercept.
        y: shape (n,), utilities.
        user: shape (n,), ascending codes 0..users-1.
        query: shape (n,), codes 0..queries-1; a query belongs to one user.
    """

    z: npt.NDArray[Any]
    y: FloatArray
    user: IntArray
    query: IntArray

    def segments(self) -> IntArray:
        """Offsets of the users' rows, shape (users + 1,)."""
        return np.searchsorted(self.user, np.arange(int(self.user[-1]) + 2))


def with_intercept(values: FloatArray) -> FloatArray:
    """Append a column of ones."""
    return np.column_stack([values, np.ones(len(values))])


def sum_by(codes: IntArray, values: FloatArray, size: int) -> FloatArray:
    """Sum of the values of each code, shape (size,)."""
    return np.asarray(np.bincount(codes, values, minlength=size), dtype=np.float64)


def apply_rows(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Row-wise inner products, shape (n,); a row's bits do not depend on the other rows."""
    return np.sum(values * weights, axis=1)


def share_texts(text: IntArray) -> bool:
    """Say whether most texts are rated by several people, from the code of each row's text, shape (n,)."""
    return len(text) >= LABELS_PER_TEXT * len(np.unique(text))
