"""Fit ``pooled`` and ``ridge`` to blocks of users.

Rounds of ``pooled`` (:mod:`bestfor.rewards.linear.pooled` has the model):

1. map: counts, mean and squares of the utilities; of every text's hash, the queries that it stands in. Reduce: add up.
2. where texts are shared, map: the texts of the block that may have an effect of their own. Reduce: the 2,000 of most
   queries, of equal ones the first by their letters.
3. map: B'B, B'y and y'y of the columns B = [features, 1, texts], and for every number n of rows that a query may have
   S_n = sum of s s', m_n = sum of s t and t_n = sum of t^2 over the queries with n rows, s = B'1 and t = y'1 of a
   query. Reduce: add up. A query of n rows is summed out with the weight k / (1 + k n), whatever k is, so these are
   all that the marginal likelihood needs:

       B'V^-1 B = B'B - sum_n k/(1 + kn) S_n,   and likewise for y;   log|V| = sum_n queries_n log(1 + kn).

``ridge`` goes on (:mod:`bestfor.rewards.linear.ridge`):

4. the ratios g and k by the evidence of the users of the first blocks, 30,000 labels or all.
5. map: each user's weights, and the shard with them. Where users may abstain, a round before it gives sums of their
   leave-one-out errors, and the reduction decides who does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bestfor.artifacts import Arrays
from bestfor.data.blocks import LabelBlocks
from bestfor.data.text import Hashes, hash_strings
from bestfor.rewards.abstain import AbstainSums, abstain_sums, abstaining_of, left_out_levels
from bestfor.rewards.base_rows import BaseRows
from bestfor.rewards.blocks.rounds import (
    LabelSums,
    Round,
    feature_rows,
    first_rows,
    join_label_sums,
    read_block,
    sum_labels,
)
from bestfor.rewards.linear.pooled import (
    MOST_TEXTS,
    Pooled,
    PooledRidge,
    RidgeSums,
    solve_sums,
    sums_of_columns,
    weighted_gram,
)
from bestfor.rewards.linear.ridge import Ridge, choose_ratios, left_out_errors, solve_users, sum_users
from bestfor.rewards.rows import apply_rows
from bestfor.shards import ShardEntry, write_shard
from bestfor.threads import for_size
from bestfor.types import BoolArray, FloatArray, IntArray

RATIO_ROWS = 30_000
"""Labels of the first blocks from whose users the two ratios are learned."""


@dataclass(frozen=True)
class QuerySums:
    """Sums over queries with one number of rows.

    Attributes:
        queries: how many.
        gram: shape (c, c), sum of s s'.
        moment: shape (c,), sum of s t.
        square: sum of t^2.
    """

    queries: int
    gram: FloatArray
    moment: FloatArray
    square: float


@dataclass
class BlockSums:
    """Sums over rows of some blocks: all that the pooled ridge needs of them; they add up.

    Attributes:
        features: number of features and the intercept.
        rows: how many rows.
        gram: shape (c, c), B'B.
        moment: shape (c,), B'y.
        square: y'y.
        by_size: rows of a query -> sums over the queries that have so many.
    """

    features: int
    rows: int
    gram: FloatArray
    moment: FloatArray
    square: float
    by_size: dict[int, QuerySums]

    @classmethod
    def of(cls, sums: RidgeSums) -> BlockSums:
        """Put together what queries of one size have in common."""
        found = {}
        for size in np.unique(sums.query_count).tolist():
            here = np.flatnonzero(sums.query_count == size)
            some, total = sums.query_sum[here], sums.query_y[here]
            gram = weighted_gram(some, np.ones(len(here)))
            found[int(size)] = QuerySums(len(here), gram, np.asarray(some.T @ total), float(total @ total))
        return cls(sums.features, sums.rows, sums.gram, sums.moment, sums.square, found)

    def add(self, other: BlockSums) -> None:
        """Add the sums of further rows."""
        self.rows += other.rows
        self.square += other.square
        self.gram += other.gram
        self.moment += other.moment
        for size, one in other.by_size.items():
            mine = self.by_size.get(size)
            if mine is None:
                self.by_size[size] = one
                continue
            parts = (mine.gram + one.gram, mine.moment + one.moment, mine.square + one.square)
            self.by_size[size] = QuerySums(mine.queries + one.queries, *parts)

    @property
    def has_query_effect(self) -> bool:
        """True where a query's effect can be told from noise and from the intercept."""
        return max(self.by_size) > 1 and sum(one.queries for one in self.by_size.values()) > 1

    def without_queries(self, ratio: float) -> tuple[FloatArray, FloatArray, float, float]:
        """Gram, moment, square and log-determinant once queries of this ratio of variances are summed out."""
        gram, moment, square, log_det = self.gram.copy(), self.moment.copy(), self.square, 0.0
        for size, one in self.by_size.items():
            shrink = ratio / (1 + ratio * size)
            gram -= shrink * one.gram
            moment -= shrink * one.moment
            square -= shrink * one.square
            log_det += one.queries * float(np.log1p(ratio * size))
        return gram, moment, square, log_det


def sum_pool(held: tuple[LabelBlocks, Pooled | Ridge, Any], number: int) -> BlockSums | None:
    """Map: sums of one block over features, texts and queries; known: centre and unit, and texts with an effect."""
    labels, model, (scale, columns) = held
    candidates = read_block(labels, number)
    if candidates is None:
        return None
    rows = feature_rows(model, candidates, scale)
    place = np.array([columns.get(text, -1) for text in candidates.texts], dtype=np.int64)
    return BlockSums.of(sums_of_columns(rows, place[candidates.text], len(columns)))


