"""Keep what was used last, up to a number of entries and of bytes; safe between threads."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import fields, is_dataclass
from typing import Any, Generic, TypeVar

import numpy as np

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

OVERHEAD = 2048
"""Bytes of an entry beside its arrays and texts: objects, their dictionaries, the key."""


class RecentlyUsed(Generic[Key, Value]):
    """A mapping of at most ``size`` entries; the one that was not used for longest goes first.

    Args:
        size: entries at the most, 1 or more.
        most: bytes at the most of all entries together, but for a single one; None sets no limit.
        weigh: bytes of a value; needed where there is a limit.
    """

    def __init__(self, size: int, most: int | None = None, weigh: Callable[[Value], int] | None = None) -> None:
        self._size, self._most, self._weigh = size, most, weigh
        self._lock = threading.Lock()
        self._entries: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bytes(self) -> int:
        """Bytes of all entries, 0 where nothing weighs them."""
        return self._bytes

    def get(self, key: Key) -> Value | None:
        """Give a value, None where it is not there."""
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key][0]

    def keys(self) -> list[Key]:
        """List the keys."""
        with self._lock:
            return list(self._entries)

    def values(self) -> list[Value]:
        """List the values."""
        with self._lock:
            return [value for value, _ in self._entries.values()]

    def put(self, key: Key, value: Value) -> None:
        """Keep a value."""
        weight = 0 if self._weigh is None else self._weigh(value)
        with self._lock:
            self._remove(key)
            self._entries[key] = (value, weight)
            self._bytes += weight
            while len(self._entries) > self._size or (self._over() and len(self._entries) > 1):
                self._remove(next(iter(self._entries)))

    def drop(self, goes: Callable[[Key, Value], bool]) -> None:
        """Remove the entries of which ``goes`` is true."""
        with self._lock:
            for key in [key for key, (value, _) in self._entries.items() if goes(key, value)]:
                self._remove(key)

    def _over(self) -> bool:
        return self._most is not None and self._bytes > self._most

    def _remove(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry[1]


def bytes_of(value: object, shared: tuple[str, ...] = ("model",)) -> int:
    """Count the bytes of a record's arrays and texts.

    Args:
        value: a data class, an array, a sparse array, texts, or a sequence of these.
        shared: names of fields that many records point to, which are not counted.
    """
    return OVERHEAD + _counted(value, shared)


def _counted(value: Any, shared: tuple[str, ...]) -> int:  # noqa: ANN401 - of any type
    if isinstance(value, np.ndarray):
        # A view keeps alive all that it looks at.
        base = value.base
        return base.nbytes if isinstance(base, np.ndarray) else value.nbytes
    if isinstance(value, str | bytes):
        return sys.getsizeof(value)
    if is_dataclass(value):
        return sum(_counted(getattr(value, one.name), shared) for one in fields(value) if one.name not in shared)
    if isinstance(value, tuple | list):
        return sum(_counted(one, shared) for one in value)
    if isinstance(value, dict):
        return sum(_counted(one, shared) for one in value.values())
    if all(hasattr(value, name) for name in ("indptr", "indices", "data")):
        return sum(_counted(getattr(value, name), shared) for name in ("indptr", "indices", "data"))
    return 0
