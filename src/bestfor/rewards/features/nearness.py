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

from bestfor.rewards.features.spelling import BUCKETS, count_grams
from bestfor.types import FloatArray, IntArray

NARROW = 64
"""Rows up to which one side of a product is laid out densely."""


@dataclass(frozen=True)
class ItemVectors:
    """Vectors of n items: what they mean and how they are spelled.

    Attributes:
        vectors: shape (n, dim), unit embeddings.
        spelled: shape (n, buckets), unit rows of hashed n-grams; all zero where spelling does not count.
    """

    vectors: FloatArray
    spelled: sparse.csr_array

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.vectors.nbytes + self.spelled.data.nbytes + self.spelled.indices.nbytes

    def take(self, codes: IntArray) -> ItemVectors:
        """Some of the items."""
        if len(codes) == len(self.vectors) and np.array_equal(codes, np.arange(len(codes))):
            return self
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
        counts = count_grams(texts)
        seen = np.bincount(counts.indices, minlength=BUCKETS)
        return cls(length, weight, np.log((1 + len(texts)) / (1 + seen)) + 1)

    def represent(self, texts: Sequence[str], vectors: FloatArray) -> ItemVectors:
        """Vectors of items from their texts and unit embeddings (n, dim)."""
        if not self.weight:
            return ItemVectors(vectors, sparse.csr_array((len(texts), 1)))
        counts = count_grams(texts)
        counts.data = (1 + np.log(counts.data)) * self.rarity[counts.indices]
        size = np.diff(counts.indptr)
        norm = np.sqrt(np.bincount(np.repeat(np.arange(len(size)), size), counts.data**2, minlength=len(size)))
        counts.data *= np.repeat(1 / np.maximum(norm, 1e-12), size)
        return ItemVectors(vectors, counts)

    def between(self, left: ItemVectors, right: ItemVectors) -> FloatArray:
        """K of every pair, shape (n, m)."""
        meaning = unit_kernel(left.vectors, right.vectors, self.length)
        if not self.weight:
            return meaning
        spelled = spelled_products(left.spelled, right.spelled)
        return (meaning + self.weight * spelled) / (1 + self.weight)


def unit_kernel(left: FloatArray, right: FloatArray, length: float) -> FloatArray:
    """Rational quadratic kernel of exponent 1 on unit vectors, shape (n, m) (Rasmussen & Williams 2006, 4.2.1)."""
    distance = np.maximum(2.0 - 2.0 * left @ right.T, 0.0)
    return 1.0 / (1.0 + distance / (2.0 * length**2))


def spelled_products(left: sparse.csr_array, right: sparse.csr_array) -> FloatArray:
    """Inner products of every pair of sparse rows, shape (n, m), to the same bits whichever way is taken.

    Few rows are laid out densely over the columns that they use: half of a sparse product's time goes into finding how
    many numbers it has.
    """
    if left.shape[0] > NARROW:
        return spelled_products(right, left).T if right.shape[0] <= NARROW else (left @ right.T).toarray()
    known = np.zeros(left.shape[1], dtype=np.bool_)
    known[left.indices] = True
    used, place = np.flatnonzero(known), np.zeros(left.shape[1], dtype=np.int32)
    place[used] = np.arange(1, len(used) + 1)
    dense = np.zeros((len(used) + 1, left.shape[0]))
    dense[place[left.indices], np.repeat(np.arange(left.shape[0]), np.diff(left.indptr))] = left.data
    mapped = sparse.csr_array((right.data, place[right.indices], right.indptr), shape=(right.shape[0], len(dense)))
    return np.asarray(mapped @ dense, dtype=np.float64).T
