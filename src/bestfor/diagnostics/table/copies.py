"""Tell rows that repeat a candidate from candidates that were drawn twice.

A row is one draw from a policy. Where a policy says the same twice, both draws count: the curve over subsets of the
draws is unbiased with them and biased without. Where a join has repeated the rows of a table, they are no draws, and
Best-of-N from them is too low. The two are told apart by how evenly candidates stand: d candidates that stand k times
each come from dk independent draws with a chance of at most

    (dk)! / (k!^d d^(dk))

(equal chances are the likeliest to give equal counts). Below 5 % the rows are repeated ones and each candidate counts
once. With texts, candidates are texts with equal rewards, and their utility is the mean of the rows', so that repeated
ratings of each text become one. Without texts, candidates are pairs of utility and rewards, at least four of them,
where neither stands without the other; whole and half numbers are marks, which may be equal without being copies.

Draws that recur unevenly stay in curves and correlations. Only the noise of a correlation counts distinct candidates
(:func:`distinct_candidates`), since copies carry no new evidence on how reward and utility go together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import special

from bestfor.diagnostics.table.pools import Pools
from bestfor.diagnostics.table.rows import SortedRows
from bestfor.types import BoolArray, FloatArray, IntArray

EVEN_BY_CHANCE = 0.05
"""Chance of draws that stand so evenly, below which the rows are repeated ones."""

FEWEST_WITHOUT_TEXTS = 4
"""Pairs of utility and reward that a query must hold before equal ones are taken for the same text."""


def merge_repeats(rows: SortedRows, *, renumber: bool) -> SortedRows:
    """Leave one row of each candidate in queries whose rows were repeated; ``merged`` counts the others.

    Args:
        rows: sorted.
        renumber: whether candidates have no numbers of their own and are counted anew.
    """
    pool = np.repeat(np.arange(len(rows.size), dtype=np.int64), rows.size)
    first = next(iter(rows.rewards.values()))[rows.order]
    maybe = 2 * distinct_rows(pool, [first]) <= rows.size
    at = np.flatnonzero(maybe[pool])
    if not len(at):
        return rows
    pool, source = pool[at], rows.order[at]
    group, query = _groups(rows, pool, source)
    counted = np.bincount(group)
    even = _even(rows, (pool, source), (query, counted))
    keep = np.ones(len(rows.order), dtype=np.bool_)
    lead = np.zeros(len(at), dtype=np.bool_)
    lead[np.unique(group, return_index=True)[1]] = True
    keep[at[even[pool] & ~lead]] = False
    if keep.all():
        return rows
    utility = rows.utility.copy()
    means = _means(utility[source], group, counted)
    used = even[pool]
    squares = float(((utility[source[used]] - means[group[used]]) ** 2).sum())
    share = 1.0 / counted[group[used & lead]]
    utility[source[used & lead]] = means[group[used & lead]]
    kept = _kept(rows, keep, utility, renumber=renumber)
    return replace(kept, rated=(squares, float(used.sum() - len(share)), float(share.sum()), float(len(share))))


def _groups(rows: SortedRows, pool: IntArray, source: IntArray) -> tuple[IntArray, IntArray]:
    """Code the candidates that rows stand for, shape (rows,), and find each candidate's query."""
    columns: list[npt.NDArray[np.generic]] = [column[source] for column in rows.rewards.values()]
    columns.append(rows.utility[source] if rows.text is None else rows.text[source])
    order = np.lexsort((*columns, pool))
    new = _changes(pool[order], [column[order] for column in columns])
    group = np.empty(len(pool), dtype=np.int64)
    group[order] = np.cumsum(new) - 1
    return group, pool[order][new]


def _even(rows: SortedRows, part: tuple[IntArray, IntArray], groups: tuple[IntArray, IntArray]) -> BoolArray:
    """Find the queries whose candidates stand so evenly that their rows were repeated, shape (Q,).

    Args:
        rows: sorted.
        part: shape (rows,), the query and the place in the table of each row that is looked at.
        groups: shape (candidates,), the query of each candidate and its number of rows.
    """
    (pool, source), (query, counted) = part, groups
    total = len(rows.size)
    candidates = np.bincount(query, minlength=total).astype(np.int64)
    most, fewest = np.zeros(total, dtype=np.int64), np.full(total, np.iinfo(np.int64).max)
    np.maximum.at(most, query, counted)
    np.minimum.at(fewest, query, counted)
    d, k = np.maximum(candidates, 1).astype(np.float64), most.astype(np.float64)
    chance = special.gammaln(d * k + 1) - d * special.gammaln(k + 1) - d * k * np.log(d)
    even = (most == fewest) & (most > 1) & (chance < np.log(EVEN_BY_CHANCE))
    columns = [column[source] for column in rows.rewards.values()]
    if rows.text is not None:
        return even & (_counted(total, pool, [rows.text[source]]) == candidates)
    utility = rows.utility[source]
    marks = np.ones(total, dtype=np.bool_)
    marks[pool[np.floor(2 * utility) != 2 * utility]] = False
    paired = (_counted(total, pool, [utility]) == candidates) & (_counted(total, pool, columns) == candidates)
    return even & ~marks & paired & (candidates >= FEWEST_WITHOUT_TEXTS)


