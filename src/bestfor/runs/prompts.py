"""Make the prompts of a run: fit queries from what users wrote, and for every query a prompt that never looks ahead."""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from bestfor.data.schema import HISTORIES, QUERIES
from bestfor.data.text import collapse_spaces
from bestfor.encoders.base import Encoder
from bestfor.errors import InputError
from bestfor.policies.base import Budgeted, Policy, Prompt
from bestfor.policies.others import OthersRetriever
from bestfor.policies.profiles import Profiles, with_profile
from bestfor.policies.prompts import FittedChat, Template, estimate, fit, published, turns
from bestfor.policies.retrieval import Item, Retriever, passage

_NAMED = 5


@dataclass(frozen=True)
class Prompting:
    """Options of prompts: what stands in them.

    Attributes:
        instruction: what the policy has to do, in our own words.
        items: how many of the user's earlier items.
        retriever: how they are chosen, see :func:`bestfor.policies.retrieval.retrieve`.
        published: a benchmark's task whose own prompt is used instead of the instruction and turns; empty for ours.
        tokens: the most tokens of a prompt, None where only the policy's own limit counts.
        encoder: what compares them, for the retriever ``dense``.
        too_long: what becomes of a query that is too long by itself: ``"error"``, ``"drop"`` leaves it out, and
            ``"truncate"`` cuts its end.
        profiles: summaries of users, each of which stands in all prompts of its user; None for none.
        items_from: whose items stand in a prompt: the user's ``"own"``, or, as a control, those of ``"others"``
            (:class:`bestfor.policies.others.OthersRetriever`).
        seed: of the retriever ``random``.
    """

    instruction: str = ""
    items: int = 4
    retriever: str = "bm25"
    published: str = ""
    tokens: int | None = None
    encoder: Encoder | None = None
    too_long: Literal["error", "drop", "truncate"] = "error"
    profiles: Profiles | None = None
    items_from: Literal["own", "others"] = "own"
    seed: int = 0


@dataclass(frozen=True)
class PromptedQueries:
    """Queries and their prompts, row for row.

    Attributes:
        queries: table of schema ``QUERIES``, sorted by id.
        prompts: one for each query.
        shown: how many items stand in each prompt.
        dropped: how many items were chosen for each prompt and found no room in it.
        cut: whether each query was cut.
        left_out: ids of queries that were too long, and left out.
        limit: the most tokens of a prompt, None where there is no limit.
        told: notes on what stands in the prompts.
    """

    queries: pa.Table
    prompts: tuple[Prompt, ...]
    shown: tuple[int, ...]
    dropped: tuple[int, ...]
    cut: tuple[bool, ...] = ()
    left_out: tuple[str, ...] = ()
    limit: int | None = None
    told: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on prompts, and on queries that were too long, for a reader of the results."""
        cut, out = sum(self.cut), len(self.left_out)
        whole = len(self.prompts) + out
        longer = f"of {whole} queries are longer than prompts may be ({self.limit} tokens)"
        said = [*self.told, *([f"{cut} {longer}: cut at their end"] if cut else [])]
        if out:
            named = ", ".join(self.left_out[:_NAMED]) + (f" and {out - _NAMED} more" if out > _NAMED else "")
            said.append(f"{out} {longer}: left out ({named})")
        return tuple(said)

    @property
    def counts(self) -> dict[str, int]:
        """Totals, for the record."""
        too_long = {"queries_cut": sum(self.cut), "queries_left_out": len(self.left_out)}
        return {
            "queries": len(self.prompts),
            "items_shown": sum(self.shown),
            "items_dropped": sum(self.dropped),
            "prompts_with_dropped_items": sum(count > 0 for count in self.dropped),
            **{name: count for name, count in too_long.items() if count},
        }


@dataclass(frozen=True)
class _PromptedQuery:
    """A row of the table of queries, its prompt, the counts of items shown and dropped, and whether it was cut."""

    row: dict[str, Any]
    prompt: Prompt
    shown: int
    dropped: int
    cut: bool


def count_unlabelled(count: int, fit_share: float) -> int:
    """Count a user's items, the earliest of ``count``, that are not labelled and may train the user's adapter."""
    return int(round(count * (1.0 - fit_share), 9))


def count_labelled(count: int, fit_items: int, fit_share: float) -> int:
    """Count a user's items, the latest of ``count``, that become fit queries."""
    return min(fit_items, count - count_unlabelled(count, fit_share))


