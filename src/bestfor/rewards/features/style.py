"""Measure the surface of a text: how it is written, and what it takes over from the input that it answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np

from bestfor.types import FloatArray

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

KEPT = 8192
"""Texts whose features are kept: a person is made again from the same labels many times."""

_WORD = re.compile(r"\w+")
_SENTENCE = re.compile(r"[.!?]+(?:\s|$)")


def style_features(texts: Sequence[str]) -> FloatArray:
    """Surface features, shape (n, len(STYLE)): logs, shares of characters or words, and 0/1 marks."""
    return np.array([_style(text) for text in texts], dtype=np.float64).reshape(len(texts), len(STYLE))


def answer_features(texts: Sequence[str], given: Sequence[str], nearness: FloatArray) -> FloatArray:
    """Features of text and input together, shape (n, len(ANSWER)).

    Args:
        texts: n texts.
        given: n inputs.
        nearness: shape (n,), cosine of their embeddings.
    """
    rows = [_answer(text, question) for text, question in zip(texts, given, strict=True)]
    values = np.array(rows, dtype=np.float64).reshape(len(texts), len(ANSWER) - 1)
    return np.column_stack([nearness, values])


@lru_cache(maxsize=KEPT)
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


@lru_cache(maxsize=KEPT)
def _answer(text: str, given: str) -> tuple[float, ...]:
    words = [word.lower() for word in _WORD.findall(text)]
    known, pairs = _vocabulary(given)
    distinct = set(words)
    steps = list(pairwise(words))
    return (
        sum(word in known for word in words) / max(len(words), 1),
        len(distinct & known) / max(len(known), 1),
        float(np.log1p(len(text)) - np.log1p(len(given))),
        sum(step in pairs for step in steps) / max(len(steps), 1),
    )


@lru_cache(maxsize=4096)
def _vocabulary(given: str) -> tuple[frozenset[str], frozenset[tuple[str, str]]]:
    words = [word.lower() for word in _WORD.findall(given)]
    return frozenset(words), frozenset(pairwise(words))
