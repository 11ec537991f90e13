"""Map embeddings to features of a nonlinear kernel on texts.

    k(t, t') = 1 / (1 + |x_t - x_t'|^2 / (2 l^2)) is about f(t)'f(t'),   f(t) = L^-1/2 U' k(t, landmarks)

with U L U' the leading eigenvectors of the landmarks' own kernel: Nystroem features (Williams & Seeger 2001) of the
rational quadratic kernel of exponent 1 (Rasmussen & Williams 2006, section 4.2.1). A linear model with prior covariance
S of users' weights on f is then the Gaussian process with covariance (users) x (texts). Landmarks are texts of the fit
part; features are centred over them and divided by one common factor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bestfor import rng as random
from bestfor.types import FloatArray


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
    """Rational quadratic kernel of exponent 1 of any vectors, shape (n, m)."""
    squares = np.sum(left**2, axis=1)[:, None] + np.sum(right**2, axis=1)[None, :] - 2 * left @ right.T
    return 1 / (1 + np.maximum(squares, 0.0) / (2 * length**2))


def fit_kernel(vectors: FloatArray, length: float, components: int, landmarks: int, *, rng: int) -> TextKernel:
    """Choose landmarks among distinct texts and fit the map to their kernel.

    Args:
        vectors: shape (texts, dim), embeddings of the fit part's texts in an order of their own.
        length: l, how near two texts must be to mean the like.
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
