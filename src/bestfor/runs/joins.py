"""Join the tables of a run into the arrays that reward models and the diagnosis take, and rewards back into a table.

Candidates are the candidates of one split with their utilities, in the order (query, candidate); history is what users
wrote, as far as each query may see it. :func:`scorer` does the same for a few prompts and texts at hand, for policies
that ask a fitted model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bestfor.data import schema
from bestfor.data.candidates import Candidates, History
from bestfor.data.text import collapse_spaces
from bestfor.errors import InputError
from bestfor.policies.base import Prompt
from bestfor.policies.feedback import Score
from bestfor.rewards import RewardModel
from bestfor.runs.prompts import slices_by_user
from bestfor.types import FloatArray, IntArray, RewardEstimate


def scorer(model: RewardModel, queries: pa.Table, history: History | None = None) -> Score:
    """Turn a fitted model into the function that :class:`bestfor.policies.feedback.FeedbackPolicy` asks.

    Args:
        model: fitted; it must judge each text by itself.
        queries: table of schema ``QUERIES``: whose each query is, and its input.
        history: what users wrote, where the model looks at it; see :func:`bestfor.runs.joins.build_history`.

    Returns:
        A function of prompts and of some texts for each: the model's means.

    Raises:
        InputError: the model compares a query's candidates with each other; or, when it is called, a prompt of an
            unknown query.
    """
    if not model.alone:
        found = f"kind '{model.kind}', which needs all candidates at once"
        raise InputError("scorer", found, "a model that judges each by itself")
    rows = queries.select(["query_id", "user_id", "input"]).to_pylist()
    known = {row["query_id"]: (row["user_id"], row["input"]) for row in rows}

    def score(prompts: Sequence[Prompt], texts: Sequence[Sequence[str]]) -> list[FloatArray]:
        for prompt in prompts:
            if prompt.query_id not in known:
                raise InputError("scorer", f"query '{prompt.query_id}'", "one of the table of queries")
        users, inputs = zip(*(known[one.query_id] for one in prompts), strict=True) if prompts else ((), ())
        ids = [one.query_id for one in prompts]
        found = model.predict(Candidates.of(users, inputs, texts, history=history, query=ids)).mean
        return np.split(found, np.cumsum([len(one) for one in texts])[:-1])

    return score


def build_examples(
    queries: pa.Table,
    candidates: pa.Table,
    utilities: pa.Table | None,
    split: str,
    history: History | None = None,
) -> Candidates:
    """Join the candidates of one split with their utilities.

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
    return Candidates(
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


def with_utilities(examples: Candidates) -> Candidates:
    """Leave out rows without a utility: a judge, for one, may have nothing to say about some."""
    known = np.isfinite(examples.utility)
    return examples if known.all() else examples.take(known)


def build_history(histories: pa.Table, queries: pa.Table) -> History | None:
    """Collect what users wrote, as far as reward models may see it; None where nobody wrote anything.

    A fit query sees items strictly earlier than itself (by time, or by order where items have no times), so never its
    own reference nor another item with its input; a test query sees what is not later than it. An item that is also a
    test query is not seen at all.

    Args:
        histories: HISTORIES table.
        queries: QUERIES table; a fit query made of an item is named ``<user>/<item>``.

    Returns:
        Texts that are read from ``histories`` user by user, when they are asked for.
    """
    own: dict[str, list[Mapping[str, Any]]] = {}
    for row in queries.select(["query_id", "user_id", "input", "split", "timestamp"]).to_pylist():
        own.setdefault(row["user_id"], []).append(row)
    written = _TextsOfUsers(histories, {user: _test_inputs(rows) for user, rows in own.items()})
    seen: dict[str, int] = {}
    tested: dict[str, int] = {}
    anything = any(user not in own for user in written)
    # Users one after another, so that memory holds one history.
    for user, rows in own.items():
        items = written.items_of(user)
        anything = anything or bool(items)
        seen |= {row["query_id"]: _count_seen(row, items) for row in rows}
        asked = [seen[row["query_id"]] for row in rows if row["split"] == "test"]
        tested |= {user: min(asked)} if asked else {}
    return History(written, seen, tested) if anything else None


def _test_inputs(queries: Sequence[Mapping[str, Any]]) -> set[str]:
    return {collapse_spaces(row["input"]) for row in queries if row["split"] == "test"}


class _TextsOfUsers(Mapping[str, tuple[str, ...]]):
    """Mapping of users to their texts, oldest first, without answers to test queries; read when they are wanted.

    Args:
        histories: HISTORIES table, perhaps mapped from a file.
        tested: the inputs of each user's test queries, in their plain form.
    """

    def __init__(self, histories: pa.Table, tested: Mapping[str, set[str]]) -> None:
        self._histories, self._tested = histories, tested
        self._slices = slices_by_user(histories["user_id"])
        self._last: tuple[str, list[dict[str, Any]]] = ("", [])

    def items_of(self, user: str) -> list[dict[str, Any]]:
        """Read a user's rows of the table; those of the last user asked for are kept."""
        if user not in self._slices:
            return []
        if user != self._last[0]:
            rows = [row for at, count in self._slices[user] for row in self._histories.slice(at, count).to_pylist()]
            tested = self._tested.get(user, set())
            own = [row for row in rows if collapse_spaces(row["input"]) not in tested]
            if all(row["timestamp"] is not None for row in own):
                own.sort(key=lambda row: (row["timestamp"], row["item_id"]))
            self._last = user, own
        return self._last[1]

    def __getitem__(self, user: str) -> tuple[str, ...]:
        if user not in self._slices:
            raise KeyError(user)
        return tuple(row["output"] for row in self.items_of(user))

    def __iter__(self) -> Iterator[str]:
        return iter(self._slices)

    def __len__(self) -> int:
        return len(self._slices)


def _count_seen(query: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> int:
    """Count the items, oldest first, that a query may see: those before the first that it may not."""
    fit, when, asked = query["split"] == "fit", query["timestamp"], collapse_spaces(query["input"])
    for place, item in enumerate(items):
        moment = item["timestamp"]
        late = when is not None and moment is not None and (moment >= when if fit else moment > when)
        if (
            late
            or f"{query['user_id']}/{item['item_id']}" == query["query_id"]
            or collapse_spaces(item["input"]) == asked
        ):
            return place
    return len(items)


@dataclass(frozen=True)
class JoinedRows:
    """Rows of the test candidates, as the diagnosis takes them: (n,) arrays.

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


def build_rows(
    queries: pa.Table, candidates: pa.Table, utilities: pa.Table, rewards: Mapping[str, pa.Table]
) -> JoinedRows:
    """Join the test part: candidates, utilities and every model's rewards.

    Raises:
        InputError: no test candidates, or none with a utility or with a model's reward; where some have none they are
            NaN, and the diagnosis counts them as dropped.
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
    for model, values in predicted.items():
        if np.isnan(values).all():
            raise InputError(f"the rewards of '{model}'", "none for the test candidates", "at least one")
    known = _codes(candidates["query_id"], names)
    kept = np.flatnonzero(known >= 0)
    order = np.lexsort((candidates["candidate"].to_numpy()[kept], known[kept]))
    text_id = np.array(candidates["text_id"].to_pylist(), dtype=object)[kept[order]]
    return JoinedRows(
        user=np.array(examples.users, dtype=object)[examples.user],
        query=np.array(examples.queries, dtype=object)[examples.query],
        text=text_id,
        candidate=examples.candidate,
        utility=examples.utility,
        rewards=predicted,
        stds=stds,
    )


def rewards_table(examples: Candidates, label: str, estimate: RewardEstimate) -> pa.Table:
    """Make a table of schema ``REWARDS``.

    Args:
        examples: the rows that rewards are predicted for.
        label: the model's name.
        estimate: what it predicts for the rows; where the mean is NaN the row's is null: there is no reward.
    """
    count = len(examples)
    std = pa.nulls(count, pa.float64()) if estimate.std is None else pa.array(estimate.std)
    return pa.table(
        [
            pa.array(examples.queries).take(pa.array(examples.query)),
            pa.array(examples.candidate, pa.int32()),
            pa.array([label]).take(pa.array(np.zeros(count, dtype=np.int64))),
            pa.array(estimate.mean, from_pandas=True),
            std,
        ],
        schema=schema.REWARDS,
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
    """Look up values of a table keyed by (query_id, candidate), NaN where there is none."""
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
