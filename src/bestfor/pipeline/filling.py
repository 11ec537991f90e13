"""Filling a pool: owed parts are sampled, several at once where a server is asked, and nothing that came is lost.

What a failed call left of a part is kept beside the pool's parts, under the part's own name with ``-some``; the next
call asks only for the rest, and the whole part takes its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import pyarrow as pa

from bestfor.data.schema import CANDIDATES
from bestfor.data.split import text_id
from bestfor.errors import BestforError
from bestfor.policies.base import Policy, Prompt, Resumable, Sampled, UnfinishedError
from bestfor.pool import SOME, CandidatePool

_BARREN = 3


@dataclass(frozen=True)
class Chunk:
    """Queries that are sampled together: one part of the pool.

    Attributes:
        key: names the part; made from all that decides its rows.
        prompts: what is asked.
        n: candidates of each.
    """

    key: str
    prompts: tuple[Prompt, ...]
    n: int

    @property
    def size(self) -> int:
        """Candidates of the chunk."""
        return len(self.prompts) * self.n

    @property
    def some(self) -> str:
        """The name of what there is of an unfinished part."""
        return self.key + SOME


def fill(policy: Policy, chunks: Sequence[Chunk], pool: CandidatePool, seed: int) -> Iterator[Chunk]:
    """Sample chunks into a pool.

    Args:
        policy: writes the candidates.
        chunks: those that are owed.
        pool: where candidates go.
        seed: the run's seed.

    Yields:
        Each chunk as soon as it is whole.

    Raises:
        BestforError: some candidates could not be had; the others are kept. A query that a server refuses does not keep
            the following chunks from being sampled.
    """
    if not isinstance(policy, Resumable):
        for chunk in chunks:
            # Asked again just before the work: another process may have done it meanwhile.
            if pool.missing([chunk.key]):
                written = policy.sample(chunk.prompts, chunk.n, seed=seed)
                pool.append(_whole(chunk, written, policy.name, seed), key=chunk.key)
            yield chunk
        return
    owed = sum(chunk.size for chunk in chunks)
    errors: list[UnfinishedError] = []
    for chunk, error in _side_by_side(policy, chunks, pool, seed):
        if error is None:
            owed -= chunk.size
            yield chunk
        else:
            owed -= sum(map(len, error.written))
            errors.append(error)
    if errors:
        worst = max(errors, key=lambda error: error.hopeless)
        raise BestforError(f"{owed} candidates are missing, all others are kept: {worst.reason}")


def _side_by_side(
    policy: Resumable, chunks: Sequence[Chunk], pool: CandidatePool, seed: int
) -> Iterator[tuple[Chunk, UnfinishedError | None]]:
    """Chunks as they end: a server that waited for the last answer of one chunk would be idle meanwhile."""
    running: dict[Future[UnfinishedError | None], Chunk] = {}
    waiting, hopeless, barren = iter(chunks), False, 0
    executor = ThreadPoolExecutor(policy.parallel, thread_name_prefix="bestfor-fill")
    try:
        while True:
            while not hopeless and len(running) < policy.parallel and (chunk := next(waiting, None)) is not None:
                running[executor.submit(_complete, policy, chunk, pool, seed)] = chunk
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                error = future.result()
                # Chunk after chunk in which every query was refused, and none before: it is not the queries.
                barren = barren + 1 if barren >= 0 and error is not None and not any(error.written) else -1
                hopeless |= barren >= _BARREN or (error is not None and error.hopeless)
                yield running.pop(future), error
    finally:
        # Whoever ends this early (an interrupt, a reader that has enough) keeps what came so far.
        policy.interrupt()
        executor.shutdown(cancel_futures=True)


def _complete(policy: Resumable, chunk: Chunk, pool: CandidatePool, seed: int) -> UnfinishedError | None:
    if not pool.missing([chunk.key]):
        return None
    have = _have(pool, chunk)
    try:
        written = policy.complete(chunk.prompts, chunk.n, seed=seed, have=have)
    except UnfinishedError as error:
        if sum(map(len, error.written)) > sum(map(len, have)):
            rows = [sorted(got.items()) for got in error.written]
            pool.append(_table(chunk, rows, policy.name, seed), key=chunk.some, replace=True)
        return error
    pool.append(_whole(chunk, written, policy.name, seed), key=chunk.key)
    pool.discard(chunk.some)
    return None


def _have(pool: CandidatePool, chunk: Chunk) -> list[dict[int, Sampled]]:
    """What a failed call left of a chunk."""
    found: dict[str, dict[int, Sampled]] = {prompt.query_id: {} for prompt in chunk.prompts}
    table = pool.read(chunk.some)
    for row in table.to_pylist() if table is not None else []:
        sampled = Sampled(row["text"], 0, row["logprob"], row["finish_reason"])
        found.setdefault(row["query_id"], {})[row["candidate"]] = sampled
    return [found[prompt.query_id] for prompt in chunk.prompts]


def _whole(chunk: Chunk, written: Sequence[Sequence[Sampled]], policy: str, seed: int) -> pa.Table:
    return _table(chunk, [list(enumerate(candidates)) for candidates in written], policy, seed)


def _table(chunk: Chunk, written: Sequence[Sequence[tuple[int, Sampled]]], policy: str, seed: int) -> pa.Table:
    rows = [
        (prompt.query_id, index, text_id(one.text), one.text, one.logprob, one.finish_reason, policy, seed)
        for prompt, candidates in zip(chunk.prompts, written, strict=True)
        for index, one in candidates
    ]
    columns = zip(*rows, strict=True)
    return pa.table(
        [pa.array(list(column), field.type) for column, field in zip(columns, CANDIDATES, strict=True)],
        schema=CANDIDATES,
    )
