"""What is asked of a policy: fit queries from what users wrote, and for every query a prompt that never looks ahead."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from bestfor.data.schema import HISTORIES, QUERIES
from bestfor.errors import InputError
from bestfor.policies.base import Budgeted, Policy, Prompt
from bestfor.policies.prompts import fit, messages
from bestfor.policies.retrieval import Item, retrieve


@dataclass(frozen=True)
class Prompting:
    """What stands in a prompt.

    Attributes:
        instruction: what the policy is told to do.
        items: how many of the user's earlier items.
        retriever: how they are chosen, see :func:`bestfor.policies.retrieval.retrieve`.
    """

    instruction: str = ""
    items: int = 4
    retriever: str = "bm25"


@dataclass(frozen=True)
class Asked:
    """Queries and their prompts, row for row.

    Attributes:
        queries: table of schema ``QUERIES``, sorted by id.
        prompts: one for each query.
    """

    queries: pa.Table
    prompts: tuple[Prompt, ...]


@dataclass(frozen=True)
class _Question:
    """A row of the table of queries, and the items that its prompt may show."""

    row: dict[str, Any]
    visible: tuple[Item, ...]


def ask(policy: Policy, histories: pa.Table, queries: pa.Table, fit_items: int, prompting: Prompting) -> Asked:
    """Make fit queries of users' latest items, and prompts for these and the given queries.

    A fit query's prompt shows items strictly earlier than the item itself: by time where the user's items have times
    (so not those of the same moment), by their order in the table where they have none. A given query's prompt may
    show all history, but nothing later than the query where both have times. An item whose input is that of one of the
    user's given queries is that query: it neither becomes a fit query nor shows in a prompt.

    Args:
        policy: where it knows a budget, items that find no room are left out.
        histories: table of schema ``HISTORIES``.
        queries: table of schema ``QUERIES``.
        fit_items: how many of each user's items, the latest, become fit queries.
        prompting: what stands in a prompt.

    Returns:
        All queries with their prompts. A fit query's id is ``<user>/<item>``, its reference what the user wrote.

    Raises:
        InputError: two items or queries of one name, a user of whose items only some have times, or a query that does
            not fit the policy's budget even without items.
    """
    given = queries.select(QUERIES.names).to_pylist()
    users = _items(histories, {(row["user_id"], _plain(row["input"])) for row in given})
    questions = [_Question(row, _not_after(users.get(row["user_id"], ()), row["timestamp"])) for row in given]
    for user, items in users.items():
        chosen = range(max(0, len(items) - fit_items), len(items))
        questions += [_fit_question(user, items, index) for index in chosen]
    questions.sort(key=lambda question: question.row["query_id"])
    _distinct([question.row["query_id"] for question in questions], "queries")
    table = pa.Table.from_pylist([question.row for question in questions], schema=QUERIES)
    return Asked(table, tuple(_prompt(policy, question, prompting) for question in questions))


def _items(histories: pa.Table, asked: set[tuple[str, str]]) -> dict[str, tuple[Item, ...]]:
    """Each user's items, oldest first, without those that are asked."""
    found: dict[str, list[Item]] = {}
    for row in histories.select(HISTORIES.names).to_pylist():
        item = Item(row["item_id"], row["input"], row["output"], row["timestamp"])
        found.setdefault(row["user_id"], []).append(item)
    ordered: dict[str, tuple[Item, ...]] = {}
    for user in sorted(found):
        items = found[user]
        _distinct(sorted(item.item_id for item in items), f"items of user '{user}'")
        without = [item.item_id for item in items if item.timestamp is None]
        if without and len(without) < len(items):
            raise InputError(
                f"user '{user}'", f"item '{without[0]}' without a time among others with one", "all or none"
            )
        timed = items if without else sorted(items, key=lambda item: (item.timestamp or 0, item.item_id))
        ordered[user] = tuple(item for item in timed if (user, _plain(item.input)) not in asked)
    return ordered


def _fit_question(user: str, items: Sequence[Item], index: int) -> _Question:
    item = items[index]
    row = {
        "query_id": f"{user}/{item.item_id}",
        "user_id": user,
        "input": item.input,
        "reference": item.output,
        "split": "fit",
        "timestamp": item.timestamp,
    }
    when = item.timestamp
    earlier = items[:index] if when is None else [other for other in items if (other.timestamp or 0) < when]
    return _Question(row, tuple(earlier))


def _not_after(items: Sequence[Item], when: int | None) -> tuple[Item, ...]:
    return tuple(item for item in items if when is None or item.timestamp is None or item.timestamp <= when)


def _prompt(policy: Policy, question: _Question, prompting: Prompting) -> Prompt:
    row = question.row
    best = retrieve(question.visible, row["input"], prompting.items, method=prompting.retriever)
    pairs = [(item.input, item.output) for item in best]
    if isinstance(policy, Budgeted) and policy.budget is not None:
        try:
            chat = fit(prompting.instruction, pairs, row["input"], budget=policy.budget, count=policy.count).messages
        except InputError as error:
            raise InputError(f"query '{row['query_id']}'", error.found, error.expected) from error
    else:
        chat = messages(prompting.instruction, pairs, row["input"])
    return Prompt(row["query_id"], tuple(chat))


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def _distinct(names: Sequence[str], what: str) -> None:
    """Names in sorted order must differ."""
    for left, right in itertools.pairwise(names):
        if left == right:
            raise InputError(what, f"'{left}' twice", "distinct ids")
