"""Ridge: every user's own deterministic reward, in closed form.

    minimise over w_u, b_u:  sum_i (y_i - b_u - x_i'w_u - c_q(i))^2 + |w_u|^2 / g + |c|^2 / k

Users share nothing but the two ratios g and k (and the features), which maximise the sum of the users' log marginal
likelihoods; each user's weights are then the closed-form ridge solution (Hoerl & Kennard 1970). It is the exact limit
of kind ``point`` without sharing: with few labels it collapses or turns against its user. Users without fit labels get
the pooled ridge, and with ``abstain`` so do those whose leave-one-out errors are not below its own.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from bestfor.artifacts import Arrays
from bestfor.data.candidates import Examples
from bestfor.rewards.abstain import abstaining, left_out_levels
from bestfor.rewards.features.space import FeatureConfig
from bestfor.rewards.linear.solver import (
    Rows,
    apply_rows,
    build_blocks,
    choose_ratios,
    fit_pool,
    left_out_users,
    predict_users,
    restore_pool,
    solve_users,
    with_intercept,
)
from bestfor.rewards.model import RewardModel
from bestfor.types import RewardEstimate


class Config(FeatureConfig):
    """Features and the penalty.

    Attributes:
        slope: prior variance g of a weight over the noise variance; None estimates it.
        abstain: whether users whose labels say no more than everybody's are served by the pooled ridge; off, since this
            kind is there to show what users' own labels do alone.
    """

    slope: float | None = Field(default=None, gt=0)
    abstain: bool = False


class Ridge(RewardModel):
    """One ridge per user."""

    kind = "ridge"
    Config = Config
    sliced = True

    def _fit(self, examples: Examples, rng: int) -> None:
        values = self._design(examples).rows()
        self._pool = fit_pool(values, examples)
        target = (examples.utility - self._pool.centre) / self._pool.unit
        rows = Rows(with_intercept(values), target, examples.user, examples.query)
        blocks = build_blocks(rows)
        slope, query = choose_ratios(blocks, self.config.slope)
        self._ratios = {"slope": slope, "query": query}
        self._weights = solve_users(blocks, slope, query)
        if self.config.abstain:
            ridge = self._pool.ridge.weights
            shared = left_out_levels(target - apply_rows(rows.z, ridge), examples.query)
            self._abstained = abstaining(examples.user, left_out_users(rows, blocks, slope, query), shared)

    def _predict(self, examples: Examples) -> RewardEstimate:
        design, codes = self._design(examples), self._user_codes(examples)
        mean = predict_users(self._weights, self._pool, design.rows(), codes)
        self._note_strangers(examples, codes, "pooled")
        return RewardEstimate(mean, None)

    def _state(self) -> tuple[dict[str, Any], Arrays]:
        state, arrays = self._pool.state()
        return {"pool": state, "ratios": self._ratios}, {**arrays, "user.weights": self._weights}

    def _restore(self, state: dict[str, Any], arrays: Arrays) -> None:
        self._pool = restore_pool(state["pool"], arrays)
        self._ratios = {name: float(state["ratios"][name]) for name in ("slope", "query")}
        self._weights = arrays["user.weights"]
        if self._weights.shape != (len(self._users), len(self._pool.ridge.weights)):
            raise ValueError(f"weights of shape {self._weights.shape}")
