"""Queries measured in other processes, in chunks that come back in order."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from bestfor.errors import BestforError, InputError
from bestfor.types import FloatArray
from bestfor.utilities.base import Metric, Query

Chunk = Sequence[tuple[Query, Sequence[str]]]
AHEAD = 3
"""Chunks sent for each worker before the first of them is back."""

_metric: Metric | None = None


def values(metric: Metric, chunk: Chunk) -> list[FloatArray]:
    """Utilities of a chunk's texts, query by query."""
    if getattr(metric, "many", False):
        return list(_many(metric)([query for query, _ in chunk], [texts for _, texts in chunk]))
    return [metric.measure(query, texts) for query, texts in chunk]


def measured(metric: Metric, chunks: Sequence[Chunk], workers: int) -> Iterator[list[FloatArray]]:
    """Utilities of chunks, in their order whoever is done first.

    Args:
        metric: goes to the other processes once; it is asked here where it cannot go there.
        chunks: what is measured.
        workers: processes; with one, or one chunk, the work is done here.

    Raises:
        InputError: as the metric.
        BestforError: a process ended before its work was done (killed, or out of memory).
    """
    if workers < 2 or len(chunks) < 2 or not getattr(metric, "processes", False):
        yield from (values(metric, chunk) for chunk in chunks)
        return
    # Spawned, not forked: libraries with threads (torch, arrow, BLAS) may hang in a forked copy.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(chunks)), context, _receive, (metric,)) as pool:
        waiting: list[Future[list[FloatArray] | _Refused]] = []
        try:
            for chunk in chunks:
                waiting.append(pool.submit(_work, chunk))
                if len(waiting) >= AHEAD * workers:
                    yield _unpacked(waiting.pop(0).result())
            while waiting:
                yield _unpacked(waiting.pop(0).result())
        except BrokenProcessPool as error:
            raise BestforError(f"metric '{metric.name}': a process was ended before its work was done") from error
        finally:
            for future in waiting:
                future.cancel()


def _receive(metric: Metric) -> None:
    global _metric
    _metric = metric


@dataclass(frozen=True)
class _Refused:
    """An error about the input, as plain values: exceptions of several arguments do not travel between processes."""

    where: str
    found: str
    expected: str


def _work(chunk: Chunk) -> list[FloatArray] | _Refused:
    assert _metric is not None
    try:
        return values(_metric, chunk)
    except InputError as error:
        return _Refused(error.where, error.found, error.expected)


def _unpacked(answer: list[FloatArray] | _Refused) -> list[FloatArray]:
    if isinstance(answer, _Refused):
        raise InputError(answer.where, answer.found, answer.expected)
    return answer


def _many(metric: Metric) -> Any:  # noqa: ANN401 - an optional method of the protocol
    return metric.measure_many  # pyright: ignore[reportAttributeAccessIssue]
