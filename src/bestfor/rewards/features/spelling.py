"""Count the letter groups of texts, hashed into buckets: what scikit-learn's HashingVectorizer counts, word by word.

Groups lie within words, so those of a word are hashed once for all texts that have it; a request whose words are known
costs a tenth of hashing anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import sparse

from bestfor.extras import require
from bestfor.types import FloatArray

GRAMS = (3, 5)
BUCKETS = 2**15
WORDS = 65_536
"""Words whose groups are kept."""
TEXTS = 8192
"""Texts whose counts are kept: the same candidates are scored by several users."""
_LEAST = -(2**31)


def count_grams(texts: Sequence[str]) -> sparse.csr_array:
    """Count hashed groups of 3 to 5 letters within words, shape (texts, buckets)."""
    counted = [_text(text) for text in texts]
    ends = np.concatenate([[0], np.cumsum([len(buckets) for buckets, _ in counted], dtype=np.int32)]).astype(np.int32)
    buckets = np.concatenate([part for part, _ in counted]) if counted else np.zeros(0, dtype=np.int32)
    counts = np.concatenate([part for _, part in counted]) if counted else np.zeros(0)
    return sparse.csr_array((counts, buckets, ends), shape=(len(texts), BUCKETS))


@lru_cache(maxsize=TEXTS)
def _text(text: str) -> tuple[npt.NDArray[np.int32], FloatArray]:
    """Buckets of a text, ascending, and how often each is hit."""
    hit = [bucket for word in text.lower().split() for bucket in _word(word)]
    buckets, counts = np.unique(np.array(hit, dtype=np.int32), return_counts=True)
    return buckets, counts.astype(np.float64)


@lru_cache(maxsize=WORDS)
def _word(word: str) -> tuple[int, ...]:
    """Buckets of a word's groups, its ends marked by spaces; a word shorter than a group is one group."""
    hash_of = require("sklearn.utils", "models").murmurhash3_32
    padded, found = f" {word} ", []
    for size in range(GRAMS[0], GRAMS[1] + 1):
        starts = range(max(len(padded) - size + 1, 1))
        found += [_bucket(hash_of(padded[start : start + size])) for start in starts]
        if len(padded) <= size:
            break
    return tuple(found)


def _bucket(value: int) -> int:
    """Bucket of a signed hash, as scikit-learn's."""
    return (2**31 - 1 - (BUCKETS - 1)) % BUCKETS if value == _LEAST else abs(value) % BUCKETS
