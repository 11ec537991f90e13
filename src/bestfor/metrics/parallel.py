"""Measure queries in other processes, in chunks that come back in order."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from bestfor.errors import BestforError, InputError
from bestfor.metrics.base import Metric, Query
from bestfor.types import FloatArray

Chunk = Sequence[tuple[Query, Sequence[str]]]
AHEAD = 3
"""Chunks sent to each other process before the first of them is back."""

_metric: Metric | None = None


def values(metric: Metric, chunk: Chunk) -> list[FloatArray]:
    """Measure a chunk's texts, query by query."""
    if getattr(metric, "many", False):
        found = list(_many(metric)([query for query, _ in chunk], [texts for _, texts in chunk]))
        if len(found) != len(chunk):
            expected = f"{len(chunk)}, one for each query"
            raise InputError(f"metric '{metric.name}', measure_many", f"{len(found)} arrays", expected)
        return found
    return [metric.measure(query, texts) for query, texts in chunk]


def measured(metric: Metric, chunks: Sequence[Chunk], workers: int) -> Iterator[list[FloatArray]]:
    """Measure chunks and give them in their order, whoever is done first.

    Args:
        metric: goes to the other processes once; it is asked here where it cannot go there.
        chunks: what is measured.
        workers: processes, this one among them: it works while the others start and while it would have to wait.

    Raises:
        InputError: as the metric.
        BestforError: a process ended before its work was done (killed, or out of memory).
    """
    if workers < 2 or len(chunks) < 2 or not getattr(metric, "processes", False):
        yield from (values(metric, chunk) for chunk in chunks)
        return
    # Spawned, not forked: libraries with threads (torch, arrow, BLAS) may hang in a forked copy.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(chunks)) - 1, context, _receive, (metric,)) as pool:
        try:
            yield from _shared(metric, chunks, pool, AHEAD * (workers - 1))
        except BrokenProcessPool as error:
            reason = "killed, out of memory, or started by a script without if __name__ == '__main__'"
            raise BestforError(
                f"metric '{metric.name}': a process was ended before its work was done ({reason})"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _shared(
    metric: Metric, chunks: Sequence[Chunk], pool: ProcessPoolExecutor, ahead: int
) -> Iterator[list[FloatArray]]:
    sent: dict[int, Future[list[FloatArray] | _Refused]] = {}
    here: dict[int, list[FloatArray] | _Refused] = {}
    following = 0
    for place in range(len(chunks)):
        while place not in here and not (place in sent and sent[place].done()):
            while following < len(chunks) and sum(not future.done() for future in sent.values()) < ahead:
                sent[following] = pool.submit(_work, chunks[following])
                following += 1
            if following == len(chunks):
                break
            here[following] = _attempted(metric, chunks[following])
            following += 1
        yield _unpacked(here.pop(place) if place in here else sent.pop(place).result())


def _receive(metric: Metric) -> None:
    global _metric
    _metric = metric


@dataclass(frozen=True)
class _Refused:
    """Error about the input as plain values: exceptions of several arguments do not travel between processes."""

    where: str
    found: str
    expected: str


def _work(chunk: Chunk) -> list[FloatArray] | _Refused:
    assert _metric is not None
    return _attempted(_metric, chunk)


def _attempted(metric: Metric, chunk: Chunk) -> list[FloatArray] | _Refused:
    try:
        return values(metric, chunk)
    except InputError as error:
        return _Refused(error.where, error.found, error.expected)


def _unpacked(answer: list[FloatArray] | _Refused) -> list[FloatArray]:
    if isinstance(answer, _Refused):
        raise InputError(answer.where, answer.found, answer.expected)
    return answer


def _many(metric: Metric) -> Any:  # noqa: ANN401 - an optional method of the protocol
    return metric.measure_many  # pyright: ignore[reportAttributeAccessIssue]
