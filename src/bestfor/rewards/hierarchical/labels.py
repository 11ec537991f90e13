"""Compress labels to few independent rows: all that any variances can learn from them.

Rows of one user, y = Z theta + c_q + e with c_q ~ N(0, k s2) and e ~ N(0, s2 D), say the same about theta, k and s2 as

    within queries:  (z_i - mean_q z) / sqrt(D_i),   noise s2
    between queries: sqrt(w_q) mean_q z,             noise s2 (1 + k w_q),   w_q = sum of 1 / D_i over the query

with weighted means, since the change of basis is orthogonal. Where a user has more rows within queries than features,
QR leaves as many rows as features and a sum of squares that no theta explains (Golub & Van Loan 2013, section 5.3).
Without query effects every row is a row within. Zero rows that centring makes are corrected in the count of labels.
Where every query has weights of its own (:mod:`bestfor.rewards.hierarchical.query_slopes`), labels are whitened within
queries first, and what is between queries lies along L^-1 1, w_q being its square.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from bestfor.rewards.hierarchical.query_slopes import whiten_queries
from bestfor.rewards.rows import FeatureRows, sum_by
from bestfor.types import BoolArray, FloatArray, IntArray

BATCH_NUMBERS = 1 << 19
"""Numbers in a batch of padded rows."""
SINGLE = 128
"""Features beyond which rows of single precision stay so: products of many features dominate the cost."""


@dataclass(frozen=True)
class CompactRows:
    """Independent rows that stand for labels, sorted by user.

    Attributes:
        rows: shape (total, p), single or double precision.
        target: shape (total,).
        level: shape (total,), w_q of rows between queries, 0 elsewhere.
        ends: shape (users + 1,), offsets of the users' rows.
        rest: squares over noise that the rows leave out.
        labels: how many labels the rows stand for.
        log_size: log|D|.
    """

    rows: npt.NDArray[Any]
    target: FloatArray
    level: FloatArray
    ends: IntArray
    rest: float
    labels: int
    log_size: float


@dataclass(frozen=True)
class PaddedRows:
    """Rows of some users, padded with zeros to one length.

    Attributes:
        users: shape (b,), their codes.
        rows: shape (b, n, p).
        target: shape (b, n).
        level: shape (b, n).
        used: shape (b, n), which rows are no padding.
    """

    users: IntArray
    rows: FloatArray
    target: FloatArray
    level: FloatArray
    used: BoolArray


def compress_rows(rows: FeatureRows, size: FloatArray, *, levels: bool, slopes: float = 0.0) -> CompactRows:
    """Compress labels to independent rows.

    Args:
        rows: n rows sorted by user.
        size: shape (n,), the diagonal of D.
        levels: whether queries have effects of their own.
        slopes: variance of a query's own weights over s2; 0 where queries have no levels.
    """
    if slopes:
        return _compress_with_slopes(rows, size, slopes)
    root = 1 / np.sqrt(size)
    if not levels:
        # where nothing is weighted the rows are the labels' own: millions of numbers are not copied
        within = rows.z if np.all(size == 1) else rows.z * root[:, None].astype(rows.z.dtype)
        return _compress_users(rows, within, rows.y * root, float(np.sum(np.log(size))))
    queries = int(rows.query.max()) + 1
    by_query = sparse.csr_array((1 / size, (rows.query, np.arange(len(size)))), shape=(queries, len(size)))
    weight = np.maximum(sum_by(rows.query, 1 / size, queries), 1e-300)
    mean_z, mean_y = (by_query @ rows.z) / weight[:, None], (by_query @ rows.y) / weight
    within = (rows.z - mean_z[rows.query]) * root[:, None]
    target = (rows.y - mean_y[rows.query]) * root
    between = (mean_z * np.sqrt(weight)[:, None], mean_y * np.sqrt(weight), weight)
    return _compress_users(rows, within, target, float(np.sum(np.log(size))), between)


def _compress_with_slopes(rows: FeatureRows, size: FloatArray, slopes: float) -> CompactRows:
    queries, p = int(rows.query.max()) + 1, rows.z.shape[1]
    within, target = np.empty(rows.z.shape, dtype=np.float64), np.empty(len(size))
    mean_z, mean_y, weight, log_size = np.zeros((queries, p)), np.zeros(queries), np.zeros(queries), 0.0
    for some in whiten_queries(rows, size, slopes):
        query, one = rows.query[some.place[:, 0]], some.inverse.sum(axis=2)
        z, y = some.inverse @ rows.z[some.place], (some.inverse @ rows.y[some.place][:, :, None])[:, :, 0]
        weight[query] = np.sum(one**2, axis=1)
        one /= np.sqrt(weight[query])[:, None]
        mean_z[query], mean_y[query] = (one[:, None] @ z)[:, 0], np.sum(one * y, axis=1)
        within[some.place] = z - one[:, :, None] * mean_z[query][:, None]
        target[some.place] = y - one * mean_y[query][:, None]
        log_size += some.log_det
    return _compress_users(rows, within, target, log_size, (mean_z, mean_y, weight))


def _compress_users(
    rows: FeatureRows,
    within: FloatArray,
    target: FloatArray,
    log_size: float,
    between: tuple[FloatArray, FloatArray, FloatArray] | None = None,
) -> CompactRows:
    offsets, p, n = rows.segments(), rows.z.shape[1], len(rows.y)
    if between is None and int(np.diff(offsets).max()) <= p:
        return CompactRows(within, target, np.zeros(n), offsets, 0.0, n, log_size)
    alone = np.bincount(rows.query)[rows.query] == 1 if between is not None else np.zeros(n, dtype=np.bool_)
    parts: list[tuple[npt.NDArray[Any], FloatArray, FloatArray]] = []
    rest = 0.0
    for user in range(len(offsets) - 1):
        part = slice(offsets[user], offsets[user + 1])
        kept = ~alone[part]
        own, aim = within[part][kept], target[part][kept]
        if len(own) > p:
            own, aim, left = _reduce_by_qr(own, aim)
            rest += left
        level = np.zeros(len(own))
        if between is not None:
            queries = np.unique(rows.query[part])
            own, aim = np.vstack([own, between[0][queries]]), np.concatenate([aim, between[1][queries]])
            level = np.concatenate([level, between[2][queries]])
        parts.append((own, aim, level))
    ends = np.cumsum([0, *(len(aim) for _, aim, _ in parts)]).astype(np.int64)
    joined = [np.concatenate([part[place] for part in parts]) for place in range(3)]
    return CompactRows(joined[0], joined[1], joined[2], ends, rest, n, log_size)


def _reduce_by_qr(rows: FloatArray, target: FloatArray) -> tuple[FloatArray, FloatArray, float]:
    """Reduce rows and target to the R of a QR decomposition, and the square that is left."""
    p = rows.shape[1]
    upper = np.asarray(np.linalg.qr(np.column_stack([rows, target]), mode="r"), dtype=np.float64)
    return upper[:p, :p], upper[:p, p], float(upper[p, p] ** 2)


def round_single(data: CompactRows) -> CompactRows:
    """Round rows to single precision, and the other numbers likewise: what is stored is what predicts."""
    target, level = (values.astype(np.float32).astype(np.float64) for values in (data.target, data.level))
    return replace(data, rows=data.rows.astype(np.float32, copy=False), target=target, level=level)


def join_rows(parts: list[CompactRows], dtype: npt.DTypeLike) -> CompactRows:
    """Join compact rows of consecutive users, in a precision of choice."""
    counts = np.concatenate([np.diff(part.ends) for part in parts])
    rows = np.concatenate([part.rows.astype(dtype, copy=False) for part in parts])
    target, level = (np.concatenate([getattr(part, name) for part in parts]) for name in ("target", "level"))
    rest, log_size = sum(part.rest for part in parts), sum(part.log_size for part in parts)
    ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return CompactRows(rows, target, level, ends, rest, sum(part.labels for part in parts), log_size)


def select_users(data: CompactRows, users: IntArray) -> CompactRows:
    """Select some users' rows; what belongs to no row (rest, labels, log_size) in proportion to their rows' share."""
    count = np.diff(data.ends)[users]
    place = np.concatenate([np.arange(int(data.ends[user]), int(data.ends[user + 1])) for user in users])
    ends = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    share = len(place) / max(len(data.target), 1)
    left = (data.rest * share, round(data.labels * share), data.log_size * share)
    return CompactRows(data.rows[place], data.target[place], data.level[place], ends, *left)


def pad_batches(data: CompactRows, users: IntArray | None = None) -> Iterator[PaddedRows]:
    """Pad users of like numbers of rows together, in double precision up to ``SINGLE`` features."""
    count = np.diff(data.ends)
    chosen = np.arange(len(count)) if users is None else users
    order = chosen[np.argsort(count[chosen], kind="stable")]
    p, start = data.rows.shape[1], 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * max(int(count[order[stop]]), 1) * p <= BATCH_NUMBERS:
            stop += 1
        yield pad_users(data, order[start:stop], int(count[order[stop - 1]]))
        start = stop


def pad_users(data: CompactRows, users: IntArray, n: int) -> PaddedRows:
    """Pad the rows of some users to n."""
    used = np.arange(n) < np.diff(data.ends)[users][:, None]
    place = np.where(used, data.ends[users][:, None] + np.arange(n), 0)
    if not len(data.target):
        nothing = np.zeros((len(users), n))
        return PaddedRows(users, np.zeros((len(users), n, data.rows.shape[1])), nothing, nothing, used)
    rows = data.rows[place]
    rows = rows.astype(np.float64) if rows.shape[2] <= SINGLE else rows
    rows[~used] = 0.0
    return PaddedRows(users, rows, data.target[place] * used, data.level[place] * used, used)
