"""The diagnosis of reward models on a table of candidates: who gains from Best-of-N, how much, and why not more."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from bestfor.diagnostics.assembly import Frame, assemble
from bestfor.diagnostics.evidence import gather
from bestfor.diagnostics.ids import Ids
from bestfor.diagnostics.pools import Pools, Reward, pools_from_rows
from bestfor.diagnostics.results import Diagnosis
from bestfor.errors import InputError
from bestfor.types import Averaging, IntArray


def diagnose_arrays(
    user: Ids,
    query: Ids,
    utility: npt.ArrayLike,
    rewards: Mapping[str, Reward | npt.ArrayLike],
    *,
    text: Ids | None = None,
    candidate: Ids | None = None,
    n: Sequence[int] | npt.NDArray[np.integer[Any]] | None = None,
    averaging: Averaging = "user",
    level: float = 0.95,
    signature: Mapping[str, Any] | None = None,
    name: str = "",
) -> Diagnosis:
    """Diagnose reward models on candidates with known utilities, one row a candidate, in any order.

    Args:
        user: shape (rows,), ids.
        query: shape (rows,), ids.
        utility: shape (rows,), what we truly care about.
        rewards: name of a model -> :class:`Reward`, or a bare array of arbitrary scale; each of shape (rows,).
        text: shape (rows,), ids of the texts; where users share texts, intervals count both as random.
        candidate: shape (rows,), integers that tell a query's candidates apart.
        n: values of N; None takes powers of two up to the common pool size, and that size (the largest that nine
            queries of ten reach). Queries with fewer candidates than the largest N are left out and counted.
        averaging: whether every user or every query weighs the same.
        level: nominal coverage of intervals.
        signature: what the caller knows of the data and the models; version, averaging and level are added.
        name: of the run.

    Returns:
        The diagnosis.

    Raises:
        InputError: an empty table, columns that do not fit, or an N larger than every pool.
    """
    if not 0 < level < 1:
        raise InputError("level", str(level), "a number between 0 and 1")
    if averaging not in ("user", "query"):
        raise InputError("averaging", repr(averaging), "'user' or 'query'")
    pools = pools_from_rows(user, query, utility, rewards, text=text, candidate=candidate)
    drawn = _common(pools) if n is None else _checked(n, pools)
    pools = pools.with_at_least(int(drawn[-1]))
    facts = {"version": version("bestfor"), "data": _digest(pools), "rule": "argmax", **(signature or {})}
    frame = Frame(
        name=name,
        signature={**facts, "averaging": averaging, "level": level},
        averaging=averaging,
        level=level,
        queries=len(pools),
        users=len(pools.user_ids),
        candidates=int(pools.size.sum()),
        dropped=pools.dropped,
    )
    evidence, models = gather(pools, drawn, averaging)
    return assemble(frame, drawn, (evidence,), models)


def _checked(n: Sequence[int] | npt.NDArray[np.integer[Any]], pools: Pools) -> IntArray:
    drawn = np.unique(np.asarray(n))
    if drawn.ndim != 1 or len(drawn) == 0 or not np.issubdtype(drawn.dtype, np.integer) or drawn[0] < 1:
        raise InputError("n", str(list(n)), "whole numbers of candidates, each at least 1")
    largest = int(pools.size.max())
    if int(drawn[-1]) > largest:
        raise InputError("n", f"N = {int(drawn[-1])}", f"at most {largest}, the candidates of the largest pool")
    return drawn.astype(np.int64)


def _common(pools: Pools) -> IntArray:
    """Powers of two up to the largest size that nine queries of ten reach (or half, or any, if that is 1)."""
    sizes = np.sort(pools.size)
    reached = [int(sizes[int(share * len(sizes))]) for share in (0.1, 0.5)] + [int(sizes[-1])]
    common = next((size for size in reached if size > 1), 1)
    powers = [2**k for k in range(common.bit_length())]
    return np.array(sorted({*powers, common}), dtype=np.int64)


def _digest(pools: Pools) -> str:
    """SHA-256 over ids, utilities and rewards, whatever order the rows came in."""
    digest = hashlib.sha256()
    for names in (pools.user_ids, pools.query_ids):
        digest.update("\x1f".join(names).encode())
    mask = pools.mask
    digest.update(pools.user.tobytes() + pools.size.tobytes())
    for values in (pools.candidate, pools.utility, *(pools.rewards[name] for name in sorted(pools.rewards))):
        digest.update(np.ascontiguousarray(values[mask]).tobytes())
    return digest.hexdigest()
