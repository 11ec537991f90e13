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

import json
import math
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
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


TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U64": "<u8",
    "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip
"""Types of a safetensors file -> NumPy's."""
LONGEST_HEADER = 1 << 24


class ArrayFile:
    """A safetensors file of which bytes are read as they are asked for, and no others.

    A memory map would do, but what a system reads ahead of a touched page may be megabytes: read by position, with the
    hint that places are random, a user's rows cost their own bytes. A context manager; methods are those of
    ``safetensors.safe_open``.

    Raises:
        FileNotFoundError: no file.
        ValueError: a header that is none, or a file that is shorter or longer than it says.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY)
        try:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_RANDOM)
            length = int.from_bytes(self._bytes(0, 8), "little")
            if length > LONGEST_HEADER:
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(self._bytes(8, length))
            self._start = 8 + length
            self._arrays = {name: SlicedArray(self, one) for name, one in header.items() if name != "__metadata__"}
            end = max((one.end for one in self._arrays.values()), default=0)
            if os.fstat(self._file).st_size != self._start + end:
                raise ValueError(f"{os.fstat(self._file).st_size} bytes where {self._start + end} are told")
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> ArrayFile:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._file)

    def keys(self) -> list[str]:
        """List the names of the arrays."""
        return list(self._arrays)

    def get_slice(self, name: str) -> SlicedArray:
        """Give an array whose rows are read when they are taken."""
        return self._arrays[name]

    def get_tensor(self, name: str) -> npt.NDArray[Any]:
        """Read a whole array."""
        one = self._arrays[name]
        return one.read(0, one.end - one.begin).reshape(one.shape)

    def data(self, begin: int, end: int) -> bytes:
        """Read bytes of the arrays' part of the file."""
        return self._bytes(self._start + begin, end - begin)

    def _bytes(self, at: int, count: int) -> bytes:
        parts: list[bytes] = []
        while count:
            part = os.pread(self._file, count, at)
            if not part:
                raise ValueError("a file that ends too early")
            parts.append(part)
            at, count = at + len(part), count - len(part)
        return b"".join(parts)


class SlicedArray:
    """Array of a file, as its header describes it."""

    def __init__(self, file: ArrayFile, told: Mapping[str, Any]) -> None:
        self._file = file
        self.kind = np.dtype(TYPES[str(told["dtype"])])
        self.shape = tuple(int(size) for size in told["shape"])
        self.begin, self.end = (int(place) for place in told["data_offsets"])
        self._row = self.kind.itemsize * math.prod(self.shape[1:])
        if self.end - self.begin != self.kind.itemsize * math.prod(self.shape) or self.begin < 0:
            raise ValueError(f"{self.end - self.begin} bytes for an array of shape {self.shape}")

    def get_shape(self) -> list[int]:
        """Give the shape."""
        return list(self.shape)

    def __getitem__(self, rows: slice) -> npt.NDArray[Any]:
        low, high, _ = rows.indices(self.shape[0])
        return self.read(low * self._row, high * self._row).reshape(-1 if self._row else 0, *self.shape[1:])

    def read(self, low: int, high: int) -> npt.NDArray[Any]:
        """Read the numbers between two places, in bytes from the array's first."""
        return np.frombuffer(self._file.data(self.begin + low, self.begin + high), dtype=self.kind).copy()


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
