"""Ratings by people: which texts are the same, what is left out, and the folds of texts, prompts and users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa

from bestfor.data.labels import Labels
from bestfor.data.text import nfc, plain_form
from bestfor.errors import InputError
from bestfor.files import hash_text
from bestfor.types import IntArray

FOLDS = 3
BELONG = 0.9
"""Least share of texts that stand under one prompt only, where answers are said to belong to one prompt each."""

Duplicates = Literal["error", "last", "mean"]


def text_id(text: str) -> str:
    """Identify a text that has no id of its own: the sha256 of its NFC-normalised UTF-8 bytes."""
    return hash_text(nfc(text))


def fold_of(identity: str) -> int:
    """Assign a text, a prompt or a user to one of three folds: the sha256 of its id modulo 3."""
    return int(hash_text(identity), 16) % FOLDS


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
        timestamp: shape (number of texts,), when each text first appeared (numbers as they were, or seconds since
            1970), or None where unknown.
        notes: what was left out on reading.
        comment: what was said with each rating, aligned with ``rating``, "" where nothing; None where nobody was asked.
        written: what users wrote before, oldest first, by user; None where nobody knows.
        said: all that each user said, by user, where ratings sum up labels of several kinds; else None.
        remarks: user, prompt, text and words of each comment that came as a label of its own.
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
    comment: tuple[str, ...] | None = None
    written: Mapping[str, tuple[str, ...]] | None = None
    said: Mapping[str, Labels] | None = None
    remarks: tuple[tuple[str, str, str, str], ...] = ()

    @classmethod
    def build(
        cls, table: pa.Table, *, name: str, source: str, signature: str, duplicates: Duplicates = "error"
    ) -> Ratings:
        """Build ratings from a table with columns user, text, rating and perhaps query, text_id, timestamp, comment.

        Texts without an id are the same text where only white space, Unicode form, characters of no width or HTML's
        references (``&amp;``) differ.

        Args:
            table: one rating a row.
            name: for titles.
            source: names the table in errors.
            signature: hash of its content.
            duplicates: what stands for several ratings by a user of one text for a query: the last (by timestamp, else
                by the order of the rows), their mean, or an error.

        Raises:
            InputError: no rated row; or one user rated one text twice for a query and duplicates are an error.
        """
        rating = table.column("rating").to_numpy()
        rated = np.isfinite(rating)
        if not rated.any():
            raise InputError(source, "no rated text", "at least one row with a number as rating")
        table, rating = table.filter(pa.array(rated)), rating[rated]
        users, user = _codes(table, "user")
        queries, query = _codes(table, "query") if "query" in table.schema.names else (("",), np.zeros_like(user))
        text_ids, texts, text, spelled = _texts(table)
        dropped = int((~rated).sum())
        notes = (f"{dropped} rows without a rating were left out",) if dropped else ()
        when = table.column("timestamp").to_numpy() if "timestamp" in table.schema.names else None
        first = None if when is None else _first_seen(when, text, len(texts))
        codes = np.stack([user, query, text], axis=1)
        named = f"{source}, user ", users, texts
        kept, rating, said = _once(codes, rating, when, duplicates, named)
        user, query, text = codes[kept].T
        notes = (*notes, *spelled, *said)
        said = _comments(table, kept)
        return cls(
            name, source, signature, users, queries, texts, text_ids, user, query, text, rating, first, notes, said
        )

    @cached_property
    def text_fold(self) -> IntArray:
        """Fold of every text: shape (number of texts,)."""
        return np.array([fold_of(identity) for identity in self.text_ids], dtype=np.int64)

    @cached_property
    def query_fold(self) -> IntArray:
        """Fold of every prompt, by the hash of its text: shape (number of queries,)."""
        return np.array([fold_of(text_id(plain_form(query))) for query in self.queries], dtype=np.int64)

    @cached_property
    def user_fold(self) -> IntArray:
        """Fold of every user: shape (number of users,)."""
        return np.array([fold_of(identity) for identity in self.users], dtype=np.int64)

    @cached_property
    def spelled(self) -> IntArray:
        """Codes of the rated texts by what they say, whatever their ids: shape (n,)."""
        _, code = np.unique(np.array([plain_form(text) for text in self.texts], dtype=object), return_inverse=True)
        return code.astype(np.int64)[self.text]

    @cached_property
    def owned(self) -> bool:
        """True where answers belong to one prompt each: there are several prompts, and they hardly share a text."""
        pairs = np.unique(np.stack([self.spelled, self.query], axis=1), axis=0)
        return belong(pairs[:, 0], pairs[:, 1])


def belong(texts: IntArray, prompts: IntArray) -> bool:
    """Tell whether texts belong to one prompt each, from their distinct pairs.

    Args:
        texts: shape (pairs,), codes.
        prompts: shape (pairs,), codes.
    """
    if len(np.unique(prompts)) < 2:
        return False
    _, count = np.unique(texts, return_counts=True)
    return bool((count == 1).mean() >= BELONG) and len(count) > len(np.unique(prompts))


def ranks_to_ratings(table: pa.Table) -> pa.Table:
    """Turn ranks, 1 the best, into ratings that compare with each other across queries of different sizes.

    An answer's rating is the share of the query's other answers that it beats, a tie counting half: with w of the k
    answers ranked behind it and t beside it, ``(w + t / 2) / (k - 1)``, which is the mean of its pairwise comparisons
    (Copeland's score, scaled to [0, 1]). A single answer tells nothing and is 0.5.

    Args:
        table: columns user, rating (the ranks, finite) and perhaps query.

    Returns:
        The table with ratings in the place of ranks.
    """
    rank = table.column("rating").to_numpy()
    pool = _codes(table, "user")[1]
    if "query" in table.schema.names:
        queries, query = _codes(table, "query")
        pool = pool * len(queries) + query
    _, pool = np.unique(pool, return_inverse=True)
    size = np.bincount(pool)[pool]
    _, place, count = np.unique(np.stack([pool, rank]), axis=1, return_inverse=True, return_counts=True)
    place = place.reshape(-1)
    before = (np.cumsum(count) - count)[place] - (np.cumsum(np.bincount(pool)) - np.bincount(pool))[pool]
    tied = count[place] - 1
    worse = size - 1 - before - tied
    rating = np.where(size > 1, (worse + tied / 2) / np.maximum(size - 1, 1), 0.5)
    return table.set_column(table.schema.get_field_index("rating"), "rating", pa.array(rating))


def _once(
    codes: IntArray,
    rating: np.ndarray,
    when: np.ndarray | None,
    duplicates: Duplicates,
    named: tuple[str, tuple[str, ...], tuple[str, ...]],
) -> tuple[IntArray, np.ndarray, tuple[str, ...]]:
    """Keep one rating for each user, query and text: the rows that stay, in order, their ratings, and what to say."""
    _, first, group, count = np.unique(codes, axis=0, return_index=True, return_inverse=True, return_counts=True)
    if (count == 1).all():
        return np.arange(len(rating)), rating, ()
    if duplicates == "error":
        row = int(first[np.argmax(count > 1)])
        where, users, texts = named
        found = f"two ratings of the text '{texts[codes[row, 2]][:40]}'"
        expected = 'one rating per user and text (or duplicates = "last" or "mean" under [data])'
        raise InputError(f"{where}'{users[codes[row, 0]]}'", found, expected)
    group = group.reshape(-1)
    if duplicates == "mean":
        kept, values = np.sort(first), np.bincount(group, weights=rating) / count
    else:
        order = np.arange(len(rating)) if when is None else np.argsort(when, kind="stable")
        latest = np.zeros(len(count), dtype=np.int64)
        latest[group[order]] = order
        kept, values = np.sort(latest), rating[latest]
    said = f"{len(rating) - len(kept)} ratings repeat a user's rating of a text for a query: the {duplicates} counts"
    return kept, values[group[kept]], (said,)


def _comments(table: pa.Table, kept: IntArray) -> tuple[str, ...] | None:
    """Read what was said with the ratings that stay."""
    if "comment" not in table.schema.names:
        return None
    return tuple((one or "").strip() for one in table.column("comment").take(pa.array(kept)).to_pylist())


def _codes(table: pa.Table, column: str) -> tuple[tuple[str, ...], IntArray]:
    cells = ["" if cell is None else str(cell) for cell in table.column(column).to_pylist()]
    names, codes = np.unique(np.array(cells, dtype=object).astype(str), return_inverse=True)
    return tuple(names.tolist()), codes.astype(np.int64)


def _texts(table: pa.Table) -> tuple[tuple[str, ...], tuple[str, ...], IntArray, tuple[str, ...]]:
    """Find the distinct texts: their ids, one spelling of each, the code of every row, and what to say of them."""
    encoded = table.column("text").combine_chunks().dictionary_encode()
    texts = [str(text) for text in encoded.dictionary.to_pylist()]
    spelled = encoded.indices.to_numpy()
    if "text_id" in table.schema.names:
        ids, code = _codes(table, "text_id")
        _, first = np.unique(code, return_index=True)
        said = _several(code, spelled, [plain_form(text) for text in texts])
        return ids, tuple(texts[i] for i in spelled[first]), code, said
    ids = [text_id(plain_form(text)) for text in texts]
    unique, merged = np.unique(np.array(ids), return_inverse=True)
    shown: dict[str, str] = {}
    for identity, text in zip(ids, texts, strict=True):
        known = shown.setdefault(identity, text)
        shown[identity] = min(known, text, key=lambda one: (len(one), one))
    twins = len({nfc(text) for text in texts}) - len(unique)
    said = (
        f"{twins} texts differ from another in white space, in characters of no width or in HTML's spelling of "
        "characters only: each counts as the other"
    )
    code = merged[spelled].astype(np.int64)
    return tuple(unique.tolist()), tuple(shown[one] for one in unique), code, (said,) if twins else ()


def _several(code: IntArray, spelled: np.ndarray, texts: list[str]) -> tuple[str, ...]:
    """Count the text ids that stand for more than one text."""
    pairs = {(int(one), texts[at]) for one, at in set(zip(code.tolist(), spelled.tolist(), strict=True))}
    _, count = np.unique([one for one, _ in pairs], return_counts=True)
    several = int((count > 1).sum())
    return (f"{several} text ids stand for more than one text: the first in the table is taken",) if several else ()


def _first_seen(when: np.ndarray, text: IntArray, count: int) -> np.ndarray:
    first = np.full(count, np.inf)
    with np.errstate(invalid="ignore"):  # a text with an unknown moment has none
        np.minimum.at(first, text, when)
    return first
