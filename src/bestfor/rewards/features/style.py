"""Surface features: how a text is written, and what it takes over from the input that it answers.

How near a text is to what its reader wrote before: only items earlier than the query count.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np

from bestfor.data.candidates import Examples
from bestfor.encoders import Encoder
from bestfor.types import FloatArray, IntArray

HISTORY = ("nearest", "mean")


def history_features(examples: Examples, encoder: Encoder, text: IntArray, query: IntArray) -> FloatArray:
    """Largest and mean cosine to the user's earlier texts, shape (pairs, 2); NaN where there are none.

    Args:
        examples: with the users' histories.
        encoder: of texts and histories.
        text: shape (pairs,), codes of texts.
        query: shape (pairs,), codes of the queries under which they stand, each of one user.
    """
    found = np.full((len(text), len(HISTORY)), np.nan)
    if examples.history is None or len(text) == 0:
        return found
    user = np.zeros(len(examples.queries), dtype=np.int64)
    user[examples.query] = examples.user
    earlier = {
        int(code): examples.history.before(examples.users[user[code]], examples.queries[code])
        for code in np.unique(query)
    }
    names = sorted({item for items in earlier.values() for item in items})
    if not names:
        return found
    place = {name: code for code, name in enumerate(names)}
    own = unit(encoder.encode(names).astype(np.float64))
    vectors = unit(encoder.encode([examples.texts[code] for code in text]).astype(np.float64))
    order = np.argsort(query, kind="stable")
    codes, starts = np.unique(query[order], return_index=True)
    for code, rows in zip(codes, np.split(order, starts[1:]), strict=True):
        items = earlier[int(code)]
        if items:
            cosines = vectors[rows] @ own[[place[item] for item in items]].T
            found[rows] = np.column_stack([cosines.max(axis=1), cosines.mean(axis=1)])
    return found


def unit(vectors: FloatArray) -> FloatArray:
    """Rows of length 1; zeros stay."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


STYLE = (
    "log_characters",
    "log_words",
    "word_length",
    "capitals",
    "digits",
    "punctuation",
    "log_sentences",
    "question",
    "exclamation",
    "colon",
    "comma",
    "distinct_words",
    "short_words",
)
ANSWER = ("nearness", "words_from_input", "input_covered", "log_length_ratio", "pairs_from_input")

_WORD = re.compile(r"\w+")
_SENTENCE = re.compile(r"[.!?]+(?:\s|$)")


def style_features(texts: Sequence[str]) -> FloatArray:
    """Surface features, shape (n, len(STYLE)): logs, shares of characters or words, and 0/1 marks."""
    return np.array([_style(text) for text in texts], dtype=np.float64).reshape(len(texts), len(STYLE))


def answer_features(texts: Sequence[str], asked: Sequence[str], nearness: FloatArray) -> FloatArray:
    """Features of text and input together, shape (n, len(ANSWER)).

    Args:
        texts: n texts.
        asked: n inputs.
        nearness: shape (n,), cosine of their embeddings.
    """
    rows = [_answer(text, question) for text, question in zip(texts, asked, strict=True)]
    values = np.array(rows, dtype=np.float64).reshape(len(texts), len(ANSWER) - 1)
    return np.column_stack([nearness, values])


def _style(text: str) -> tuple[float, ...]:
    words = _WORD.findall(text)
    characters, count = max(len(text), 1), max(len(words), 1)
    return (
        float(np.log1p(len(text))),
        float(np.log1p(len(words))),
        sum(map(len, words)) / count,
        sum(map(str.isupper, text)) / characters,
        sum(map(str.isdigit, text)) / characters,
        sum(not (mark.isalnum() or mark.isspace()) for mark in text) / characters,
        float(np.log1p(len(_SENTENCE.findall(text)))),
        float("?" in text),
        float("!" in text),
        float(":" in text),
        float("," in text),
        len({word.lower() for word in words}) / count,
        sum(len(word) <= 3 for word in words) / count,
    )


def _answer(text: str, asked: str) -> tuple[float, ...]:
    words = [word.lower() for word in _WORD.findall(text)]
    known, pairs = _vocabulary(asked)
    distinct = set(words)
    steps = list(pairwise(words))
    return (
        sum(word in known for word in words) / max(len(words), 1),
        len(distinct & known) / max(len(known), 1),
        float(np.log1p(len(text)) - np.log1p(len(asked))),
        sum(step in pairs for step in steps) / max(len(steps), 1),
    )


@lru_cache(maxsize=4096)
def _vocabulary(asked: str) -> tuple[frozenset[str], frozenset[tuple[str, str]]]:
    words = [word.lower() for word in _WORD.findall(asked)]
    return frozenset(words), frozenset(pairwise(words))
