"""Measure the embedded world's true utility of a text to a user, and the noisy labels that users give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Self

from bestfor.data.world import World, noisy, true_utility
from bestfor.errors import InputError
from bestfor.metrics.base import Query, RunSetting
from bestfor.types import FloatArray


class Taste:
    """True utility for test queries, noisy labels in the world's regime for fit queries.

    Args:
        world: the world whose users ask.
    """

    name = "taste"

    def __init__(self, world: World) -> None:
        self._world = world

    @classmethod
    def of_run(cls, run: RunSetting) -> Self:
        """Make the metric of a run's world.

        Raises:
            InputError: the run's data are others.
        """
        if run.world is None:
            raise InputError("metric 'taste'", "other data than the embedded world", 'source = "world" in [data]')
        return cls(run.world)

    @property
    def signature(self) -> dict[str, str | int | float | bool]:
        """Name of the metric and its world."""
        return {"metric": self.name, "world": repr(sorted(asdict(self._world).items()))}

    def measure(self, query: Query, texts: Sequence[str]) -> FloatArray:
        """Measure the utilities of texts for a query of the world.

        Args:
            query: by one of the world's users; no reference is needed.
            texts: n candidates.

        Returns:
            Shape (n,): in [-1, 1] for a test query, with noise and unbounded for a fit query.

        Raises:
            InputError: the user or the input is not of the world.
        """
        value = noisy if query.split == "fit" else true_utility
        return value(self._world, query.user_id, query.input, texts)
