"""Work in portions of about one size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def portions(items: Sequence[T], weigh: Callable[[T], int], least: int) -> list[list[T]]:
    """Neighbours together, each portion but the last closed as soon as it weighs so much.

    Args:
        items: in their order.
        weigh: what one adds.
        least: weight at which a portion is full.

    Returns:
        Portions in order, none of them empty.
    """
    found: list[list[T]] = []
    weight = least
    for item in items:
        if weight >= least:
            found.append([])
            weight = 0
        found[-1].append(item)
        weight += weigh(item)
    return found
