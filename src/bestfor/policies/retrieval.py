"""Choose a user's earlier items for a prompt: the nearest in words or in meaning, the latest, any, or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bestfor.encoders.base import Encoder
from bestfor.errors import InputError, nearest
from bestfor.policies.bm25 import Bm25
from bestfor.rng import derive
from bestfor.types import FloatArray, IntArray

RETRIEVERS = {
    "bm25": "the items that share most words with the query",
    "dense": "the items nearest to the query in meaning, by a sentence encoder",
    "recency": "the latest items",
    "random": "items drawn at random, by the run's seed and the query's words",
    "none": "no items",
}
"""Which of a user's items go into a prompt, by name."""
METHODS = tuple(RETRIEVERS)
DIGITS = 5
"""Scores are rounded to so many: equal texts tie whatever the order in which terms were added."""


@dataclass(frozen=True)
class Item:
    """Text that a user wrote, with what was asked and when.

    Attributes:
        item_id: names it within the user's history.
        input: what was asked.
        output: what the user wrote.
        timestamp: when, in any unit; None where times are unknown.
    """

    item_id: str
    input: str
    output: str
    timestamp: int | None = None


class Retriever:
    """Finds the items of one user that serve a query most; made once for all queries of the user.

    ``bm25`` ranks by the words that the query's input shares with an item's input and output (:class:`Bm25`), by
    frequencies among the items that the query may see. ``dense`` ranks by the cosine of the embeddings of the query's
    input and of an item's input and output; an embedding depends on its own text alone. So nothing can tell of later
    items. Equal scores (to five digits), and ``recency``, rank the latest first.

    Args:
        items: the user's history, oldest first where times are unknown.
        method: one of ``METHODS``.
        encoder: for ``dense``; best one that remembers (:class:`~bestfor.encoders.CachedEncoder`).
        seed: for ``random``.

    Raises:
        InputError: an unknown method, or ``dense`` without an encoder.
    """

    def __init__(
        self, items: Sequence[Item], method: str = "bm25", encoder: Encoder | None = None, seed: int = 0
    ) -> None:
        if method not in METHODS:
            raise InputError("retriever", f"'{method}'", nearest(method, METHODS))
        if method == "dense" and encoder is None:
            raise InputError("retriever", "'dense' without an encoder", "one, such as load_encoder()")
        # Stable sorting keeps the history's order among equal times; later in the history is more recent.
        self._items = sorted(items, key=_time)
        self._method, self._encoder, self._seed = method, encoder, seed

    @property
    def items(self) -> Sequence[Item]:
        """The items, oldest first."""
        return self._items

    def best(self, query_input: str, k: int, *, seen: int | None = None) -> list[Item]:
        """Find the k items that serve a query most, best first.

        Args:
            query_input: what is asked.
            k: how many.
            seen: how many items, the earliest, the query may see; None for all.

        Returns:
            At most k items.

        Raises:
            InputError: a negative k.
        """
        if k < 0:
            raise InputError("items in a prompt", str(k), "0 or more")
        return [self._items[index] for index in self.ranked(query_input, seen)[:k].tolist()] if k else []

    def ranked(self, query_input: str, seen: int | None = None) -> IntArray:
        """Rank the items that a query may see, the one that serves it most first; arguments as for :meth:`best`.

        Returns:
            Places among the items, oldest first; shape (seen,), or (0,) by the method ``none``.
        """
        count = len(self._items) if seen is None else seen
        if self._method == "none" or count == 0:
            return np.empty(0, dtype=np.int64)
        if self._method == "recency":
            return np.arange(count)[::-1]
        if self._method == "random":
            return derive(self._seed, "items", query_input).permutation(count)
        return count - 1 - np.argsort(-np.round(self._scores(query_input, count), DIGITS)[::-1], kind="stable")

    def _scores(self, query_input: str, count: int) -> FloatArray:
        if self._method == "bm25":
            return self._words.scores(query_input, count)
        return np.sum(self._vectors[:count] * self._embedded([query_input])[0], axis=1)

    @cached_property
    def _words(self) -> Bm25:
        return Bm25([passage(item) for item in self._items])

    @cached_property
    def _vectors(self) -> FloatArray:
        return self._embedded([passage(item) for item in self._items])

    def _embedded(self, texts: list[str]) -> FloatArray:
        """Embed texts at length one, shape (texts, dim); those without a direction stay zero."""
        assert self._encoder is not None
        vectors = self._encoder.encode(texts).astype(np.float64)
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)


def retrieve(
    items: Sequence[Item],
    query_input: str,
    k: int,
    *,
    method: str = "bm25",
    before: int | None = None,
    encoder: Encoder | None = None,
) -> list[Item]:
    """Find the k items that serve one query most; see :class:`Retriever`, which is made once for many queries.

    Args:
        items: the user's history, oldest first where times are unknown.
        query_input: what is asked.
        k: how many.
        method: one of ``METHODS``.
        before: the time of the query: items at this time or later are never returned, nor do they count. None where
            ``items`` holds nothing that must not be seen.
        encoder: for ``dense``.

    Returns:
        At most k items.

    Raises:
        InputError: an unknown method, a negative k, ``dense`` without an encoder, or an item without a time where
            ``before`` is given.
    """
    visible = items if before is None else [item for item in items if _earlier(item, before)]
    return Retriever(visible, method, encoder).best(query_input, k)


def passage(item: Item) -> str:
    """Text of an item that is compared with a query."""
    return f"{item.input} {item.output}"


def _earlier(item: Item, before: int) -> bool:
    if item.timestamp is None:
        raise InputError(f"item '{item.item_id}'", "no timestamp", "one, since the query has a time")
    return item.timestamp < before


def _time(item: Item) -> float:
    """Time by which items are sorted; those without one are the oldest."""
    return -np.inf if item.timestamp is None else item.timestamp