def list_shared(held: tuple[LabelBlocks, Any, tuple[Hashes, Hashes, int]], number: int) -> tuple[list[str], list[str]]:
    """Map: the block's texts that surely have an effect, and the first of those that may; known: their hashes."""
    labels, _, (sure, perhaps, room) = held
    candidates = read_block(labels, number)
    if candidates is None:
        return [], []
    hashes = hash_strings(pa.array(candidates.texts, pa.large_string()))
    found = [[candidates.texts[code] for code in np.flatnonzero(np.isin(hashes, some))] for some in (sure, perhaps)]
    return found[0], sorted(found[1])[:room]


def shared_columns(work: Round, sums: LabelSums) -> dict[str, int]:
    """Choose the texts with an effect of their own, those of most queries, and number them in the order of letters."""
    shared = sums.asked >= 2
    counts = np.sort(sums.asked[shared])[::-1]
    if not len(counts):
        return {}
    least = int(counts[min(MOST_TEXTS, len(counts)) - 1])
    sure, perhaps = sums.text[sums.asked > least], sums.text[shared & (sums.asked == least)]
    room = MOST_TEXTS - len(sure)
    kept: set[str] = set()
    tied: set[str] = set()
    for some, others in work.run("texts that users share", list_shared, (sure, perhaps, room)):
        kept.update(some)
        tied = set(sorted(tied | set(others))[:room])
    return {text: place for place, text in enumerate(sorted(kept | tied))}


def fit_pool_blocks(work: Round) -> tuple[PooledRidge, LabelSums]:
    """Fit the pooled ridge; also gives what the first round counted."""
    sums = join_label_sums(work.run("labels", sum_labels), str(work.labels.folder))
    columns = shared_columns(work, sums)
    whole: BlockSums | None = None
    for part in work.run("sums of the pooled ridge", sum_pool, (sums.scale, columns)):
        if part is None:
            continue
        if whole is None:
            whole = part
        else:
            whole.add(part)
    assert whole is not None, "there are labels"
    return PooledRidge(solve_sums(whole), *sums.scale), sums


@dataclass(frozen=True)
class RidgeKnown:
    """Inputs of the rounds over users' ridges.

    Attributes:
        scale: centre and unit of the utilities.
        ratios: g and k.
        shared: shape (p,), weights of the pooled ridge.
        folder: where shards are written.
        abstained: number of a block -> who abstains in it; None where nobody may.
    """

    scale: tuple[float, float]
    ratios: tuple[float, float]
    shared: FloatArray
    folder: Path
    abstained: dict[int, BoolArray] | None = None


def judge_ridges(held: tuple[LabelBlocks, Ridge, RidgeKnown], number: int) -> AbstainSums | None:
    """Map: sums of one block's leave-one-out errors."""
    labels, model, known = held
    candidates = read_block(labels, number)
    if candidates is None:
        return None
    rows = feature_rows(model, candidates, known.scale)
    with for_size(rows.z.shape[1]):
        own = left_out_errors(rows, sum_users(rows), *known.ratios)
    shared = left_out_levels(rows.y - apply_rows(rows.z, known.shared), rows.query)
    return abstain_sums(rows.user, own, shared)


def write_ridges(held: tuple[LabelBlocks, Ridge, RidgeKnown], number: int) -> ShardEntry:
    """Map: every user's weights of one block, stored as the shard of the same number."""
    labels, model, known = held
    candidates = read_block(labels, number)
    if candidates is None:
        return ShardEntry()
    rows = feature_rows(model, candidates, known.scale)
    with for_size(rows.z.shape[1]):
        weights = solve_users(sum_users(rows), *known.ratios)
    arrays: Arrays = {"user.weights": weights, **BaseRows.build(rows.z[:, :-1], rows.y, rows.user, rows.query).arrays()}
    if known.abstained is not None:
        arrays["user.abstained"] = known.abstained[number].astype(np.uint8)
    return write_shard(known.folder, arrays, candidates.users)


def fit_ridge_blocks(work: Round, model: Ridge, folder: Path) -> tuple[list[ShardEntry], IntArray | None]:
    """Fit every user's ridge and store the shards; gives their entries, and how many abstain in each where some may."""
    pool, sums = fit_pool_blocks(work)
    rows = feature_rows(model, first_rows(work.labels, RATIO_ROWS), sums.scale)
    with for_size(rows.z.shape[1]):
        ratios = choose_ratios(sum_users(rows), model.config.slope)
    known = RidgeKnown(sums.scale, ratios, pool.ridge.weights, folder)
    if model.config.abstain:
        parts = list(work.run("users' errors", judge_ridges, known))
        known = RidgeKnown(sums.scale, ratios, pool.ridge.weights, folder, abstained_by_block(parts))
    entries = list(work.run("users' weights", write_ridges, known, valid=work.kept.has_shard))
    p = len(pool.ridge.weights)
    nobody = BaseRows(np.zeros((0, p + 1), dtype=np.float32), np.zeros(1, dtype=np.int64))
    model.take_fit(pool, {"slope": ratios[0], "query": ratios[1]}, np.zeros((0, p)), nobody)
    return entries, abstainers(known.abstained)


def abstained_by_block(parts: Iterable[AbstainSums | None]) -> dict[int, BoolArray]:
    """Reduce: who abstains, by the number of the block."""
    some = {number: part for number, part in enumerate(parts) if part is not None}
    every, found, start = abstaining_of(list(some.values())), {}, 0
    for number, part in some.items():
        found[number] = every[start : start + len(part.count)]
        start += len(part.count)
    return found


def abstainers(abstained: dict[int, BoolArray] | None) -> IntArray | None:
    """Count who abstains, and who could: shape (2,); None where nobody may."""
    if not abstained:
        return None
    marks = np.concatenate(list(abstained.values()))
    return np.array([int(marks.sum()), len(marks)])
