"""Priors of what a taste makes of n items, and the posterior of one column under each.

    h ~ N(0, v P),   P = K + nI            exact, time n^3
                     P = FF' + diag(d)     from landmarks, time n r^2 (:mod:`bestfor.rewards.tastes.landmarks`)

With D the precision of the votes, B = I + D^1/2 vP D^1/2 gives the posterior whole: cov = D^-1/2 (I - B^-1) D^-1/2 and
tr[P^-1 cov] = v tr B^-1. For the second form, with S = vd + D^-1 and A = I/v + F'S^-1 F (Woodbury),

    mean of h = F m + g (y - Fm),  m = A^-1 F'S^-1 y,  g = vd / S,  y = D^-1 pull
    var h_i   = (1 - g_i)^2 [F A^-1 F']_ii + g_i / D_i,   [(vP + D^-1)^-1]_ii = 1/S_i - [F A^-1 F']_ii / S_i^2

Sources: Rasmussen & Williams 2006, section 3.4 (B); Snelson & Ghahramani 2006 (the diagonal beside the low rank).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from scipy import linalg

from bestfor.types import FloatArray


class ItemPrior(Protocol):
    """A prior covariance P of n items."""

    @property
    def items(self) -> int:
        """Number of items, n."""
        ...

    def energy(self, values: FloatArray) -> float:
        """Compute x'P^-1 x of values x, shape (n,)."""
        ...

    def posterior(self, scale: float, precision: FloatArray, pull: FloatArray) -> tuple[FloatArray, FloatArray, float]:
        """Mean and variance of h at every item, and tr[P^-1 cov].

        Args:
            scale: v.
            precision: shape (n,), D, above 0.
            pull: shape (n,), precision times what the votes say of h.
        """
        ...


@dataclass(frozen=True)
class DensePrior:
    """A prior covariance as a matrix.

    Attributes:
        matrix: shape (n, n), P.
    """

    matrix: FloatArray

    @property
    def items(self) -> int:
        """Number of items, n."""
        return len(self.matrix)

    @cached_property
    def _inverse(self) -> FloatArray:
        found: Any = linalg.inv(self.matrix)
        return found

    def energy(self, values: FloatArray) -> float:
        """Compute x'P^-1 x."""
        return float(values @ self._inverse @ values)

    def posterior(self, scale: float, precision: FloatArray, pull: FloatArray) -> tuple[FloatArray, FloatArray, float]:
        """Mean and variance of h at every item, and tr[P^-1 cov]."""
        root = np.sqrt(precision)
        matrix = np.eye(len(root)) + root[:, None] * (scale * self.matrix) * root[None, :]
        inverse: Any = linalg.inv(matrix, overwrite_a=True, check_finite=False)
        mean = (pull / root - inverse @ (pull / root)) / root
        spread = np.diag(inverse)
        return mean, np.maximum((1 - spread) / precision, 0.0), scale * float(spread.sum())


@dataclass(frozen=True)
class LowRankPrior:
    """A prior covariance of low rank and a diagonal.

    Attributes:
        features: shape (n, r), F.
        remains: shape (n,), d, above 0.
    """

    features: FloatArray
    remains: FloatArray

    @property
    def items(self) -> int:
        """Number of items, n."""
        return len(self.features)

    @cached_property
    def _factor(self) -> Any:  # noqa: ANN401 - SciPy's pair of a factor and where it lies
        """Cholesky factor of I + F'd^-1 F."""
        scaled = self.features / np.sqrt(self.remains)[:, None]
        return linalg.cho_factor(np.eye(scaled.shape[1]) + scaled.T @ scaled, lower=True, check_finite=False)

    @cached_property
    def _single(self) -> Any:  # noqa: ANN401 - an array of single precision
        """F in single precision: sums over items in it cost half, and are far more exact than the model."""
        return self.features.astype(np.float32)

    def energy(self, values: FloatArray) -> float:
        """Compute x'P^-1 x."""
        narrow = values / self.remains
        pulled = self.features.T @ narrow
        return float(values @ narrow - pulled @ linalg.cho_solve(self._factor, pulled))

    def posterior(self, scale: float, precision: FloatArray, pull: FloatArray) -> tuple[FloatArray, FloatArray, float]:
        """Mean and variance of h at every item, and tr[P^-1 cov]."""
        own = scale * self.remains
        width = own + 1 / precision
        share, target = own / width, pull / precision
        scaled = self._single / np.sqrt(width).astype(np.float32)[:, None]
        gram = (scaled.T @ scaled).astype(np.float64)
        gram[np.diag_indices(len(gram))] += 1 / scale
        factor = linalg.cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
        told = self.features @ linalg.cho_solve(factor, self.features.T @ (target / width))
        half: Any = linalg.solve_triangular(
            factor[0].astype(np.float32), self._single.T, lower=True, check_finite=False
        )
        reach = np.einsum("ri,ri->i", half, half, dtype=np.float64)
        mean = told + share * (target - told)
        variance = (1 - share) ** 2 * reach + share / precision
        spread = np.maximum(1 / width - reach / width**2, 0.0) / precision
        return mean, variance, scale * float(spread.sum())

    def project(self, values: FloatArray) -> FloatArray:
        """Mean of the landmarks' weights z given h, (n, k) -> (r, k), where h = Fz + e."""
        found: Any = linalg.cho_solve(self._factor, self.features.T @ (values / self.remains[:, None]))
        return found

    def solve(self, features: FloatArray) -> FloatArray:
        """Rows f of further items times (I + F'd^-1 F)^-1, (m, r) -> (m, r)."""
        found: Any = linalg.cho_solve(self._factor, features.T)
        return found.T
