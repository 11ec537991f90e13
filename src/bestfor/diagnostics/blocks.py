"""Pools in blocks: measured one after the other, what is kept of them put together again.

A pass over the blocks gives the facts of every query. Another one is needed for the effects of texts, whose weights
depend on how many queries each user has, and one for pools that are wanted whole. In memory are one block, the facts
of all queries (8 bytes each, about 3 per N and model and 8 more a query), and 8 bytes a text and mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bestfor.diagnostics.ids import Names, pick
from bestfor.diagnostics.influence import Column, Texts, text_effects
from bestfor.diagnostics.pools import Pools, cut_pools, join_pools
from bestfor.diagnostics.queries import ModelQueries, Queries, measure_queries
from bestfor.diagnostics.sharing import Sharing
from bestfor.types import FloatArray, IntArray, Scale

Blocks = Callable[[], Iterable[tuple[IntArray | None, Pools]]]
"""Starts a pass over all pools, the same in every pass: a block's places among all queries, and its pools.

Where the places are None queries are sorted by their users' and their own ids. Every query stands in one block.
"""


@dataclass(frozen=True)
class Study:
    """Queries measured block by block.

    Attributes:
        queries: those with at least the largest N candidates, sorted.
        too_few_candidates: how many others there are.
        shared: whether users share texts.
        blocks: starts another pass.
        places: for every query in the order of the blocks, those that are left out not counted, its place.
        fewest: candidates that a query needs to count.
    """

    queries: Queries
    too_few_candidates: int
    shared: bool
    blocks: Blocks
    places: IntArray
    fewest: int

    def texts(self, weight: FloatArray, columns: tuple[Column, ...], grid: IntArray) -> Texts | None:
        """What texts do to the means, None where no two users share one.

        Args:
            weight: shape (Q,), each query's weight, summing to 1.
            columns: the means, as for :func:`~bestfor.diagnostics.influence.text_effects`.
            grid: shape (G,).
        """
        if not self.shared:
            return None
        return _join_texts(text_effects(pools, weight[place], columns, grid) for place, pools in self._pass())

    def pools_at(self, rows: IntArray, most: int | None = None) -> Pools:
        """These queries' pools, fetched by another pass.

        Args:
            rows: shape (R,), places in ``queries``, each once; the pools come in this order, without texts.
            most: candidates; larger pools are cut to as many at random, always the same ones. Best-of-N from a random
                part of a pool has the same expectation.
        """
        wanted = np.full(len(self.queries), -1)
        wanted[rows] = np.arange(len(rows))
        parts: list[Pools] = []
        order: list[IntArray] = []
        for place, pools in self._pass():
            here = np.flatnonzero(wanted[place] >= 0)
            if len(here):
                found = replace(pools, text=None, text_ids=()).take(here)
                parts.append(found if most is None else cut_pools(found, most))
                order.append(wanted[place[here]])
        return join_pools(parts, np.concatenate(order))

    def _pass(self) -> Iterator[tuple[IntArray, Pools]]:
        done = 0
        for _, pools in self.blocks():
            kept = pools.with_at_least(self.fewest)
            if len(kept):
                yield self.places[done : done + len(kept)], kept
                done += len(kept)


def study(blocks: Blocks, n: IntArray) -> Study:
    """Measure all queries with at least the largest N candidates.

    Args:
        blocks: of pools.
        n: shape (K,), increasing; at least one query has that many candidates.
    """
    fewest, few = int(n[-1]), 0
    users: dict[str, int] = {}
    kept_columns = _Columns()
    places: list[IntArray] = []
    sharing = Sharing()
    for place, pools in blocks():
        enough = pools.size >= fewest
        few += int((~enough).sum())
        if not enough.any():
            continue
        kept = pools.with_at_least(fewest)
        code = np.array([users.setdefault(user, len(users)) for user in kept.user_ids], dtype=np.int64)
        sharing.add(kept, code)
        kept_columns.add(measure_queries(kept, n), code)
        if place is not None:
            places.append(place[enough])
    queries, order = kept_columns.sorted(tuple(users), np.concatenate(places) if places else None)
    inverse = np.empty_like(order)
    inverse[order] = np.arange(len(order))
    return Study(queries, few, sharing.found(), blocks, inverse, fewest)


_SHARED = ("size", "mean", "utility_sd", "oracle", "best", "best_utility")
_OWN = tuple(one.name for one in fields(ModelQueries))


class _Columns:
    """Facts of the blocks so far, column by column, so that each can be let go once it is joined."""

    def __init__(self) -> None:
        self._user: list[IntArray] = []
        self._names: list[Names] = []
        self._columns: dict[tuple[str, str], list[npt.NDArray[Any]]] = {}
        self._scales: dict[str, Scale] = {}

    def add(self, block: Queries, code: IntArray) -> None:
        """Take a block; code: shape (users of the block,), their codes among all users."""
        self._user.append(code[block.user])
        self._names.append(Names.of(block.query_ids))
        self._scales = block.scales
        for name in _SHARED:
            self._columns.setdefault(("", name), []).append(getattr(block, name))
        for model, one in block.models.items():
            for name in _OWN:
                self._columns.setdefault((model, name), []).append(getattr(one, name))

    def sorted(self, users: tuple[str, ...], places: IntArray | None) -> tuple[Queries, IntArray]:
        """All queries by their places, or by the ids of users and queries, and the order that sorts them; once."""
        user, names = np.concatenate(self._user), Names.joined(self._names)
        if places is None:
            ranked = np.array(sorted(range(len(users)), key=users.__getitem__), dtype=np.int64)
            order = names.order(_inverse(ranked)[user])
        else:
            order = np.argsort(places, kind="stable")
            _, first = np.unique(user[order], return_index=True)
            ranked = np.argsort(first, kind="stable").astype(np.int64)

        def joined(model: str, name: str) -> npt.NDArray[Any]:
            return np.concatenate(self._columns.pop((model, name)))[order]

        queries = Queries(
            user=_inverse(ranked)[user[order]],
            user_ids=pick(users, ranked),
            query_ids=names.take(order),
            models={model: ModelQueries(**{name: joined(model, name) for name in _OWN}) for model in self._scales},
            scales=self._scales,
            **{name: joined("", name) for name in _SHARED},
        )
        return queries, order


def _inverse(permutation: IntArray) -> IntArray:
    result = np.empty_like(permutation)
    result[permutation] = np.arange(len(permutation))
    return result


def _join_texts(parts: Iterable[Texts]) -> Texts:
    rows: dict[str, int] = {}
    effect, cells = np.zeros((0, 0)), np.zeros((0, 0))
    for part in parts:
        at = np.array([rows.setdefault(text, len(rows)) for text in part.ids], dtype=np.int64)
        if not cells.size:
            effect, cells = np.zeros((0, part.effect.shape[1])), np.zeros_like(part.cells)
        if len(rows) > len(effect):
            larger = np.zeros((2 * len(rows), effect.shape[1]))
            larger[: len(effect)] = effect
            effect = larger
        effect[at] += part.effect
        cells += part.cells
    names = tuple(rows)
    order = sorted(range(len(names)), key=names.__getitem__)
    return Texts(tuple(names[code] for code in order), effect[order], cells)