def build_prompts(
    policy: Policy,
    histories: pa.Table,
    queries: pa.Table,
    fit_items: int,
    prompting: Prompting,
    *,
    fit_share: float = 1.0,
) -> PromptedQueries:
    """Make fit queries of users' latest items, and prompts for these and the given queries.

    A fit query's prompt shows items strictly earlier than the item itself: by time where the user's items have times
    (so not those of the same moment), by their order in the table where they have none. A given query's prompt may
    show all history, but nothing later than the query where both have times. An item whose input is that of one of the
    user's given queries is that query: it neither becomes a fit query nor shows in a prompt. An item without an input
    (a text that was not asked for) may show and never becomes a fit query. Users are taken one after another: memory
    holds the prompts and one user's history.

    Args:
        policy: where it knows a budget, items that find no room are left out.
        histories: table of schema ``HISTORIES``.
        queries: table of schema ``QUERIES``.
        fit_items: how many of each user's items, the latest, become fit queries.
        prompting: what stands in a prompt.
        fit_share: share of each user's items, the latest, that may become fit queries; earlier ones only show.

    Returns:
        All queries with their prompts. A fit query's id is ``<user>/<item>``, its reference what the user wrote.

    Raises:
        InputError: two items or queries of one name, a user of whose items only some have times, or a query that does
            not fit the budget even without items.
    """
    given: dict[str, list[dict[str, Any]]] = {}
    for row in queries.select(QUERIES.names).to_pylist():
        given.setdefault(row["user_id"], []).append(row)
    prompter = _Prompter(policy, prompting)
    if prompting.items_from == "others":
        prompter.index_others(dict(items_by_user(histories, queries)), given)
    questions: list[_PromptedQuery] = []
    for user, items in items_by_user(histories, queries):
        rows = given.pop(user, [])
        retriever = prompter.retriever(items, rows)
        for row in rows:
            questions += prompter.prompts(row, retriever, _not_after(items, row["timestamp"]))
        for index in _labelled(items, fit_items, fit_share):
            row, earlier = _fit_question(user, items, index)
            questions += prompter.prompts(row, retriever, earlier)
    nothing = prompter.retriever((), ())
    questions += [made for rows in given.values() for row in rows for made in prompter.prompts(row, nothing, 0)]
    questions.sort(key=lambda question: question.row["query_id"])
    _check_distinct([question.row["query_id"] for question in questions], "queries")
    table = pa.Table.from_pylist([question.row for question in questions], schema=QUERIES)
    columns = [(question.prompt, question.shown, question.dropped, question.cut) for question in questions]
    prompts, shown, dropped, cut = zip(*columns, strict=True) if columns else ((), (), (), ())
    told = prompting.profiles.notes if prompting.profiles is not None else ()
    return PromptedQueries(table, prompts, shown, dropped, cut, tuple(sorted(prompter.left_out)), prompter.budget, told)


