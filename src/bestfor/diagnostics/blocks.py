"""Measure pools block by block, and put together what is kept of them.

A pass over the blocks gives the statistics of every query. Another one is needed for the effects of texts, whose
weights depend on how many queries each user has, and one for pools that are wanted whole. In memory are one block, the
statistics of all queries (16 bytes, and 9 a model), sums by user, and 8 bytes a text and mean.
"""

# pyright: basic
# (pyarrow ships no types)

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bestfor.data.text import Hashes, hash_strings
from bestfor.diagnostics.evidence import BlockEffects
from bestfor.diagnostics.intervals.influence import Texts
from bestfor.diagnostics.quantities.queries import FEW_VALUES, ModelQueries, Queries, SumsByUser, measure_queries
from bestfor.diagnostics.table.pools import Pools, cut_pools, join_pools
from bestfor.moved import renamed
from bestfor.selection import Rule
from bestfor.types import FloatArray, IntArray, Scale

__getattr__ = renamed(__name__, {"Sharing": "SharedTextFinder", "Study": "MeasuredBlocks"})


Blocks = Callable[[], Iterable[Pools]]
"""Starts a pass over all pools, block by block, the same in every pass. Every query stands in one block."""
Found = TypeVar("Found")
BlockKey = tuple[int, int]
"""Place of a block in a pass: a part, and the number within it."""


class BlockTasks(ABC):
    """Passes over all pools whose work on blocks may be done elsewhere; every pass has the same blocks."""

    @abstractmethod
    def here(self) -> Iterator[Pools]:
        """Start a pass over all blocks in this process."""

    @abstractmethod
    def each(
        self,
        work: Callable[[Any, BlockKey, Pools], Found],
        held: Any,  # noqa: ANN401 - what the work takes
    ) -> Iterator[tuple[BlockKey, Found]]:
        """Do some work on every block.

        Args:
            work: at the top of a module; takes ``held``, a block's place and the block.
            held: what all blocks share.

        Yields:
            Each block's place and what was made of it, in the order of the pass.
        """


class _Here(BlockTasks):
    """Blocks of this process."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks

    def here(self) -> Iterator[Pools]:
        yield from self._blocks()

    def each(
        self,
        work: Callable[[Any, BlockKey, Pools], Found],
        held: Any,  # noqa: ANN401 - as above
    ) -> Iterator[tuple[BlockKey, Found]]:
        for number, pools in enumerate(self._blocks()):
            yield (0, number), work(held, (0, number), pools)


@dataclass(frozen=True)
class MeasuredBlocks:
    """Queries measured block by block.

    Attributes:
        queries: those with at least the largest N candidates, in the order of the blocks.
        too_few_candidates: how many others there are.
        shared: whether users share texts.
        blocks: does other passes.
        fewest: candidates that a query needs to count.
        first: place of a block -> place of its first query in ``queries``; blocks without any are not there.
        offset: what was subtracted from every utility; 0 where nothing had to be.
    """

    queries: Queries
    too_few_candidates: int
    shared: bool
    blocks: BlockTasks
    fewest: int
    first: Mapping[BlockKey, int]
    offset: float = 0.0

    def texts(self, effects: BlockEffects) -> tuple[Texts, ...] | None:
        """Compute what texts do to the means by one more pass; None where no two users share one.

        Args:
            effects: a block, and its queries' users among all -> what its texts do, several times over.
        """
        if not self.shared:
            return None
        user = self.queries.user
        parts = [effects(pools, user[low : low + len(pools)]) for low, pools in self._pass()]
        return tuple(join_texts(part) for part in zip(*parts, strict=True))

    def pools_at(self, *wanted: tuple[IntArray, int | None]) -> list[Pools]:
        """Fetch some queries' pools by one more pass.

        Args:
            wanted: places in ``queries``, each once, and the candidates that larger pools are cut to at random (always
                the same ones; Best-of-N from a random part of a pool has the same expectation), None for whole pools.

        Returns:
            The pools of each, in the order asked for.
        """
        orders = [np.argsort(rows) for rows, _ in wanted]
        ranked = [rows[order] for (rows, _), order in zip(wanted, orders, strict=True)]
        most = [limit for _, limit in wanted]
        asked = _Asked(self.fewest, self.offset, self.first, ranked, most, self.shared)
        parts: list[list[Pools]] = [[] for _ in wanted]
        for _, found in self.blocks.each(_fetch, asked):
            for part, pools in zip(parts, found, strict=True):
                if pools is not None:
                    part.append(pools)
        return [join_pools(part, order) for part, order in zip(parts, orders, strict=True)]

    def _pass(self) -> Iterator[tuple[int, Pools]]:
        """Iterate over blocks, utilities centred, small queries left out, with the place of each one's first query."""
        done = 0
        for pools in self.blocks.here():
            kept = pools.with_at_least(self.fewest)
            if len(kept):
                yield done, kept.moved(-self.offset)
                done += len(kept)


