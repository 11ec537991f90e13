"""Rows of some users out of a tensor file: an index of ids that is searched, not read, and checksums by user.

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

Arrays = dict[str, npt.NDArray[Any]]
Read = Callable[[str, int, int], npt.NDArray[Any]]

PERSONAL = "user."
INDEX = "index."
ENDS = ".ends"


def is_personal(name: str) -> bool:
    """Whether an array is read by user (rows of users, or the index of users)."""
    return name.startswith((PERSONAL, INDEX))


def checksum(values: npt.NDArray[Any], start: int = 0) -> int:
    """CRC-32 of an array's bytes."""
    return zlib.crc32(np.ascontiguousarray(values).view(np.uint8).data if values.size else b"", start)


def index(users: Sequence[str], arrays: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    """The index of users, nothing where there are none.

    Raises:
        ValueError: ids that do not ascend, or an array that does not have a row a user.
    """
    personal = _personal(arrays)
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
    """Every id."""
    if "index.ends" not in arrays:
        return ()
    names, ends = arrays["index.names"].tobytes(), arrays["index.ends"].tolist()
    return tuple(names[low:high].decode() for low, high in pairwise(ends))


def some_users(
    handle: Any,  # noqa: ANN401 - an open safetensors file has no public type
    users: Sequence[str],
    checks: object,
) -> tuple[Arrays, tuple[str, ...]]:
    """Shared arrays whole, and the rows of some users.

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

    def read(name: str, low: int, high: int) -> npt.NDArray[Any]:
        return slices[name][low:high]

    wanted = sorted(set(users)) if "index.ends" in names else []
    places = [(user, _find(read, slices["index.ends"].get_shape()[0] - 1, user)) for user in wanted]
    found = [(user, place) for user, place in places if place is not None]
    return {**arrays, **_rows(read, _personal(slices), slices, [place for _, place in found])}, tuple(
        user for user, _ in found
    )


def _rows(read: Read, personal: list[str], known: Mapping[str, Any], places: list[int]) -> Arrays:
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


def _find(read: Read, count: int, user: str) -> int | None:
    """Place of an id by binary search."""
    key, low, high = user.encode(), 0, count
    while low < high:
        middle = (low + high) // 2
        start, stop = (int(end) for end in read("index.ends", middle, middle + 2))
        name = read("index.names", start, stop).tobytes()
        if name == key:
            return middle
        low, high = (middle + 1, high) if name < key else (low, middle)
    return None


def _personal(names: Mapping[str, Any]) -> list[str]:
    """Arrays with rows of users, in the order in which checksums run over them."""
    return sorted(name for name in names if name.startswith(PERSONAL) and not name.endswith(ENDS))
