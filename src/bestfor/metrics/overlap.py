"""Measure overlap with the user's own text: ROUGE (Lin 2004) with the values of rouge-score, faster."""

from __future__ import annotations

import functools
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from rapidfuzz.distance import LCSseq

from bestfor.errors import InputError, nearest
from bestfor.extras import require
from bestfor.metrics.base import AgainstReference, Query

DEFINITION = "0.1.2"
"""The version of rouge-score whose values these are, to the last bit."""

_WORD = re.compile("[a-z0-9]+")


class Overlap(AgainstReference):
    """F-measure of shared words (rouge1), of shared word pairs (rouge2), or of the longest common subsequence (rougeL).

    With m words in the reference, n in the text and c in common, precision p = c/n, recall r = c/m and the utility is
    2pr/(p+r), in [0, 1]. Words are lower-cased runs of letters a-z and digits, so texts in other scripts have no
    overlap at all (:class:`UnicodeOverlap` is for those).

    Args:
        name: one of ``names``.
        stemmer: whether words of more than three letters are stemmed by Porter's rules. LaMP's evaluation calls
            ``evaluate.load("rouge")`` with its default, which is no stemming, and so is this one.

    Raises:
        InputError: an unknown name.
        MissingExtraError: stemming without rouge-score.
    """

    names = ("rouge1", "rouge2", "rougeL")

    def __init__(self, name: str = "rougeL", *, stemmer: bool = False) -> None:
        if name not in self.names:
            raise InputError("metric", f"'{name}'", nearest(name, self.names))
        if stemmer:
            _stemming()
        self.name, self._stemmer = name, stemmer
        self._order = self.names.index(name) + 1

    @property
    def signature(self) -> dict[str, str | int | float | bool]:
        """Name of the metric, if it stems, and the version of rouge-score whose values it gives."""
        return {"metric": self.name, "stemmer": self._stemmer, "rouge-score": DEFINITION}

    def _words(self) -> Callable[[str], list[str]]:
        return _stemming().tokenize if self._stemmer else words

    def _scores(self, query: Query, reference: str, texts: list[str]) -> list[float]:
        split, order = self._words(), self._order
        target = split(reference)
        if order > 2:
            found = [split(text) for text in texts]
            shared = subsequences(target, found)
            return [_subsequence(target, tokens, length) for tokens, length in zip(found, shared, strict=True)]
        grams = Counter(_grams(target, order))
        return [_shared(grams, Counter(_grams(split(text), order))) for text in texts]


class UnicodeOverlap(Overlap):
    """The same measures on words of any script, and on characters of scripts that are written without spaces.

    Letters are those of Unicode, in its form NFKC and lower case; a mark belongs to its letter. Every letter of Han,
    kana, Thai, Lao, Khmer, Burmese or Tibetan is a word of its own.

    Args:
        name: one of ``names``.

    Raises:
        InputError: an unknown name.
    """

    names = ("rouge1_unicode", "rouge2_unicode", "rougeL_unicode")

    def __init__(self, name: str = "rougeL_unicode") -> None:
        super().__init__(name)

    @property
    def signature(self) -> dict[str, str | int | float | bool]:
        """Name of the metric and what its words are."""
        return {"metric": self.name, "words": "unicode", "version": 1}

    def _words(self) -> Callable[[str], list[str]]:
        return unicode_words


SEEN = 0.8
"""Least share of the letters of the references that ROUGE must see, so that nothing is said of it."""


SPACED = ("bleu", "meteor")
"""Metrics whose words are parted by spaces and punctuation."""


def script_notes(names: Sequence[str], references: Iterable[str]) -> tuple[str, ...]:
    """Say where a metric cannot read the texts.

    ROUGE reads the letters a to z and digits, and takes all else for gaps between words. BLEU and METEOR take a
    sentence of a script without spaces for one word.

    Args:
        names: the metrics that are measured.
        references: the users' own texts.
    """
    blind, spaced = ([name for name in names if name in known] for known in (Overlap.names, SPACED))
    if not blind and not spaced:
        return ()
    seen = letters = joined = 0
    for text in references:
        lower = text.lower()
        seen += sum(len(word) for word in words(lower))
        letters += sum(1 for letter in lower if letter.isalnum())
        joined += len(_spaceless().findall(lower))
    notes: list[str] = []
    if blind and letters and seen < SEEN * letters:
        sees = f"sees {seen / letters:.0%}" if len(blind) == 1 else f"see {seen / letters:.0%}"
        remedy = f"take {blind[0]}_unicode or chrf ([utility] metrics)"
        notes.append(f"{' and '.join(blind)} {sees} of the letters of the references, a to z alone: {remedy}")
    if spaced and letters and joined > (1 - SEEN) * letters:
        takes = "takes" if len(spaced) == 1 else "take"
        found = f"{joined / letters:.0%} of the letters of the references are of scripts without spaces, of which"
        remedy = "take chrf or rougeL_unicode ([utility] metrics)"
        notes.append(f"{found} {' and '.join(spaced)} {takes} a whole sentence for one word: {remedy}")
    return tuple(notes)


def unicode_words(text: str) -> list[str]:
    """Split a text into lower-cased words of any script, letter by letter where a script has no spaces."""
    return _unicode_word().findall(unicodedata.normalize("NFKC", text).lower())


_SPACELESS = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U000323af"
)
"""Thai, Lao and Tibetan, Burmese, Khmer, kana and Han, by blocks of Unicode."""


@functools.cache
def _spaceless() -> re.Pattern[str]:
    return re.compile(f"[{_SPACELESS}]")


@functools.cache
def _unicode_word() -> re.Pattern[str]:
    marks = "".join(re.escape(chr(code)) for code in range(sys.maxunicode) if unicodedata.category(chr(code))[0] == "M")
    letter = rf"(?=[^\W_])[{_SPACELESS}][{marks}]*"
    return re.compile(rf"{letter}|(?:(?![{_SPACELESS}])[^\W_][{marks}]*)+")


def words(text: str) -> list[str]:
    """Split a text into lower-cased runs of letters a-z and digits."""
    return _WORD.findall(text.lower())


def subsequences(target: Sequence[str], others: Sequence[Sequence[str]]) -> list[int]:
    """Measure the lengths of the longest common subsequences of one sequence of words with each of others.

    Words become numbers first: rapidfuzz compares items by their hash, and numbers alone never share one.
    """
    codes = {word: code for code, word in enumerate(dict.fromkeys(target))}
    left = [codes[word] for word in target]
    return [LCSseq.similarity(left, [codes[word] for word in tokens if word in codes]) for tokens in others]


def _subsequence(target: list[str], tokens: list[str], shared: int) -> float:
    return _f(shared / len(tokens), shared / len(target)) if target and tokens else 0.0


def _grams(tokens: list[str], order: int) -> list[tuple[str, ...]]:
    return list(zip(*(tokens[start:] for start in range(order)), strict=False))


def _shared(target: Counter[tuple[str, ...]], found: Counter[tuple[str, ...]]) -> float:
    shared = sum((target & found).values())
    return _f(shared / max(found.total(), 1), shared / max(target.total(), 1))


def _f(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


class _Stemming:
    """Tokenizer of rouge-score with stemming; a text is split once in a while and not once for every metric."""

    def __init__(self) -> None:
        self._plain = require("rouge_score.tokenizers", "metrics").DefaultTokenizer(use_stemmer=True)
        self.tokenize = functools.lru_cache(maxsize=4096)(self._split)

    def _split(self, text: str) -> list[str]:
        return self._plain.tokenize(text)


@functools.cache
def _stemming() -> _Stemming:
    return _Stemming()
