"""Order, sum and round rows: the row-wise arithmetic that reward models share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bestfor.data.candidates import Candidates
from bestfor.types import FloatArray, IntArray

LABELS_PER_TEXT = 2.0
"""From so many labels a text on, people are said to share texts."""
DIGITS = 9
"""Significant digits of a reward."""
FAR = 290
"""Power of ten beyond which a reward is 0."""
_FACTORS = np.power(10.0, DIGITS - 1.0 - np.arange(-FAR, FAR + 1))


def canonical(candidates: Candidates) -> Candidates:
    """Put rows into an order, with codes, that depend on their content only."""
    users, user = _recode(candidates.users, candidates.user)
    texts, text = _recode(candidates.texts, candidates.text)
    used, query = np.unique(candidates.query, return_inverse=True)
    names = [candidates.queries[code] for code in used]
    order = sorted(range(len(used)), key=lambda code: names[code])
    rank = np.empty(len(used), dtype=np.int64)
    rank[order] = np.arange(len(used))
    query = rank[query]
    rows = np.lexsort((candidates.utility, text, candidates.candidate, query, user))
    return Candidates(
        users=users,
        queries=tuple(names[code] for code in order),
        inputs=tuple(candidates.inputs[used[code]] for code in order),
        texts=texts,
        user=user[rows],
        query=query[rows],
        text=text[rows],
        candidate=candidates.candidate[rows],
        utility=candidates.utility[rows].astype(np.float64),
        logprob=candidates.logprob[rows],
        history=candidates.history,
        comments=candidates.comments,
        said=candidates.said,
    )


def _recode(names: tuple[str, ...], codes: IntArray) -> tuple[tuple[str, ...], IntArray]:
    used = np.unique(codes)
    kept = sorted({names[code] for code in used})
    position = {name: code for code, name in enumerate(kept)}
    table = np.zeros(len(names), dtype=np.int64)
    table[used] = [position[names[code]] for code in used]
    return tuple(kept), table[codes]


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
    found = np.empty((len(values), values.shape[1] + 1), dtype=np.result_type(values, np.float64))
    found[:, :-1], found[:, -1] = values, 1.0
    return found


def sum_by(codes: IntArray, values: FloatArray, size: int) -> FloatArray:
    """Sum of the values of each code, shape (size,)."""
    return np.asarray(np.bincount(codes, values, minlength=size), dtype=np.float64)


def apply_rows(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Row-wise inner products, shape (n,); a row's bits do not depend on the other rows."""
    return np.sum(values * weights, axis=1)


def starts_of(codes: IntArray) -> IntArray:
    """First rows of the runs of equal codes."""
    first = np.ones(len(codes), dtype=np.bool_)
    np.not_equal(codes[1:], codes[:-1], out=first[1:])
    return np.flatnonzero(first)


def by_code(codes: IntArray) -> Iterator[tuple[int, IntArray]]:
    """Yield each code, ascending, with its rows."""
    if not len(codes) or (codes == codes[0]).all():
        yield from [(int(code), np.arange(len(codes))) for code in codes[:1]]
        return
    order = np.argsort(codes, kind="stable")
    found, starts = np.unique(codes[order], return_index=True)
    for code, rows in zip(found, np.split(order, starts[1:]), strict=True):
        yield int(code), rows


def share_texts(text: IntArray) -> bool:
    """Say whether most texts are rated by several people, from the code of each row's text, shape (n,)."""
    return len(text) >= LABELS_PER_TEXT * len(np.unique(text))


def pair_moment(error: FloatArray, text: IntArray) -> float:
    """Mean product of two errors of one text, not below 0; a text of k errors weighs k.

    Args:
        error: shape (n,).
        text: shape (n,), codes.
    """
    count = np.bincount(text)
    pairs = np.bincount(text, error) ** 2 - np.bincount(text, error**2)
    weight = 1 / np.maximum(count - 1.0, 1.0)
    total = float(np.sum(count * (count - 1.0) * weight))
    return max(float(np.sum(weight * pairs)) / total, 0.0) if total > 0 else 0.0


def rounded(values: FloatArray) -> FloatArray:
    """Round to nine significant digits: equal candidates tie although matrix products differ in their last bits."""
    values = np.asarray(values, dtype=np.float64)
    size = np.abs(values)
    exponent = np.floor(np.log10(np.where(size == 0, 1.0, size)))
    if (np.abs(exponent) <= FAR).all():
        factor = _FACTORS[exponent.astype(np.intp) + FAR]
        return np.rint(values * factor) / factor
    factor = np.power(10.0, DIGITS - 1 - np.clip(exponent, -FAR, FAR))
    return np.where(np.abs(exponent) > FAR, 0.0, np.rint(values * factor) / factor)
