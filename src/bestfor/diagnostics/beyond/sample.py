"""Sample queries by the hash of their ids, for what would cost too much on all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bestfor.diagnostics.quantities.queries import Queries, user_weights
from bestfor.diagnostics.table.pools import Pools
from bestfor.moved import renamed
from bestfor.rng import derive, key
from bestfor.types import Averaging, FloatArray, IntArray

__getattr__ = renamed(__name__, {"Chosen": "SampledQueries"})


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
    """A sample of pools: whole users, up to a number of queries each; all queries where they are few.

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


@dataclass(frozen=True)
class SampledQueries:
    """Places and weights of the sampled queries.

    Attributes:
        rows: shape (Q,), their places among all queries.
        weight: shape (Q,), each query's weight in a mean over the sample, summing to 1.
        of: how many queries there are.
    """

    rows: IntArray
    weight: FloatArray
    of: int


def sample_queries(queries: Queries, averaging: Averaging) -> SampledQueries:
    """Choose queries by the hash of their user's and their own id, so that the order of rows changes nothing.

    Args:
        queries: all of them.
        averaging: whether users or queries weigh the same.

    Returns:
        At most 4,000 queries and 600,000 candidates, or 200 queries where pools are very large.
    """
    most = min(MOST_QUERIES, max(FEWEST, MOST_CANDIDATES // int(queries.size.max())))
    rows, expansion = _sampled_rows(queries, most)
    weight = expansion * user_weights(queries.sums.utility.queries, averaging)[queries.user[rows]]
    return SampledQueries(rows, weight / weight.sum(), len(queries))


def sample_pools(chosen: SampledQueries, pools: Pools) -> Sample:
    """Make the sample of the chosen queries' pools, sorted by user and query, in whatever order these came."""
    users: list[int] = pools.user.tolist()
    names = [(pools.user_ids[user], query) for user, query in zip(users, pools.query_ids, strict=True)]
    order = np.array(sorted(range(len(names)), key=names.__getitem__), dtype=np.int64)
    pools = pools.take(order)
    return Sample(pools, chosen.of, chosen.weight[order], _orders(pools))


def _sampled_rows(queries: Queries, most: int) -> tuple[IntArray, FloatArray]:
    """Choose rows, and count how many queries each stands for."""
    users = len(queries.user_ids)
    if len(queries) <= most:
        return np.arange(len(queries), dtype=np.int64), np.ones(len(queries))
    count = queries.sums.utility.queries.astype(np.int64)
    cap = np.minimum(count, max(PER_USER, most // users))
    ranked = sorted(range(users), key=lambda user: key(SEED, "beyond", queries.user_ids[user]))
    order = np.array(ranked, dtype=np.int64)
    taken = order[: max(int((np.cumsum(cap[order]) <= most).sum()), 1)]
    of_taken = np.zeros(users, dtype=np.bool_)
    of_taken[taken] = True
    place = np.flatnonzero(of_taken[queries.user])
    place = place[np.lexsort((queries.key[place], queries.user[place]))]
    grouped = queries.user[place]
    rank = np.arange(len(place)) - np.searchsorted(grouped, grouped)
    rows = place[rank < cap[grouped]]
    return rows, (users / len(taken)) * (count / cap)[queries.user[rows]]


def _orders(pools: Pools) -> IntArray:
    rows, most = int(pools.utility.shape[0]), int(pools.utility.shape[1])
    result = np.empty((ORDERS, rows, most), dtype=np.int64)
    for row, (user, size) in enumerate(zip(pools.user.tolist(), pools.size.tolist(), strict=True)):
        rng = derive(SEED, "order", pools.user_ids[int(user)], pools.query_ids[int(row)])
        result[:, row] = np.arange(most)
        result[:, row, :size] = rng.permuted(result[:, row, :size], axis=1)
    return result
