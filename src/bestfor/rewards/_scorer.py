"""One user's linear reward at hand: arrays and two products, for a service that scores as candidates come in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bestfor.errors import BestforError
from bestfor.rewards._rounding import rounded
from bestfor.rewards.features.kernel import TextKernel
from bestfor.rewards.features.space import Space
from bestfor.types import FloatArray


@dataclass(frozen=True)
class Scorer:
    """Means of one user, as :meth:`Hierarchical.predict` gives them, up to the last digits.

    From embeddings these are the last digits of single precision.

    Attributes:
        user: whom it serves; somebody without fit labels is served as such.
        weights: shape (features,), on the utility's scale.
        level: the constant.
        space: the model's features.
        kernel: the map behind its kernel features, None where it has none.
    """

    user: str
    weights: FloatArray
    level: float
    space: Space
    kernel: TextKernel | None

    def score(self, features: npt.NDArray[np.floating]) -> FloatArray:
        """Rewards of rows of :meth:`Hierarchical.features`, (n, features) -> (n,)."""
        return rounded(features @ self.weights + self.level)

    def score_embeddings(
        self, embeddings: npt.NDArray[np.floating], surface: npt.NDArray[np.floating] | None = None
    ) -> FloatArray:
        """Rewards of candidates whose embeddings are at hand.

        Args:
            embeddings: shape (n, dim), from the model's encoder.
            surface: shape (n, surface), the columns of :meth:`Hierarchical.features` between components and kernel;
                may be left out where the model was fitted without style and answer features.

        Raises:
            BestforError: the model has surface features and none are given.
        """
        space, parts = self.space, []
        if space.axes.shape[1]:
            # half the time of double precision; embeddings come in single precision anyway
            centre, axes, limit = space.single
            components = (embeddings.astype(np.float32, copy=False) - centre) @ axes
            np.maximum(components, -limit, out=components)
            parts.append(np.minimum(components, limit, out=components))
        if len(space.shift):
            if surface is None:
                raise BestforError(f"the model has {len(space.shift)} surface features: give them, or fit without")
            parts.append(surface)
        if self.kernel is not None:
            parts.append(self.kernel.features(embeddings.astype(np.float64)))
        return self.score(np.hstack(parts))
