"""Pools in blocks: measured one after the other, what is kept of them put together again.

A pass over the blocks gives the facts of every query. Another one is needed for the effects of texts, whose weights
depend on how many queries each user has, and one for pools that are wanted whole. In memory are one block, the facts
of all queries (12 bytes, the id, and 9 bytes a model), sums by user, and 8 bytes a text and mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bestfor.diagnostics.ids import Names, pick
from bestfor.diagnostics.influence import Column, Texts, text_effects
from bestfor.diagnostics.pools import Pools, cut_pools, join_pools
from bestfor.diagnostics.queries import ModelQueries, Queries, Statistic, Sums, measure_queries
from bestfor.diagnostics.rules import Rule
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

    def pools_at(self, *wanted: tuple[IntArray, int | None]) -> list[Pools]:
        """Some queries' pools, fetched by one more pass.

        Args:
            wanted: places in ``queries``, each once, and the candidates that larger pools are cut to at random (always
                the same ones; Best-of-N from a random part of a pool has the same expectation), None for whole pools.

        Returns:
            The pools of each, in the order asked for.
        """
        goals = [np.full(len(self.queries), -1, dtype=np.int32) for _ in wanted]
        for goal, (rows, _) in zip(goals, wanted, strict=True):
            goal[rows] = np.arange(len(rows))
        parts: list[list[Pools]] = [[] for _ in wanted]
        order: list[list[IntArray]] = [[] for _ in wanted]
        for place, pools in self._pass():
            for k, (_, most) in enumerate(wanted):
                here = np.flatnonzero(goals[k][place] >= 0)
                if len(here):
                    found = pools.take(here)
                    if not self.shared:
                        found = replace(found, text=None, text_ids=())
                    parts[k].append(found if most is None else cut_pools(found, most))
                    order[k].append(goals[k][place[here]].astype(np.int64))
        return [join_pools(part, np.concatenate(one)) for part, one in zip(parts, order, strict=True)]

    def _pass(self) -> Iterator[tuple[IntArray, Pools]]:
        done = 0
        for _, pools in self.blocks():
            kept = pools.with_at_least(self.fewest)
            if len(kept):
                yield self.places[done : done + len(kept)], kept
                done += len(kept)


def study(blocks: Blocks, n: IntArray, rules: Sequence[Rule] = ()) -> Study:
    """Measure all queries with at least the largest N candidates.

    Args:
        blocks: of pools.
        n: shape (K,), increasing; at least one query has that many candidates.
        rules: other rules whose curves are wanted.
    """
    fewest, few = int(n[-1]), 0
    users: dict[str, int] = {}
    kept_facts = _Facts()
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
        kept_facts.add(measure_queries(kept, n, rules), code)
        if place is not None:
            places.append(place[enough])
    queries, order = kept_facts.sorted(tuple(users), np.concatenate(places) if places else None)
    return Study(queries, few, sharing.found(), blocks, _inverse(order), fewest)


class _Facts:
    """Facts of the blocks so far: columns that are joined in the end, each let go then, and sums that grow."""

    def __init__(self) -> None:
        self._names: list[Names] = []
        self._columns: dict[tuple[str, str], list[npt.NDArray[Any]]] = {}
        self._scales: dict[str, Scale] = {}
        self._layout: Mapping[Statistic, slice] = {}
        self._sums = np.zeros((0, 0))

    def add(self, block: Queries, code: IntArray) -> None:
        """Take a block; code: shape (users of the block,), their codes among all users."""
        self._names.append(Names.of(block.query_ids))
        self._scales, self._layout = block.scales, block.sums.layout
        self._keep("", "user", code[block.user].astype(np.int32))
        self._keep("", "size", block.size)
        for model, one in block.models.items():
            self._keep(model, "correlation", one.correlation)
            self._keep(model, "worse", one.worse)
        rows, width = int(code.max()) + 1, int(block.sums.values.shape[1])
        if rows > len(self._sums):
            larger = np.zeros((2 * rows, width))
            larger[: len(self._sums)] = self._sums.reshape(-1, width)
            self._sums = larger
        self._sums[code] += block.sums.values

    def _keep(self, model: str, name: str, values: npt.NDArray[Any]) -> None:
        self._columns.setdefault((model, name), []).append(values)

    def sorted(self, users: tuple[str, ...], places: IntArray | None) -> tuple[Queries, IntArray]:
        """All queries by their places, or by the ids of users and queries, and the order that sorts them; once."""
        user, names = np.concatenate(self._columns.pop(("", "user"))), Names.joined(self._names)
        self._names = []
        if places is None:
            ranked = np.array(sorted(range(len(users)), key=users.__getitem__), dtype=np.int64)
            order = names.order(_inverse(ranked).astype(np.int32)[user])
        else:
            order = np.argsort(places, kind="stable")
            _, first = np.unique(user[order], return_index=True)
            ranked = np.argsort(first, kind="stable").astype(np.int64)

        def joined(model: str, name: str) -> npt.NDArray[Any]:
            return np.concatenate(self._columns.pop((model, name)))[order]

        queries = Queries(
            user=_inverse(ranked).astype(np.int32)[user[order]],
            user_ids=pick(users, ranked),
            query_ids=names.take(order),
            size=joined("", "size"),
            models={
                model: ModelQueries(joined(model, "correlation"), joined(model, "worse")) for model in self._scales
            },
            scales=self._scales,
            sums=Sums(self._layout, self._sums[ranked]),
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
