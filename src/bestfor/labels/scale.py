"""Scale on which labels of people are read as utilities, and what a label of each kind weighs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from bestfor.errors import InputError, nearest

WEIGHTS: Mapping[str, float] = {
    "rating": 1.0,
    "thumb": 0.5,
    "preference": 1.0,
    "edit": 1.0,
    "kept": 0.1,
    "dismissed": 0.1,
    "comment": 0.0,
}
"""Precision of a label of each kind over that of an ordinary rating, where nothing else is declared."""


@dataclass(frozen=True)
class LabelScale:
    """Scale on which labels are read as utilities.

    Attributes:
        worst: utility of the lowest rating, in the units of the model's own labels.
        best: utility of the highest.
        rating: lowest and highest number that people give.
        thumbs: utilities of no and yes; None takes the middles of the lower and the upper half.
        metric: name of the metric that compares candidates with what a person finally wrote.
        metric_unit: utility of one unit of that metric; None takes ``best - worst``.
        weights: precision of a label of some kinds over that of a rating; the others have :data:`WEIGHTS`.
    """

    worst: float = 0.0
    best: float = 1.0
    rating: tuple[float, float] = (0.0, 1.0)
    thumbs: tuple[float, float] | None = None
    metric: str = "rougeL"
    metric_unit: float | None = None
    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InputError: a scale that is empty or not finite, an unknown kind, or a weight below 0.
        """
        for name, (low, high) in {"scale": (self.worst, self.best), "scale.rating": self.rating}.items():
            if not (np.isfinite([low, high]).all() and low < high):
                raise InputError(name, f"{low} to {high}", "two finite numbers, the lower one first")
        for kind, weight in self.weights.items():
            if kind not in WEIGHTS:
                raise InputError("scale.weights", f"'{kind}'", nearest(kind, WEIGHTS))
            if not 0 <= weight < np.inf:
                raise InputError(f"scale.weights, {kind}", str(weight), "a finite number, 0 or more")

    def utility(self, share: float) -> float:
        """Utility at a share of the way from worst to best."""
        return self.worst + share * (self.best - self.worst)

    def thumb(self, yes: bool) -> float:
        """Utility of a text that a person likes, or does not."""
        return self.utility(0.75 if yes else 0.25) if self.thumbs is None else self.thumbs[int(yes)]

    def weight(self, kind: str) -> float:
        """Weight of a label of a kind."""
        return float(self.weights.get(kind, WEIGHTS[kind]))
