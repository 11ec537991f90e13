"""Pools in blocks: measured one after the other, what is kept of them put together again.

A pass over the blocks gives the facts of every query. Another one is needed for the effects of texts, whose weights
depend on how many queries each user has, and one for pools that are wanted whole. In memory are one block, the facts
of all queries (8 bytes each, about 3 per N and model and 8 more a query), and 8 bytes a text and mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bestfor.diagnostics.ids import Names, pick
from bestfor.diagnostics.influence import Column, Texts, text_effects
from bestfor.diagnostics.pools import Pools, join_pools
from bestfor.diagnostics.queries import ModelQueries, Queries, measure_queries
from bestfor.diagnostics.sharing import Sharing
from bestfor.types import FloatArray, IntArray

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

    def pools_at(self, rows: IntArray) -> Pools:
        """These queries' pools, fetched by another pass.

        Args:
            rows: shape (R,), places in ``queries``, each once; the pools come in this order, without texts.
        """
        wanted = np.full(len(self.queries), -1)
        wanted[rows] = np.arange(len(rows))
        parts: list[Pools] = []
        order: list[IntArray] = []
        for place, pools in self._pass():
            here = np.flatnonzero(wanted[place] >= 0)
            if len(here):
                parts.append(replace(pools, text=None, text_ids=()).take(here))
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
    parts: list[Queries] = []
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
        measured = measure_queries(kept, n)
        parts.append(replace(measured, user=code[kept.user], user_ids=(), query_ids=Names.of(kept.query_ids)))
        if place is not None:
            places.append(place[enough])
    queries, order = _sorted(parts, tuple(users), np.concatenate(places) if places else None)
    inverse = np.empty_like(order)
    inverse[order] = np.arange(len(order))
    return Study(queries, few, sharing.found(), blocks, inverse, fewest)


def _sorted(parts: list[Queries], users: tuple[str, ...], places: IntArray | None) -> tuple[Queries, IntArray]:
    user = np.concatenate([part.user for part in parts])
    names = Names.joined([Names.of(part.query_ids) for part in parts])
    if places is None:
        ranked = np.array(sorted(range(len(users)), key=users.__getitem__), dtype=np.int64)
        order = names.order(_inverse(ranked)[user])
    else:
        order = np.argsort(places, kind="stable")
        _, first = np.unique(user[order], return_index=True)
        ranked = np.argsort(first, kind="stable")
    models = {name: _joined_model([part.models[name] for part in parts], order) for name in parts[0].models}
    queries = Queries(
        user=_inverse(ranked)[user[order]],
        user_ids=pick(users, ranked),
        query_ids=names.take(order),
        size=_joined([part.size for part in parts], order),
        mean=_joined([part.mean for part in parts], order),
        utility_sd=_joined([part.utility_sd for part in parts], order),
        oracle=_joined([part.oracle for part in parts], order),
        best=_joined([part.best for part in parts], order),
        best_utility=_joined([part.best_utility for part in parts], order),
        models=models,
        scales=parts[0].scales,
    )
    return queries, order


def _joined_model(parts: list[ModelQueries], order: IntArray) -> ModelQueries:
    return ModelQueries(
        correlation=_joined([part.correlation for part in parts], order),
        reward_sd=_joined([part.reward_sd for part in parts], order),
        curve=_joined([part.curve for part in parts], order),
        growth=_joined([part.growth for part in parts], order),
        noise=_joined([part.noise for part in parts], order),
        pick=_joined([part.pick for part in parts], order),
        pick_utility=_joined([part.pick_utility for part in parts], order),
    )


def _joined(parts: Sequence[npt.NDArray[Any]], order: IntArray) -> npt.NDArray[Any]:
    return np.concatenate(parts)[order]


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
