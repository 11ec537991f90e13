"""Measure queries by a backend, in chunks that come back in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bestfor.backends import Backend, Plan, PlanTask
from bestfor.errors import InputError
from bestfor.metrics.base import Metric, Query
from bestfor.types import FloatArray

Chunk = Sequence[tuple[Query, Sequence[str]]]


def values(metric: Metric, chunk: Chunk) -> list[FloatArray]:
    """Measure a chunk's texts, query by query."""
    if getattr(metric, "many", False):
        found = list(_many(metric)([query for query, _ in chunk], [texts for _, texts in chunk]))
        if len(found) != len(chunk):
            expected = f"{len(chunk)}, one for each query"
            raise InputError(f"metric '{metric.name}', measure_many", f"{len(found)} arrays", expected)
        return found
    return [metric.measure(query, texts) for query, texts in chunk]


def measured(metric: Metric, chunks: Sequence[Chunk], backend: Backend) -> Iterator[list[FloatArray]]:
    """Measure chunks and give them in their order, whoever is done first.

    Args:
        metric: goes to other processes once; it is asked here where it cannot go there.
        chunks: what is measured.
        backend: who measures.

    Raises:
        InputError: as the metric.
        BestforError: several processes in a row ended before a chunk was done (killed, or out of memory).
    """
    tasks = [PlanTask(str(number), (chunk,)) for number, chunk in enumerate(chunks)]
    portable = bool(getattr(metric, "processes", False))
    plan = Plan(f"metric '{metric.name}'", values, tasks, metric, portable=portable)
    yield from (found for _, found in backend.run(plan))


def _many(metric: Metric) -> Any:  # noqa: ANN401 - an optional method of the protocol
    return metric.measure_many  # pyright: ignore[reportAttributeAccessIssue]
