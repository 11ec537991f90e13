"""Check flat rows, one a candidate in any order, sort them by user, query and candidate, and code ids as integers."""

# pyright: basic
# (pyarrow ships no types)

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bestfor.data.text import hash_strings
from bestfor.errors import InputError
from bestfor.moved import renamed
from bestfor.types import BoolArray, FloatArray, IntArray, Scale

__getattr__ = renamed(__name__, {"Rows": "SortedRows"})


BLOCK = 1 << 17
"""Rows that are worked on at a time: their matrices take a few megabytes."""

LARGEST = 1e60
"""Largest size of a number, and the inverse of the smallest: variances of variances need fourth powers."""

IN_RANGE = f"numbers whose largest lies between {1 / LARGEST:g} and {LARGEST:g} in size (rescale them)"
Ids = Sequence[str] | Sequence[int] | npt.NDArray[Any]
"""One id a row: strings or integers, in a list, a NumPy array or an Arrow array."""


@dataclass(frozen=True)
class Reward:
    """Predictions of one reward model for every row.

    Attributes:
        mean: shape (rows,), the predicted mean; only this selects.
        scale: ``"utility"`` where the mean is in the utility's units, ``"arbitrary"`` where only its order counts.
        std: shape (rows,), the predictive standard deviation where there is one; it is judged, and selects nothing.
    """

    mean: FloatArray
    scale: Scale = "arbitrary"
    std: FloatArray | None = None


@dataclass(frozen=True)
class SortedRows:
    """Rows in the order of their queries; R rows, of which K are finite and kept, Q queries.

    Attributes:
        user: shape (R,), codes into ``user_names``.
        query: shape (R,), codes into ``query_names``.
        text: shape (R,), codes into ``text_names``, None where texts are unknown.
        utility: shape (R,).
        rewards: name of a model -> shape (R,).
        scales: name of a model -> the scale of its rewards.
        user_names, query_names, text_names: the distinct ids, sorted.
        order: shape (K,), the kept rows, sorted by user, query and candidate.
        index: shape (K,), their candidates' indices.
        size: shape (Q,), kept rows of each query.
        start: shape (Q,), where each query begins in ``order``.
        offered: shape (P,), rows of each query, of the P that have any, finite or not.
        merged: rows that repeated another one and were left out.
        rated: of ratings that were averaged: squares about each text's mean, their degrees of freedom, the sum of
            1 / ratings over texts, and how many texts.
    """

    user: IntArray
    query: IntArray
    text: IntArray | None
    utility: FloatArray
    rewards: dict[str, FloatArray]
    scales: dict[str, Scale]
    user_names: list[str]
    query_names: list[str]
    text_names: list[str]
    order: IntArray
    index: IntArray
    size: IntArray
    start: IntArray
    offered: IntArray
    merged: int = 0
    rated: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)

    @property
    def not_finite(self) -> int:
        """Number of rows that were dropped."""
        return len(self.utility) - len(self.order) - self.merged

    def blocks(self, rows: int = BLOCK) -> Iterator[IntArray]:
        """Iterate over queries in blocks of about so many rows, of alike sizes where padding would be wasteful.

        Yields:
            Indices of queries; every query stands in one block.
        """
        low, queries = 0, len(self.size)
        while low < queries:
            high = int(np.searchsorted(self.start, int(self.start[low]) + rows, side="left"))
            high = min(max(high, low + 1), queries)
            block = np.arange(low, high, dtype=np.int64)
            size = self.size[block]
            if len(block) * int(size.max()) <= 2 * int(size.sum()):
                yield block
            else:
                doublings: IntArray = np.log2(size).astype(np.int64)
                for one in sorted(set(doublings.tolist())):
                    yield block[doublings == one]
            low = high


