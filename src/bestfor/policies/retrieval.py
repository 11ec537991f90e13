"""Which of a user's earlier items go into a prompt: the nearest in words or in meaning, the latest, or none."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bestfor.encoders.base import Encoder
from bestfor.errors import InputError, nearest
from bestfor.extras import require
from bestfor.types import FloatArray

METHODS = ("bm25", "dense", "recency", "none")
DIGITS = 5
"""Scores are rounded to so many: equal texts tie whatever the order in which single-precision terms were added."""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Item:
    """One thing that a user wrote.

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


def retrieve(
    items: Sequence[Item],
    query_input: str,
    k: int,
    *,
    method: str = "bm25",
    before: int | None = None,
    encoder: Encoder | None = None,
) -> list[Item]:
    """The k items that serve a query most, best first.

    ``bm25`` ranks by the words that the query's input shares with an item's input and output (Robertson & Zaragoza
    2009, in Lucene's form, k1 = 1.5, b = .75); the index holds only items that may be seen, so not even a word's
    frequency tells of later ones. ``dense`` ranks by the cosine of the embeddings of the query's input and of an item's
    input and output; an embedding depends on its own text alone, so nothing can tell of other items. Equal scores (to
    five digits), and ``recency``, rank the latest first.

    Args:
        items: the user's history, oldest first where times are unknown.
        query_input: what is asked.
        k: how many.
        method: one of ``METHODS``.
        before: the time of the query: items at this time or later are never returned. None where ``items`` holds
            nothing that must not be seen.
        encoder: for ``dense``; best one that remembers (:class:`~bestfor.encoders.CachedEncoder`), since every query
            of a user asks for the same items.

    Returns:
        At most k items.

    Raises:
        InputError: an unknown method, a negative k, ``dense`` without an encoder, or an item without a time where
            ``before`` is given.
    """
    if method not in METHODS:
        raise InputError("retriever", f"'{method}'", nearest(method, METHODS))
    if method == "dense" and encoder is None:
        raise InputError("retriever", "'dense' without an encoder", "one, such as load_encoder()")
    if k < 0:
        raise InputError("items in a prompt", str(k), "0 or more")
    seen = list(items) if before is None else [item for item in items if _earlier(item, before)]
    if method == "none" or k == 0 or not seen:
        return []
    # Stable sorting keeps the history's order among equal times; later in the history is more recent.
    recent = sorted(range(len(seen)), key=lambda index: (_time(seen[index]), index), reverse=True)
    if method in ("bm25", "dense"):
        texts = [passage(item) for item in seen]
        score = (
            _bm25(texts, query_input) if encoder is None or method == "bm25" else _dense(texts, query_input, encoder)
        )
        recent.sort(key=lambda index: -score[index])
    return [seen[index] for index in recent[:k]]


def passage(item: Item) -> str:
    """What of an item is compared with a query."""
    return f"{item.input} {item.output}"


def _bm25(texts: Sequence[str], query: str) -> FloatArray:
    bm25s = require("bm25s", "retrieval")
    asked = sorted(set(_words(query)))
    # Only asked words score. The others all become number 0, which keeps the lengths and spares the index.
    number = {word: at for at, word in enumerate(asked, 1)}
    documents = [[number.get(word, 0) for word in _words(text)] for text in texts]
    known = set().union(*documents)
    asked = [word for word in asked if number[word] in known]
    if not asked:
        return np.zeros(len(texts))
    index = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    index.index((documents, {"": 0, **number}), show_progress=False)
    return np.round(np.asarray(index.get_scores(asked), dtype=np.float64), DIGITS)


def _dense(texts: Sequence[str], query: str, encoder: Encoder) -> FloatArray:
    vectors = encoder.encode([query, *texts]).astype(np.float64)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
    return np.round(np.sum(vectors[1:] * vectors[0], axis=1), DIGITS)


@functools.lru_cache(maxsize=65536)
def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _earlier(item: Item, before: int) -> bool:
    if item.timestamp is None:
        raise InputError(f"item '{item.item_id}'", "no timestamp", "one, since the query has a time")
    return item.timestamp < before


def _time(item: Item) -> int:
    return 0 if item.timestamp is None else item.timestamp
