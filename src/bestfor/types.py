"""Define the values that modules hand to each other: frozen data classes and types of arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

Scale = Literal["utility", "arbitrary"]
"""Scale of rewards: the utility's units (squared-error models), or an order only (Bradley-Terry, other scores)."""

Averaging = Literal["user", "query"]
"""Unit that carries the same weight in a mean: every user, or every query."""


Interval = Literal["t", "bootstrap"]
"""``t``: Student's t on user means, two-way where users share texts; ``bootstrap``: users drawn again."""


@dataclass(frozen=True)
class Estimate:
    """Number with its interval.

    Attributes:
        value: the estimate.
        low: lower end of the interval, None where fewer than two clusters carry it.
        high: upper end, None likewise.
        level: the interval's nominal coverage.
    """

    value: float
    low: float | None = None
    high: float | None = None
    level: float = 0.95

    def moved(self, by: float) -> Estimate:
        """Add a number to the value and to both ends."""
        if by == 0:
            return self
        low, high = (None if end is None else end + by for end in (self.low, self.high))
        return Estimate(self.value + by, low, high, self.level)


@dataclass(frozen=True)
class RewardEstimate:
    """Prediction of a reward model for candidates.

    Attributes:
        mean: shape (n,), the predicted utility, or a score of arbitrary scale; NaN where a model has none to give.
        std: shape (n,), the predictive standard deviation in the mean's units, or None where the model has none.
        std_mean: shape (n,), the part of ``std`` that more labels would take away (the mean's own posterior), or None.
        notes: plain sentences about this prediction.
    """

    mean: FloatArray
    std: FloatArray | None = None
    std_mean: FloatArray | None = None
    notes: tuple[str, ...] = ()


Served = Literal["own", "everybody", "abstained"]
"""What scores a request: the user's own part; what all users share; or that, since own labels say no more."""


@dataclass(frozen=True)
class Scores:
    """Rewards of the candidates of one request.

    Attributes:
        mean: shape (n,), the predicted utility, or a score of arbitrary scale; NaN where a model has none to give.
        std: shape (n,), the predictive standard deviation in the mean's units, or None where the model has none.
        std_mean: shape (n,), the posterior standard deviation of the mean alone, or None.
        served: what scored them.
        cov_mean: shape (n, n), the posterior covariance of the means, whose diagonal is ``std_mean`` squared, or None.
    """

    mean: FloatArray
    std: FloatArray | None = None
    std_mean: FloatArray | None = None
    served: Served = "everybody"
    cov_mean: FloatArray | None = None
