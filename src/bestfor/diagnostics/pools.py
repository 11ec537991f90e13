"""Rows of candidates as ragged pools: one padded matrix per quantity, every query a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bestfor.diagnostics.ids import Ids, encode, pick
from bestfor.errors import InputError
from bestfor.types import BoolArray, FloatArray, IntArray, Scale


@dataclass(frozen=True)
class Reward:
    """What one reward model predicted for every row.

    Attributes:
        mean: shape (rows,), the predicted mean; only this selects.
        scale: ``"utility"`` where the mean is in the utility's units, ``"arbitrary"`` where only its order counts.
    """

    mean: FloatArray
    scale: Scale = "arbitrary"


@dataclass(frozen=True)
class Dropped:
    """What a diagnosis had to leave out.

    Attributes:
        too_few_candidates: queries with fewer candidates than the largest N.
        not_finite: rows with a utility, or a reward of any model, that is NaN or infinite.
    """

    too_few_candidates: int = 0
    not_finite: int = 0


@dataclass(frozen=True)
class Pools:
    """Ragged pools as padded matrices: Q queries, M the largest pool; entries past a pool's size mean nothing.

    Attributes:
        user: shape (Q,), each query's user, an index into ``user_ids``.
        size: shape (Q,), candidates in each pool.
        utility: shape (Q, M), 0 past the size.
        text: shape (Q, M), codes into ``text_ids``, -1 past the size; None where the texts are unknown.
        candidate: shape (Q, M), the candidate's index within its query, -1 past the size.
        rewards: name of a model -> shape (Q, M), 0 past the size.
        scales: name of a model -> the scale of its rewards.
        user_ids: the users that have a query here, sorted.
        query_ids: shape (Q,) in the order of the rows, sorted by user, then query.
        text_ids: the distinct texts, sorted.
        dropped: what was left out on the way.
    """

    user: IntArray
    size: IntArray
    utility: FloatArray
    text: IntArray | None
    candidate: IntArray
    rewards: dict[str, FloatArray]
    scales: dict[str, Scale]
    user_ids: tuple[str, ...]
    query_ids: tuple[str, ...]
    text_ids: tuple[str, ...]
    dropped: Dropped

    def __len__(self) -> int:
        return len(self.size)

    @property
    def mask(self) -> BoolArray:
        """Shape (Q, M): True where a candidate stands."""
        place: IntArray = np.arange(int(self.utility.shape[1]))
        return place < self.size[:, None]

    def with_at_least(self, candidates: int) -> Pools:
        """Only the pools of this size or more; the others are added to ``dropped.too_few_candidates``."""
        keep = np.flatnonzero(self.size >= candidates)
        if len(keep) == len(self):
            return self
        users, user = np.unique(self.user[keep], return_inverse=True)
        lost = self.dropped.too_few_candidates + len(self) - len(keep)
        return replace(
            self,
            user=user.astype(np.int64),
            size=self.size[keep],
            utility=self.utility[keep],
            text=None if self.text is None else self.text[keep],
            candidate=self.candidate[keep],
            rewards={name: reward[keep] for name, reward in self.rewards.items()},
            user_ids=pick(self.user_ids, users),
            query_ids=pick(self.query_ids, keep),
            dropped=replace(self.dropped, too_few_candidates=lost),
        )


def pools_from_rows(
    user: Ids,
    query: Ids,
    utility: npt.ArrayLike,
    rewards: Mapping[str, Reward | npt.ArrayLike],
    *,
    text: Ids | None = None,
    candidate: Ids | None = None,
) -> Pools:
    """Gather flat rows, one a candidate and in any order, into pools.

    A query belongs to one user: the same query id under two users makes two pools. A row that is not finite for one
    model is dropped for all, so that models are compared on the same candidates.

    Args:
        user: shape (rows,), user ids.
        query: shape (rows,), query ids.
        utility: shape (rows,), what we truly care about.
        rewards: name of a model -> its rewards, each of shape (rows,); bare arrays are of arbitrary scale.
        text: shape (rows,), ids of the texts, so that users who saw the same text are known.
        candidate: shape (rows,), integers that tell candidates of a query apart; the order of the rows where None.

    Returns:
        The pools, sorted by user and query, each pool by candidate.

    Raises:
        InputError: no rows, columns of different lengths, ids that are missing, a candidate that stands twice, or no
            row that is finite.
    """
    if not rewards:
        raise InputError("rewards", "no reward model", "at least one column of rewards")
    columns = {name: _floats(f"rewards '{name}'", _mean(reward)) for name, reward in rewards.items()}
    utilities = _floats("utility", utility)
    _check_lengths({"user": user, "query": query, "utility": utilities, "text": text, "candidate": candidate})
    _check_lengths({"utility": utilities, **{f"rewards '{name}'": column for name, column in columns.items()}})
    users, user_names = encode("user", user)
    queries, query_names = encode("query", query)
    texts, text_names = (None, []) if text is None else encode("text", text)
    indices = None if candidate is None else _integers("candidate", candidate)

    rows = _gathered(users * len(query_names) + queries, indices, _finite(utilities, *columns.values()))
    kept_users, kept_user = np.unique(users[rows.first], return_inverse=True)
    return Pools(
        user=kept_user.astype(np.int64),
        size=rows.size,
        utility=rows.padded(utilities, 0.0),
        text=None if texts is None else rows.padded(texts, -1),
        candidate=rows.placed(rows.index, -1),
        rewards={name: rows.padded(column, 0.0) for name, column in columns.items()},
        scales={name: reward.scale if isinstance(reward, Reward) else "arbitrary" for name, reward in rewards.items()},
        user_ids=pick(user_names, kept_users),
        query_ids=pick(query_names, queries[rows.first]),
        text_ids=tuple(text_names),
        dropped=Dropped(not_finite=len(utilities) - len(rows.order)),
    )


@dataclass(frozen=True)
class _Rows:
    """Where every kept row goes.

    Attributes:
        order: shape (kept,), rows sorted by pool and candidate.
        index: shape (kept,), their candidate indices.
        size: shape (Q,).
        first: shape (Q,), a row of each pool.
        cell: each kept row's pool and place in it.
    """

    order: IntArray
    index: IntArray
    size: IntArray
    first: IntArray
    cell: tuple[IntArray, IntArray]

    def padded(self, values: npt.NDArray[Any], fill: float) -> npt.NDArray[Any]:
        """A column of the table as a matrix of pools."""
        return self.placed(values[self.order], fill)

    def placed(self, values: npt.NDArray[Any], fill: float) -> npt.NDArray[Any]:
        """Values of the kept rows, already in order, as a matrix of pools."""
        matrix = np.full((len(self.size), int(self.size.max())), fill, dtype=values.dtype)
        matrix[self.cell] = values
        return matrix


def _finite(*columns: FloatArray) -> BoolArray:
    result = np.isfinite(columns[0])
    for column in columns[1:]:
        result &= np.isfinite(column)
    return result


def _gathered(key: IntArray, candidate: IntArray | None, finite: BoolArray) -> _Rows:
    order, pool, index = _order(key, candidate)
    keep = finite[order]
    if not keep.any():
        raise InputError("rows", "none with a finite utility and finite rewards", "at least one")
    order, pool, index = order[keep], pool[keep], index[keep]
    first = np.flatnonzero(np.r_[True, pool[1:] != pool[:-1]])
    size = np.diff(np.r_[first, len(pool)]).astype(np.int64)
    row: IntArray = np.repeat(np.arange(len(size)), size)
    column: IntArray = np.arange(len(pool)) - np.repeat(first, size)
    return _Rows(order, index, size, order[first], (row, column))


def _mean(reward: Reward | npt.ArrayLike) -> npt.ArrayLike:
    return reward.mean if isinstance(reward, Reward) else reward


def _floats(where: str, values: npt.ArrayLike) -> FloatArray:
    try:
        column = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(where, str(error), "numbers") from error
    if column.ndim != 1:
        raise InputError(where, f"{column.ndim} dimensions", "one, with a number a row")
    return column


def _integers(where: str, values: Ids) -> IntArray:
    column = np.asarray(values)
    if column.ndim != 1 or not np.issubdtype(column.dtype, np.integer):
        raise InputError(where, f"{column.dtype} values", "one integer a row")
    return column.astype(np.int64)


def _check_lengths(columns: Mapping[str, Any]) -> None:
    lengths = {name: len(column) for name, column in columns.items() if column is not None}
    expected = lengths["utility"]
    if expected == 0:
        raise InputError("rows", "an empty table", "one row a candidate")
    for name, length in lengths.items():
        if length != expected:
            raise InputError(name, f"{length} rows", f"{expected}, as many as utilities")


def _order(key: IntArray, candidate: IntArray | None) -> tuple[IntArray, IntArray, IntArray]:
    """Rows sorted by pool and candidate: their order, the sorted pool keys and the candidate indices."""
    order = np.argsort(key, kind="stable") if candidate is None else np.lexsort((candidate, key))
    pool = key[order]
    first = np.flatnonzero(np.r_[True, pool[1:] != pool[:-1]])
    if candidate is None:
        return order, pool, np.arange(len(pool)) - np.repeat(first, np.diff(np.r_[first, len(pool)]))
    index = candidate[order]
    twice = np.flatnonzero((pool[1:] == pool[:-1]) & (index[1:] == index[:-1]))
    if len(twice):
        found = f"candidate {index[twice[0]]} twice in the query of row {order[twice[0] + 1] + 1}"
        raise InputError("candidate", found, "each candidate of a query once")
    return order, pool, index
