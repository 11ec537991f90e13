"""Cut work into chunks of about one size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def chunks_of(items: Sequence[T], weigh: Callable[[T], int], least: int) -> list[list[T]]:
    """Put neighbours together, each chunk but the last closed as soon as it weighs so much.

    Args:
        items: in their order.
        weigh: what one adds.
        least: weight at which a chunk is full.

    Returns:
        Chunks in order, none of them empty.
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
