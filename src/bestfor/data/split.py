"""Split ratings into a fit part and a test part that never share a text or a query."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa

from bestfor.data.candidates import Candidates
from bestfor.data.parts import CandidateParts
from bestfor.data.schema import CANDIDATES, HISTORIES, QUERIES, UTILITIES
from bestfor.data.text import nfc
from bestfor.errors import InputError
from bestfor.files import hash_text, labelled
from bestfor.types import BoolArray, IntArray

FOLDS = 3
By = Literal["text", "time", "user"]


def text_id(text: str) -> str:
    """Identify a text that has no id of its own: the sha256 of its NFC-normalised UTF-8 bytes."""
    return hash_text(nfc(text))


def fold_of(identity: str) -> int:
    """Assign a text (or user) to one of three folds: the sha256 of its id modulo 3."""
    return int(hash_text(identity), 16) % FOLDS


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


@dataclass(frozen=True)
class Ratings:
    """Ratings by people, one a row: (n,) arrays of codes into users, queries and texts, and the rating.

    Attributes:
        name: for titles.
        source: the file or folder, for errors.
        signature: sha256 of the source's bytes.
        users: user ids.
        queries: the queries' names (one empty name where people rated bare texts).
        texts: distinct texts.
        text_ids: their ids, aligned with ``texts``.
        user: shape (n,).
        query: shape (n,).
        text: shape (n,).
        rating: shape (n,), finite.
        timestamp: shape (number of texts,), when each text first appeared (milliseconds), or None where unknown.
        notes: what was left out on reading.
    """

    name: str
    source: str
    signature: str
    users: tuple[str, ...]
    queries: tuple[str, ...]
    texts: tuple[str, ...]
    text_ids: tuple[str, ...]
    user: IntArray
    query: IntArray
    text: IntArray
    rating: np.ndarray
    timestamp: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def build(cls, table: pa.Table, *, name: str, source: str, signature: str) -> Ratings:
        """Build ratings from a table with columns user, text, rating and perhaps query, text_id, timestamp.

        Raises:
            InputError: no rated row; one user rated one text twice for a query.
        """
        rating = table.column("rating").to_numpy()
        rated = np.isfinite(rating)
        if not rated.any():
            raise InputError(source, "no rated text", "at least one row with a number as rating")
        table, rating = table.filter(pa.array(rated)), rating[rated]
        users, user = _codes(table, "user")
        queries, query = _codes(table, "query") if "query" in table.schema.names else (("",), np.zeros_like(user))
        text_ids, texts, text = _texts(table)
        pairs = np.stack([user, query, text], axis=1)
        _, first, count = np.unique(pairs, axis=0, return_index=True, return_counts=True)
        if (count > 1).any():
            row = int(first[np.argmax(count > 1)])
            where = f"{source}, user '{users[user[row]]}'"
            raise InputError(
                where, f"two ratings of the text '{texts[text[row]][:40]}'", "one rating per user and text"
            )
        dropped = int((~rated).sum())
        notes = (f"{dropped} rows without a rating were left out",) if dropped else ()
        when = _first_seen(table, text, len(texts))
        return cls(name, source, signature, users, queries, texts, text_ids, user, query, text, rating, when, notes)

    @cached_property
    def text_fold(self) -> IntArray:
        """Fold of every text: shape (number of texts,)."""
        return np.array([fold_of(identity) for identity in self.text_ids], dtype=np.int64)

    @cached_property
    def user_fold(self) -> IntArray:
        """Fold of every user: shape (number of users,)."""
        return np.array([fold_of(identity) for identity in self.users], dtype=np.int64)


@dataclass(frozen=True)
class SplitConfig:
    """Settings of a split of ratings.

    Attributes:
        by: text (texts of the fold are unseen), time (the latest third of the texts), user (users and texts unseen).
        fold: which third, 0 to 2.
        min_fit: fit ratings that a test user must have (ignored by ``user``, whose test users have none).
        min_test: candidates that a test pool must have.
    """

    by: By = "text"
    fold: int = 0
    min_fit: int = 20
    min_test: int = 16


def split_ratings(ratings: Ratings, config: SplitConfig) -> Dataset:
    """Make fit and test queries, candidates and utilities of ratings.

    Every (user, query) gives a fit query with the ratings on fit texts and a test query with those on test texts. All
    users' fit ratings are there to learn from; test queries are those of users with enough of both.

    Raises:
        InputError: no user has enough of both.
    """
    test_text = _test_texts(ratings, config)
    in_test = test_text[ratings.text]
    in_fit = ~in_test
    if config.by == "user":
        unseen = (ratings.user_fold == config.fold)[ratings.user]
        in_test, in_fit = in_test & unseen, in_fit & ~unseen
    pool = ratings.user * len(ratings.queries) + ratings.query
    pool_count = len(ratings.users) * len(ratings.queries)
    fit_count = np.bincount(ratings.user[in_fit], minlength=len(ratings.users))
    test_count = np.bincount(pool[in_test], minlength=pool_count)
    enough_fit = fit_count >= (0 if config.by == "user" else config.min_fit)
    tested = in_test & enough_fit[ratings.user] & (test_count >= config.min_test)[pool]
    if not tested.any():
        raise _nobody(ratings, config, fit_count[ratings.user[in_test]], test_count[pool[in_test]])
    in_test = tested
    return _dataset(ratings, config, pool, in_fit, in_test)


def _nobody(ratings: Ratings, config: SplitConfig, fit: IntArray, test: IntArray) -> InputError:
    """Build the error that nobody has enough, with the most fit ratings and the largest test pool that there are."""
    wanted = f"at least one user with {config.min_fit} fit ratings and a test pool of {config.min_test}"
    most = f"the most here are {fit.max(initial=0)} fit ratings and a test pool of {test.max(initial=0)}"
    both = fit[test >= config.min_test]
    if len(both) and config.by != "user":
        most += f"; with a test pool of {config.min_test} at most {both.max()} fit ratings"
    found = f"no such user in fold {config.fold}"
    return InputError(ratings.source, found, f"{wanted} (lower min_fit, min_test: {most})")


def _dataset(ratings: Ratings, config: SplitConfig, pool: IntArray, in_fit: BoolArray, in_test: BoolArray) -> Dataset:
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
    split = f"{config.by}:{config.fold}:{config.min_fit}:{config.min_test}"
    signature = labelled(hash_text(f"{ratings.signature}|{split}"))
    empty = HISTORIES.empty_table()
    notes, coded = (*ratings.notes, note), _code(ratings, *parts)
    return Dataset(ratings.name, signature, empty, queries, candidates, utilities, notes, coded=coded)


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
    )
    return CandidateParts(whole, owner, np.arange(len(owner)) >= len(fit.pools), ratings.text_ids, ratings.text[rows])


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
    if config.by != "time":
        return ratings.text_fold == config.fold
    if ratings.timestamp is None:
        raise InputError(ratings.source, "no timestamps", "a column 'timestamp' for a split by time")
    late = np.quantile(ratings.timestamp, 1 - 1 / FOLDS)
    return ratings.timestamp >= late


def _codes(table: pa.Table, column: str) -> tuple[tuple[str, ...], IntArray]:
    names, codes = np.unique(np.array(table.column(column).to_pylist(), dtype=object).astype(str), return_inverse=True)
    return tuple(names.tolist()), codes.astype(np.int64)


def _texts(table: pa.Table) -> tuple[tuple[str, ...], tuple[str, ...], IntArray]:
    encoded = table.column("text").combine_chunks().dictionary_encode()
    texts = [str(text) for text in encoded.dictionary.to_pylist()]
    if "text_id" in table.schema.names:
        ids, code = _codes(table, "text_id")
        _, first = np.unique(code, return_index=True)
        spelled = encoded.indices.to_numpy()
        return ids, tuple(texts[i] for i in spelled[first]), code
    ids = [text_id(text) for text in texts]
    unique, first, merged = np.unique(np.array(ids), return_index=True, return_inverse=True)
    code = merged[encoded.indices.to_numpy()].astype(np.int64)
    return tuple(unique.tolist()), tuple(texts[i] for i in first), code


def _first_seen(table: pa.Table, text: IntArray, count: int) -> np.ndarray | None:
    if "timestamp" not in table.schema.names:
        return None
    when = np.full(count, np.inf)
    np.minimum.at(when, text, table.column("timestamp").to_numpy())
    return when
