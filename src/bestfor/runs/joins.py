"""Code the tables of a run as the arrays that reward models and the diagnosis take, and write rewards as a table.

All candidates are coded once, in the order (query, candidate), with their utilities; the fit part and the test part are
taken from that, and what models predict is an array aligned with the test part. History is what users wrote, as far as
each query may see it. :func:`scorer` codes a few prompts and texts at hand, for policies that ask a fitted model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bestfor.data import schema
from bestfor.data.candidates import Candidates, History
from bestfor.data.frames import encode
from bestfor.data.parts import CandidateParts, Split, coded_ids
from bestfor.data.text import collapse_spaces
from bestfor.diagnostics import Diagnosis, Reward, Settings, diagnose_arrays
from bestfor.errors import InputError
from bestfor.policies.base import Prompt
from bestfor.policies.feedback import Score
from bestfor.rewards import RewardModel
from bestfor.runs.prompts import slices_by_user
from bestfor.types import FloatArray, IntArray, RewardEstimate, Scale


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


def build_parts(
    queries: pa.Table, candidates: pa.Table, utilities: pa.Table | None, history: History | None = None
) -> CandidateParts:
    """Code the candidates of a run's tables, each once, with their utilities.

    Args:
        queries: QUERIES table.
        candidates: CANDIDATES table, in any order; those of other queries are left out.
        utilities: UTILITIES table of one metric, or None where utilities are unknown (NaN).
        history: what the users wrote, see :func:`build_history`.

    Returns:
        Rows sorted by (query, candidate), queries in the order of their table.
    """
    query = _codes(candidates["query_id"], queries["query_id"])
    number = candidates["candidate"].to_numpy().astype(np.int64)
    order = np.lexsort((number, query))
    order = order[np.searchsorted(query[order], 0) :]
    users = pc.unique(queries["user_id"])  # pyright: ignore[reportAttributeAccessIssue]
    owner = _codes(queries["user_id"], users)
    texts, text = encode(candidates["text"])
    text_ids, text_id = encode(candidates["text_id"])
    logprob = candidates["logprob"].cast(pa.float64()).to_numpy(zero_copy_only=False)
    query, number = query[order], number[order]
    utility = np.full(len(order), np.nan)
    if utilities is not None:
        utility = _utilities(queries, candidates, utilities, (order, query, number))
    whole = Candidates(
        users=tuple(users.to_pylist()),
        queries=tuple(queries["query_id"].to_pylist()),
        inputs=tuple(queries["input"].to_pylist()),
        texts=texts,
        user=owner[query],
        query=query,
        text=text[order],
        candidate=number,
        utility=utility,
        logprob=np.asarray(logprob[order], dtype=np.float64),
        history=history,
    )
    tested = pc.equal(queries["split"], "test")  # pyright: ignore[reportAttributeAccessIssue]
    return CandidateParts(whole, owner, tested.to_numpy().astype(np.bool_), text_ids, text_id[order])


def _utilities(
    queries: pa.Table, candidates: pa.Table, utilities: pa.Table, rows: tuple[IntArray, IntArray, IntArray]
) -> FloatArray:
    """Find the utility of each coded row; tables of one pool name the same candidates in the same order."""
    order, query, number = rows
    keys = ["query_id", "candidate"]
    if utilities.num_rows == candidates.num_rows and all(utilities[key].equals(candidates[key]) for key in keys):
        return np.asarray(utilities["utility"].to_numpy()[order], dtype=np.float64)
    return _lookup(queries["query_id"], utilities, "utility", query, number)


def build_examples(
    queries: pa.Table,
    candidates: pa.Table,
    utilities: pa.Table | None,
    split: Split,
    history: History | None = None,
) -> Candidates:
    """Join the candidates of one split with their utilities; see :func:`build_parts`."""
    return build_parts(queries, candidates, utilities, history).part(split)


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


OWED = "bestfor.owed"
"""Key under which a table of rewards says how many questions a server did not answer."""


@dataclass(frozen=True)
class Predicted:
    """Rewards of the test part by one model, and what it noted.

    Attributes:
        reward: mean, standard deviation where there is one, and scale; a row of the test part each.
        notes: plain sentences of the model.
        unanswered: questions that a server did not answer.
    """

    reward: Reward
    notes: tuple[str, ...] = ()
    unanswered: int = 0


def predict_test(parts: CandidateParts, model: RewardModel) -> Predicted:
    """Predict the rewards of the test part, whose utilities the model does not see."""
    return predict_rows(parts.test, model)


def predict_rows(test: Candidates, model: RewardModel) -> Predicted:
    """Predict the rewards of some rows."""
    estimate = model.predict(test)
    return Predicted(
        Reward(estimate.mean, model.scale, estimate.std),
        (*model.notes, *estimate.notes),
        int(getattr(model, "unanswered", 0)),
    )


def write_rewards(path: Path, test: Candidates, label: str, predicted: Predicted) -> None:
    """Write predictions as a table of schema ``REWARDS``, with the scale and the notes beside it."""
    metadata = {"scale": predicted.reward.scale, "notes": json.dumps(predicted.notes, ensure_ascii=False)}
    metadata |= {OWED: str(predicted.unanswered)} if predicted.unanswered else {}
    estimate = RewardEstimate(predicted.reward.mean, predicted.reward.std)
    schema.write(rewards_table(test, label, estimate), path, metadata)


def forget_unanswered_rewards(path: Path) -> None:
    """Remove rewards of which a server owes some: the next prediction asks for these alone."""
    if path.is_file():
        with suppress(pa.ArrowException, OSError):  # a torn file is predicted again anyway
            if OWED in schema.read_metadata(path):
                path.unlink()


def read_rewards(path: Path, test: Candidates) -> Predicted:
    """Read predictions back, a row of the test part each.

    A table that :func:`write_rewards` left has the part's order and is taken as it is; rows of another one are found by
    query and candidate, NaN where there is none.

    Raises:
        InputError: no such file, or a damaged one.
    """
    table, stored = schema.read(path, schema.REWARDS), schema.read_metadata(path)
    mean, std = align_rewards(table, test)
    scale: Scale = "utility" if stored.get("scale") == "utility" else "arbitrary"
    return Predicted(Reward(mean, scale, std), tuple(json.loads(stored.get("notes", "[]"))))


def align(table: pa.Table, rows: Candidates, column: str) -> FloatArray:
    """Find a column's values by query and candidate, in the order of some candidates; NaN where there is none."""
    names = pa.chunked_array([pa.array(rows.queries, pa.string())])
    return _lookup(names, table, column, rows.query, rows.candidate)