def sort_rows(
    user: Ids,
    query: Ids,
    utility: npt.ArrayLike,
    rewards: Mapping[str, Reward | npt.ArrayLike],
    *,
    text: Ids | None = None,
    candidate: Ids | None = None,
    number: IntArray | None = None,
) -> SortedRows:
    """Check columns and sort their rows by user, query and candidate; rows that are not finite are left out.

    Args:
        user: shape (R,), user ids.
        query: shape (R,), query ids; the same id under two users makes two queries.
        utility: shape (R,).
        rewards: name of a model -> its rewards, each of shape (R,); bare arrays are of arbitrary scale.
        text: shape (R,), ids of the texts.
        candidate: shape (R,), integers that tell candidates of a query apart; where None they are numbered by utility,
            rewards and text, so that nothing depends on the order of the rows.
        number: shape (R,), the rows' numbers in a larger table, for errors; 1 .. R where None.

    Returns:
        The rows; without queries where no row is finite.

    Raises:
        InputError: no rows, columns of different lengths, ids that are missing, or a candidate that stands twice.
    """
    columns, utilities = _columns(rewards), _floats("utility", utility)
    given = {"user": user, "query": query, "utility": utilities, "text": text, "candidate": candidate}
    _check_lengths({**given, **{f"rewards '{name}'": column for name, column in columns.items()}})
    users, user_names = encode("user", user)
    queries, query_names = encode("query", query)
    texts, text_names = (None, []) if text is None else encode("text", text)
    pool = users * len(query_names) + queries
    content = [utilities, *(columns[name] for name in sorted(columns)), *([] if texts is None else [texts])]
    indices = None if candidate is None else _integers("candidate", candidate)
    order, pool, index = _order_by_content(pool, content) if indices is None else _order(pool, indices, number)
    offered = _sizes(pool)
    keep = _finite(utilities, *columns.values())[order]
    order, pool, index = order[keep], pool[keep], index[keep]
    return SortedRows(
        user=users,
        query=queries,
        text=texts,
        utility=utilities,
        rewards=columns,
        scales={name: _scale(reward) for name, reward in rewards.items()},
        user_names=user_names,
        query_names=query_names,
        text_names=text_names,
        order=order,
        index=index,
        size=_sizes(pool),
        start=_starts(pool),
        offered=offered,
    )


def _sizes(pool: IntArray) -> IntArray:
    """Count the rows of each pool, from the sorted rows' pools."""
    return np.diff(np.r_[_starts(pool), len(pool)]).astype(np.int64)


def _columns(rewards: Mapping[str, Reward | npt.ArrayLike]) -> dict[str, FloatArray]:
    if not rewards:
        raise InputError("rewards", "no reward model", "at least one column of rewards")
    return {name: _floats(f"rewards '{name}'", _mean(reward)) for name, reward in rewards.items()}


def _scale(reward: Reward | npt.ArrayLike) -> Scale:
    return reward.scale if isinstance(reward, Reward) else "arbitrary"


def check_any(rows: SortedRows) -> None:
    """Refuse rows of which none is left.

    Raises:
        InputError: no row has a finite utility and finite rewards.
    """
    if not len(rows.size):
        raise InputError("rows", "none with a finite utility and finite rewards", "at least one")


def check_sizes(rows: SortedRows) -> None:
    """Refuse numbers whose fourth powers overflow or vanish.

    Raises:
        InputError: a column's largest finite number is beyond 1e60 in size, or below 1e-60 and not 0.
    """
    columns = {"utility": rows.utility} | {f"rewards '{name}'": column for name, column in rows.rewards.items()}
    for name, column in columns.items():
        largest, row = largest_size(column)
        if out_of_range(largest):
            raise InputError(f"{name}, row {row + 1}", f"{column[row]:g}", IN_RANGE)


def largest_size(column: FloatArray) -> tuple[float, int]:
    """Find the largest size of the finite numbers (0 where there are none) and its row."""
    size = np.abs(column)
    size[~np.isfinite(size)] = 0.0
    row = int(size.argmax())
    return float(size[row]), row


def out_of_range(largest: float) -> bool:
    """Decide whether fourth powers of a column whose largest size this is would overflow or vanish."""
    return largest > 0 and not 1 / LARGEST <= largest <= LARGEST


def encode(where: str, ids: Ids) -> tuple[IntArray, list[str]]:
    """Code ids as integers.

    Args:
        where: the column's name, for errors.
        ids: shape (rows,).

    Returns:
        Shape (rows,), codes in the order of the sorted ids (numbers by value), and the distinct ids as strings.

    Raises:
        InputError: an id is missing, or they are neither all strings nor all numbers.
    """
    if isinstance(ids, np.ndarray) and ids.ndim == 1 and ids.dtype.kind == "U":
        return _by_runs(ids, np.flatnonzero(ids[1:] != ids[:-1]) + 1)
    try:
        array: Any = ids if isinstance(ids, pa.Array | pa.ChunkedArray) else pa.array(ids)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InputError(where, str(error).splitlines()[0], "ids that are all strings or all integers") from error
    if array.null_count:
        missing = int(np.flatnonzero(np.asarray(array.is_null()))[0])
        raise InputError(where, f"no id in row {missing + 1}", "an id in every row")
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_string(array.type) and len(array) > 1:
        same = pc.equal(array.slice(1), array.slice(0, len(array) - 1))  # pyright: ignore[reportAttributeAccessIssue]
        return _by_runs(array, np.flatnonzero(~same.to_numpy(zero_copy_only=False)) + 1)
    return _coded(array)


