"""Pooled: one linear reward for everybody, the reference that personal models must beat.

    y = b + x'w + c_q + v_t + e,   w ~ N(0, gI),  c_q ~ N(0, t_q),  v_t ~ N(0, t_v),  e ~ N(0, s2)

c_q is the level of a query (or of a rater) and v_t what a shared text has beyond its features. Weights and all
variances by marginal likelihood: Bayesian ridge regression (MacKay 1992) with random effects (Laird & Ware 1982).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bestfor.artifacts import Arrays
from bestfor.data.candidates import Examples
from bestfor.rewards.features.space import FeatureConfig
from bestfor.rewards.linear.solver import fit_pool, restore_pool
from bestfor.rewards.model import RewardModel
from bestfor.types import RewardEstimate


class Config(FeatureConfig):
    """Features only: everything else is estimated. Components keep their natural scale unless told otherwise."""

    whiten: bool = False


class Pooled(RewardModel):
    """One ridge for all users."""

    kind = "pooled"
    Config = Config

    def _fit(self, examples: Examples, rng: int) -> None:
        self._pool = fit_pool(self._design(examples).rows(), examples)

    def _predict(self, examples: Examples) -> RewardEstimate:
        design = self._design(examples)
        mean, variance = self._pool.predict(design.values)
        own = np.sqrt(self._pool.mean_variance(design.values))
        return RewardEstimate(mean[design.row], np.sqrt(variance)[design.row], own[design.row])

    def _state(self) -> tuple[dict[str, Any], Arrays]:
        return self._pool.state()

    def _restore(self, state: dict[str, Any], arrays: Arrays) -> None:
        self._pool = restore_pool(state, arrays)
