"""Ids of any kind as integer codes."""

# pyright: basic
# (pyarrow ships no types)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bestfor.data.hashing import hash_strings
from bestfor.errors import InputError
from bestfor.types import IntArray

Ids = Sequence[str] | Sequence[int] | npt.NDArray[Any]
"""One id a row: strings or integers, in a list, a NumPy array or an Arrow array."""


def encode(where: str, ids: Ids) -> tuple[IntArray, list[str]]:
    """Ids as codes.

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


def pick(names: Sequence[str], codes: IntArray) -> tuple[str, ...]:
    """The names that the codes stand for."""
    places: list[int] = codes.tolist()
    return tuple([names[place] for place in places])


def hash_ids(ids: Sequence[str]) -> npt.NDArray[np.uint64]:
    """64-bit hashes, the same on every machine."""
    return hash_strings(pa.array(ids, pa.large_string()))
