"""What everybody shares in :mod:`bestfor.rewards.tastes`: what texts are, learned from all users' labels together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg

from bestfor.rewards.tastes.factors import build_votes, fit_tastes
from bestfor.types import FloatArray, IntArray

JITTER = 1e-6


@dataclass(frozen=True)
class Shared:
    """Belief about h at n items; column 0 is h_0, k tastes follow.

    Attributes:
        mean: shape (n, k + 1).
        variance: shape (n, k + 1).
        scale: shape (k + 1,), v_j.
        noise: s2.
        level_scale: t_b.
        fitted: how many of the items were fitted; the others came later and speak for none but themselves.
    """

    mean: FloatArray
    variance: FloatArray
    scale: FloatArray
    noise: float
    level_scale: float
    fitted: int

    def extend(self, mean: FloatArray, variance: FloatArray) -> Shared:
        """With further items as their looks tell."""
        return replace(self, mean=np.vstack([self.mean, mean]), variance=np.vstack([self.variance, variance]))


def learn_shared(
    votes: tuple[FloatArray, IntArray, IntArray, IntArray],
    near: FloatArray,
    noises: tuple[float, float],
    sizes: tuple[int, int],
    *,
    rng: int,
) -> Shared:
    """Variational Bayes over users and items.

    Args:
        votes: centred labels with contiguous codes of user, query and item, each of shape (n,).
        near: shape (items, items), the kernel.
        noises: n_0 and n_j.
        sizes: number of tastes and of rounds.
        rng: seed of the start.
    """
    priors = [near + max(noise, JITTER) * np.eye(len(near)) for noise in noises]
    state = fit_tastes(build_votes(*votes), priors, *sizes, rng=rng)
    return Shared(state.item, state.item_variance, state.scale, state.noise, state.level_scale, len(near))


def carry(
    shared: Shared, factors: Sequence[tuple[FloatArray, bool]], near: FloatArray, noises: tuple[float, float]
) -> tuple[FloatArray, FloatArray]:
    """Mean and variance of h at items of which only looks are known.

    Args:
        shared: what is believed of the known items.
        factors: Cholesky factors of K + n_0 I and K + n I at the fitted items.
        near: shape (n, known items or more), K to them.
        noises: n_0 and n_j.

    Returns:
        Each of shape (n, k + 1).
    """
    near, tastes = near[:, : shared.fitted], len(shared.scale) - 1
    mean, variance = np.zeros((len(near), tastes + 1)), np.zeros((len(near), tastes + 1))
    for columns, factor, noise in zip((slice(0, 1), slice(1, None)), factors, noises, strict=True):
        weights = linalg.cho_solve(factor, near.T).T
        left = np.maximum(1 + noise - np.sum(weights * near, axis=1), 0)
        mean[:, columns] = weights @ shared.mean[: shared.fitted, columns]
        variance[:, columns] = left[:, None] * shared.scale[columns]
        variance[:, columns] += weights**2 @ shared.variance[: shared.fitted, columns]
    return mean, variance
