"""Rows of users in shards: one weights file for the users of each block, found by a hash of their ids.

A user's shard depends on nothing but the id and the number of shards, a power of two: the first bits of the id's
BLAKE2b. Twice as many shards divide each one in two. A shard is a safetensors file as :mod:`bestfor.weights` describes
it, named by its content: ``users-<hash>.safetensors``. The weights that shards share hold a table of them,

    shards.digest  shape (shards, 32), SHA-256 of each file; zeros of a shard without users
    shards.index   shape (shards,), CRC-32 of each file's index of users
    shards.users   shape (shards,), how many users each has

so whoever reads one user reads this table, the index of one shard and the user's rows: some 100 kB of a million users.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
from safetensors import safe_open
from safetensors.numpy import save_file

from bestfor.errors import InputError
from bestfor.files import hash_file, writing
from bestfor.weights import (
    ENDS,
    INDEX,
    ArrayFile,
    Arrays,
    ReplacedError,
    all_users,
    checksum,
    index_of,
    personal_names,
    reader,
    rows_at,
)

TABLE = "shards."
USERS = 2048
"""Users of a shard at most, on average: of so many, 1,024 to 2,048 lie in each."""
HASH_BITS = 64


def shard_count(users: int) -> int:
    """Choose the number of shards, a power of two, so that 1,024 to 2,048 users lie in each on average."""
    return 1 << max(-(-max(users, 1) // USERS) - 1, 0).bit_length()


def shard_of(user: str, count: int) -> int:
    """Find the shard of a user among ``count``, by the id alone."""
    return int.from_bytes(hashlib.blake2b(user.encode(), digest_size=HASH_BITS // 8).digest()) >> (
        HASH_BITS - (count.bit_length() - 1)
    )


@dataclass(frozen=True)
class ShardEntry:
    """Entry of one shard in the table of shards.

    Attributes:
        digest: SHA-256 of the file, "" without users.
        index: CRC-32 of its index.
        users: how many it has.
    """

    digest: str = ""
    index: int = 0
    users: int = 0


def write_shard(folder: Path, arrays: Arrays, users: Sequence[str]) -> ShardEntry:
    """Store the rows of one shard's users; a file of the same content is left as it is.

    Args:
        folder: the model's; it is as before until a configuration names the file.
        arrays: ``user.`` arrays.
        users: their ids, ascending.

    Raises:
        ValueError: ids that do not ascend, or an array that does not have a row a user.
    """
    if not users:
        return ShardEntry()
    index = index_of(users, arrays)
    every = {**arrays, **index}
    contiguous = {name: np.ascontiguousarray(every[name]) for name in sorted(every)}
    digests: list[str] = []

    def place(partial: Path, _: Path) -> None:
        partial.replace(folder / file_of(digests[0]))

    with writing(folder / f".users-{shard_of(users[0], 1 << HASH_BITS // 2):08x}", place=place) as partial:
        save_file(contiguous, partial)
        digests.append(hash_file(partial))
    return ShardEntry(digests[0], _index_check(index), len(users))


def file_of(digest: str) -> str:
    """Name the file of a shard by its hash."""
    return f"users-{digest[:16]}.safetensors"


def table_of(entries: Sequence[ShardEntry]) -> Arrays:
    """Make the arrays that list shards."""
    digests = [bytes.fromhex(one.digest) if one.digest else bytes(32) for one in entries]
    return {
        f"{TABLE}digest": np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(len(entries), 32),
        f"{TABLE}index": np.array([one.index for one in entries], dtype=np.uint32),
        f"{TABLE}users": np.array([one.users for one in entries], dtype=np.int64),
    }


@dataclass(frozen=True, eq=False)
class ShardTable(Sequence[ShardEntry]):
    """Table of shards, whose entries are made as they are asked for: of ten million users there are 8,192.

    Attributes:
        digests: shape (shards, 32), SHA-256 of each file.
        checks: shape (shards,), CRC-32 of its index.
        users: shape (shards,), how many each has.
    """

    digests: npt.NDArray[np.uint8]
    checks: npt.NDArray[np.uint32]
    users: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.users)

    @overload
    def __getitem__(self, number: int) -> ShardEntry: ...
    @overload
    def __getitem__(self, number: slice) -> ShardTable: ...

    def __getitem__(self, number: int | slice) -> ShardEntry | ShardTable:
        digest, index, users = self.digests[number], self.checks[number], self.users[number]
        if isinstance(number, slice):
            return ShardTable(digest, index, users)
        return ShardEntry(digest.tobytes().hex() if users else "", int(index), int(users))


def entries_of(arrays: Arrays) -> ShardTable:
    """Read the table that :func:`table_of` made.

    Raises:
        ValueError: it is none; KeyError likewise.
    """
    digest, index, users = (arrays[TABLE + name] for name in ("digest", "index", "users"))
    count = len(users)
    if digest.shape != (count, 32) or index.shape != (count,) or count < 1 or count & (count - 1):
        raise ValueError(f"a table of shards of shapes {digest.shape}, {index.shape} and {users.shape}")
    return ShardTable(digest, index, users)


@dataclass(frozen=True)
class Shards:
    """Shards of one model.

    Attributes:
        folder: where they lie.
        entries: the table of them.
    """

    folder: Path
    entries: ShardTable

    @property
    def users(self) -> int:
        """Number of users in all shards."""
        return int(self.entries.users.sum())

    def rows(self, users: Sequence[str]) -> tuple[Arrays, tuple[str, ...]]:
        """Read the rows of some users, checked by their checksums.

        Args:
            users: ids in any order; those that are in no shard are left out.

        Returns:
            Arrays of the found users in ascending order (with no rows where nobody was found), and their ids.

        Raises:
            InputError: a shard is lost, torn or of another model.
        """
        wanted: dict[int, list[str]] = {}
        for user in sorted(set(users)):
            wanted.setdefault(shard_of(user, len(self.entries)), []).append(user)
        parts = [self._some(number, names) for number, names in wanted.items() if self.entries[number].users]
        return join_rows(parts) if any(ids for _, ids in parts) else (self._none(), ())

    def whole(self, number: int) -> tuple[Arrays, tuple[str, ...]]:
        """Read one shard, checked by its SHA-256: all its users' arrays, and their ids.

        Raises:
            InputError: it is lost, torn or of another model.
        """
        entry = self.entries[number]
        if not entry.users:
            return self._none(), ()
        path = self.folder / file_of(entry.digest)
        try:
            found = hash_file(path)
        except FileNotFoundError as error:
            raise self.lost(number) from error
        if found != entry.digest:
            found = f"sha256 {found[:16]} (a damaged or foreign file)"
            raise InputError(str(path), found, f"sha256 {entry.digest[:16]}")
        with safe_open(path, framework="np") as handle:
            arrays = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 - no mapping
        return {name: values for name, values in arrays.items() if not name.startswith(INDEX)}, all_users(arrays)

    def every(self) -> tuple[Arrays, tuple[str, ...]]:
        """Read all shards: the arrays of everybody in ascending order, and their ids."""
        parts = [self.whole(number) for number, entry in enumerate(self.entries) if entry.users]
        return join_rows(parts) if parts else ({}, ())

    def array(self, name: str) -> Iterator[tuple[npt.NDArray[Any], tuple[str, ...]]]:
        """Read one array of every shard, with the ids of its users; nothing where shards do not have it.

        Raises:
            InputError: a shard is lost, torn or of another model.
        """
        for number, entry in enumerate(self.entries):
            if entry.users:
                with self._opened(number) as (handle, index):
                    if name in handle.keys():  # noqa: SIM118 - no mapping
                        yield handle.get_tensor(name), all_users(index)

    def _some(self, number: int, wanted: list[str]) -> tuple[Arrays, tuple[str, ...]]:
        with self._opened(number) as (handle, index):
            names = all_users(index)
            places = {name: place for place, name in enumerate(names)}
            found = [user for user in wanted if user in places]
            slices = {name: handle.get_slice(name) for name in handle.keys()}  # noqa: SIM118 - no mapping
            arrays = rows_at(reader(handle, slices), personal_names(slices), slices, [places[user] for user in found])
        return arrays, tuple(found)

    def _none(self) -> Arrays:
        """Arrays with the rows of nobody, by the first shard that can be read: a lost one is missed by its users alone.

        Raises:
            InputError: none of those with users can be read.
        """
        first: InputError | None = None
        for number, one in enumerate(self.entries):
            if one.users:
                try:
                    return self._some(number, [])[0]
                except InputError as error:
                    first = first or error
        if first is not None:
            raise first
        return {}

    def _opened(self, number: int) -> _Opened:
        return _Opened(self, number)

    def lost(self, number: int) -> InputError:
        """Make the error of a shard that is not there."""
        path = self.folder / file_of(self.entries[number].digest)
        expected = f"shard {number} of {len(self.entries)}, with {self.entries[number].users} users (lost, or replaced"
        return ReplacedError(str(path), "no file", f"{expected} since the model was opened)")


class _Opened:
    """An open shard and its checked index; damage within becomes one clear line."""

    def __init__(self, shards: Shards, number: int) -> None:
        self._shards, self._number = shards, number
        self._path = shards.folder / file_of(shards.entries[number].digest)
        self._handle: Any = None

    def __enter__(self) -> tuple[Any, Arrays]:
        try:
            self._handle = ArrayFile(self._path)
            index = {name: self._handle.get_tensor(name) for name in ("index.names", "index.ends", "index.checks")}
            if _index_check(index) != self._shards.entries[self._number].index:
                raise ValueError("another index than the model lists")
        except FileNotFoundError as error:
            raise self._shards.lost(self._number) from error
        except (AttributeError, OSError, TypeError, ValueError, KeyError) as error:
            self.__exit__(None, None, None)
            raise self._damaged(error) from error
        return self._handle, index

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._handle is not None:
            self._handle.__exit__(kind, error, trace)
            self._handle = None
        if isinstance(error, OSError | ValueError | KeyError):
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> InputError:
        line = " ".join(str(error).split())
        return InputError(str(self._path), f"an unreadable shard ({line})", "a shard of this model")


def join_rows(parts: Sequence[tuple[Arrays, Sequence[str]]]) -> tuple[Arrays, tuple[str, ...]]:
    """Join users' arrays of several parts, each in ascending order, and put the users into ascending order."""
    ids = [user for _, users in parts for user in users]
    order = sorted(range(len(ids)), key=ids.__getitem__)
    named = parts[0][0]
    found: Arrays = {}
    for name in personal_names(named):
        values = np.concatenate([arrays[name] for arrays, _ in parts])
        if name + ENDS not in named:
            found[name] = values[order]
            continue
        count = np.concatenate([np.diff(arrays[name + ENDS]) for arrays, _ in parts])
        first = np.cumsum([0, *count[:-1]])
        rows = [np.arange(first[place], first[place] + count[place]) for place in order]
        found[name] = values[np.concatenate(rows)] if rows else values
        found[name + ENDS] = np.cumsum([0, *count[order]]).astype(np.int64)
    return found, tuple(ids[place] for place in order)


