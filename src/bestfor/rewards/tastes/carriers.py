"""Carry what tastes make of the fitted items to items that nobody rated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from scipy import linalg

from bestfor.rewards.features.nearness import ItemVectors, Nearness
from bestfor.rewards.tastes.factors import JITTER, ItemTastes, dense_priors
from bestfor.rewards.tastes.landmarks import LandmarkPrior, Landmarks
from bestfor.rewards.tastes.priors import DensePrior
from bestfor.types import FloatArray, IntArray

SLICE = 256
"""Items that are predicted at once by landmarks."""


class Carrier(Protocol):
    """Predicts h, and has its priors at the fitted items."""

    def predict(self, shared: ItemTastes, items: ItemVectors) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of h at m new items, each (m, k + 1)."""
        ...


@dataclass(frozen=True)
class ExactCarrier:
    """Predict by the kernel to all fitted items.

    Attributes:
        nearness: the kernel.
        fitted: vectors of the n fitted items.
        priors: of h_0 and of the tastes.
        inverses: theirs.
        noises: n_0 and n_j.
    """

    nearness: Nearness
    fitted: ItemVectors
    priors: list[DensePrior]
    inverses: list[FloatArray]
    noises: tuple[float, float]

    @classmethod
    def of(cls, nearness: Nearness, fitted: ItemVectors, noises: tuple[float, float]) -> Self:
        """Make it of the fitted items."""
        priors = dense_priors(nearness.between(fitted, fitted), noises)
        return cls(nearness, fitted, priors, [_inverse(prior.matrix) for prior in priors], noises)

    def predict(self, shared: ItemTastes, items: ItemVectors) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of h at m new items, each (m, k + 1)."""
        return self.carry(shared, self.nearness.between(items, self.fitted))

    def rows(self, code: IntArray) -> FloatArray:
        """Kernel of fitted items to all fitted ones, shape (m, n)."""
        near, noise = self.priors[0].matrix[code], max(self.noises[0], JITTER)
        near[np.arange(len(code)), code] -= noise
        return near

    def carry(self, shared: ItemTastes, near: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Do the same by the items' kernel to the fitted ones, shape (m, n)."""
        mean, variance = (np.zeros((len(near), len(shared.scale))) for _ in range(2))
        for columns, inverse, noise in zip((slice(0, 1), slice(1, None)), self.inverses, self.noises, strict=True):
            weights = near @ inverse
            left = np.maximum(1 + noise - np.sum(weights * near, axis=1), 0)
            mean[:, columns] = weights @ shared.mean[: shared.fitted, columns]
            variance[:, columns] = left[:, None] * shared.scale[columns]
            variance[:, columns] += weights**2 @ shared.variance[: shared.fitted, columns]
        return mean, variance


@dataclass(frozen=True)
class LandmarkCarrier:
    """Predict by the kernel to landmarks.

    Attributes:
        landmarks: among the fitted items.
        priors: of h_0 and of the tastes.
        noises: n_0 and n_j.
    """

    landmarks: Landmarks
    priors: list[LandmarkPrior]
    noises: tuple[float, float]

    @classmethod
    def of(cls, landmarks: Landmarks, noises: tuple[float, float]) -> Self:
        """Make it of landmarks."""
        return cls(landmarks, landmarks.priors(noises), noises)

    def predict(self, shared: ItemTastes, items: ItemVectors) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of h at m new items, each (m, k + 1)."""
        features = self.landmarks.features_of(items)
        mean, variance = (np.zeros((len(features), len(shared.scale))) for _ in range(2))
        for columns, prior, noise in zip((slice(0, 1), slice(1, None)), self.priors, self.noises, strict=True):
            mean[:, columns] = features @ prior.project(shared.mean[:, columns])
            solved = prior.solve(features)
            left = 1 + noise - np.sum(features**2, axis=1) + np.sum(solved * features, axis=1)
            variance[:, columns] = np.maximum(left, 0.0)[:, None] * shared.scale[columns]
            for start in range(0, len(features), SLICE):
                rows = slice(start, start + SLICE)
                weights = (solved[rows] @ prior.features.T) / prior.remains
                variance[rows, columns] += weights**2 @ shared.variance[:, columns]
        return mean, variance


def _inverse(matrix: FloatArray) -> FloatArray:
    """Invert a positive definite matrix: a product with it takes a request less time than solving by its factor."""
    factor = linalg.cho_factor(matrix, lower=True)
    found: Any = linalg.cho_solve(factor, np.eye(len(matrix)), overwrite_b=True)
    return (found + found.T) / 2
