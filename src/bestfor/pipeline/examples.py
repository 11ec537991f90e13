"""Tables of a run joined into the arrays that reward models and the diagnosis take."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bestfor.data.examples import Examples, History
from bestfor.errors import InputError
from bestfor.types import FloatArray, IntArray


def build_examples(
    queries: pa.Table,
    candidates: pa.Table,
    utilities: pa.Table | None,
    split: str,
    history: History | None = None,
) -> Examples:
    """The candidates of one split with their utilities.

    Args:
        queries: QUERIES table.
        candidates: CANDIDATES table.
        utilities: UTILITIES table of one metric, or None where utilities are unknown (NaN).
        split: ``"fit"`` or ``"test"``.
        history: what the users wrote, see :func:`build_history`.

    Returns:
        Rows sorted by (query, candidate); vocabularies in the order of the tables.
    """
    queries = queries.filter(pc.equal(queries["split"], split))  # pyright: ignore[reportAttributeAccessIssue]
    query = _codes(candidates["query_id"], queries["query_id"])
    kept = np.flatnonzero(query >= 0)
    number = candidates["candidate"].to_numpy()[kept].astype(np.int64)
    order = np.lexsort((number, query[kept]))
    rows, number = kept[order], number[order]
    candidates, query = candidates.take(pa.array(rows)), query[rows]
    users = pc.unique(queries["user_id"])  # pyright: ignore[reportAttributeAccessIssue]
    user_of_query = _codes(queries["user_id"], users)
    texts, text = _dictionary(candidates["text"])
    logprob = candidates["logprob"].cast(pa.float64()).to_numpy(zero_copy_only=False)
    utility = np.full(len(rows), np.nan)
    if utilities is not None:
        utility = _lookup(queries["query_id"], utilities, "utility", query, number)
    return Examples(
        users=tuple(users.to_pylist()),
        queries=tuple(queries["query_id"].to_pylist()),
        inputs=tuple(queries["input"].to_pylist()),
        texts=texts,
        user=user_of_query[query],
        query=query,
        text=text,
        candidate=number,
        utility=utility,
        logprob=np.asarray(logprob, dtype=np.float64),
        history=history,
    )


def build_history(histories: pa.Table, queries: pa.Table) -> History | None:
    """What users wrote, as far as reward models may see it; None where nobody wrote anything.

    A fit query sees items strictly earlier than itself (by time, or by order where items have no times), so never its
    own reference nor another item with its input; a test query sees what is not later than it. An item that is also a
    test query is not seen at all.

    Args:
        histories: HISTORIES table.
        queries: QUERIES table; a fit query made of an item is named ``<user>/<item>``.
    """
    rows = queries.select(["query_id", "user_id", "input", "split", "timestamp"]).to_pylist()
    asked = {(row["user_id"], _plain(row["input"])) for row in rows if row["split"] == "test"}
    items: dict[str, list[dict[str, Any]]] = {}
    for item in histories.to_pylist():
        if (item["user_id"], _plain(item["input"])) not in asked:
            items.setdefault(item["user_id"], []).append(item)
    for own in items.values():
        if all(item["timestamp"] is not None for item in own):
            own.sort(key=lambda item: (item["timestamp"], item["item_id"]))
    seen = {row["query_id"]: _seen(row, items.get(row["user_id"], [])) for row in rows}
    texts = {user: tuple(item["output"] for item in own) for user, own in items.items()}
    return History(texts, seen) if texts else None


def _seen(query: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> int:
    """How many of a user's items, oldest first, a query may see: those before the first that it may not."""
    fit, when, asked = query["split"] == "fit", query["timestamp"], _plain(query["input"])
    for place, item in enumerate(items):
        moment = item["timestamp"]
        late = when is not None and moment is not None and (moment >= when if fit else moment > when)
        if late or f"{query['user_id']}/{item['item_id']}" == query["query_id"] or _plain(item["input"]) == asked:
            return place
    return len(items)


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


@dataclass(frozen=True)
class Rows:
    """One row a test candidate, as the diagnosis takes them: (n,) arrays.

    Attributes:
        user: user ids.
        query: query ids.
        text: text ids (what users share).
        candidate: index within the query.
        utility: the primary metric.
        rewards: predicted means by model.
        stds: predicted standard deviations of the models that have any.
    """

    user: np.ndarray
    query: np.ndarray
    text: np.ndarray
    candidate: IntArray
    utility: FloatArray
    rewards: Mapping[str, FloatArray]
    stds: Mapping[str, FloatArray]


def build_rows(queries: pa.Table, candidates: pa.Table, utilities: pa.Table, rewards: Mapping[str, pa.Table]) -> Rows:
    """Join the test part: candidates, utilities and every model's rewards.

    Raises:
        InputError: no test candidates; a candidate without a utility or a reward.
    """
    examples = build_examples(queries, candidates, utilities, "test")
    if len(examples) == 0:
        raise InputError("the pool", "no candidates of test queries", "at least one")
    if np.isnan(examples.utility).all():
        raise InputError("the utilities", "none for the test candidates", "one for each")
    names = pa.chunked_array([pa.array(examples.queries)])
    predicted = {
        model: _lookup(names, table, "mean", examples.query, examples.candidate) for model, table in rewards.items()
    }
    stds = {
        model: _lookup(names, table, "std", examples.query, examples.candidate)
        for model, table in rewards.items()
        if table["std"].null_count < table.num_rows
    }
    known = _codes(candidates["query_id"], names)
    kept = np.flatnonzero(known >= 0)
    order = np.lexsort((candidates["candidate"].to_numpy()[kept], known[kept]))
    text_id = np.array(candidates["text_id"].to_pylist(), dtype=object)[kept[order]]
    return Rows(
        user=np.array(examples.users, dtype=object)[examples.user],
        query=np.array(examples.queries, dtype=object)[examples.query],
        text=text_id,
        candidate=examples.candidate,
        utility=examples.utility,
        rewards=predicted,
        stds=stds,
    )


def _codes(values: pa.ChunkedArray, vocabulary: pa.ChunkedArray | pa.Array) -> IntArray:
    known = vocabulary.combine_chunks() if isinstance(vocabulary, pa.ChunkedArray) else vocabulary
    index = pc.index_in(values, value_set=known)  # pyright: ignore[reportAttributeAccessIssue]
    return index.fill_null(-1).to_numpy().astype(np.int64)


def _dictionary(column: pa.ChunkedArray) -> tuple[tuple[str, ...], IntArray]:
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    return tuple(encoded.dictionary.to_pylist()), encoded.indices.to_numpy().astype(np.int64)


def _lookup(names: pa.ChunkedArray, table: pa.Table, column: str, query: IntArray, candidate: IntArray) -> FloatArray:
    """Values of a (query_id, candidate) keyed table at the given keys, NaN where there is none."""
    code = _codes(table["query_id"], names)
    number = table["candidate"].to_numpy().astype(np.int64)
    kept = code >= 0
    width = int(max(number.max(initial=0), candidate.max(initial=0))) + 1
    key = code[kept] * width + number[kept]
    order = np.argsort(key, kind="stable")
    key, values = key[order], table[column].to_numpy(zero_copy_only=False)[kept][order]
    wanted = query * width + candidate
    found = np.full(len(wanted), np.nan)
    if len(key):
        place = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
        hit = key[place] == wanted
        found[hit] = values[place[hit]]
    return found
