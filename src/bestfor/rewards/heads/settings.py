"""Settings of a training of heads, as plain data: importing this needs no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Objective = Literal["squared", "pairwise", "nll", "beta_nll", "natural"]
LOG_LIMITS = (-8.0, 6.0)
"""Limits of a log-variance on the standard scale, within which nothing overflows."""
LEVEL_PRECISION = 1.0
"""Prior precision of a head's intercept and of a query's level, in units of the noise."""
UNIT_PRECISION = math.log(math.e - 1.0)
"""Where softplus is 1."""


@dataclass(frozen=True)
class TrainingOptions:
    """Settings of :func:`bestfor.rewards.heads.training.train`; the models' configurations explain the others.

    Attributes:
        objective: the loss.
        pairs: within what rows are compared.
        beta: exponent of beta-NLL.
        warm_up: epochs of squared error before a variance is learned.
        spread: prior precision of users' log-variance heads over that of their mean heads.
        abstain: whether held-out rows also judge users' own heads against the shared one.
    """

    objective: Objective
    shared: bool
    hidden: int
    deviation: float
    rate: float
    decay: float
    batch: int
    epochs: int
    patience: int
    held_out: float
    refit: bool
    pairs: Literal["user", "query"] = "user"
    beta: float = 0.0
    warm_up: int = 0
    spread: float = 1.0
    abstain: bool = False

    @property
    def pairwise(self) -> bool:
        """True where rows are compared, so that the scale is arbitrary."""
        return self.objective == "pairwise"

    @property
    def gaussian(self) -> bool:
        """True where a variance is learned."""
        return self.objective in ("nll", "beta_nll", "natural")