@dataclass(frozen=True)
class _Asked:
    """Pools that are wanted: what :meth:`MeasuredBlocks.pools_at` sends to the blocks."""

    fewest: int
    offset: float
    first: Mapping[BlockKey, int]
    ranked: list[IntArray]
    most: list[int | None]
    texts: bool


def _fetch(asked: _Asked, key: BlockKey, pools: Pools) -> list[Pools | None]:
    """Take the wanted pools of one block, None where it has none of a list."""
    if key not in asked.first:
        return [None] * len(asked.ranked)
    low, parts = asked.first[key], list[Pools | None]()
    kept = pools.with_at_least(asked.fewest).moved(-asked.offset)
    for ranked, most in zip(asked.ranked, asked.most, strict=True):
        first, last = np.searchsorted(ranked, [low, low + len(kept)]).tolist()
        if first == last:
            parts.append(None)
            continue
        found = kept.take(ranked[first:last] - low)
        if not asked.texts:
            found = replace(found, text=None, text_ids=())
        parts.append(found if most is None else cut_pools(found, most))
    return parts


@dataclass(frozen=True)
class _Measured:
    """Queries of one block: how many are too small, and the others measured; with texts, their pools."""

    few: int
    queries: Queries | None
    texts: Pools | None


def _measure(held: tuple[IntArray, Sequence[Rule], float], key: BlockKey, pools: Pools) -> _Measured:
    n, rules, offset = held
    enough = pools.size >= int(n[-1])
    few = int((~enough).sum())
    if not enough.any():
        return _Measured(few, None, None)
    kept = pools.with_at_least(int(n[-1])).moved(-offset)
    return _Measured(few, measure_queries(kept, n, rules), None if kept.text is None else kept)


def measure_blocks(
    blocks: Blocks | BlockTasks, n: IntArray, rules: Sequence[Rule] = (), users: Sequence[str] | None = None
) -> MeasuredBlocks:
    """Measure all queries with at least the largest N candidates.

    Args:
        blocks: of pools.
        n: shape (K,), increasing; at least one query has that many candidates.
        rules: other rules whose curves are wanted.
        users: all users in the order in which they are reported; sorted where None.
    """
    tasks = blocks if isinstance(blocks, BlockTasks) else _Here(blocks)
    fewest, few, done = int(n[-1]), 0, 0
    offset = next((kept.offset() for one in tasks.here() if len(kept := one.with_at_least(fewest))), 0.0)
    codes: dict[str, int] = {}
    first: dict[BlockKey, int] = {}
    builder = _QueryBuilder()
    shared = SharedTextFinder()
    for key, found in tasks.each(_measure, (n, rules, offset)):
        few += found.few
        if found.queries is None:
            continue
        first[key] = done
        done += len(found.queries)
        code = np.array([codes.setdefault(user, len(codes)) for user in found.queries.user_ids], dtype=np.int64)
        if found.texts is not None:
            shared.add(found.texts, code)
        builder.add(found.queries, code)
    queries = builder.joined(codes, sorted(codes) if users is None else users)
    return MeasuredBlocks(queries, few, shared.found(), tasks, fewest, first, offset)


