"""Measure how near two items are: what their embeddings mean, and how they are spelled.

    K(t, t') = [1 / (1 + |x_t - x_t'|^2 / (2 l^2)) + w s_t's_t'] / (1 + w)

x are unit embeddings, s unit vectors of weighted character n-grams (3 to 5 letters within words, tf-idf; Lodhi et al.
2002): names, places and slogans that an embedding blurs. Grams are hashed, so no vocabulary has to be kept; their
weights come from the fit texts alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from bestfor.extras import require
from bestfor.types import FloatArray, IntArray

GRAMS = (3, 5)
BUCKETS = 2**15


@dataclass(frozen=True)
class ItemVectors:
    """Vectors of n items: what they mean and how they are spelled.

    Attributes:
        vectors: shape (n, dim), unit embeddings.
        spelled: shape (n, buckets), unit rows of hashed n-grams; all zero where spelling does not count.
    """

    vectors: FloatArray
    spelled: sparse.csr_array

    def take(self, codes: IntArray) -> ItemVectors:
        """Some of the items."""
        return ItemVectors(self.vectors[codes], sparse.csr_array(self.spelled[codes]))

    def join(self, other: ItemVectors) -> ItemVectors:
        """These items and the others after them."""
        spelled = sparse.csr_array(sparse.vstack([self.spelled, other.spelled]))
        return ItemVectors(np.vstack([self.vectors, other.vectors]), spelled)


@dataclass(frozen=True)
class Nearness:
    """Kernel K between items.

    Attributes:
        length: l.
        weight: w; 0 leaves spelling out.
        rarity: shape (buckets,), logarithmic inverse document frequency of every gram; empty where ``weight`` is 0.
    """

    length: float
    weight: float
    rarity: FloatArray

    @classmethod
    def fit(cls, texts: Sequence[str], length: float, weight: float) -> Nearness:
        """Learn the weights of grams from the fit texts: rare ones say more."""
        if not weight:
            return cls(length, weight, np.zeros(0))
        counts = _count(texts)
        seen = np.bincount(counts.indices, minlength=BUCKETS)
        return cls(length, weight, np.log((1 + len(texts)) / (1 + seen)) + 1)

    def represent(self, texts: Sequence[str], vectors: FloatArray) -> ItemVectors:
        """Vectors of items from their texts and unit embeddings (n, dim)."""
        if not self.weight:
            return ItemVectors(vectors, sparse.csr_array((len(texts), 1)))
        counts = _count(texts)
        counts.data = (1 + np.log(counts.data)) * self.rarity[counts.indices]
        norm = np.sqrt(np.asarray(counts.multiply(counts).sum(axis=1)).ravel())
        return ItemVectors(vectors, sparse.csr_array(sparse.diags_array(1 / np.maximum(norm, 1e-12)) @ counts))

    def between(self, left: ItemVectors, right: ItemVectors) -> FloatArray:
        """K of every pair, shape (n, m)."""
        meaning = unit_kernel(left.vectors, right.vectors, self.length)
        if not self.weight:
            return meaning
        spelled = (left.spelled @ right.spelled.T).toarray()
        return (meaning + self.weight * spelled) / (1 + self.weight)


def unit_kernel(left: FloatArray, right: FloatArray, length: float) -> FloatArray:
    """Rational quadratic kernel of exponent 1 on unit vectors, shape (n, m) (Rasmussen & Williams 2006, 4.2.1)."""
    distance = np.maximum(2.0 - 2.0 * left @ right.T, 0.0)
    return 1.0 / (1.0 + distance / (2.0 * length**2))


def _count(texts: Sequence[str]) -> sparse.csr_array:
    text = require("sklearn.feature_extraction.text", "models")
    hashing = text.HashingVectorizer(
        analyzer="char_wb", ngram_range=GRAMS, n_features=BUCKETS, alternate_sign=False, norm=None
    )
    return sparse.csr_array(hashing.transform(texts))
