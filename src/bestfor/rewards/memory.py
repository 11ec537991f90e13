"""Keep what is asked for again: parts of one request while it is scored, of a fit's texts, and those of recent users.

All hold values that depend on nothing but their keys, so what is kept changes no result.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Any, Generic, TypeVar

from bestfor.data.candidates import Candidates

BYTES = 64 * 2**20
"""Bytes that a model keeps of recent users."""
T = TypeVar("T")

_texts: ContextVar[dict[str, Any] | None] = ContextVar("texts", default=None)
_rows: ContextVar[dict[Hashable, Any] | None] = ContextVar("rows", default=None)


@contextmanager
def same_rows() -> Iterator[None]:
    """Keep what :func:`once` makes until the end of the outermost of these contexts of this Python thread."""
    if _rows.get() is not None:
        yield
        return
    token = _rows.set({})
    try:
        yield
    finally:
        _rows.reset(token)


def once(what: str, of: Iterable[object], make: Callable[[], T]) -> T:
    """Make something once within :func:`same_rows`, and anew at each call elsewhere.

    Args:
        what: names it.
        of: the objects that it depends on, known by their identity.
        make: makes it.
    """
    kept = _rows.get()
    if kept is None:
        return make()
    parts = tuple(of)
    key = (what, *map(id, parts))
    if key not in kept:
        # what is named by its id has to stay
        kept[key] = (parts, make())
    found: T = kept[key][1]
    return found


@contextmanager
def same_texts() -> Iterator[None]:
    """Keep what :func:`of_texts` makes until the end of the outermost of these contexts of this Python thread."""
    if _texts.get() is not None:
        yield
        return
    token = _texts.set({})
    try:
        yield
    finally:
        _texts.reset(token)


def of_texts(what: str, make: Callable[[], T]) -> T | None:
    """Give the one table of its name within :func:`same_texts`, made empty at first; None elsewhere."""
    kept = _texts.get()
    if kept is None:
        return None
    if what not in kept:
        kept[what] = make()
    found: T = kept[what]
    return found


def texts_of(candidates: Candidates) -> tuple[object, ...]:
    """Parts of rows but for who their users are: the same rows of other people share them."""
    return candidates.texts, candidates.text, candidates.inputs, candidates.query


def held(value: object) -> int:
    """Bytes of a value, or of the arrays that are its fields."""
    own = getattr(value, "nbytes", None)
    return int(own) if own is not None else sum(getattr(part, "nbytes", 0) for part in vars(value).values())


class Recent(Generic[T]):
    """Values of the keys that were asked for last, as many as some bytes hold.

    Args:
        size: bytes of a value.
        limit: bytes of all.
    """

    def __init__(self, size: Callable[[T], int], limit: int = BYTES) -> None:
        self._size, self._limit, self._held = size, limit, 0
        self._values: OrderedDict[Hashable, T] = OrderedDict()
        self._lock = Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Leave values and lock behind: a copy in another process keeps values of its own."""
        return {"size": self._size, "limit": self._limit}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin empty."""
        Recent.__init__(self, **state)

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Give the value of a key, made where it is not kept."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        size = self._size(value)
        with self._lock:
            if key not in self._values and size <= self._limit:
                self._values[key] = value
                self._held += size
                while self._held > self._limit:
                    self._held -= self._size(self._values.popitem(last=False)[1])
        return value
