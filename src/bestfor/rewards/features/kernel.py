"""A nonlinear kernel on texts as ordinary features.

    k(t, t') = 1 / (1 + |x_t - x_t'|^2 / (2 l^2)) is about f(t)'f(t'),   f(t) = L^-1/2 U' k(t, landmarks)

with U L U' the leading eigenvectors of the landmarks' own kernel: Nystroem features (Williams & Seeger 2001) of the
rational quadratic kernel of exponent 1 (Rasmussen & Williams 2006, section 4.2.1). A linear model with prior covariance
S of users' weights on f is then the Gaussian process with covariance (users) x (texts). Landmarks are texts of the fit
part; features are centred over them and divided by one common factor.

How near two items are: what their embeddings mean, and how they are spelled.

    K(t, t') = [1 / (1 + |x_t - x_t'|^2 / (2 l^2)) + w s_t's_t'] / (1 + w)

x are unit embeddings, s unit vectors of weighted character n-grams (3 to 5 letters within words, tf-idf; Lodhi et al.
2002): names, places and slogans that an embedding blurs. Grams are hashed, so no vocabulary has to be kept; their
weights come from the fit texts alone.

What is rated: a text, or a text under an input.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from bestfor import rng as random
from bestfor.data.candidates import Examples
from bestfor.encoders import Encoder
from bestfor.extras import require
from bestfor.types import FloatArray, IntArray

GRAMS = (3, 5)
BUCKETS = 2**15


@dataclass(frozen=True)
class Looks:
    """What n items look like.

    Attributes:
        vectors: shape (n, dim), unit embeddings.
        spelled: shape (n, buckets), unit rows of hashed n-grams; all zero where spelling does not count.
    """

    vectors: FloatArray
    spelled: sparse.csr_array

    def take(self, codes: IntArray) -> Looks:
        """Some of the items."""
        return Looks(self.vectors[codes], sparse.csr_array(self.spelled[codes]))

    def join(self, other: Looks) -> Looks:
        """These items and the others after them."""
        spelled = sparse.csr_array(sparse.vstack([self.spelled, other.spelled]))
        return Looks(np.vstack([self.vectors, other.vectors]), spelled)


@dataclass(frozen=True)
class Nearness:
    """The kernel K.

    Attributes:
        length: l.
        weight: w; 0 leaves spelling out.
        rarity: shape (buckets,), logarithmic inverse document frequency of every gram; empty where ``weight`` is 0.
    """

    length: float
    weight: float
    rarity: FloatArray

    @classmethod
    def learn(cls, texts: Sequence[str], length: float, weight: float) -> Nearness:
        """Weights of grams from the fit texts: rare ones tell more."""
        if not weight:
            return cls(length, weight, np.zeros(0))
        counts = _count(texts)
        seen = np.bincount(counts.indices, minlength=BUCKETS)
        return cls(length, weight, np.log((1 + len(texts)) / (1 + seen)) + 1)

    def look(self, texts: Sequence[str], vectors: FloatArray) -> Looks:
        """What items look like, from their texts and unit embeddings (n, dim)."""
        if not self.weight:
            return Looks(vectors, sparse.csr_array((len(texts), 1)))
        counts = _count(texts)
        counts.data = (1 + np.log(counts.data)) * self.rarity[counts.indices]
        norm = np.sqrt(np.asarray(counts.multiply(counts).sum(axis=1)).ravel())
        return Looks(vectors, sparse.csr_array(sparse.diags_array(1 / np.maximum(norm, 1e-12)) @ counts))

    def between(self, left: Looks, right: Looks) -> FloatArray:
        """K of every pair, shape (n, m)."""
        meant = kernel(left.vectors, right.vectors, self.length)
        if not self.weight:
            return meant
        spelled = (left.spelled @ right.spelled.T).toarray()
        return (meant + self.weight * spelled) / (1 + self.weight)


def kernel(left: FloatArray, right: FloatArray, length: float) -> FloatArray:
    """Rational quadratic kernel of exponent 1 on unit vectors, shape (n, m) (Rasmussen & Williams 2006, 4.2.1)."""
    distance = np.maximum(2.0 - 2.0 * left @ right.T, 0.0)
    return 1.0 / (1.0 + distance / (2.0 * length**2))


def _count(texts: Sequence[str]) -> sparse.csr_array:
    text = require("sklearn.feature_extraction.text", "models")
    hashing = text.HashingVectorizer(
        analyzer="char_wb", ngram_range=GRAMS, n_features=BUCKETS, alternate_sign=False, norm=None
    )
    return sparse.csr_array(hashing.transform(texts))


@dataclass(frozen=True)
class Items:
    """Distinct items of some rows.

    Attributes:
        keys: identity of each item, a hash of input and text.
        texts: aligned with ``keys``.
        inputs: aligned with ``keys``; empty where texts are rated bare.
        row: shape (n,), item of each row.
    """

    keys: tuple[str, ...]
    texts: tuple[str, ...]
    inputs: tuple[str, ...]
    row: IntArray

    @property
    def with_inputs(self) -> bool:
        """Whether anything is asked."""
        return any(given.strip() for given in self.inputs)

    def take(self, codes: IntArray) -> Items:
        """Some of the items, each as one row."""
        keys, texts, inputs = (tuple(names[code] for code in codes) for names in (self.keys, self.texts, self.inputs))
        return Items(keys, texts, inputs, np.arange(len(codes)))


def list_items(examples: Examples) -> Items:
    """Items in the order of their keys."""
    asked, asked_code = np.unique(np.array(examples.inputs, dtype=object), return_inverse=True)
    pair = asked_code[examples.query] * len(examples.texts) + examples.text
    distinct, row = np.unique(pair, return_inverse=True)
    texts = [examples.texts[code % len(examples.texts)] for code in distinct]
    inputs = [str(asked[code // len(examples.texts)]) for code in distinct]
    keys = [_key(given, text) for given, text in zip(inputs, texts, strict=True)]
    order = sorted(range(len(keys)), key=lambda code: keys[code])
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    unsorted = Items(tuple(keys), tuple(texts), tuple(inputs), row)
    return replace(unsorted.take(np.array(order)), row=rank[row])


def embed_items(items: Items, encoder: Encoder, with_inputs: bool) -> FloatArray:
    """Unit vectors, shape (items, dim), or (items, 2 dim) of text and input together."""
    vectors = _unit(encoder.encode(items.texts).astype(np.float64))
    if not with_inputs:
        return vectors
    return np.hstack([vectors, _unit(encoder.encode(items.inputs).astype(np.float64))]) / np.sqrt(2.0)


def _unit(vectors: FloatArray) -> FloatArray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _key(given: str, text: str) -> str:
    digest = hashlib.sha256(given.encode("utf-8", "surrogatepass"))
    digest.update(b"\0")
    digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:32]


@dataclass(frozen=True)
class TextKernel:
    """A fitted map from embeddings to kernel features.

    Attributes:
        landmarks: shape (m, dim), embeddings.
        basis: shape (m, r), U L^-1/2 over the common factor.
        centre: shape (r,), mean of the features over the fit texts.
        length: l.
    """

    landmarks: FloatArray
    basis: FloatArray
    centre: FloatArray
    length: float

    def features(self, vectors: FloatArray) -> FloatArray:
        """Features of embeddings (n, dim), shape (n, r)."""
        return rational_quadratic(vectors, self.landmarks, self.length) @ self.basis - self.centre


def rational_quadratic(left: FloatArray, right: FloatArray, length: float) -> FloatArray:
    """Kernel of exponent 1, shape (n, m)."""
    squares = np.sum(left**2, axis=1)[:, None] + np.sum(right**2, axis=1)[None, :] - 2 * left @ right.T
    return 1 / (1 + np.maximum(squares, 0.0) / (2 * length**2))


def fit_kernel(vectors: FloatArray, length: float, components: int, landmarks: int, *, rng: int) -> TextKernel:
    """Choose landmarks among distinct texts and make features of them.

    Args:
        vectors: shape (texts, dim), embeddings of the fit part's texts in an order of their own.
        length: how near two texts must be to mean the like.
        components: features at most.
        landmarks: landmarks at most.
        rng: seed of their choice.
    """
    chosen = np.arange(len(vectors))
    if len(vectors) > landmarks:
        chosen = np.sort(random.derive(rng, "landmarks").permutation(len(vectors))[:landmarks])
    marks = vectors[chosen]
    values, axes = np.linalg.eigh(rational_quadratic(marks, marks, length))
    kept = np.flatnonzero(values > 1e-8 * values[-1])[::-1][:components]
    axes = axes[:, kept]
    signs = np.sign(axes[np.argmax(np.abs(axes), axis=0), np.arange(len(kept))])
    basis = axes * signs / np.sqrt(values[kept])
    features = rational_quadratic(vectors, marks, length) @ basis
    factor = float(np.sqrt(np.mean(features.var(axis=0)))) or 1.0
    basis = basis / factor
    return TextKernel(marks, np.ascontiguousarray(basis), features.mean(axis=0) / factor, length)