def early_prompts(
    policy: Policy, histories: pa.Table, queries: pa.Table, fit_share: float, prompting: Prompting
) -> PromptedQueries:
    """Make queries of the items that are too early to be labelled, and may train; each prompt shows earlier ones alone.

    Args:
        policy: as for :func:`build_prompts`; likewise the tables.
        histories: likewise.
        queries: no item that is one of them is asked.
        fit_share: share of a user's items, the latest, that are kept for labels.
        prompting: what stands in a prompt.
    """
    rows: list[tuple[str, str, str, str, int | None]] = []
    for user, items in items_by_user(histories, queries):
        askable = [item for item in items if item.input.strip()]
        for item in askable[: count_unlabelled(len(askable), fit_share)]:
            rows.append((user, item.item_id, item.input, item.output, item.timestamp))
    columns = zip(*rows, strict=True) if rows else [()] * len(HISTORIES)
    arrays = [pa.array(list(column), field.type) for column, field in zip(columns, HISTORIES, strict=True)]
    return build_prompts(policy, pa.table(arrays, schema=HISTORIES), QUERIES.empty_table(), len(rows), prompting)


def seen_by_all(
    items: Sequence[Item], rows: Sequence[Mapping[str, Any]], fit_items: int, fit_share: float = 1.0
) -> int:
    """Count a user's items that all of the user's queries may see, those that label included.

    Args:
        items: the user's, oldest first, as :func:`items_by_user` lists them.
        rows: the user's given queries.
        fit_items: as for :func:`build_prompts`.
        fit_share: likewise.
    """
    counts = [_not_after(items, row["timestamp"]) for row in rows]
    counts += [_fit_question("", items, index)[1] for index in _labelled(items, fit_items, fit_share)]
    return min(counts, default=len(items))


def _labelled(items: Sequence[Item], fit_items: int, fit_share: float) -> list[int]:
    """List the places of a user's items that become fit queries."""
    askable = [index for index, item in enumerate(items) if item.input.strip()]
    return askable[len(askable) - count_labelled(len(askable), fit_items, fit_share) :]


def items_by_user(histories: pa.Table, queries: pa.Table) -> Iterator[tuple[str, tuple[Item, ...]]]:
    """List each user with a history, by name, and their items, oldest first, without those that are asked for.

    Raises:
        InputError: two items of one name, or a user of whose items only some have times.
    """
    asked: dict[str, set[str]] = {}
    for user, text in zip(queries["user_id"].to_pylist(), queries["input"].to_pylist(), strict=True):
        asked.setdefault(user, set()).add(collapse_spaces(text))
    histories = histories.select(HISTORIES.names)
    for user, slices in slices_by_user(histories["user_id"]).items():
        rows = [row for start, count in slices for row in histories.slice(start, count).to_pylist()]
        yield user, _items(user, rows, asked.get(user, set()))


def slices_by_user(users: pa.ChunkedArray) -> dict[str, list[tuple[int, int]]]:
    """Find each user's rows, (first, count) of every run, by name; slices of a mapped file are not copied."""
    encoded = users.dictionary_encode().unify_dictionaries().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        return {}
    code = encoded.indices.to_numpy()
    names = encoded.dictionary.to_pylist()
    first = np.flatnonzero(np.diff(code, prepend=-1))
    count = np.diff(first, append=len(code))
    found: dict[str, list[tuple[int, int]]] = {name: [] for name in sorted(names)}
    for start, rows in zip(first.tolist(), count.tolist(), strict=True):
        found[names[code[start]]].append((start, rows))
    return found


def _items(user: str, rows: list[dict[str, Any]], asked: set[str]) -> tuple[Item, ...]:
    items = [Item(row["item_id"], row["input"], row["output"], row["timestamp"]) for row in rows]
    _check_distinct(sorted(item.item_id for item in items), f"items of user '{user}'")
    without = [item.item_id for item in items if item.timestamp is None]
    if without and len(without) < len(items):
        raise InputError(f"user '{user}'", f"item '{without[0]}' without a time among others with one", "all or none")
    timed = items if without else sorted(items, key=lambda item: (_time(item), item.item_id))
    return tuple(item for item in timed if not asked or not item.input or collapse_spaces(item.input) not in asked)


def _fit_question(user: str, items: Sequence[Item], index: int) -> tuple[dict[str, Any], int]:
    """Make the row that asks for an item, and count the items that are strictly earlier."""
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
    return row, index if when is None else bisect_left(items, when, key=_time)


