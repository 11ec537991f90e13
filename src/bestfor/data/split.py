"""Split ratings into a fit part and a test part that never share a text or a query.

What is unseen at fitting is a text, or a whole prompt with all its answers where answers belong to one prompt each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa

from bestfor.data.candidates import Candidates, History
from bestfor.data.labels import Labels
from bestfor.data.others import OtherRatings, others_table, reveal
from bestfor.data.parts import CandidateParts
from bestfor.data.ratings import FOLDS, Ratings
from bestfor.data.said import said_table
from bestfor.data.schema import CANDIDATES, HISTORIES, QUERIES, UTILITIES
from bestfor.errors import InputError
from bestfor.files import hash_text, labelled
from bestfor.moved import renamed
from bestfor.types import BoolArray, IntArray

__getattr__ = renamed(__name__, {"text_id": "data.ratings:text_id", "fold_of": "data.ratings:fold_of"})

By = Literal["text", "query", "time", "user", "rating"]
OTHERS_TOLD = 10
"""Ratings by others of each test candidate, where a split by rating does not say how many."""


@dataclass(frozen=True)
class Dataset:
    """Data of a run: histories, queries and, where people rated texts, candidates and utilities.

    Attributes:
        name: for titles.
        signature: hash of the source's bytes and of the split that was made of them.
        histories: HISTORIES table (no rows in the ratings door).
        queries: QUERIES table; ``split`` is fit or test.
        candidates: CANDIDATES table where the candidates are in the data, else None.
        utilities: UTILITIES table likewise.
        notes: what a reader of the results should know of the data.
        task: the benchmark's task (a name of :data:`bestfor.data.sources.benchmarks.TASKS`), empty where there is none.
        coded: the candidates as codes, where they are in the data, else None.
        said: what people said of the fit part, as a table, where the data hold more than ratings; else None.
        others: what others said of the test candidates, as a table, by a split by rating; else None.
    """

    name: str
    signature: str
    histories: pa.Table
    queries: pa.Table
    candidates: pa.Table | None = None
    utilities: pa.Table | None = None
    notes: tuple[str, ...] = ()
    task: str = ""
    coded: CandidateParts | None = None
    said: pa.Table | None = None
    others: pa.Table | None = None


@dataclass(frozen=True)
class SplitConfig:
    """Settings of a split of ratings.

    Attributes:
        by: text (texts of the fold are unseen), query (prompts of the fold, with all their answers), time (the latest
            third of the texts), user (users and texts unseen), rating (texts as by text, but of each test candidate
            some other people's ratings are told). By time, user and rating, prompts take the place of texts where
            answers belong to one prompt each.
        fold: which third, 0 to 2.
        min_fit: fit ratings that a test user must have (ignored by ``user``, whose test users have none).
        min_test: candidates that a test pool must have.
        others: by rating: other people's ratings of each test candidate that predictions may look at, at most.
        seed: of the choice of these.
    """

    by: By = "text"
    fold: int = 0
    min_fit: int = 20
    min_test: int = 16
    others: int = OTHERS_TOLD
    seed: int = 0


def split_ratings(ratings: Ratings, config: SplitConfig) -> Dataset:
    """Make fit and test queries, candidates and utilities of ratings.

    Every (user, query) gives a fit query with the ratings on fit texts and a test query with those on test texts. All
    users' fit ratings are there to learn from; test queries are those of users with enough of both.

    Raises:
        InputError: no user has enough of both, or what the split is by is not in the data.
    """
    by_query = config.by == "query" or (config.by in ("time", "user", "rating") and ratings.owned)
    in_test = _test_queries(ratings, config)[ratings.query] if by_query else _test_texts(ratings, config)[ratings.text]
    in_fit = ~in_test
    if config.by == "user":
        unseen = (ratings.user_fold == config.fold)[ratings.user]
        in_test, in_fit = in_test & unseen, in_fit & ~unseen
    pool = ratings.user * len(ratings.queries) + ratings.query
    pool_count = len(ratings.users) * len(ratings.queries)
    test_count = np.bincount(pool[in_test], minlength=pool_count)
    shared = in_fit & np.isin(ratings.spelled, ratings.spelled[in_test]) if by_query else np.zeros_like(in_fit)
    in_fit = in_fit & ~shared
    fit_count = np.bincount(ratings.user[in_fit], minlength=len(ratings.users))
    enough_fit = fit_count >= (0 if config.by == "user" else config.min_fit)
    tested = in_test & enough_fit[ratings.user] & (test_count >= config.min_test)[pool]
    if not tested.any():
        raise _nobody(ratings, config, fit_count[ratings.user[in_test]], test_count[pool[in_test]])
    notes = _notes(ratings, config, by_query, shared, (in_fit, tested))
    return _dataset(ratings, config, pool, (in_fit, tested), notes)


def _notes(
    ratings: Ratings, config: SplitConfig, by_query: bool, shared: BoolArray, parts: tuple[BoolArray, BoolArray]
) -> tuple[str, ...]:
    """Say what a reader should know of the split."""
    notes = []
    if config.by == "text" and ratings.owned:
        notes.append(
            'answers belong to one prompt each, and a split by text tears a prompt\'s answers apart: by = "query" '
            "under [split] keeps them together"
        )
    if by_query and config.by != "query":
        notes.append(
            f"answers belong to one prompt each: the split by {config.by} keeps each prompt's answers together"
        )
    if shared.any():
        notes.append(f"{int(shared.sum())} fit ratings of texts that also answer a test prompt were left out")
    fit, test = (np.unique(ratings.spelled[part]) for part in parts)
    both = len(np.intersect1d(fit, test))
    if both:
        notes.append(
            f"{both} texts stand in the fit part and in the test part, because they have several text ids: give equal "
            "texts one id, or none"
        )
    return tuple(notes)


def _nobody(ratings: Ratings, config: SplitConfig, fit: IntArray, test: IntArray) -> InputError:
    """Build the error that nobody has enough, with the most fit ratings and the largest test pool that there are."""
    wanted = f"at least one user with {config.min_fit} fit ratings and a test pool of {config.min_test}"
    most = f"the most here are {fit.max(initial=0)} fit ratings and a test pool of {test.max(initial=0)}"
    both = fit[test >= config.min_test]
    if len(both) and config.by != "user":
        most += f"; with a test pool of {config.min_test} at most {both.max()} fit ratings"
    if test.max(initial=0) <= 1 < config.min_test and len(ratings.queries) > 1:
        most += (
            "; one answer a prompt is nothing to choose from, so it gives no curve: min_test = 1 fits on such logs and "
            "gives held-out AUC, log-loss and calibration by user, and bestfor diagnose --shown NAME --chance NAME "
            "draws the curve of logs that hold whole pools"
        )
    found = f"no such user in fold {config.fold}"
    return InputError(ratings.source, found, f"{wanted} (lower min_fit, min_test: {most})")


def _dataset(
    ratings: Ratings,
    config: SplitConfig,
    pool: IntArray,
    parts_of: tuple[BoolArray, BoolArray],
    notes: tuple[str, ...],
) -> Dataset:
    in_fit, in_test = parts_of
    # Ids name the fold: the folds of one data set are shown side by side.
    mark = "" if config.by == "time" else f"-{config.fold}"
    halves = (("fit", in_fit), ("test", in_test))
    parts = [_part(ratings, pool, np.flatnonzero(rows), (split, split + mark)) for split, rows in halves]
    tables = [_tables(ratings, part) for part in parts]
    queries, candidates, utilities = (pa.concat_tables([part[i] for part in tables]) for i in range(3))
    tested = len(np.unique(ratings.user[in_test]))
    note = (
        f"{tested} of {len(ratings.users)} users are tested: they have at least {config.min_fit} fit ratings and a "
        f"test pool of at least {config.min_test}"
    )
    signature = labelled(hash_text(f"{ratings.signature}|{_signature(config)}"))
    notes, coded = (*ratings.notes, *notes, note), _code(ratings, *parts)
    told = None
    if config.by == "rating":
        coded, told, heard = _with_others(ratings, config, coded, parts[1])
        notes = (*notes, heard)
    said = None if coded.whole.said is None else said_table(coded.whole.said, ratings.remarks)
    notes = (*notes, *_unheard(ratings, coded.whole.said or {}))
    return Dataset(
        ratings.name,
        signature,
        _histories(ratings),
        queries,
        candidates,
        utilities,
        notes,
        coded=coded,
        said=said,
        others=told,
    )


def _signature(config: SplitConfig) -> str:
    split = f"{config.by}:{config.fold}:{config.min_fit}:{config.min_test}"
    return f"{split}:{config.others}:{config.seed}" if config.by == "rating" else split


def _histories(ratings: Ratings) -> pa.Table:
    """Make the table of what users wrote before; no rows where nobody knows."""
    rows = [
        {"user_id": user, "item_id": f"{user}/{at}", "input": "", "output": text, "timestamp": None}
        for user, texts in (ratings.written or {}).items()
        for at, text in enumerate(texts)
    ]
    return pa.Table.from_pylist(rows, schema=HISTORIES)


def _unheard(ratings: Ratings, said: Mapping[str, Labels]) -> tuple[str, ...]:
    """Say how much of what people said speaks of the test part."""
    total, heard = (sum(map(len, one.values())) for one in (ratings.said or {}, said))
    if heard == total:
        return ()
    return (f"{total - heard} of {total} labels speak of texts of the test part, or of both parts: no fit takes them",)


@dataclass(frozen=True)
class _Part:
    """Ratings of one part in the order of their pools: Q pools, n ratings.

    Attributes:
        split: fit or test.
        ids: the pools' names, of their queries.
        pools: shape (Q,), user * queries + query.
        rows: shape (n,), places among the ratings.
        query: shape (n,), which of the part's pools a rating belongs to.
        candidate: shape (n,), its number there.
    """

    split: str
    ids: tuple[str, ...]
    pools: IntArray
    rows: IntArray
    query: IntArray
    candidate: IntArray


def _part(ratings: Ratings, pool: IntArray, rows: IntArray, names: tuple[str, str]) -> _Part:
    split, ending = names
    rows = _in_order(ratings, pool, rows)
    pools, start, size = np.unique(pool[rows], return_index=True, return_counts=True)
    ids = tuple(_query_id(ratings, code, ending) for code in pools.tolist())
    query = np.repeat(np.arange(len(pools)), size)
    return _Part(split, ids, pools, rows, query, np.arange(len(rows)) - start[query])


def _code(ratings: Ratings, fit: _Part, test: _Part) -> CandidateParts:
    """Code the candidates of both parts; no string is compared but that of texts under several ids."""
    query = np.concatenate([fit.query, len(fit.pools) + test.query])
    rows = np.concatenate([fit.rows, test.rows])
    owner, asked = np.divmod(np.concatenate([fit.pools, test.pools]), len(ratings.queries))
    distinct = {text: code for code, text in enumerate(dict.fromkeys(ratings.texts))}
    whole = Candidates(
        users=ratings.users,
        queries=(*fit.ids, *test.ids),
        inputs=tuple(ratings.queries[code] for code in asked.tolist()),
        texts=tuple(distinct),
        user=owner[query],
        query=query,
        text=np.array([distinct[text] for text in ratings.texts], dtype=np.int64)[ratings.text[rows]],
        candidate=np.concatenate([fit.candidate, test.candidate]),
        utility=np.asarray(ratings.rating[rows], dtype=np.float64),
        logprob=np.full(len(rows), np.nan),
        history=None if ratings.written is None else History(ratings.written),
        comments=_comments(ratings, fit),
        said=_said(ratings, fit, test),
    )
    return CandidateParts(whole, owner, np.arange(len(owner)) >= len(fit.pools), ratings.text_ids, ratings.text[rows])


def _with_others(
    ratings: Ratings, config: SplitConfig, coded: CandidateParts, test: _Part
) -> tuple[CandidateParts, pa.Table, str]:
    """Tell some other people's ratings of each test candidate: for predictions alone, never for a fit."""
    # one text under one prompt; anybody's rating may be told, that of somebody who is not tested too
    prompt = np.unique(np.array(ratings.queries, dtype=object), return_inverse=True)[1][ratings.query]
    pair = prompt * (int(ratings.spelled.max()) + 1) + ratings.spelled
    item = np.unique(pair, return_inverse=True)[1].astype(np.int64)
    first = np.unique(item, return_index=True)[1]
    names = [f"{ratings.queries[ratings.query[row]]}\0{ratings.texts[ratings.text[row]]}" for row in first.tolist()]
    every = (ratings.user, item)
    ends, drawn = reveal(every, (ratings.users, names), config.others, config.seed, test.rows)
    before = len(coded.whole) - len(test.rows)
    whole = OtherRatings(
        ratings.users,
        np.concatenate([np.zeros(before, dtype=np.int64), ends]),
        ratings.user[drawn],
        np.asarray(ratings.rating[drawn], dtype=np.float64),
        np.ones(len(drawn)),
    )
    found = replace(coded, whole=replace(coded.whole, others=whole))
    query = [test.ids[code] for code in test.query.tolist()]
    count = np.diff(ends)
    note = (
        f"predictions may look at {config.others} other people's ratings of each test candidate at most: "
        f"{count.mean():.1f} on average, none for {int(np.sum(count == 0))} of {len(count)} candidates"
    )
    return found, others_table(whole.take(np.arange(before, len(coded.whole))), query, test.candidate), note


def _comments(ratings: Ratings, fit: _Part) -> dict[tuple[str, int], str] | None:
    """Read what was said of the fit part's candidates; of the test part nobody may know."""
    if ratings.comment is None:
        return None
    said = zip(fit.query.tolist(), fit.candidate.tolist(), fit.rows.tolist(), strict=True)
    return {(fit.ids[query], number): text for query, number, row in said if (text := ratings.comment[row])}


def _said(ratings: Ratings, fit: _Part, test: _Part) -> dict[str, Labels] | None:
    """Take what was said of the fit part: every text is one of the user's there, or was no candidate of theirs.

    Nothing that is said of a text of the test part, to whomever it was shown, is taken.
    """
    if ratings.said is None:
        return None
    texts = set(ratings.text[test.rows].tolist())
    tested = {ratings.texts[code] for code in texts}
    keys = list(zip(ratings.user.tolist(), ratings.query.tolist(), ratings.text.tolist(), strict=True))

    def named(rows: Iterable[int]) -> set[tuple[str, str, str]]:
        return {
            (ratings.users[user], ratings.queries[query], ratings.texts[text])
            for user, query, text in map(keys.__getitem__, rows)
        }

    elsewhere = named(range(len(keys))) - named(fit.rows.tolist())
    return {
        user: labels.keep(lambda prompt, text, user=user: text not in tested and (user, prompt, text) not in elsewhere)
        for user, labels in ratings.said.items()
    }


def _tables(ratings: Ratings, part: _Part) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Make the queries, candidates and utilities of one part, to be written."""
    count, ids = len(part.rows), pa.array(part.ids, pa.string())
    owner, asked = (codes.tolist() for codes in np.divmod(part.pools, len(ratings.queries)))
    queries = {
        "query_id": ids,
        "user_id": [ratings.users[code] for code in owner],
        "input": [ratings.queries[code] for code in asked],
        "reference": pa.nulls(len(ids), pa.string()),
        "split": pa.repeat(part.split, len(ids)),
        "timestamp": pa.nulls(len(ids), pa.int64()),
    }
    keys = {"query_id": ids.take(pa.array(part.query)), "candidate": pa.array(part.candidate, pa.int32())}
    text = pa.array(ratings.text[part.rows])
    candidates = keys | {
        "text_id": pa.array(ratings.text_ids).take(text),
        "text": pa.array(ratings.texts).take(text),
        "logprob": pa.nulls(count, pa.float64()),
        "finish_reason": pa.repeat("human", count),
        "policy": pa.repeat("human", count),
        "seed": np.zeros(count, dtype=np.int64),
    }
    utilities = keys | {"metric": pa.repeat("rating", count), "utility": ratings.rating[part.rows]}
    return (
        pa.table(queries, schema=QUERIES),
        pa.table(candidates, schema=CANDIDATES),
        pa.table(utilities, schema=UTILITIES),
    )


def _in_order(ratings: Ratings, pool: IntArray, rows: IntArray) -> IntArray:
    """Sort rows by pool and text id: the same ratings in any order in the source give the same tables."""
    order = np.argsort(np.array(ratings.text_ids), kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rows[np.lexsort((rank[ratings.text[rows]], pool[rows]))]


def _query_id(ratings: Ratings, pool: int, ending: str) -> str:
    user, query = divmod(pool, len(ratings.queries))
    name = ratings.queries[query]
    return f"{ratings.users[user]}/{name}/{ending}" if name else f"{ratings.users[user]}/{ending}"


def _test_texts(ratings: Ratings, config: SplitConfig) -> BoolArray:
    """Find the texts of the test part; shape (number of texts,)."""
    return _latest(ratings, ratings.timestamp) if config.by == "time" else ratings.text_fold == config.fold


def _test_queries(ratings: Ratings, config: SplitConfig) -> BoolArray:
    """Find the prompts of the test part; shape (number of queries,)."""
    if len(ratings.queries) < FOLDS:
        found = "one prompt only" if len(ratings.queries) == 1 else f"{len(ratings.queries)} prompts"
        expected = 'more, for a split by query (columns = { query = "NAME" } under [data] names their column)'
        raise InputError(ratings.source, found, expected)
    if config.by != "time":
        return ratings.query_fold == config.fold
    if ratings.timestamp is None:
        return _latest(ratings, None)
    first = np.full(len(ratings.queries), np.inf)
    np.minimum.at(first, ratings.query, ratings.timestamp[ratings.text])
    return _latest(ratings, first)


def _latest(ratings: Ratings, when: np.ndarray | None) -> BoolArray:
    if when is None:
        raise InputError(ratings.source, "no timestamps", "a column 'timestamp' for a split by time")
    return when >= np.quantile(when, 1 - 1 / FOLDS)
