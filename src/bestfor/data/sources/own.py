"""Load tables of one's own: ratings that people gave to texts, or histories of what users wrote and their queries."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import pyarrow as pa

from bestfor.data.ratings import Duplicates, Ratings, belong, ranks_to_ratings
from bestfor.data.read.cells import empty_cells, filled, identifiers
from bestfor.data.read.objects import time_of
from bestfor.data.read.tables import Batches, Columns, columns_of, file_signature, read_table
from bestfor.data.read.times import times_of
from bestfor.data.sources.histories import Collector, Entry, Questions
from bestfor.data.sources.signals import Signal, combine_signals
from bestfor.data.split import Dataset
from bestfor.data.text import plain_form
from bestfor.errors import InputError, nearest
from bestfor.files import hash_text, labelled

RATING_ROLES = ("user", "query", "text", "rating", "text_id", "timestamp", "rank", "comment")
HISTORY_ROLES = ("user_id", "item_id", "input", "output", "timestamp")
QUERY_ROLES = ("query_id", "user_id", "input", "reference", "split", "timestamp")


FEW = 1000
"""Users of histories that are kept to compare their ids."""

PROMPTS = (
    *("prompt", "prompts", "prompt_id", "question", "question_id", "query", "query_id", "instruction", "input"),
    *("context", "article", "article_id", "document", "task", "topic", "item", "conversation_id", "problem"),
)
"""Names under which tables keep the prompt that an answer was written for."""


def load_ratings(
    path: str | Path,
    columns: Mapping[str, str] | None = None,
    *,
    duplicates: Duplicates = "error",
    times: bool | None = None,
    signals: Mapping[str, Signal] | None = None,
) -> Ratings:
    """Load scores that people gave to texts: user, text, rating, and perhaps query, text_id, timestamp and comment.

    Args:
        path: a .csv, .tsv, .jsonl or .parquet file, one rating a row. An empty rating means not rated; true and false
            are 1 and 0.
        columns: other names for the roles user, query, text, rating, text_id, timestamp; with rank in the place of
            rating, people ranked the answers of a query, 1 the best, perhaps with ties: the rating of an answer is the
            share of the others that it beats, see :func:`~bestfor.data.ratings.ranks_to_ratings`.
        duplicates: what stands for several ratings of one text by a user for a query, see :meth:`Ratings.build`.
        times: whether timestamps are read; None reads them where they can be read.
        signals: columns that take the place of the rating together, see :mod:`bestfor.data.sources.signals`.

    Raises:
        InputError: as :func:`~bestfor.data.read.tables.read_table`; also an infinite rating, an empty id or text, a
            time that is none, or two ratings by one user of one text for a query. Names file, row and column.
    """
    names = {role: role for role in RATING_ROLES}
    unknown = set(columns or ()) - names.keys()
    if unknown:
        name = sorted(unknown)[0]
        raise InputError(f"columns of {path}", f"unknown role '{name}'", nearest(name, names))
    names |= dict(columns or {})
    ranked = "rank" in (columns or {})
    if signals and {"rating", "rank"} & (columns or {}).keys():
        raise InputError(f"columns of {path}", "a rating and signals", "one of them")
    if ranked and "rating" in (columns or {}):
        raise InputError(f"columns of {path}", "a rating and a rank", "one of them")
    names["rating"] = names["rank"] if ranked else names["rating"]
    unread = _unread_prompts(path, names)
    table, said = _rated(read_table(path, _rating_columns(names, unread, times, signals or {})), signals or {})
    rating = table.column("rating").to_numpy()
    if np.isinf(rating).any():
        row = int(np.argmax(np.isinf(rating))) + 1
        raise InputError(f"{path}, row {row}, column '{names['rating']}'", "an infinite rating", "a finite number")
    rows = np.flatnonzero(np.isfinite(rating)) + 1
    if not len(rows):
        raise InputError(str(path), "no rated text", "at least one row with a number as rating")
    notes = (f"{len(rating) - len(rows)} rows without a rating were left out",) if len(rows) < len(rating) else ()
    notes = (*said, *notes)
    table, untimed = _checked(table.take(pa.array(rows - 1)), names, str(path), rows, times)
    name, signature = Path(path).stem, file_signature(path)
    if signals:
        signature = f"{signature}|signals|{sorted(signals.items())}"
    if ranked:
        table, signature = ranks_to_ratings(table), f"{signature}|ranks"
    found = Ratings.build(table, name=name, source=str(path), signature=signature, duplicates=duplicates)
    return replace(found, notes=(*notes, *untimed, *_mixed(table, unread), *found.notes))


def _rated(table: pa.Table, signals: Mapping[str, Signal]) -> tuple[pa.Table, tuple[str, ...]]:
    """Put the rating that signals make in their place."""
    if not signals:
        return table, ()
    rating, notes = combine_signals(table, signals)
    kept = [name for name in table.schema.names if not name.startswith("signal ")]
    return table.select(kept).append_column("rating", pa.array(rating)), notes


def _rating_columns(
    names: Mapping[str, str], unread: str | None, times: bool | None, signals: Mapping[str, Signal]
) -> Columns:
    texts = {role: names[role] for role in ("user", "query", "text", "text_id", "comment")}
    if times is not False:
        texts["timestamp"] = names["timestamp"]
    if unread is not None:
        texts["unread"] = unread
    return Columns(
        text=texts,
        number={f"signal {name}": name for name in signals} or {"rating": names["rating"]},
        optional=frozenset({"query", "text_id", "timestamp", "unread", "comment"}),
        hints={role: f'columns = {{ {role} = "NAME" }} under [data]' for role in names},
        blank=frozenset({"user", "text"}),  # a row without a rating may lack anything
    )


def _checked(
    table: pa.Table, names: Mapping[str, str], path: str, rows: np.ndarray, times: bool | None
) -> tuple[pa.Table, tuple[str, ...]]:
    """Check the cells of rated rows, and read times; notes say which times could not be read."""
    found = {role: table.column(role) for role in table.schema.names}

    def place(role: str) -> str:
        return f"{path}, column '{names[role]}'"

    for role in ("user", "text_id"):
        if role in found:
            found[role] = identifiers(found[role], place(role), role, rows)
    filled(found["text"], place("text"), "a text", rows)
    if "query" in found and not empty_cells(found["query"]).all():
        filled(found["query"], place("query"), "the prompt, as in other rows", rows)
        found["query"] = pa.chunked_array([_one_spelling(found["query"])])
    notes: tuple[str, ...] = ()
    if "timestamp" in found:
        try:
            moments = times_of(found.pop("timestamp").to_pylist(), place("timestamp"), rows)
            found["timestamp"] = pa.chunked_array([pa.array(moments)])
        except InputError as error:
            if times:
                raise
            notes = (f"times were not read ({error})",)
    return pa.table(found), notes


def _one_spelling(column: pa.ChunkedArray) -> pa.Array:
    """Give prompts that differ in white space or Unicode form only one spelling, the shortest."""
    encoded = column.combine_chunks().dictionary_encode()
    texts = encoded.dictionary.to_pylist()
    shown: dict[str, str] = {}
    for text in texts:
        known = shown.setdefault(plain_form(text), text)
        shown[plain_form(text)] = min(known, text, key=lambda one: (len(one), one))
    return pa.array([shown[plain_form(text)] for text in texts], pa.string()).take(encoded.indices)


def _unread_prompts(path: str | Path, names: Mapping[str, str]) -> str | None:
    """Find a column that seems to hold prompts where none was named as the query."""
    known = columns_of(path)
    if names["query"] in known:
        return None
    return next((name for name in known if name.lower() in PROMPTS and name not in names.values()), None)


def _mixed(table: pa.Table, unread: str | None) -> tuple[str, ...]:
    """Say that pools mix the answers of several prompts, where each text stands under one of them."""
    if unread is None or "unread" not in table.schema.names:
        return ()
    coded = [table.column(name).combine_chunks().dictionary_encode() for name in ("text", "unread")]
    pairs = np.stack([one.indices.fill_null(-1).to_numpy() for one in coded], axis=1)
    texts, prompts = np.unique(pairs, axis=0).T
    if not belong(texts, prompts):
        return ()
    remedy = f'columns = {{ query = "{unread}" }} under [data] gives each prompt its own pool'
    return (f"pools mix the answers of {len(np.unique(prompts))} values of '{unread}': {remedy}",)


@dataclass(frozen=True)
class _Cells:
    """Cells of a row by role, and where the row stands."""

    values: Mapping[str, str | None]
    where: str

    def get(self, role: str) -> str:
        return self.values.get(role) or ""


def load_histories(
    histories: str | Path, queries: str | Path, *, columns: Mapping[str, str] | None = None, users: int | None = None
) -> Dataset:
    """Load histories and queries from two tables (CSV, TSV, JSONL or Parquet), read in batches.

    Args:
        histories: columns user_id, output, and where there are any item_id, input and timestamp. A text without an
            input was not asked for: it may show in prompts and is never a query. Without times the order of a user's
            rows is that of their making.
        queries: columns query_id, user_id, input, and where there are any reference, split (fit or test) and timestamp.
        columns: other names of these columns, in either table.
        users: keep the first so many users of the queries.

    Returns:
        Histories of the users that have queries, and the queries.

    Raises:
        InputError: a table that cannot be read, a missing column or text, an unknown role, split or time, or a query
            twice; names file, row and column.
    """
    names = _names(columns or {})
    asked = Questions()
    wanted: dict[str, int] = {}
    for row in _rows(Path(queries), QUERY_ROLES, names, optional=("reference", "split", "timestamp")):
        user = row.get("user_id")
        if user not in wanted and users is not None and len(wanted) >= users:
            continue
        wanted.setdefault(user, 0)
        when = _time(row, names)
        asked.add(
            (row.get("query_id"), user, row.get("input"), row.values.get("reference"), _split(row), when), row.where
        )
    items, others = Collector(), set[str]()
    for number, row in enumerate(_rows(Path(histories), HISTORY_ROLES, names, ("item_id", "input", "timestamp")), 1):
        user = row.get("user_id")
        others.add(user) if len(others) < FEW else None
        if user in wanted:
            wanted[user] += 1
            entry = Entry(row.get("item_id") or str(number), row.get("input"), row.get("output"), _time(row, names))
            items.add(user, [entry])
    items.omitted.without = sum(count == 0 for count in wanted.values())
    if items.omitted.without == len(wanted) and not asked.brings_labels:
        raise _strangers(histories, queries, tuple(wanted), others)
    parts = [repr(sorted(names.items())), str(users), file_signature(histories), file_signature(queries)]
    signature = labelled(hash_text("|".join(parts)))
    table, kept = asked.table(str(queries)), items.table(asked.contents)
    return Dataset(Path(histories).stem, signature, kept, table, notes=items.omitted.notes())


def _strangers(histories: str | Path, queries: str | Path, asked: Sequence[str], wrote: Collection[str]) -> InputError:
    """Build the error that no user of the queries has a history, with the two ids that are most alike."""
    shown = asked[0]
    like = max(sorted(wrote), key=lambda one: SequenceMatcher(None, shown, one).ratio(), default="")
    found = f"none of the {len(asked)} users of {queries} ('{shown}' there, '{like}' here)"
    return InputError(str(histories), found, "the same ids of users in both tables")


def _names(columns: Mapping[str, str]) -> dict[str, str]:
    roles = dict.fromkeys((*HISTORY_ROLES, *QUERY_ROLES))
    for role in columns:
        if role not in roles:
            raise InputError("columns", f"unknown role '{role}'", nearest(role, roles))
    return {role: role for role in roles} | dict(columns)


def _rows(path: Path, roles: tuple[str, ...], names: Mapping[str, str], optional: tuple[str, ...]) -> Iterator[_Cells]:
    ids = frozenset({"user_id", "query_id"})
    wanted = Columns({role: names[role] for role in roles}, {}, frozenset(optional), ids=ids)
    for first, table in Batches(path, wanted, str(path), block=1 << 22):
        columns = {role: table[role].to_pylist() for role in roles if role in table.schema.names}
        for at in range(table.num_rows):
            where = f"{path}, row {first + at}"
            values = {role: column[at] for role, column in columns.items()}
            yield _Cells(values, where)


def _time(row: _Cells, names: Mapping[str, str]) -> int | None:
    return time_of(row.values.get("timestamp"), f"{row.where}, column '{names['timestamp']}'")


def _split(row: _Cells) -> str:
    split = row.get("split") or "test"
    if split not in ("fit", "test"):
        raise InputError(f"{row.where}, column 'split'", f"'{split}'", "fit or test")
    return split
