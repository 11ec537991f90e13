"""What every metric takes and gives: a query and texts in, a number for each text out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from bestfor.types import FloatArray


@dataclass(frozen=True)
class Query:
    """What a text is measured against.

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


@runtime_checkable
class Metric(Protocol):
    """Measures what we truly care about."""

    @property
    def name(self) -> str:
        """What the column ``metric`` and the file of the utilities say."""
        ...

    @property
    def signature(self) -> dict[str, str | int | float | bool]:
        """All that decides what it measures, as plain values."""
        ...

    def measure(self, query: Query, texts: Sequence[str]) -> FloatArray:
        """Utilities of texts for a query.

        Args:
            query: what was asked, by whom, and their own text.
            texts: n candidates.

        Returns:
            Shape (n,), finite.

        Raises:
            InputError: the query lacks what the metric needs; the message names it.
        """
        ...
