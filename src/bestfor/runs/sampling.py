"""Sample candidates into a pool: fit queries made of what users wrote, prompts that never look ahead, fixed chunks.

Work is cut into chunks, one part of the pool each; those that are owed are sampled, several at once where a server is
asked. What a failed call left of a part is kept beside the pool's parts, under the part's own name with ``-some``; the
next call asks only for the rest, and the whole part takes its place.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

from bestfor import moved
from bestfor.backends import Backend, Local, Plan, PlanTask
from bestfor.backends.parts import WorkPart
from bestfor.data.ratings import text_id
from bestfor.data.schema import CANDIDATES
from bestfor.data.states import NO_CANDIDATES
from bestfor.errors import BestforError, InputError
from bestfor.files import hash_json
from bestfor.policies.base import Policy, Prompt, Resumable, Sampled, UnfinishedError
from bestfor.policies.check import check_policy, check_written
from bestfor.pool import SOME, CandidatePool
from bestfor.progress import Progress
from bestfor.runs.outcomes import StateCounts, asked_before, check_pool, remember_asked
from bestfor.runs.prompts import PromptedQueries, Prompting, build_prompts
from bestfor.runs.usage import Metered

_GO_ON = ' (refused = "skip" in [policy] goes on without such queries)'
_ENOUGH = 16
"""Candidates after which it is noticed that most have no text."""
_MOST_REFUSED = 3
"""Chunks in a row of which a server refuses every query, after which it is asked for nothing more."""

__getattr__ = moved.renamed(__name__, {"Sampling": "SamplingSettings"})


@dataclass(frozen=True)
class Chunk:
    """Queries that are sampled together, as one part of the pool.

    Attributes:
        key: names the part; made from all that decides its rows.
        prompts: what is asked.
        n: candidates of each.
        marks: for each query id a hash of all that decides its candidates.
    """

    key: str
    prompts: tuple[Prompt, ...]
    n: int
    marks: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Candidates of the chunk."""
        return len(self.prompts) * self.n

    @property
    def some(self) -> str:
        """The name of what there is of an unfinished part."""
        return self.key + SOME


def sample_chunks(
    policy: Policy,
    chunks: Sequence[Chunk],
    pool: CandidatePool,
    seed: int,
    *,
    most_refused: int | None = None,
    backend: Backend | None = None,
) -> Generator[Chunk]:
    """Sample chunks into a pool.

    Args:
        policy: writes the candidates.
        chunks: those that are owed.
        pool: where candidates go.
        seed: the run's seed.
        most_refused: how many queries may end without candidates, since a server refuses their prompts for ever; None
            stops for the first.
        backend: who samples from policies that can be sent to other processes; None samples here.

    Yields:
        Each chunk as soon as it is whole.

    Raises:
        BestforError: some candidates could not be had; the others are kept. A query that a server refuses does not keep
            the following chunks from being sampled.
    """
    if not isinstance(policy, Resumable):
        yield from _sample_in_parts(policy, chunks, pool, seed, backend or Local())
        return
    owed = sum(chunk.size for chunk in chunks)
    asked, unfinished = 0, list[tuple[Chunk, UnfinishedError]]()
    for chunk, error in _sample_side_by_side(policy, chunks, pool, seed):
        asked += 1
        if error is None:
            owed -= chunk.size
            yield chunk
        else:
            owed -= sum(map(len, error.written))
            unfinished.append((chunk, error))
    refused = [query for chunk, error in unfinished for query in _unmet(chunk, error) if query in error.refused]
    alone = asked == len(chunks) and len(refused) == sum(len(_unmet(*one)) for one in unfinished)
    if unfinished and not (alone and len(refused) <= (most_refused or 0)):
        worst = max((error for _, error in unfinished), key=lambda error: error.hopeless)
        hint = _GO_ON if alone and most_refused is None else ""
        raise BestforError(f"{owed} candidates are missing, all others are kept: {worst.reason}{hint}")
    for chunk, error in unfinished:
        pool.append(_refused_table(chunk, error, policy.name, seed), key=chunk.key)
        pool.discard(chunk.some)
        yield chunk