class _QueryBuilder:
    """Queries of the blocks so far: columns that are joined at the end, each let go then, and sums that grow."""

    def __init__(self) -> None:
        self._columns: dict[tuple[str, str], list[npt.NDArray[Any]]] = {}
        self._scales: dict[str, Scale] = {}
        self._like: SumsByUser | None = None
        self._sums = np.zeros((0, 0))
        self._profiles: dict[int, FloatArray] = {}
        self._values: set[float] | None = set()

    def add(self, block: Queries, code: IntArray) -> None:
        """Take a block; code: shape (users of the block,), their codes among all users."""
        self._scales, self._like = block.scales, block.sums
        self._keep("", "user", code[block.user].astype(np.int32))
        self._keep("", "size", block.size)
        self._keep("", "distinct", block.distinct)
        self._keep("", "key", block.key)
        for model, one in block.models.items():
            self._keep(model, "correlation", one.correlation)
            self._keep(model, "worse", one.worse)
            self._keep(model, "tails", one.tails)
        for size, profile in block.profiles.items():
            self._profiles[size] = self._profiles.get(size, 0.0) + profile
        known = None if self._values is None or block.values is None else self._values | set(block.values)
        self._values = known if known is not None and len(known) <= FEW_VALUES else None
        sums = block.sums.matrix()
        rows, width = int(code.max()) + 1, int(sums.shape[1])
        if rows > len(self._sums):
            larger = np.zeros((2 * rows, width))
            larger[: len(self._sums)] = self._sums.reshape(-1, width)
            self._sums = larger
        self._sums[code] += sums

    def _keep(self, model: str, name: str, values: npt.NDArray[Any]) -> None:
        self._columns.setdefault((model, name), []).append(values)

    def joined(self, codes: Mapping[str, int], users: Sequence[str]) -> Queries:
        """Join all queries in the order of the blocks, users in the order given. Only once: columns are let go."""
        assert self._like is not None, "nothing was added"
        user_ids = tuple(user for user in users if user in codes)
        ranked = np.array([codes[user] for user in user_ids], dtype=np.int64)
        place = np.empty(len(user_ids), dtype=np.int32)
        place[ranked] = np.arange(len(user_ids))

        def column(model: str, name: str) -> npt.NDArray[Any]:
            return np.concatenate(self._columns.pop((model, name)))

        return Queries(
            user=place[column("", "user")],
            user_ids=user_ids,
            key=column("", "key"),
            size=column("", "size"),
            distinct=column("", "distinct"),
            models={
                model: ModelQueries(column(model, "correlation"), column(model, "worse"), column(model, "tails"))
                for model in self._scales
            },
            scales=self._scales,
            sums=self._like.from_matrix(self._sums[ranked]),
            profiles=self._profiles,
            values=None if self._values is None else tuple(sorted(self._values)),
        )


class SharedTextFinder:
    """Find out whether two users share a text, block by block.

    Remembers 16 bytes a text and block until a shared text is found, and nothing after that.
    Texts are told apart by 64-bit hashes: among ten million, two are taken for one once in 400,000 tables.
    """

    def __init__(self) -> None:
        self._found = False
        self._texts: list[Hashes] = []
        self._users: list[IntArray] = []

    def add(self, pools: Pools, user: IntArray) -> None:
        """Take the texts of a block.

        Args:
            pools: of the block.
            user: shape (users of the block,), their codes among all users.
        """
        if pools.text is None or self._found:
            return
        mask = pools.mask
        owner = np.broadcast_to(pools.user[:, None], mask.shape)[mask]
        pairs = np.unique(pools.text[mask] * len(user) + owner)
        text, one = np.divmod(pairs, len(user))
        if (text[1:] == text[:-1]).any():
            self._found = True
            return
        hashes = hash_strings(pa.array(pools.text_ids, pa.large_string()))
        self._texts.append(hashes[text])
        self._users.append(user[one])

    def found(self) -> bool:
        """Decide whether any text stood in the pools of two users."""
        if self._found or len(self._texts) < 2:
            return self._found
        text, user = np.concatenate(self._texts), np.concatenate(self._users)
        order = np.argsort(text)
        text, user = text[order], user[order]
        same = text[1:] == text[:-1]
        return bool((user[1:] != user[:-1])[same].any())


def join_texts(parts: Iterable[Texts]) -> Texts:
    """Add up the effects of several blocks, text by text."""
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
