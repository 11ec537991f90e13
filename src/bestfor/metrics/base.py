"""Protocol of metrics: a query and texts in, a number for each text out; and the base class of comparisons."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from bestfor.data.world import World
from bestfor.errors import InputError
from bestfor.types import FloatArray


@dataclass(frozen=True)
class Query:
    """Query that texts are measured against.

    Attributes:
        query_id: names the query.
        user_id: whose query it is.
        input: what was asked.
        reference: the user's own text, None where there is none.
        split: ``fit`` or ``test``.
    """

    query_id: str
    user_id: str
    input: str
    reference: str | None = None
    split: str = "test"


@dataclass(frozen=True)
class RunSetting:
    """Settings of a run that its metrics may be made of.

    Attributes:
        folder: the run's folder, None where nothing is kept.
        encoder: name of the sentence encoder of ``[utility]``.
        world: the embedded world, None where the data are others.
        judge: configuration of the judge of ``[utility.judge]``, None where there is none.
    """

    folder: Path | None = None
    encoder: str = "all-MiniLM-L6-v2"
    world: World | None = None
    judge: Any = None


@runtime_checkable
class Metric(Protocol):
    """Metric of what we truly care about.

    Optional attributes say how it likes to be asked:

    - ``processes = True``: it can be sent to other processes and works there;
    - ``many = True``: it has ``measure_many(queries, texts)`` for several queries in one call;
    - ``partial = True``: it may give NaN for a text that has no value;
    - ``needs_reference = True``: it compares with the user's own text, so every query must have one;
    - ``names = (...)``: the names of several metrics of one class, which takes ``name``;
    - a class method ``of_run(run)`` makes it from what a run knows (:class:`RunSetting`).
    """

    @property
    def name(self) -> str:
        """Name in the column ``metric`` and of the file of the utilities."""
        ...

    @property
    def signature(self) -> dict[str, str | int | float | bool]:
        """Plain values of all that decides what it measures."""
        ...

    def measure(self, query: Query, texts: Sequence[str]) -> FloatArray:
        """Measure the utilities of texts for a query.

        Args:
            query: what was asked, by whom, and their own text.
            texts: n candidates.

        Returns:
            Shape (n,), finite.

        Raises:
            InputError: the query lacks what the metric needs; the message names it.
        """
        ...


class AgainstReference(ABC):
    """Base class of metrics that compare a text with the user's own; a subclass says how."""

    name: str
    processes = True
    needs_reference = True

    def measure(self, query: Query, texts: Sequence[str]) -> FloatArray:
        """Measure how near texts are to the query's reference.

        Args:
            query: must have a reference.
            texts: n candidates; equal ones are measured once.

        Returns:
            Shape (n,).

        Raises:
            InputError: the query has no reference, or one that the metric cannot use.
        """
        reference = reference_of(query, self.name)
        distinct = list(dict.fromkeys(texts))
        known = dict(zip(distinct, self._scores(query, reference, distinct), strict=True))
        return np.array([known[text] for text in texts], dtype=np.float64)

    @abstractmethod
    def _scores(self, query: Query, reference: str, texts: list[str]) -> Sequence[float]:
        """Score distinct texts."""


def reference_of(query: Query, metric: str) -> str:
    """Take the user's own text.

    Raises:
        InputError: there is none.
    """
    if query.reference is None:
        raise InputError(f"query '{query.query_id}'", "no reference", f"the user's own text, which {metric} needs")
    return query.reference