def align_rewards(table: pa.Table, test: Candidates) -> tuple[FloatArray, FloatArray | None]:
    """Bring means and standard deviations into the order of some candidates; no deviations where all are null."""
    deviations = table["std"].null_count < table.num_rows
    names = pa.array(test.queries, pa.string())
    if table.num_rows == len(test) and np.array_equal(table["candidate"].to_numpy(), test.candidate):
        ids = pa.chunked_array([names.take(pa.array(test.query))])
        if ids.equals(table["query_id"]):
            mean, std = (table[name].to_numpy().astype(np.float64) for name in ("mean", "std"))
            return mean, std if deviations else None
    return align(table, test, "mean"), align(table, test, "std") if deviations else None


def diagnose_parts(
    parts: CandidateParts, predicted: Mapping[str, Predicted], settings: Settings, *, shared_texts: bool
) -> Diagnosis:
    """Diagnose reward models on the test part.

    Args:
        parts: with the primary metric's utilities.
        predicted: by model, aligned with the test part.
        settings: where curves are drawn, how means and intervals are taken.
        shared_texts: whether users share texts, so that intervals count them as random too.

    Raises:
        InputError: no test candidates, or none with a utility or with a model's reward; where some have none the
            diagnosis counts them as dropped. An N larger than every pool.
    """
    test, utility = parts.test, parts.test_utility
    if len(test) == 0:
        raise InputError("the pool", "no candidates of test queries", "at least one")
    if np.isnan(utility).all():
        raise InputError("the utilities", "none for the test candidates", "one for each")
    for model, one in predicted.items():
        if np.isnan(one.reward.mean).all():
            raise InputError(f"the rewards of '{model}'", "none for the test candidates", "at least one")
    asked, query = np.unique(test.query, return_inverse=True)
    owners, user = np.unique(test.user, return_inverse=True)
    return diagnose_arrays(
        coded_ids([test.users[code] for code in owners.tolist()], user),
        coded_ids([test.queries[code] for code in asked.tolist()], query),
        utility,
        {name: one.reward for name, one in predicted.items()},
        settings,
        text=parts.test_text_ids if shared_texts else None,
        candidate=test.candidate,
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
