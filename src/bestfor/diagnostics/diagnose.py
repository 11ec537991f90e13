"""The diagnosis of reward models on a table of candidates: who gains from Best-of-N, how much, and why not more."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from bestfor.diagnostics.assembly import Frame, assemble
from bestfor.diagnostics.beyond.gather import gather_beyond
from bestfor.diagnostics.beyond.sample import choose, draw
from bestfor.diagnostics.blocks import Blocks, study
from bestfor.diagnostics.calibration import calibrations
from bestfor.diagnostics.evidence import conclude
from bestfor.diagnostics.ids import Ids, pick
from bestfor.diagnostics.result import Diagnosis
from bestfor.diagnostics.settings import Settings
from bestfor.diagnostics.table.pools import Dropped, Reward, pools_of
from bestfor.diagnostics.table.rows import Rows, check_sizes, sort_rows
from bestfor.errors import InputError
from bestfor.types import IntArray

MOST_CANDIDATES = 1024
"""Larger pools are cut at random for what lies beyond the curves."""


def diagnose_arrays(
    user: Ids,
    query: Ids,
    utility: npt.ArrayLike,
    rewards: Mapping[str, Reward | npt.ArrayLike],
    settings: Settings | None = None,
    *,
    text: Ids | None = None,
    candidate: Ids | None = None,
) -> Diagnosis:
    """Diagnose reward models on candidates with known utilities, one row a candidate, in any order.

    Args:
        user: shape (rows,), ids.
        query: shape (rows,), ids.
        utility: shape (rows,), what we truly care about.
        rewards: name of a model -> :class:`Reward`, or a bare array of arbitrary scale; each of shape (rows,).
        settings: where curves are drawn, how means and intervals are taken, other rules.
        text: shape (rows,), ids of the texts; where users share texts, intervals count both as random.
        candidate: shape (rows,), integers that tell a query's candidates apart.

    Returns:
        The diagnosis.

    Raises:
        InputError: an empty table, columns that do not fit, numbers beyond 1e60 in size, or an N larger than
            every pool.
    """
    settings = settings or Settings()
    rows = sort_rows(user, query, utility, rewards, text=text, candidate=candidate)
    if not len(rows.size):
        raise InputError("rows", "none with a finite utility and finite rewards", "at least one")
    check_sizes(rows)
    drawn = choose_n(settings.n, rows.size)
    if "data" not in settings.signature:
        data = _digest(rows, np.flatnonzero(rows.size >= drawn[-1]))
        settings = replace(settings, signature={"data": data, **settings.signature})
    found = diagnose_blocks(
        lambda: (pools_of(rows, queries) for queries in rows.blocks()),
        drawn,
        rows.not_finite,
        settings,
        users=rows.user_names,
    )
    return found.with_calibration(calibrations(rows, rewards, settings.level))


def diagnose_blocks(
    blocks: Blocks, n: IntArray, not_finite: int, settings: Settings, users: Sequence[str] | None = None
) -> Diagnosis:
    """Diagnose pools that come in blocks, so that only one block is in memory at a time.

    Args:
        blocks: of pools.
        n: shape (K,), from :func:`choose_n`.
        not_finite: rows that were left out of the pools.
        settings: how.
        users: all users in the order in which they are told; sorted where None.
    """
    rules = settings.all_rules()
    found = study(blocks, n, rules, users)
    queries = found.queries
    frame = Frame(
        name=settings.name,
        signature={"version": version("bestfor"), "rule": "argmax", **settings.told()},
        averaging=settings.averaging,
        level=settings.level,
        queries=len(queries),
        users=len(queries.user_ids),
        candidates=int(queries.size.sum()),
        dropped=Dropped(found.too_few_candidates, not_finite),
        resampling=settings.resampling(),
        rules=tuple(rule.name for rule in rules),
    )
    concluded = conclude(queries, n, settings.averaging, found.texts, rules)
    chosen, suspected = choose(queries, settings.averaging), concluded.suspected()
    wanted: list[tuple[IntArray, int | None]] = [(chosen.rows, max(MOST_CANDIDATES, int(n[-1])))]
    if len(suspected):
        wanted.append((suspected, None))
    sampled, *others = found.pools_at(*wanted)
    if others:
        concluded = concluded.with_suspects(others[0])
    beyond = gather_beyond(queries, n, settings.averaging, draw(chosen, sampled))
    return assemble(frame, n, (replace(concluded.evidence, beyond=beyond),), concluded.models)


def choose_n(n: Sequence[int] | npt.NDArray[np.integer[Any]] | None, size: IntArray) -> IntArray:
    """The values of N that are reported.

    Args:
        n: wanted values; None takes powers of two up to the common pool size, and that size (the largest that nine
            queries of ten reach; or half of them, or any, if that is 1).
        size: shape (Q,), candidates of every query.

    Returns:
        Shape (K,), increasing.

    Raises:
        InputError: not whole numbers above 0, or one larger than every pool.
    """
    if n is None:
        sizes = np.sort(size)
        reached = [int(sizes[int(share * len(sizes))]) for share in (0.1, 0.5)] + [int(sizes[-1])]
        common = next((size for size in reached if size > 1), 1)
        return np.array(sorted({*(2**k for k in range(common.bit_length())), common}), dtype=np.int64)
    drawn = np.unique(np.asarray(n))
    if drawn.ndim != 1 or len(drawn) == 0 or not np.issubdtype(drawn.dtype, np.integer) or drawn[0] < 1:
        raise InputError("n", str(list(n)), "whole numbers of candidates, each at least 1")
    largest = int(size.max())
    if int(drawn[-1]) > largest:
        raise InputError("n", f"N = {int(drawn[-1])}", f"at most {largest}, the candidates of the largest pool")
    return drawn.astype(np.int64)


def _digest(rows: Rows, queries: IntArray) -> str:
    """SHA-256 over ids, utilities and rewards, whatever order the rows came in."""
    size = rows.size[queries]
    kept = np.repeat(rows.start[queries] - np.cumsum(size) + size, size) + np.arange(int(size.sum()))
    source = rows.order[kept]
    first = rows.order[rows.start[queries]]
    users, user = np.unique(rows.user[first], return_inverse=True)
    digest = hashlib.sha256()
    for names in (pick(rows.user_names, users), pick(rows.query_names, rows.query[first])):
        digest.update("\x1f".join(names).encode())
    digest.update(user.astype(np.int64).tobytes() + size.tobytes() + rows.index[kept].tobytes())
    for values in (rows.utility, *(rows.rewards[name] for name in sorted(rows.rewards))):
        digest.update(values[source].tobytes())
    return digest.hexdigest()