def _means(utility: FloatArray, group: IntArray, counted: IntArray) -> FloatArray:
    """Average the utility of each candidate's rows; equal ones keep their digits."""
    low, high = np.full(len(counted), np.inf), np.full(len(counted), -np.inf)
    np.minimum.at(low, group, utility)
    np.maximum.at(high, group, utility)
    return np.where(low == high, low, np.bincount(group, utility) / counted)


def _kept(rows: SortedRows, keep: BoolArray, utility: FloatArray, *, renumber: bool) -> SortedRows:
    pool = np.repeat(np.arange(len(rows.size), dtype=np.int64), rows.size)[keep]
    size = np.bincount(pool, minlength=len(rows.size)).astype(np.int64)
    start = np.cumsum(size) - size
    index = np.arange(len(pool)) - start[pool] if renumber else rows.index[keep]
    return replace(
        rows,
        utility=utility,
        order=rows.order[keep],
        index=index,
        size=size,
        start=start,
        merged=rows.merged + int((~keep).sum()),
    )


def rating_noise(rated: Sequence[float]) -> float:
    """Compute the noise's variance of means of ratings; NaN where ratings of a text never differ.

    Args:
        rated: see :class:`~bestfor.diagnostics.table.rows.SortedRows`.
    """
    squares, freedom, share, texts = rated
    return squares / freedom * share / texts if squares > 0 and freedom > 0 and texts > 0 else float("nan")


def may_repeat(query: IntArray, reward: FloatArray) -> bool:
    """Decide quickly whether any query could hold repeated rows: no more than half of its rewards are distinct.

    Args:
        query: shape (rows,), codes from 0, of finite rows only.
        reward: shape (rows,), of one model.
    """
    return bool(len(query)) and bool((2 * distinct_rows(query, [reward]) <= np.bincount(query)).any())


def distinct_candidates(pools: Pools) -> npt.NDArray[np.int32]:
    """Count the distinct candidates of every pool, shape (Q,): texts, or pairs of utility and rewards as above."""
    mask, size = pools.mask, pools.size.astype(np.int32)
    if pools.text is not None:
        codes = np.sort(np.where(mask, pools.text, np.iinfo(np.int64).max), axis=1)
        return (np.concatenate([mask[:, :1], (codes[:, 1:] != codes[:, :-1]) & mask[:, 1:]], axis=1)).sum(
            axis=1, dtype=np.int32
        )
    first = np.sort(np.where(mask, next(iter(pools.rewards.values())), np.inf), axis=1)
    some = np.flatnonzero(((first[:, 1:] == first[:, :-1]) & mask[:, 1:]).any(axis=1))
    if not len(some):
        return size
    inside = mask[some]
    pool = np.repeat(np.arange(len(some), dtype=np.int64), size[some])
    utility = pools.utility[some][inside]
    rewards = [reward[some][inside] for reward in pools.rewards.values()]
    both = distinct_rows(pool, [utility, *rewards])
    marks = np.ones(len(some), dtype=np.bool_)
    marks[pool[np.floor(2 * utility) != 2 * utility]] = False
    copied = (distinct_rows(pool, [utility]) == both) & (distinct_rows(pool, rewards) == both) & ~marks
    copied &= both >= FEWEST_WITHOUT_TEXTS
    size[some[copied]] = both[copied]
    return size


def distinct_rows(query: IntArray, columns: list[FloatArray]) -> IntArray:
    """Count the distinct rows of some columns in each query; query: shape (rows,), codes from 0."""
    order = np.lexsort((*columns, query))
    return np.bincount(query[order], _changes(query[order], [column[order] for column in columns])).astype(np.int64)


def _counted(queries: int, query: IntArray, columns: list[FloatArray] | list[IntArray]) -> IntArray:
    found = np.zeros(queries, dtype=np.int64)
    known = distinct_rows(query, [column.astype(np.float64) for column in columns])
    found[: len(known)] = known
    return found


def _changes(query: IntArray, columns: list[npt.NDArray[np.generic]] | list[FloatArray]) -> BoolArray:
    new = np.ones(len(query), dtype=np.bool_)
    new[1:] = query[1:] != query[:-1]
    for column in columns:
        new[1:] |= column[1:] != column[:-1]
    return new
