"""A bounded, named sample of queries for what would cost too much on all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bestfor.diagnostics.pools import Pools
from bestfor.diagnostics.queries import Queries
from bestfor.diagnostics.within import query_weights
from bestfor.rng import derive, key
from bestfor.types import Averaging, FloatArray, IntArray

MOST_QUERIES = 4000
MOST_CANDIDATES = 600_000
"""Cells of the sampled pools' matrices; at least :data:`FEWEST` queries are taken all the same."""

FEWEST = 200
PER_USER = 8
"""Queries of a user that are always taken, if the user is."""

SEED = 0
ORDERS = 4


@dataclass(frozen=True)
class Sample:
    """Whole users, up to a number of queries each; all queries where they are few.

    Attributes:
        pools: the sampled ones.
        of: how many queries there were.
        weight: shape (Q,), each query's weight in a mean over the sample, summing to 1.
        orders: shape (4, Q, M), random orders of each pool's candidates; places past the size come last.
    """

    pools: Pools
    of: int
    weight: FloatArray
    orders: IntArray


def draw(queries: Queries, averaging: Averaging, fetch: Callable[[IntArray], Pools]) -> Sample:
    """Take queries by the hash of their user's and their own id, so that the order of rows changes nothing.

    Args:
        queries: all of them.
        averaging: whether users or queries weigh the same.
        fetch: gives the pools of some queries, from their increasing places.

    Returns:
        The sample; at most 4,000 queries and 600,000 candidates, or 200 queries where pools are very large.
    """
    most = min(MOST_QUERIES, max(FEWEST, MOST_CANDIDATES // int(queries.size.max())))
    rows, expansion = _chosen(queries, most)
    pools = fetch(rows)
    weight = expansion * query_weights(queries.user, len(queries.user_ids), averaging)[rows]
    return Sample(pools, len(queries), weight / weight.sum(), _orders(pools))


def _chosen(queries: Queries, most: int) -> tuple[IntArray, FloatArray]:
    """The queries taken, increasing, and how many each stands for."""
    users = len(queries.user_ids)
    if len(queries) <= most:
        return np.arange(len(queries), dtype=np.int64), np.ones(len(queries))
    count = np.bincount(queries.user, minlength=users)
    cap = np.minimum(count, max(PER_USER, most // users))
    ranked = sorted(range(users), key=lambda user: key(SEED, "beyond", queries.user_ids[user]))
    order = np.array(ranked, dtype=np.int64)
    taken = order[: max(int((np.cumsum(cap[order]) <= most).sum()), 1)]
    place = np.argsort(queries.user, kind="stable")
    start = np.cumsum(count) - count
    own = [_first(queries, place[start[user] : start[user] + count[user]], int(cap[user])) for user in taken.tolist()]
    rows = np.sort(np.concatenate(own))
    return rows, (users / len(taken)) * (count / cap)[queries.user[rows]]


def _first(queries: Queries, rows: IntArray, most: int) -> IntArray:
    """At most so many of one user's queries, by the hash of their ids."""
    if len(rows) <= most:
        return rows
    user = queries.user_ids[int(queries.user[rows[0]])]
    hashed = [(key(SEED, "beyond", user, queries.query_ids[int(row)]), int(row)) for row in rows]
    return np.array([row for _, row in sorted(hashed)[:most]], dtype=np.int64)


def _orders(pools: Pools) -> IntArray:
    rows, most = int(pools.utility.shape[0]), int(pools.utility.shape[1])
    result = np.empty((ORDERS, rows, most), dtype=np.int64)
    for row, (user, size) in enumerate(zip(pools.user.tolist(), pools.size.tolist(), strict=True)):
        rng = derive(SEED, "order", pools.user_ids[int(user)], pools.query_ids[int(row)])
        result[:, row] = np.arange(most)
        result[:, row, :size] = rng.permuted(result[:, row, :size], axis=1)
    return result