def _not_after(items: Sequence[Item], when: int | None) -> int:
    """Count a user's items, oldest first, that a query of this time may see."""
    if when is None or not items or items[0].timestamp is None:
        return len(items)
    return bisect_right(items, when, key=_time)


def _time(item: Item) -> int:
    return item.timestamp or 0


class _Prompter:
    """Maker of prompts that keep to a budget."""

    def __init__(self, policy: Policy, prompting: Prompting) -> None:
        self._prompting = prompting
        self._template: Template = (
            published(prompting.published) if prompting.published else turns(prompting.instruction)
        )
        own = policy.budget if isinstance(policy, Budgeted) else None
        limits = [limit for limit in (own, prompting.tokens) if limit is not None]
        self.budget = min(limits) if limits else None
        self.left_out: list[str] = []
        self._count = policy.count if isinstance(policy, Budgeted) else estimate
        self._others: OthersRetriever | None = None

    def index_others(
        self, items: Mapping[str, Sequence[Item]], given: Mapping[str, Sequence[Mapping[str, Any]]]
    ) -> None:
        """Index everybody's items, for prompts that show those of others.

        Args:
            items: each user's.
            given: each user's given queries, whose texts are the user's own.
        """
        prompting = self._prompting
        own = {
            user: [text for row in rows for text in (row["input"], row["reference"]) if text]
            for user, rows in given.items()
        }
        self._others = OthersRetriever(items, own, prompting.retriever, prompting.encoder, prompting.seed)

    def retriever(self, items: Sequence[Item], rows: Sequence[dict[str, Any]]) -> Retriever:
        """Index a user's items, for all of the user's queries."""
        prompting = self._prompting
        if self._others is not None:
            return Retriever((), "none")
        if items and prompting.encoder is not None and prompting.retriever == "dense":
            # What will be compared is encoded in one call; an embedding depends on its own text alone.
            asked = [*(item.input for item in items), *(row["input"] for row in rows)]
            prompting.encoder.encode([*map(passage, items), *asked])
        return Retriever(items, prompting.retriever, prompting.encoder, prompting.seed)

    def prompts(self, row: dict[str, Any], retriever: Retriever, seen: int) -> list[_PromptedQuery]:
        """Make the prompt of a query that may see the user's first so many items; none where it is left out."""
        count = self._prompting.items
        if self._others is not None:
            best = self._others.best(row["user_id"], row["input"], count, before=row["timestamp"])
        else:
            best = retriever.best(row["input"], count, seen=seen)
        try:
            fitted = self._fit([(item.input, item.output) for item in best], row)
        except InputError as error:
            if self._prompting.too_long != "drop":
                expected = f'{error.expected} (prompt_tokens, or too_long = "drop" or "truncate" in [policy])'
                raise InputError(f"query '{row['query_id']}'", error.found, expected) from error
            self.left_out.append(row["query_id"])
            return []
        prompt = Prompt(row["query_id"], tuple(fitted.messages), row["user_id"])
        return [_PromptedQuery(row, prompt, len(best) - fitted.dropped, fitted.dropped, fitted.cut)]

    def _fit(self, pairs: list[tuple[str, str]], row: dict[str, Any]) -> FittedChat:
        profiles = self._prompting.profiles
        template = self._template
        if profiles is not None:
            template = with_profile(template, profiles.texts.get(row["user_id"], ""))
        if self.budget is None:
            return FittedChat(template(pairs, row["input"]), 0)
        truncate = self._prompting.too_long == "truncate"
        return fit(template, pairs, row["input"], budget=self.budget, count=self._count, truncate=truncate)


def _check_distinct(names: Sequence[str], what: str) -> None:
    """Refuse names, in sorted order, of which two are equal."""
    for left, right in itertools.pairwise(names):
        if left == right:
            raise InputError(what, f"'{left}' twice", "distinct ids")
