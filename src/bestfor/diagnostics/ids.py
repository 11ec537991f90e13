"""Ids of any kind as integer codes."""

# pyright: basic
# (pyarrow ships no types)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

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
    try:
        array: Any = ids if isinstance(ids, pa.Array | pa.ChunkedArray) else pa.array(ids)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InputError(where, str(error).splitlines()[0], "ids that are all strings or all integers") from error
    if array.null_count:
        missing = int(np.flatnonzero(np.asarray(array.is_null()))[0])
        raise InputError(where, f"no id in row {missing + 1}", "an id in every row")
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    coded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    names = coded.dictionary.to_pylist()
    order = sorted(range(len(names)), key=names.__getitem__)
    place = np.empty(len(names), dtype=np.int64)
    place[order] = np.arange(len(names))
    return place[coded.indices.to_numpy(zero_copy_only=False)], [str(names[code]) for code in order]


def pick(names: Sequence[str], codes: IntArray) -> tuple[str, ...]:
    """The names that the codes stand for."""
    return tuple(names[int(code)] for code in codes)
