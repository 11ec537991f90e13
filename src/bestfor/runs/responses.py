"""Find what a table's candidates say, for its page: the suspects' texts, and what three people get."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from bestfor.data.read.tables import Batches, Columns
from bestfor.diagnostics import Diagnosis
from bestfor.files import hash_bytes
from bestfor.report import words
from bestfor.report.shown import first_shown, shown_models
from bestfor.report.spoken import SpokenCandidate, SpokenRequest, SpokenSection
from bestfor.runs.table import TableColumns
from bestfor.types import FloatArray

PEOPLE = 3


@dataclass(frozen=True)
class SpokenTexts:
    """Texts of some candidates, for a page.

    Attributes:
        texts: (query, candidate) -> text, of suspects.
        inputs: query -> what was asked, of suspects.
        section: what three people get; None where nothing is known.
    """

    texts: Mapping[tuple[str, int], str]
    inputs: Mapping[str, str]
    section: SpokenSection | None


def spoken_texts(
    path: Path, columns: TableColumns, response: str, prompt: str | None, diagnosis: Diagnosis
) -> SpokenTexts:
    """Read the texts that a page shows, in one pass over the ids and one over the table.

    Args:
        path: of the table that was diagnosed.
        columns: its columns.
        response: the column of what candidates say.
        prompt: that of what was asked, if any.
        diagnosis: of the table.

    Raises:
        InputError: no such column, or as :func:`bestfor.runs.table.diagnose_table`.
    """
    chosen = first_shown(shown_models(diagnosis))
    if chosen is None:
        return SpokenTexts({}, {}, None)
    pairs, shared = _shown_pairs(path, columns)
    suspects = {(one.user, one.query) for model in diagnosis.models.values() for one in model.suspects}
    rows = _rows(path, columns, response, prompt, {*pairs, *suspects})
    texts: dict[tuple[str, int], str] = {}
    inputs: dict[str, str] = {}
    for name, model in diagnosis.models.items():
        for one in model.suspects:
            table = rows.get((one.user, one.query))
            if table is None:
                continue
            inputs[one.query] = table.asked
            if one.pick is not None:
                texts[one.query, one.pick] = table.texts[table.nearest(table.rewards[name], one.pick_utility)]
            if one.best is not None:
                texts[one.query, one.best] = table.texts[int(table.utility.argmax())]
    requests = _requests(pairs, shared, rows, chosen.name)
    section = SpokenSection(chosen.name, shared, requests) if requests else None
    return SpokenTexts(texts, {query: asked for query, asked in inputs.items() if asked}, section)


LONGEST_ID = 64
"""Longer values of a column are no ids."""


def looks_like_ids(path: Path, column: str) -> bool:
    """Tell whether the first values of a column are ids, not texts.

    A column counts as ids where none of its first values holds white space or is long, and most hold a digit.

    Raises:
        InputError: no such column, or the table cannot be read.
    """
    roles = Columns(text={"text": column}, number={}, blank=frozenset({"text"}))
    first = next(iter(Batches(path, roles, str(path))), None)
    values = [] if first is None else [str(value) for value in first[1]["text"].slice(0, 1000).to_pylist() if value]
    if not values or any(len(value) > LONGEST_ID or len(value.split()) > 1 for value in values):
        return False
    return sum(any(map(str.isdigit, value)) for value in values) > len(values) / 2


@dataclass(frozen=True)
class _Pool:
    """Candidates of one query: what was asked and, one a candidate, texts, utilities and rewards."""

    asked: str
    texts: list[str]
    utility: FloatArray
    rewards: dict[str, FloatArray]

    def nearest(self, reward: FloatArray, utility: float) -> int:
        """Find the candidate with the highest reward; of equal ones that whose utility is nearest."""
        top = np.flatnonzero(reward == reward.max())
        return int(top[np.abs(self.utility[top] - utility).argmin()])

    def candidate(self, who: str, place: int, model: str) -> SpokenCandidate:
        """Describe a candidate with its ranks."""
        reward, utility = self.rewards[model], self.utility
        ranks = [int((values > values[place]).sum()) + 1 for values in (reward, utility)]
        why = f"rank {ranks[0]} of {len(utility)} by reward, {ranks[1]} by utility"
        shown = [words.number(float(values[place]), words.decimals(values.tolist())) for values in (reward, utility)]
        return SpokenCandidate(who, self.texts[place], shown[0], shown[1], why)


def _shown_pairs(path: Path, columns: TableColumns) -> tuple[list[tuple[str, str]], bool]:
    """Choose (user, query) pairs to show: one query of several people, or a query of each of several people."""
    ids = Columns(text={"user": columns.user, "query": columns.query}, number={}, ids=frozenset({"user", "query"}))
    users: dict[str, set[str]] = {}
    first: dict[str, str] = {}
    for _, batch in Batches(path, ids, str(path)):
        each = batch.group_by(["user", "query"], use_threads=False).aggregate([])
        for user, query in zip(map(str, each["user"].to_pylist()), map(str, each["query"].to_pylist()), strict=True):
            users.setdefault(query, set()).add(user)
            first[user] = min(query, first.get(user, query))
    most = max(users, key=lambda query: (len(users[query]), query), default=None)
    if most is not None and len(users[most]) > 1:
        return [(user, most) for user in sorted(users[most], key=_hash)[:PEOPLE]], True
    return [(user, first[user]) for user in sorted(first, key=_hash)[:PEOPLE]], False


def _hash(name: str) -> str:
    return hash_bytes(name.encode("utf-8", "surrogatepass"))


def _rows(
    path: Path, columns: TableColumns, response: str, prompt: str | None, wanted: set[tuple[str, str]]
) -> dict[tuple[str, str], _Pool]:
    """Read the finite rows of some (user, query) pairs."""
    text = {"user": columns.user, "query": columns.query, "response": response}
    text |= {} if prompt is None else {"asked": prompt}
    number = {"utility": columns.utility} | {f"reward {name}": name for name in columns.rewards}
    roles = Columns(text, number, blank=frozenset({"response", "asked"}), ids=frozenset({"user", "query"}))
    queries = {query for _, query in wanted}
    kept = [
        batch.filter(pa.array([query in queries for query in batch["query"].to_pylist()]))
        for _, batch in Batches(path, roles, str(path))
    ]
    pools: dict[tuple[str, str], list[dict[str, object]]] = {}
    for batch in kept:
        for row in batch.to_pylist():
            pair = (str(row["user"]), str(row["query"]))
            numbers = [row[role] for role in number]
            if pair in wanted and all(isinstance(one, float) and np.isfinite(one) for one in numbers):
                pools.setdefault(pair, []).append(row)
    return {pair: _pool(rows, columns.rewards) for pair, rows in pools.items()}


def _pool(rows: list[dict[str, object]], rewards: tuple[str, ...]) -> _Pool:
    return _Pool(
        asked=str(rows[0].get("asked") or ""),
        texts=[str(row["response"] or "") for row in rows],
        utility=np.array([row["utility"] for row in rows], dtype=np.float64),
        rewards={name: np.array([row[f"reward {name}"] for row in rows], dtype=np.float64) for name in rewards},
    )


def _requests(
    pairs: list[tuple[str, str]], shared: bool, rows: Mapping[tuple[str, str], _Pool], model: str
) -> tuple[SpokenRequest, ...]:
    known = [(user, query, rows[user, query]) for user, query in pairs if (user, query) in rows]
    if shared and known:
        given = tuple(pool.candidate(user, int(pool.rewards[model].argmax()), model) for user, _, pool in known)
        return (SpokenRequest(f"Request {known[0][1]}", known[0][2].asked, given),)
    requests: list[SpokenRequest] = []
    for user, query, pool in known:
        places = {"the pick": int(pool.rewards[model].argmax()), "the best": int(pool.utility.argmax())}
        places["a random one"] = int(_hash(f"{user} {query}"), 16) % len(pool.utility)
        given = tuple(pool.candidate(who, place, model) for who, place in places.items())
        requests.append(SpokenRequest(f"{user}, request {query}", pool.asked, given))
    return tuple(requests)
