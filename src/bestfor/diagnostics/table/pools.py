"""Hold ragged pools of candidates: one padded matrix per quantity, every query a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bestfor.diagnostics.table.rows import Ids, Reward, SortedRows, check_any, decode, sort_rows
from bestfor.rng import derive
from bestfor.types import BoolArray, FloatArray, IntArray, Scale

LARGE_OFFSET = 1e4
"""Utilities further from 0 than so many times their range are centred first: sums of them would lose digits."""


@dataclass(frozen=True)
class Dropped:
    """Counts of what a diagnosis had to leave out.

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
        text_ids: the distinct texts that stand here, sorted.
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

    def moved(self, by: float) -> Pools:
        """Add a number to every utility."""
        return self if by == 0 else replace(self, utility=np.where(self.mask, self.utility + by, 0.0))

    def offset(self) -> float:
        """Find the middle of the utilities where it takes so many digits that few are left for their differences.

        Returns:
            0 where it is at most 10,000 times as large as their range, or they do not vary.
        """
        utility = self.utility[self.mask]
        low, high = float(utility.min()), float(utility.max())
        return low + (high - low) / 2 if abs(low) > LARGE_OFFSET * (high - low) > 0 else 0.0

    def with_at_least(self, candidates: int) -> Pools:
        """Keep only the pools of this size or more; the others are added to ``dropped.too_few_candidates``."""
        keep = np.flatnonzero(self.size >= candidates)
        if len(keep) == len(self):
            return self
        lost = self.dropped.too_few_candidates + len(self) - len(keep)
        return replace(self.take(keep), dropped=replace(self.dropped, too_few_candidates=lost))

    def take(self, queries: IntArray) -> Pools:
        """Take only these pools, in this order; users without any are left out."""
        users, user = np.unique(self.user[queries], return_inverse=True)
        return replace(
            self,
            user=user.astype(np.int64),
            size=self.size[queries],
            utility=self.utility[queries],
            text=None if self.text is None else self.text[queries],
            candidate=self.candidate[queries],
            rewards={name: reward[queries] for name, reward in self.rewards.items()},
            user_ids=decode(self.user_ids, users),
            query_ids=decode(self.query_ids, queries),
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
        user: these columns are those of :func:`~bestfor.diagnostics.table.rows.sort_rows`.
        query: ids.
        utility: what we truly care about.
        rewards: name of a model -> its rewards.
        text: ids, so that users who saw the same text are known.
        candidate: integers.

    Returns:
        The pools, sorted by user and query, each pool by candidate.

    Raises:
        InputError: what :func:`~bestfor.diagnostics.table.rows.sort_rows` refuses, or no row that is finite.
    """
    rows = sort_rows(user, query, utility, rewards, text=text, candidate=candidate)
    check_any(rows)
    pools = pools_of(rows, np.arange(len(rows.size), dtype=np.int64))
    return replace(pools, dropped=Dropped(not_finite=rows.not_finite))


def pools_of(rows: SortedRows, queries: IntArray) -> Pools:
    """Make pools of some queries of sorted rows; nothing is counted as dropped.

    Args:
        rows: from :func:`~bestfor.diagnostics.table.rows.sort_rows`.
        queries: shape (Q,), at least one, increasing.
    """
    size = rows.size[queries]
    pool: IntArray = np.repeat(np.arange(len(size)), size)
    place: IntArray = np.arange(int(size.sum())) - np.repeat(np.cumsum(size) - size, size)
    kept = np.repeat(rows.start[queries], size) + place
    source = rows.order[kept]

    def padded(values: npt.NDArray[Any], fill: float) -> npt.NDArray[Any]:
        matrix = np.full((len(size), int(size.max())), fill, dtype=values.dtype)
        matrix[pool, place] = values
        return matrix

    first = rows.order[rows.start[queries]]
    users, user = np.unique(rows.user[first], return_inverse=True)
    texts, text = (None, None) if rows.text is None else np.unique(rows.text[source], return_inverse=True)
    return Pools(
        user=user.astype(np.int64),
        size=size,
        utility=padded(rows.utility[source], 0.0),
        text=None if text is None else padded(text.astype(np.int64), -1),
        candidate=padded(rows.index[kept], -1),
        rewards={name: padded(column[source], 0.0) for name, column in rows.rewards.items()},
        scales=rows.scales,
        user_ids=decode(rows.user_names, users),
        query_ids=decode(rows.query_names, rows.query[first]),
        text_ids=() if texts is None else decode(rows.text_names, texts),
        dropped=Dropped(),
    )


def cut_pools(pools: Pools, most: int) -> Pools:
    """Cut pools to a number of candidates at random, by the hash of their users' and their own ids.

    Args:
        pools: of any size.
        most: candidates that are left of larger pools.
    """
    width = min(int(pools.utility.shape[1]), most)
    large = np.flatnonzero(pools.size > most).tolist()
    if not large:
        return pools
    kept: IntArray = np.tile(np.arange(width), (len(pools), 1))
    for row in large:
        rng = derive(0, "cut", pools.user_ids[int(pools.user[row])], pools.query_ids[row])
        kept[row] = np.sort(rng.choice(int(pools.size[row]), most, replace=False))

    def cut(matrix: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.take_along_axis(matrix, kept, axis=1)

    return replace(
        pools,
        size=np.minimum(pools.size, most),
        utility=cut(pools.utility),
        text=None if pools.text is None else cut(pools.text),
        candidate=cut(pools.candidate),
        rewards={name: cut(reward) for name, reward in pools.rewards.items()},
    )


def join_pools(parts: Sequence[Pools], order: IntArray) -> Pools:
    """Join pools of several blocks; nothing is counted as dropped.

    Args:
        parts: at least one, with the same models, all with texts or all without.
        order: shape (Q,), the place that each pool takes, the parts one after the other.
    """
    names = sorted({user for part in parts for user in part.user_ids})
    code = {user: place for place, user in enumerate(names)}
    users = [np.array([code[one] for one in part.user_ids], dtype=np.int64)[part.user] for part in parts]
    queries = [query for part in parts for query in part.query_ids]
    back = np.argsort(order)

    def stacked(matrices: Sequence[npt.NDArray[Any]], fill: float) -> npt.NDArray[Any]:
        widest = max(int(matrix.shape[1]) for matrix in matrices)
        result = np.full((len(order), widest), fill, dtype=matrices[0].dtype)
        low = 0
        for matrix in matrices:
            high = low + len(matrix)
            result[order[low:high], : matrix.shape[1]] = matrix
            low = high
        return result

    text_ids, texts = _joined_texts(parts)
    return Pools(
        user=np.concatenate(users)[back],
        size=np.concatenate([part.size for part in parts])[back],
        utility=stacked([part.utility for part in parts], 0.0),
        text=stacked(texts, -1) if texts else None,
        candidate=stacked([part.candidate for part in parts], -1),
        rewards={name: stacked([part.rewards[name] for part in parts], 0.0) for name in parts[0].rewards},
        scales=parts[0].scales,
        user_ids=tuple(names),
        query_ids=decode(queries, back),
        text_ids=text_ids,
        dropped=Dropped(),
    )


def _joined_texts(parts: Sequence[Pools]) -> tuple[tuple[str, ...], list[IntArray]]:
    """Join the distinct texts of all parts, sorted, with each part's codes; nothing where texts are unknown."""
    known = [part.text for part in parts if part.text is not None]
    if not known:
        return (), []
    names = tuple(sorted({text for part in parts for text in part.text_ids}))
    place = {name: code for code, name in enumerate(names)}
    maps = [np.array([*(place[one] for one in part.text_ids), -1], dtype=np.int64) for part in parts]
    return names, [codes[text] for codes, text in zip(maps, known, strict=True)]  # -1 stays: it is the last of the map
