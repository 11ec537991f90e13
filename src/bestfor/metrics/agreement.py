"""Score labels by exact match and numbers by absolute error."""

from __future__ import annotations

import math

from bestfor.errors import InputError
from bestfor.metrics.base import AgainstReference, Query


class Exact(AgainstReference):
    """Score 1 where a text is the user's own, outer space aside, else 0; its mean is the accuracy."""

    name = "exact"

    @property
    def signature(self) -> dict[str, str | int | float | bool]:
        """Name of the metric."""
        return {"metric": self.name}

    def _scores(self, query: Query, reference: str, texts: list[str]) -> list[float]:
        target = reference.strip()
        return [float(text.strip() == target) for text in texts]


class AbsoluteError(AgainstReference):
    """Minus the distance between a text read as a number and the user's own: 0 is best, as everywhere more is better.

    A text that is no finite number counts as the end of the scale that is farther from the user's own, as in LaMP's
    evaluation. Its mean is minus the mean absolute error.

    Args:
        low: lower end of the scale.
        high: upper end of the scale.

    Raises:
        InputError: an empty scale.
    """

    name = "absolute_error"

    def __init__(self, low: float = 1.0, high: float = 5.0) -> None:
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise InputError(f"metric '{self.name}'", f"a scale from {low} to {high}", "low < high")
        self._low, self._high = low, high

    @property
    def signature(self) -> dict[str, str | int | float | bool]:
        """Name of the metric and its scale."""
        return {"metric": self.name, "low": self._low, "high": self._high}

    def _scores(self, query: Query, reference: str, texts: list[str]) -> list[float]:
        target = _number(reference)
        if target is None:
            raise InputError(
                f"query '{query.query_id}', reference", repr(reference[:40]), "a number, for absolute_error"
            )
        farther = max(abs(target - self._low), abs(target - self._high))
        numbers = [_number(text) for text in texts]
        return [-farther if number is None else -abs(number - target) for number in numbers]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
