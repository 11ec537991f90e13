"""Score texts by BM25 where a query sees only the first so many: indexed once, counted anew for whatever is seen."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Sequence

import numpy as np

from bestfor.types import FloatArray

K1, B = 1.5, 0.75

_WORD = re.compile(r"\w+")


class Bm25:
    """Index of texts with BM25 scores for a query (Robertson & Zaragoza 2009, in Lucene's form).

    The score of text d is the sum over the query's distinct words t of
    ``log(1 + (N - n_t + 1/2) / (n_t + 1/2)) * f_td / (f_td + k1 (1 - b + b l_d / L))``: f_td says how often t stands in
    d, l_d how many words d has, n_t in how many texts t stands, and L is the mean of l over N texts. N, n_t and L count
    the texts that are seen and no others, so the rest cannot tell of itself through a word's frequency. Where a text
    stands is kept in order for each word: what is seen is a beginning of it, found by bisection.

    Args:
        texts: oldest first.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._number: dict[str, int] = {}
        number, word, count, distinct, length = self._number, array("i"), array("i"), array("i"), array("d")
        for text in texts:
            found = Counter(words(text))
            word.extend([number.setdefault(one, len(number)) for one in found])
            count.extend(found.values())
            distinct.append(len(found))
            length.append(found.total())
        self._length = np.array(length)
        self._total = np.concatenate([[0.0], self._length.cumsum()])
        order = np.argsort(np.array(word), kind="stable")
        self._text = np.repeat(np.arange(len(texts), dtype=np.int32), np.array(distinct))[order]
        self._count = np.array(count)[order]
        self._start = np.searchsorted(np.array(word)[order], np.arange(len(number) + 1))

    def scores(self, query: str, seen: int) -> FloatArray:
        """Score the first texts for a query.

        Args:
            query: what is asked.
            seen: how many texts count, at most as many as there are.

        Returns:
            Shape (seen,), 0 where a text shares no word with the query.
        """
        scores = np.zeros(seen)
        mean = self._total[seen] / max(1, seen)
        for word in sorted(set(words(query))):
            number = self._number.get(word)
            if number is None:
                continue
            start, stop = self._start[number : number + 2]
            stop = start + np.searchsorted(self._text[start:stop], seen)
            where, count = self._text[start:stop], self._count[start:stop]
            rarity = np.log1p((seen - len(where) + 0.5) / (len(where) + 0.5))
            scores[where] += rarity * count / (count + K1 * (1.0 - B + B * self._length[where] / mean))
        return scores


def words(text: str) -> list[str]:
    """Runs of letters, digits and underscores, in lower case."""
    return _WORD.findall(text.lower())
