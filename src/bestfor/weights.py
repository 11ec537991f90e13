"""Arrays of a weights file: rows of users, the index by which some of them are found, and checksums.

Arrays whose name begins with ``user.`` have one row a user; with a companion ``NAME.ends`` (users + 1 offsets from 0)
they have as many rows as each user needs. An index beside them makes it possible to find some users out of a million
by binary search, and to read and check their rows without the others':

    index.names  shape (bytes,), UTF-8 of all ids in ascending order, one after the other
    index.ends   shape (users + 1,), where each id ends
    index.checks shape (users,), CRC-32 over a user's rows of all ``user.`` arrays in the order of their names

UTF-8 keeps the order of code points, so ids that ascend as strings ascend as bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from bestfor.errors import InputError

Arrays = dict[str, npt.NDArray[Any]]
Read = Callable[[str, int, int], npt.NDArray[Any]]
"""Reads rows of an array: its name, the first row, and the one after the last."""

PERSONAL = "user."
INDEX = "index."
ENDS = ".ends"


class ReplacedError(InputError):
    """A file of a model that is not there: damage, or a writer has replaced the model since it was opened."""


def index_of(users: Sequence[str], arrays: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    """Make the index of users; nothing where there are none.

    Raises:
        ValueError: ids that do not ascend, or an array that does not have a row a user.
    """
    personal = personal_names(arrays)
    if not users:
        if personal:
            raise ValueError(f"arrays {', '.join(personal)} without users")
        return {}
    if any(low >= high for low, high in pairwise(users)):
        raise ValueError("user ids that do not ascend")
    count = len(users)
    for name in personal:
        ends = arrays.get(name + ENDS)
        fits = len(arrays[name]) == (count if ends is None else int(ends[-1]))
        if not fits or (ends is not None and len(ends) != count + 1):
            raise ValueError(f"array {name} with {len(arrays[name])} rows for {count} users")
    encoded = [user.encode() for user in users]
    checks = np.zeros(count, dtype=np.uint32)
    for name in personal:
        ends = arrays.get(name + ENDS)
        values = np.ascontiguousarray(arrays[name])
        bounds = np.arange(count + 1) if ends is None else ends
        for code in range(count):
            checks[code] = checksum(values[bounds[code] : bounds[code + 1]], int(checks[code]))
    return {
        "index.names": np.frombuffer(b"".join(encoded), dtype=np.uint8),
        "index.ends": np.cumsum([0, *map(len, encoded)]).astype(np.int64),
        "index.checks": checks,
    }


def all_users(arrays: Mapping[str, npt.NDArray[Any]]) -> tuple[str, ...]:
    """List every id of an index."""
    if "index.ends" not in arrays:
        return ()
    names, ends = arrays["index.names"].tobytes(), arrays["index.ends"].tolist()
    return tuple(names[low:high].decode() for low, high in pairwise(ends))


def some_users(
    handle: Any,  # noqa: ANN401 - an open safetensors file has no public type
    users: Sequence[str],
    checks: object,
) -> tuple[Arrays, tuple[str, ...]]:
    """Read shared arrays whole, and the rows of some users.

    Args:
        handle: an open safetensors file.
        users: ids in any order; those that are not in the file are left out.
        checks: CRC-32 of each shared array by name.

    Returns:
        Arrays of the found users in ascending order, and their ids.

    Raises:
        ValueError: bytes that do not match their checksums.
    """
    names = set(handle.keys())
    if not isinstance(checks, dict) or {name for name in names if not is_personal(name)} != set(checks):
        raise ValueError("other tensors than config.json lists")
    arrays: Arrays = {name: handle.get_tensor(name) for name in sorted(checks)}
    for name, values in arrays.items():
        if checksum(values) != checks[name]:
            raise ValueError(f"a damaged tensor '{name}'")
    slices: dict[str, Any] = {name: handle.get_slice(name) for name in names if is_personal(name)}
    read = reader(handle, slices)
    wanted = sorted(set(users)) if "index.ends" in names else []
    places = [(user, find_user(read, slices["index.ends"].get_shape()[0] - 1, user)) for user in wanted]
    found = [(user, place) for user, place in places if place is not None]
    return {**arrays, **rows_at(read, personal_names(slices), slices, [place for _, place in found])}, tuple(
        user for user, _ in found
    )


def reader(handle: Any, slices: Mapping[str, Any]) -> Read:  # noqa: ANN401 - as above
    """Make what reads rows of an open file; no rows are read too, wherever they would begin."""

    def read(name: str, low: int, high: int) -> npt.NDArray[Any]:
        if low < high:
            return slices[name][low:high]
        return slices[name][0:0] if slices[name].get_shape()[0] else handle.get_tensor(name)

    return read


def rows_at(read: Read, personal: list[str], known: Mapping[str, Any], places: list[int]) -> Arrays:
    """Read and check the rows of the users at some places."""
    arrays: Arrays = {}
    check = [0] * len(places)
    for name in personal:
        parts = []
        for spot, place in enumerate(places):
            low, high = place, place + 1
            if name + ENDS in known:
                low, high = (int(end) for end in read(name + ENDS, place, place + 2))
            parts.append(read(name, low, high))
            check[spot] = checksum(parts[-1], check[spot])
        arrays[name] = np.concatenate(parts) if parts else read(name, 0, 0)
        if name + ENDS in known:
            arrays[name + ENDS] = np.cumsum([0, *map(len, parts)]).astype(np.int64)
    for spot, place in enumerate(places):
        if check[spot] != int(read("index.checks", place, place + 1)[0]):
            raise ValueError(f"damaged rows of user number {place}")
    return arrays


def find_user(read: Read, count: int, user: str) -> int | None:
    """Find the place of an id by binary search; None where it is absent."""
    key, low, high = user.encode(), 0, count
    while low < high:
        middle = (low + high) // 2
        start, stop = (int(end) for end in read("index.ends", middle, middle + 2))
        name = read("index.names", start, stop).tobytes()
        if name == key:
            return middle
        low, high = (middle + 1, high) if name < key else (low, middle)
    return None


def personal_names(names: Mapping[str, Any]) -> list[str]:
    """List the arrays with rows of users, in the order in which checksums run over them."""
    return sorted(name for name in names if name.startswith(PERSONAL) and not name.endswith(ENDS))


def is_personal(name: str) -> bool:
    """Check whether an array is read by user: rows of users, or the index of users."""
    return name.startswith((PERSONAL, INDEX))


def checksum(values: npt.NDArray[Any], start: int = 0) -> int:
    """CRC-32 of an array's bytes, continued from ``start``."""
    return zlib.crc32(np.ascontiguousarray(values).view(np.uint8).data if values.size else b"", start)
