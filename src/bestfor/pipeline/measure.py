"""Measuring: the utility of every candidate of a pool, one table for each metric."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bestfor.data.schema import UTILITIES, write
from bestfor.errors import InputError
from bestfor.pool import CandidatePool, content_hash
from bestfor.types import FloatArray
from bestfor.utilities.base import Metric, Query


def measure(candidates: pa.Table, queries: pa.Table, metric: Metric) -> pa.Table:
    """Utilities of candidates.

    Args:
        candidates: table of schema ``CANDIDATES``.
        queries: table of schema ``QUERIES`` that holds every candidate's query.
        metric: what is measured.

    Returns:
        Table of schema ``UTILITIES``, row for row as ``candidates``.

    Raises:
        InputError: a candidate without a query, a query that lacks what the metric needs, or a value that is not
            finite; the query is named.
    """
    known = {row["query_id"]: _query(row) for row in queries.to_pylist()}
    ids, texts = candidates["query_id"].to_pylist(), candidates["text"].to_pylist()
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(ids):
        rows.setdefault(name, []).append(row)
    utility = np.empty(len(ids))
    for name, places in rows.items():
        if name not in known:
            raise InputError("candidates", f"query '{name}'", "a query of the table of queries")
        utility[places] = _finite(metric.measure(known[name], [texts[row] for row in places]), name, metric.name)
    columns = [candidates["query_id"], candidates["candidate"], pa.array([metric.name] * len(ids)), pa.array(utility)]
    return pa.table(columns, schema=UTILITIES)


def measure_pool(pool: CandidatePool, queries: pa.Table, metrics: Sequence[Metric], folder: str | Path) -> list[Path]:
    """Measure a pool and write ``<metric>.parquet`` for each metric, unless it is there for just these inputs.

    Args:
        pool: a finished pool.
        queries: table of schema ``QUERIES``.
        metrics: what is measured, with distinct names.
        folder: usually ``utilities`` in the run's folder.

    Returns:
        The files, in the order of the metrics.

    Raises:
        InputError: as :func:`measure` and :meth:`~bestfor.pool.CandidatePool.scan`; also two metrics of one name.
    """
    names = [metric.name for metric in metrics]
    if len(set(names)) < len(names):
        raise InputError("metrics", ", ".join(names), "distinct names")
    candidates = pool.scan()
    paths: list[Path] = []
    for metric in metrics:
        path = Path(folder) / f"{metric.name}.parquet"
        inputs = _inputs(candidates, queries, metric)
        if _written_for(path) != inputs:
            write(measure(candidates, queries, metric), path, {"bestfor.inputs": inputs})
        paths.append(path)
    return paths


def _query(row: dict[str, str | None]) -> Query:
    return Query(str(row["query_id"]), str(row["user_id"]), str(row["input"]), row["reference"], str(row["split"]))


def _finite(values: FloatArray, query: str, metric: str) -> FloatArray:
    if not np.isfinite(values).all():
        raise InputError(f"metric '{metric}', query '{query}'", "a value that is not finite", "finite numbers")
    return values


def _inputs(candidates: pa.Table, queries: pa.Table, metric: Metric) -> str:
    parts = [content_hash(candidates), content_hash(queries), metric.signature]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _written_for(path: Path) -> str | None:
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowException):
        return None
    value = metadata.get(b"bestfor.inputs")
    return None if value is None else value.decode()
