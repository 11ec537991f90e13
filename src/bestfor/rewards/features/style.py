"""Measure the surface of a text: how it is written, and what it takes over from the input that it answers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain, pairwise

import numpy as np

from bestfor.rewards.memory import of_texts
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


def _is_punctuation(mark: str) -> bool:
    return not (mark.isalnum() or mark.isspace())


def _mark_of(mark: str) -> str:
    """Mark that stands for all of its kind: ends of sentences, other punctuation, space, capitals, digits, the rest."""
    if mark in ".!?" or mark.isspace():
        return " " if mark.isspace() else "."
    return next((one for one, is_one in zip("A0,", _KINDS, strict=True) if is_one(mark)), "a")


_KINDS: tuple[Callable[[str], bool], ...] = (str.isupper, str.isdigit, _is_punctuation)
_ASCII = [chr(code) for code in range(128)]
_WORDS = bytes(ord(mark.lower()) if _WORD.match(mark) else ord(" ") for mark in _ASCII).ljust(256)
_MARKS = bytes(ord(_mark_of(mark)) for mark in _ASCII).ljust(256)


def style_features(texts: Sequence[str]) -> FloatArray:
    """Surface features, shape (n, len(STYLE)): logs, shares of characters or words, and 0/1 marks."""
    known = of_texts("style", _StyleTable)
    return _measured(texts, _style) if known is None else known.rows(texts)


def _measured(texts: Sequence[str], measure: Callable[[str], tuple[float, ...]]) -> FloatArray:
    values = np.fromiter(chain.from_iterable(map(measure, texts)), np.float64, len(texts) * len(STYLE))
    return values.reshape(len(texts), len(STYLE))


class _StyleTable:
    """Rows of texts: a fit asks for them as it scales its features, as it makes them, and for each member and part."""

    def __init__(self) -> None:
        self._place: dict[str, int] = {}
        self._values = np.zeros((0, len(STYLE)))

    def rows(self, texts: Sequence[str]) -> FloatArray:
        """Features of texts, those of unknown ones measured now."""
        fresh = [text for text in dict.fromkeys(texts) if text not in self._place]
        if fresh:
            self._place.update(zip(fresh, range(len(self._place), len(self._place) + len(fresh)), strict=True))
            self._values = np.vstack([self._values, _measured(fresh, _style.__wrapped__)])
        return self._values[np.fromiter(map(self._place.__getitem__, texts), np.int64, len(texts))]


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
    sizes, distinct, sentences, kinds = _ascii_counts(text) if text.isascii() else _counts(text)
    characters, count = max(len(text), 1), max(len(sizes), 1)
    return (
        _log(len(text)),
        _log(len(sizes)),
        sum(sizes) / count,
        kinds[0] / characters,
        kinds[1] / characters,
        kinds[2] / characters,
        _log(sentences),
        float("?" in text),
        float("!" in text),
        float(":" in text),
        float("," in text),
        distinct / count,
        (sizes.count(1) + sizes.count(2) + sizes.count(3)) / count,
    )


_Counts = tuple[list[int], int, int, tuple[int, ...]]
"""Sizes of the words, how many differ, sentences, and characters of each of the kinds."""


def _counts(text: str) -> _Counts:
    words, marks = _WORD.findall(text), Counter(text).items()
    kinds = tuple(sum(count for mark, count in marks if is_one(mark)) for is_one in _KINDS)
    return list(map(len, words)), len(set(map(str.lower, words))), len(_SENTENCE.findall(text)), kinds


def _ascii_counts(text: str) -> _Counts:
    """Count the same in a fifth of the time: tables of bytes take the place of questions about each character."""
    line = text.encode()
    words, marks = line.translate(_WORDS).split(), line.translate(_MARKS)
    kinds = marks.count(b"A"), marks.count(b"0"), marks.count(b".") + marks.count(b",")
    return list(map(len, words)), len(set(words)), marks.count(b". ") + marks.endswith(b"."), kinds


@lru_cache(maxsize=2**16)
def _log(count: int) -> float:
    return float(np.log1p(count))


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
