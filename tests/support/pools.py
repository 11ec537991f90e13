"""Pools that a policy fills with the candidates of some queries."""

import pyarrow as pa

from bestfor.data.schema import HISTORIES, QUERIES
from bestfor.pool import CandidatePool
from bestfor.runs.prompts import Prompting
from bestfor.runs.sampling import SamplingSettings, generate

HISTORY = pa.Table.from_pylist([], schema=HISTORIES)


def questions(*names):
    rows = [(name, "ann", name, "answer", "test", None) for name in names]
    return pa.Table.from_pylist([dict(zip(QUERIES.names, row, strict=True)) for row in rows], schema=QUERIES)


def fill(made, folder, *names, n=3, refused="error", tell=None):
    pool = CandidatePool(folder)
    sampling = SamplingSettings(n, 1, 0, Prompting(retriever="none"), refused=refused)
    generate(made, HISTORY, questions(*names), pool, sampling, progress=False, tell=tell)
    return pool


def tables(pool):
    """A pool's texts by query and candidate."""
    rows = pool.scan()
    return dict(
        zip(
            zip(rows["query_id"].to_pylist(), rows["candidate"].to_pylist(), strict=True),
            rows["text"].to_pylist(),
            strict=True,
        )
    )