def _sample_in_parts(
    policy: Policy, chunks: Sequence[Chunk], pool: CandidatePool, seed: int, backend: Backend
) -> Generator[Chunk]:
    """Sample chunks each in one go, by a backend; each is kept and yielded as it is done."""
    known, there = {chunk.key: chunk for chunk in chunks}, list[Chunk]()

    def owed() -> Iterator[PlanTask]:
        for chunk in chunks:
            # Asked again just before the work: another process may have done it meanwhile.
            if pool.missing([chunk.key]):
                yield PlanTask(chunk.key, (chunk.prompts, chunk.n, seed))
            else:
                there.append(chunk)

    portable = bool(getattr(policy, "processes", False))
    plan = Plan(f"policy '{policy.name}'", _sampled, owed(), policy, portable=portable, ordered=False)
    with closing(backend.run(plan)) as work:
        for task, written in work:
            chunk = known[task.key]
            written = check_written(policy, chunk.prompts, chunk.n, written)
            pool.append(_whole_table(chunk, written, policy.name, seed), key=chunk.key)
            yield chunk
    yield from there


def _sampled(policy: Policy, prompts: Sequence[Prompt], n: int, seed: int) -> list[list[Sampled]]:
    return policy.sample(prompts, n, seed=seed)


def _unmet(chunk: Chunk, error: UnfinishedError) -> list[str]:
    """List the queries that lack candidates."""
    return [one.query_id for one, got in zip(chunk.prompts, error.written, strict=True) if len(got) < chunk.n]


def _sample_side_by_side(
    policy: Resumable, chunks: Sequence[Chunk], pool: CandidatePool, seed: int
) -> Iterator[tuple[Chunk, UnfinishedError | None]]:
    """Sample several chunks at once, each yielded as it ends; a server never waits for the last answer of one chunk."""
    hopeless, refused = False, 0

    def worthwhile() -> Iterator[PlanTask]:
        yield from (
            PlanTask(chunk.key, (chunk, pool, seed)) for chunk in itertools.takewhile(lambda _: not hopeless, chunks)
        )

    # Whoever ends this early (an interrupt, a reader that has enough) keeps what came so far.
    threads, stop = policy.parallel, policy.interrupt
    plan = Plan("sampling", _complete, worthwhile(), policy, threads=threads, ordered=False, interrupt=stop)
    with closing(Local().run(plan)) as work:
        for task, error in work:
            # Chunk after chunk in which every query was refused, and none before: it is not the queries.
            refused = refused + 1 if refused >= 0 and error is not None and not any(error.written) else -1
            hopeless |= refused >= _MOST_REFUSED or (error is not None and error.hopeless)
            yield task.inputs[0], error


def _complete(policy: Resumable, chunk: Chunk, pool: CandidatePool, seed: int) -> UnfinishedError | None:
    if not pool.missing([chunk.key]):
        return None
    have = _read_unfinished(pool, chunk)
    try:
        written = policy.complete(chunk.prompts, chunk.n, seed=seed, have=have)
    except UnfinishedError as error:
        if sum(map(len, error.written)) > sum(map(len, have)):
            rows = [sorted(got.items()) for got in error.written]
            pool.append(_table(chunk, rows, policy.name, seed), key=chunk.some, replace=True)
        return error
    written = check_written(policy, chunk.prompts, chunk.n, written)
    pool.append(_whole_table(chunk, written, policy.name, seed), key=chunk.key)
    pool.discard(chunk.some)
    return None