def _by_runs(ids: Any, change: IntArray) -> tuple[IntArray, list[str]]:  # noqa: ANN401
    """Encode one id of each run: rows of a query, and of a user, mostly follow one another, and strings are slow."""
    first = np.r_[0, change][: len(ids)]
    heads = ids if len(first) == len(ids) else ids.take(first if isinstance(ids, np.ndarray) else pa.array(first))
    codes, names = _coded(pa.array(heads) if isinstance(heads, np.ndarray) else heads)
    return np.repeat(codes, np.diff(np.r_[first, len(ids)])), names


def _coded(array: pa.Array) -> tuple[IntArray, list[str]]:
    coded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    names = coded.dictionary.to_pylist()
    order = sorted(range(len(names)), key=names.__getitem__)
    place = np.empty(len(names), dtype=np.int64)
    place[order] = np.arange(len(names))
    return place[coded.indices.to_numpy(zero_copy_only=False)], [str(names[code]) for code in order]


def decode(names: Sequence[str], codes: IntArray) -> tuple[str, ...]:
    """Look up the names that codes stand for."""
    places: list[int] = codes.tolist()
    return tuple([names[place] for place in places])


def hash_ids(ids: Sequence[str]) -> npt.NDArray[np.uint64]:
    """Hash ids to 64 bits, the same on every machine."""
    return hash_strings(pa.array(ids, pa.large_string()))


def _starts(sorted_key: IntArray) -> IntArray:
    if not len(sorted_key):
        return np.zeros(0, dtype=np.int64)
    return np.flatnonzero(np.r_[True, sorted_key[1:] != sorted_key[:-1]])


def _finite(*columns: FloatArray) -> BoolArray:
    result = np.isfinite(columns[0])
    for column in columns[1:]:
        result &= np.isfinite(column)
    return result


def _mean(reward: Reward | npt.ArrayLike) -> npt.ArrayLike:
    return reward.mean if isinstance(reward, Reward) else reward


def _floats(where: str, values: npt.ArrayLike) -> FloatArray:
    try:
        column = np.asarray(values, dtype=np.float64) + 0.0  # -0 becomes 0
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(where, str(error), "numbers") from error
    if column.ndim != 1:
        raise InputError(where, f"{column.ndim} dimensions", "one, with a number a row")
    return column


def _integers(where: str, values: Ids) -> IntArray:
    column = np.asarray(values)
    if column.ndim != 1 or not np.issubdtype(column.dtype, np.integer):
        raise InputError(where, f"{column.dtype} values", "one integer a row")
    return column.astype(np.int64)


def _check_lengths(columns: Mapping[str, Sequence[Any] | npt.NDArray[Any] | None]) -> None:
    lengths = {name: len(column) for name, column in columns.items() if column is not None}
    expected = lengths["utility"]
    if expected == 0:
        raise InputError("rows", "an empty table", "one row a candidate")
    for name, length in lengths.items():
        if length != expected:
            raise InputError(name, f"{length} rows", f"{expected}, as many as utilities")


def _order_by_content(key: IntArray, content: Sequence[npt.NDArray[Any]]) -> tuple[IntArray, IntArray, IntArray]:
    """Sort rows by pool and content: their order, the sorted pool keys and places in the pool."""
    order = np.lexsort((*reversed(content), key))
    pool = key[order]
    first = _starts(pool)
    return order, pool, np.arange(len(pool)) - np.repeat(first, np.diff(np.r_[first, len(pool)]))


def _order(key: IntArray, candidate: IntArray, number: IntArray | None) -> tuple[IntArray, IntArray, IntArray]:
    """Sort rows by pool and candidate: their order, the sorted pool keys and the candidate indices."""
    order = np.lexsort((candidate, key))
    pool, index = key[order], candidate[order]
    twice = np.flatnonzero((pool[1:] == pool[:-1]) & (index[1:] == index[:-1]))
    if len(twice):
        row = int(order[twice[0] + 1])
        found = f"candidate {index[twice[0]]} twice in the query of row {row + 1 if number is None else number[row]}"
        raise InputError("candidate", found, "each candidate of a query once")
    return order, pool, index
