"""Carry a kernel of many items by some of them: landmarks.

    K(t, t') is about f(t)'f(t'),   f(t) = L^-1 k(t, landmarks),   LL' = K(landmarks, landmarks)

Landmarks are taken one by one where the kernel is told worst so far: pivoted incomplete Cholesky factorisation (Fine &
Scheinberg 2001), in time n r^2 and without a matrix of all items. What they do not tell of an item stays on its
diagonal (:class:`bestfor.rewards.tastes.priors.LowRankPrior`), so that every variance is right. With all items as
landmarks it is the kernel itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import linalg

from bestfor.progress import Progress
from bestfor.rewards.features.nearness import ItemVectors, Nearness
from bestfor.rewards.tastes.factors import JITTER, PATIENCE
from bestfor.rewards.tastes.priors import LowRankPrior
from bestfor.types import FloatArray, IntArray

_TOLD = 1e-8
_JITTER = 1e-10


class LandmarkPrior(LowRankPrior):
    """A prior covariance from landmarks, whose posterior multiplies by an inverse factor instead of solving with it.

    The same numbers but for the rounding of single precision: OpenBLAS multiplies by a triangle half as fast again as
    it solves with one, and this is where the time of many texts goes.
    """

    def posterior(self, scale: float, precision: FloatArray, pull: FloatArray) -> tuple[FloatArray, FloatArray, float]:
        """Mean and variance of h at every item, and tr[P^-1 cov]."""
        own = scale * self.remains
        width = own + 1 / precision
        share, target = own / width, pull / precision
        scaled = self._single / np.sqrt(width).astype(np.float32)[:, None]
        gram = (scaled.T @ scaled).astype(np.float64)
        gram[np.diag_indices(len(gram))] += 1 / scale
        lower, _ = linalg.lapack.dpotrf(gram, lower=True, overwrite_a=True)
        inverse, _ = linalg.lapack.dtrtri(lower, lower=True)
        told = self.features @ (inverse.T @ (inverse @ (self.features.T @ (target / width))))
        half: Any = linalg.blas.strmm(1.0, inverse.astype(np.float32), self._single.T, lower=True)
        reach = np.einsum("ri,ri->i", half, half, dtype=np.float64)
        mean = told + share * (target - told)
        spread = np.maximum(1 / width - reach / width**2, 0.0) / precision
        return mean, (1 - share) ** 2 * reach + share / precision, scale * float(spread.sum())


@dataclass(frozen=True)
class Landmarks:
    """Landmarks and what they say of the fitted items.

    Attributes:
        codes: shape (r,), which items they are.
        vectors: theirs.
        root: shape (r, r), L.
        features: shape (n, r), f of the fitted items.
        nearness: the kernel.
    """

    codes: IntArray
    vectors: ItemVectors
    root: FloatArray
    features: FloatArray
    nearness: Nearness

    @classmethod
    def of(cls, nearness: Nearness, items: ItemVectors, codes: IntArray) -> Landmarks:
        """Map items by landmarks that are known."""
        marks = items.take(codes)
        between = nearness.between(marks, marks)
        between[np.diag_indices(len(codes))] += _JITTER
        root = np.asarray(np.linalg.cholesky(between), dtype=np.float64)
        return cls(codes, marks, root, _features(root, nearness.between(items, marks)), nearness)

    def priors(self, noises: tuple[float, float]) -> list[LandmarkPrior]:
        """Priors of h_0 and of the tastes at the fitted items."""
        left = np.maximum(1 - np.sum(self.features**2, axis=1), 0.0)
        return [LandmarkPrior(self.features, left + max(noise, JITTER)) for noise in noises]

    def features_of(self, items: ItemVectors) -> FloatArray:
        """Map further items, shape (m, r)."""
        return _features(self.root, self.nearness.between(items, self.vectors))


def choose_landmarks(nearness: Nearness, items: ItemVectors, most: int) -> IntArray:
    """Choose landmarks by pivoted incomplete Cholesky factorisation, shape (at most ``most``,).

    Args:
        nearness: the kernel.
        items: n.
        most: r.
    """
    count = items.vectors.shape[0]
    rows = np.zeros((min(most, count), count))
    left, chosen = np.ones(count), []
    with Progress(f"landmarks among {count} texts", len(rows), after=PATIENCE) as progress:
        for place in range(len(rows)):
            pivot = int(np.argmax(left))
            if left[pivot] <= _TOLD:
                break
            chosen.append(pivot)
            column = nearness.between(items, items.take(np.array([pivot])))[:, 0]
            rows[place] = (column - rows[:place, pivot] @ rows[:place]) / np.sqrt(left[pivot])
            left = np.maximum(left - rows[place] ** 2, 0.0)
            left[pivot] = 0.0
            progress.advance()
    return np.array(chosen, dtype=np.int64)


def _features(root: FloatArray, near: FloatArray) -> FloatArray:
    """Map a kernel to the landmarks, (n, r), to features, (n, r)."""
    found: Any = linalg.solve_triangular(root, near.T, lower=True, check_finite=False)
    return np.ascontiguousarray(found.T)