def _read_unfinished(pool: CandidatePool, chunk: Chunk) -> list[dict[int, Sampled]]:
    """Read what a failed call left of a chunk, and what parts of other chunks have for the same prompts."""
    found: dict[str, dict[int, Sampled]] = {prompt.query_id: {} for prompt in chunk.prompts}
    for row in asked_before(pool, chunk.key, chunk.marks):
        sampled = Sampled(row["text"], 0, row["logprob"], row["finish_reason"])
        found[row["query_id"]][row["candidate"]] = sampled
    return [found[prompt.query_id] for prompt in chunk.prompts]


def _refused_table(chunk: Chunk, error: UnfinishedError, policy: str, seed: int) -> pa.Table:
    """Make the rows of a chunk some of whose queries a server refuses: these have a row with its reason."""
    rows: list[list[tuple[int, Sampled]]] = []
    for prompt, got in zip(chunk.prompts, error.written, strict=True):
        first = next((index for index in range(chunk.n) if index not in got), None)
        state = Sampled(error.refused.get(prompt.query_id, ""), 0, None, NO_CANDIDATES)
        rows.append(sorted([*got.items(), *([] if first is None else [(first, state)])], key=lambda one: one[0]))
    return _table(chunk, rows, policy, seed)


def _whole_table(chunk: Chunk, written: Sequence[Sequence[Sampled]], policy: str, seed: int) -> pa.Table:
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


@dataclass(frozen=True)
class SamplingSettings:
    """Options of sampling: how many candidates, and from which prompts.

    Attributes:
        n: candidates of a test query.
        fit_n: candidates of a fit query.
        fit_items: how many items of each user, the latest, become fit queries.
        prompting: what stands in a prompt.
        seed: the run's seed.
        fit_share: share of each user's items, the latest, that may become fit queries.
        refused: what becomes of a query whose prompt a server refuses for ever, after all others are sampled:
            ``"skip"`` goes on without it, ``"error"`` stops, and asks again for those that were left out before.
    """

    n: int = 30
    fit_n: int = 5
    fit_items: int = 8
    prompting: Prompting = field(default_factory=Prompting)
    seed: int = 0
    fit_share: float = 1.0
    refused: Literal["skip", "error"] = "skip"

    def __post_init__(self) -> None:
        for name, least in (("n", 1), ("fit_n", 1), ("fit_items", 0)):
            if getattr(self, name) < least:
                raise InputError(name, str(getattr(self, name)), f"{least} or more")


def generate(
    policy: Policy,
    histories: pa.Table,
    queries: pa.Table,
    pool: CandidatePool,
    sampling: SamplingSettings,
    *,
    progress: bool | None = None,
    tell: Callable[[str], None] | None = None,
    backend: Backend | None = None,
    part: WorkPart | None = None,
) -> pa.Table:
    """Sample the candidates of all fit and test queries into a pool, or what is left of them.

    Work is planned in fixed chunks from the sorted ids of the queries, and a chunk's part is named by all that decides
    it (policy, seed, n, prompts): whatever is there already is kept, and a call that was killed goes on to the same
    bytes. Parts of other settings stay in the folder and are not read.

    Args:
        policy: writes the candidates.
        histories: table of schema ``HISTORIES``.
        queries: table of schema ``QUERIES``: the test queries.
        pool: where candidates go.
        sampling: how many, and from which prompts.
        progress: whether to draw a bar on standard error; by default where that is a terminal.
        tell: called with a line that says what is owed and, where there is no bar, every now and then with one that
            says how far it is.
        backend: as for :func:`sample_chunks`.
        part: samples that part of the chunks alone.

    Returns:
        Table of schema ``QUERIES``: the given queries and a fit query for each chosen item, sorted by id. The
        references of fit queries are what the users wrote.

    Raises:
        InputError: the tables do not fit together, or the policy cannot be had; the message names what.
        BestforError: a server did not give all candidates; what came is kept, and the next call goes on.
    """
    check_policy(policy)
    items, share = sampling.fit_items, sampling.fit_share
    prompted = build_prompts(policy, histories, queries, items, sampling.prompting, fit_share=share)
    chunks = plan(policy, prompted, sampling)
    keys = [chunk.key for chunk in chunks]
    pool.plan(keys, prompted.counts)
    if part is not None:
        chunks = [chunk for number, chunk in enumerate(chunks) if part.has(number)]
        keys = [chunk.key for chunk in chunks]
    sample_owed(policy, chunks, pool, sampling, progress=progress, tell=tell, backend=backend)
    # What asks a server says its notes with what it costs.
    own = () if isinstance(policy, Metered) else getattr(policy, "notes", ())
    if part is None:
        check_pool(policy, pool, keys, (*prompted.notes, *own), tell)
    return prompted.queries


