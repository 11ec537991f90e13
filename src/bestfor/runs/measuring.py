"""Measure the utility of every candidate of a pool, one table for each metric; what takes long can be continued."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bestfor.backends import Backend, Local
from bestfor.backends.parts import WorkPart
from bestfor.data.chunks import chunks_of
from bestfor.data.schema import UTILITIES, write
from bestfor.errors import BestforError, InputError
from bestfor.files import hash_json, write_bytes
from bestfor.metrics.base import Metric, Query
from bestfor.metrics.check import check_metric, check_values, signature_of
from bestfor.metrics.parallel import measured
from bestfor.pool import CandidatePool, content_hash
from bestfor.progress import Progress
from bestfor.types import FloatArray

CHUNK = 2000
"""About how many candidates are measured between two looks at the clock."""
KEEP_EVERY = 15.0
"""Seconds of work that a killed run may lose."""
SHOW_AFTER = 2.0
"""Seconds before a bar is drawn."""
_DONE = "done"
_OWED = "bestfor.owed"
_ENDED = "bestfor.ended"


@dataclass(frozen=True)
class Measuring:
    """Options of measuring; none of them changes a value.

    Attributes:
        workers: processes, for metrics that can be sent to them.
        progress: whether to draw a bar on standard error; None where that is a terminal.
        backend: who measures; None takes processes of this machine.
        part: measures that part of the queries alone; the other candidates have no value.
        partial: file that keeps what is done of a long measurement; None keeps nothing.
        inputs: hash of what decides the values; a partial file of other inputs is not read.
    """

    workers: int = 1
    progress: bool | None = None
    partial: Path | None = None
    inputs: str = ""
    backend: Backend | None = None
    part: WorkPart | None = None

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise InputError("workers", str(self.workers), "1 or more")


def measure(candidates: pa.Table, queries: pa.Table, metric: Metric, how: Measuring | None = None) -> pa.Table:
    """Measure the utilities of candidates.

    Args:
        candidates: table of schema ``CANDIDATES``.
        queries: table of schema ``QUERIES`` that holds every candidate's query.
        metric: what is measured.
        how: workers, progress and resumption; by default one process, and nothing is kept.

    Returns:
        Table of schema ``UTILITIES``, row for row as ``candidates``; a metric that is ``partial`` has no row where it
        has no value.

    Raises:
        InputError: a candidate without a query, a query that lacks what the metric needs, or a value that is not
            finite; the query is named.
        BestforError: no candidate has a value.
    """
    how = how or Measuring()
    groups = _groups(candidates, queries)
    utility = _values(groups, metric, how, candidates.num_rows)
    if len(utility) and np.isnan(utility).all():
        told = "; ".join(getattr(metric, "notes", ())) or "it gave no value"
        raise BestforError(f"metric '{metric.name}' has a value for none of {len(utility)} candidates: {told}")
    names = pa.array([metric.name] * candidates.num_rows)
    columns = [candidates["query_id"], candidates["candidate"], names, pa.array(utility)]
    table = pa.table(columns, schema=UTILITIES)
    return table.filter(pa.array(~np.isnan(utility))) if getattr(metric, "partial", False) else table


def measure_pool(
    pool: CandidatePool,
    queries: pa.Table,
    metrics: Sequence[Metric],
    folder: str | Path,
    *,
    workers: int = 1,
    progress: bool | None = None,
    backend: Backend | None = None,
    part: WorkPart | None = None,
) -> list[Path]:
    """Measure a pool and write ``<metric>.parquet`` for each metric, unless it is there for just these inputs.

    A measurement that takes long keeps what it has, and a call after a killed one goes on from there, to the same
    bytes.

    Args:
        pool: a finished pool.
        queries: table of schema ``QUERIES``.
        metrics: what is measured, with distinct names.
        folder: usually ``utilities`` in the run's folder.
        workers: processes, for metrics that can be sent to them; values do not depend on it.
        progress: whether to draw a bar on standard error; by default where that is a terminal.
        backend: who measures; None takes ``workers`` processes of this machine.
        part: measures that part alone and writes no table: what it found lies beside it until a call for all.

    Returns:
        The files, in the order of the metrics.

    Raises:
        InputError: as :func:`measure` and :meth:`~bestfor.pool.CandidatePool.scan`; also two metrics of one name.
    """
    for metric in metrics:
        check_metric(metric)
    names = [metric.name for metric in metrics]
    if len(set(names)) < len(names):
        raise InputError("metrics", ", ".join(names), "distinct names")
    candidates = pool.scan()
    paths: list[Path] = []
    for metric in metrics:
        path = Path(folder) / f"{metric.name}.parquet"
        inputs = _inputs(candidates, queries, metric)
        if _written_for(path) != inputs:
            partial = path.with_name(f".{metric.name}.partial")
            how = Measuring(workers, progress, partial, inputs, backend, part)
            if part is not None:
                _values(_groups(candidates, queries), metric, how, candidates.num_rows)
                continue
            table = measure(candidates, queries, metric, how)
            owed = getattr(metric, "unanswered", 0)
            write(table, path, {"bestfor.inputs": inputs} | ({_OWED: str(owed)} if owed else {}))
            for left in _partials(partial):
                left.unlink(missing_ok=True)
        paths.append(path)
    return paths


def awaited_parts(
    pool: CandidatePool, queries: pa.Table, metrics: Sequence[Metric], folder: Path, count: int
) -> set[int]:
    """Find those of n parts that were not measured to their end, though a value of theirs is missing.

    Args:
        pool: as for :func:`measure_pool`, likewise the other arguments.
        queries: likewise.
        metrics: likewise.
        folder: likewise.
        count: n.
    """
    candidates, found = pool.scan(), set[int]()
    groups = _groups(candidates, queries)
    for metric in metrics:
        path = folder / f"{metric.name}.parquet"
        inputs = _inputs(candidates, queries, metric)
        if _written_for(path) == inputs:
            continue
        partial = path.with_name(f".{metric.name}.partial")
        _, done = _read_partial(Measuring(partial=partial, inputs=inputs), candidates.num_rows)
        ended = {
            index for index in range(count) if _stored(_of_part(partial, WorkPart(index, count)), _ENDED) == inputs
        }
        for number, block in enumerate(_blocks(groups)):
            if number % count not in ended and not all(done[group.rows].all() for group in block):
                found.add(number % count)
    return found


def forget_unanswered(folder: Path, names: Sequence[str]) -> None:
    """Remove utilities of which some are owed, since a judge did not answer: the next measurement asks for these alone.

    Args:
        folder: ``utilities`` in the run's folder.
        names: the metrics.
    """
    for name in names:
        path = folder / f"{name}.parquet"
        if _stored(path, _OWED) is not None:
            path.unlink()


@dataclass(frozen=True)
class _Group:
    """A query, its candidates' texts, and their rows in the table."""

    query: Query
    texts: list[str]
    rows: list[int]