def split_rows(arrays: Arrays, users: Sequence[str], count: int) -> Iterator[tuple[int, Arrays, tuple[str, ...]]]:
    """Divide users' arrays into shards: the number of each, its arrays and its users.

    Args:
        arrays: ``user.`` arrays of everybody.
        users: their ids, ascending.
        count: how many shards, a power of two.
    """
    numbers = np.array([shard_of(user, count) for user in users], dtype=np.int64)
    order = np.argsort(numbers, kind="stable")
    bounds = np.searchsorted(numbers[order], np.arange(count + 1))
    for number in range(count):
        places = order[bounds[number] : bounds[number + 1]]
        yield number, take_rows(arrays, places), tuple(users[int(place)] for place in places)


def take_rows(arrays: Arrays, places: npt.NDArray[np.integer[Any]]) -> Arrays:
    """Take the rows of the users at some places from users' arrays."""
    found: Arrays = {}
    for name in personal_names(arrays):
        ends = arrays.get(name + ENDS)
        if ends is None:
            found[name] = arrays[name][places]
            continue
        count = np.diff(ends)[places]
        total = np.cumsum([0, *count]).astype(np.int64)
        rows = np.arange(int(total[-1])) + np.repeat(ends[places] - total[:-1], count)
        found[name], found[name + ENDS] = arrays[name][rows], total
    return found


def _index_check(index: Arrays) -> int:
    check = 0
    for name in ("index.names", "index.ends", "index.checks"):
        check = checksum(index[name], check)
    return check