def sample_owed(
    policy: Policy,
    chunks: Sequence[Chunk],
    pool: CandidatePool,
    sampling: SamplingSettings,
    *,
    progress: bool | None = None,
    tell: Callable[[str], None] | None = None,
    backend: Backend | None = None,
) -> None:
    """Sample those of some chunks that the pool does not have, with a bar or lines that say how far it is.

    Args:
        policy: writes the candidates.
        chunks: from :func:`plan`.
        pool: where candidates go.
        sampling: the run's seed, and what becomes of refused queries.
        progress: as for :func:`generate`.
        tell: likewise.
        backend: as for :func:`sample_chunks`.

    Raises:
        BestforError: as :func:`sample_chunks`; or most candidates have no text, which is noticed on the way.
    """
    if sampling.refused == "error":
        pool.reopen([chunk.key for chunk in chunks])
    if isinstance(policy, Resumable):
        remember_asked(pool, {chunk.key: chunk.marks for chunk in chunks})
    owed = set(pool.missing([chunk.key for chunk in chunks]))
    if tell is not None:
        line = f"{len(owed)} of {len(chunks)} parts from '{policy.name}'" if owed else "already there"
        tell(f"pool: {line}")
    here = sum(chunk.size for chunk in chunks if chunk.key not in owed)
    size = sum(chunk.size for chunk in chunks)
    queries = sum(len(chunk.prompts) for chunk in chunks)
    most = queries // 2 if sampling.refused == "skip" else None
    left, states = [chunk for chunk in chunks if chunk.key in owed], StateCounts()
    work = sample_chunks(policy, left, pool, sampling.seed, most_refused=most, backend=backend)
    with Progress("candidates", size, here, show=progress, tell=tell) as shown, closing(work):
        for chunk in work:
            shown.advance(chunk.size)
            if isinstance(policy, Resumable):
                states.add(pool, chunk.key)
                states.check(policy, enough=_ENOUGH)
    pool.sweep()


def plan(policy: Policy, prompted: PromptedQueries, sampling: SamplingSettings) -> list[Chunk]:
    """Cut the prompts of each split, sorted by query id, into the policy's chunks.

    Args:
        policy: its signature is part of the keys.
        prompted: queries and their prompts.
        sampling: candidates per query, and the seed.

    Returns:
        Chunks in order, fit before test.
    """
    splits = dict(zip(prompted.queries["query_id"].to_pylist(), prompted.queries["split"].to_pylist(), strict=True))
    chunks: list[Chunk] = []
    for split, n in (("fit", sampling.fit_n), ("test", sampling.n)):
        prompts = sorted((p for p in prompted.prompts if splits[p.query_id] == split), key=lambda p: p.query_id)
        for number, start in enumerate(range(0, len(prompts), policy.chunk)):
            part = tuple(prompts[start : start + policy.chunk])
            content = [policy.signature, sampling.seed, n, [[p.query_id, list(p.messages)] for p in part]]
            digest = hash_json(content)
            marks = {p.query_id: hash_json([*content[:3], p.query_id, list(p.messages)])[:16] for p in part}
            chunks.append(Chunk(f"{split}-{number:05d}-{digest[:16]}", part, n, marks))
    return chunks