def _groups(candidates: pa.Table, queries: pa.Table) -> list[_Group]:
    known = {row["query_id"]: _query(row) for row in queries.to_pylist()}
    groups: dict[str, _Group] = {}
    ids, texts = candidates["query_id"].to_pylist(), candidates["text"].to_pylist()
    for row, (name, text) in enumerate(zip(ids, texts, strict=True)):
        if name not in groups:
            if name not in known:
                raise InputError("candidates", f"query '{name}'", "a query of the table of queries")
            groups[name] = _Group(known[name], [], [])
        groups[name].texts.append(text)
        groups[name].rows.append(row)
    return list(groups.values())


def _values(groups: Sequence[_Group], metric: Metric, how: Measuring, count: int) -> FloatArray:
    utility, done = _read_partial(how, count)
    if how.part is not None:
        groups = [group for number, block in enumerate(_blocks(groups)) if how.part.has(number) for group in block]
    chunks = _blocks([group for group in groups if not done[group.rows].all()])
    backend = Local(how.workers) if how.backend is None else how.backend
    work = measured(metric, [[(group.query, group.texts) for group in chunk] for chunk in chunks], backend)
    kept = time.monotonic()
    with Progress(metric.name, count, int(done.sum()), show=how.progress, after=SHOW_AFTER) as progress:
        try:
            for chunk, found in zip(chunks, work, strict=True):
                for group, values in zip(chunk, found, strict=True):
                    utility[group.rows] = check_values(metric, values, group.query.query_id, len(group.rows))
                    # What has no value yet may have one when it is asked for again.
                    done[group.rows] = ~np.isnan(utility[group.rows])
                progress.advance(sum(len(group.rows) for group in chunk))
                if time.monotonic() - kept > KEEP_EVERY:
                    _write_partial(how, utility, done)
                    kept = time.monotonic()
        except BaseException:
            _write_partial(how, utility, done)
            raise
    if how.part is not None:
        _write_partial(how, utility, done, ended=True)
    return utility


def _blocks(groups: Sequence[_Group]) -> list[list[_Group]]:
    return chunks_of(groups, lambda group: len(group.rows), CHUNK)


def _of_part(partial: Path, part: WorkPart) -> Path:
    return partial.with_name(f"{partial.name}-{part.index}-{part.count}")


def _write_partial(how: Measuring, utility: FloatArray, done: np.ndarray, *, ended: bool = False) -> None:
    if how.partial is None or not (done.any() or ended):
        return
    path = how.partial if how.part is None else _of_part(how.partial, how.part)
    said = {"bestfor.inputs": how.inputs} | ({_ENDED: how.inputs} if ended else {})
    table = pa.table({"utility": utility, _DONE: done}).replace_schema_metadata(said)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    write_bytes(path, sink.getvalue().to_pybytes())


def _read_partial(how: Measuring, count: int) -> tuple[FloatArray, np.ndarray]:
    """Read what earlier calls that were killed, or that did a part, had done, if their inputs were the same."""
    utility, done = np.full(count, np.nan), np.zeros(count, dtype=np.bool_)
    for path in () if how.partial is None else _partials(how.partial):
        if _written_for(path) != how.inputs:
            continue
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowException):
            continue
        there = table[_DONE].to_numpy()
        utility[there] = table["utility"].to_numpy()[there]
        done |= there
    return utility, done


def _partials(partial: Path) -> list[Path]:
    """List the files of unfinished work: of a call for all, and of parts."""
    return [path for path in (partial, *sorted(partial.parent.glob(f"{partial.name}-*"))) if path.is_file()]


def _query(row: dict[str, str | None]) -> Query:
    return Query(str(row["query_id"]), str(row["user_id"]), str(row["input"]), row["reference"], str(row["split"]))


def _inputs(candidates: pa.Table, queries: pa.Table, metric: Metric) -> str:
    return hash_json([content_hash(candidates), content_hash(queries), signature_of(metric)])


def _written_for(path: Path) -> str | None:
    return _stored(path, "bestfor.inputs")


def _stored(path: Path, name: str) -> str | None:
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowException):
        return None
    value = metadata.get(name.encode())
    return None if value is None else value.decode()
