"""Turn records into rows of a journal's tables and back, and apply calls to them within a transaction."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, bindparam, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from bestfor.errors import BestforError, InputError
from bestfor.serving.journal.records import Label, Learned, LoggedAnswer, digest, pack
from bestfor.serving.journal.tables import answers, counters, folders, labels, people, tombstones

_SAID = ("person", "answer", "kind", "value", "low", "high", "texts", "prompt", "weight", "hashed")
"""Columns of a label in which two labels of one key differ where the later one changes the earlier."""


@dataclass(frozen=True)
class AddAnswer:
    """An answer to add."""

    tenant: str
    answer: LoggedAnswer


@dataclass(frozen=True)
class AddLabels:
    """Labels of one call; ``revive``: a withdrawn key holds again."""

    tenant: str
    labels: tuple[Label, ...]
    revive: bool = False


@dataclass(frozen=True)
class Withdraw:
    """A key whose label no longer holds."""

    tenant: str
    key: str


@dataclass(frozen=True)
class Named:
    """A person, or a folder and what it is."""

    tenant: str
    name: str
    kind: int = 0


def answer_row(tenant: str, answer: LoggedAnswer) -> dict[str, Any]:
    """Write an answer as a row."""
    return {
        "row": digest(tenant, answer.id),
        "person": digest(tenant, answer.user),
        "id": answer.id,
        "prompt": pack(answer.prompt),
        "texts": pack(answer.texts),
        "mean": pack(answer.mean),
        "std": None if answer.std is None else pack(answer.std),
        "chances": pack(answer.chances),
        **{name: getattr(answer, name) for name in ("chosen", "rule", "model", "served", "tokens", "time", "hashed")},
    }


def read_answer(row: Mapping[Any, Any], user: str) -> LoggedAnswer:
    """Read an answer of a row."""
    return LoggedAnswer(
        id=row["id"],
        user=user,
        prompt=json.loads(row["prompt"]),
        texts=tuple(json.loads(row["texts"])),
        mean=tuple(json.loads(row["mean"])),
        std=None if row["std"] is None else tuple(json.loads(row["std"])),
        chances=tuple(json.loads(row["chances"])),
        **{name: row[name] for name in ("chosen", "rule", "model", "served", "tokens", "time", "hashed")},
    )


def label_row(tenant: str, label: Label) -> dict[str, Any]:
    """Write a label as a row."""
    return {
        "row": digest(tenant, label.key),
        "person": digest(tenant, label.user),
        "answer": None if label.answer is None else digest(tenant, label.answer),
        "texts": pack(label.texts),
        "prompt": pack(label.prompt),
        **{name: getattr(label, name) for name in ("key", "kind", "value", "low", "high", "weight", "time", "hashed")},
        "changed": label.changed,
        "withdrawn": label.withdrawn,
    }


def read_label(row: Mapping[Any, Any], user: str, answer: str | None) -> Label:
    """Read a label of a row, about the answer of an id."""
    names = ("key", "kind", "value", "low", "high", "weight", "time", "changed", "withdrawn", "hashed")
    texts, prompt = tuple(json.loads(row["texts"])), json.loads(row["prompt"])
    return Label(user=user, answer=answer, texts=texts, prompt=prompt, **{name: row[name] for name in names})


def add_answers(connection: Connection, calls: Sequence[AddAnswer]) -> list[BestforError | None]:
    """Add answers; an id that is there already is an error of its own call."""
    rows = [answer_row(call.tenant, call.answer) for call in calls]
    taken = set(connection.scalars(select(answers.c.row).where(answers.c.row.in_([row["row"] for row in rows]))))
    results: list[BestforError | None] = []
    fresh = []
    for call, row in zip(calls, rows, strict=True):
        if row["row"] in taken:
            results.append(InputError("answer", f"the id '{call.answer.id[:60]}' again", "an id of its own"))
            continue
        taken.add(row["row"])
        fresh.append(row)
        results.append(None)
    if fresh:
        connection.execute(insert(answers), fresh)
        _touch(connection, {(call.tenant, call.answer.user) for call in calls}, learned=False)
    return results


def keep_answers(connection: Connection, calls: Sequence[Sequence[AddAnswer]]) -> list[int]:
    """Add the answers of calls whose ids are not there; counts the new ones of each call."""
    return [sum(found is None for found in add_answers(connection, call)) for call in calls]


def add_labels(connection: Connection, calls: Sequence[AddLabels]) -> list[Any]:
    """Add, keep or change the labels of calls; a call with one that cannot be stored adds none."""
    rows = [[label_row(call.tenant, label) for label in call.labels] for call in calls]
    every = [row for each in rows for row in each]
    columns = ("row", "withdrawn", *_SAID)
    known = _by_row(connection, labels, columns, [row["row"] for row in every])
    owners = _by_row(connection, answers, ("row", "person"), [row["answer"] for row in every if row["answer"]])
    before, results = set(known), []
    written: dict[bytes, dict[str, Any]] = {}
    named: set[tuple[str, str]] = set()
    for call, each in zip(calls, rows, strict=True):
        refused = (_refuse(label, row, known, owners) for label, row in zip(call.labels, each, strict=True))
        wrong = next((found for found in refused if found is not None), None)
        if wrong is not None:
            results.append(wrong)
            continue
        learned = []
        for label, row in zip(call.labels, each, strict=True):
            status = _enter(row, known, written, revive=call.revive)
            learned.append(Learned(label.key, status))
            if status in ("new", "changed"):
                named.add((call.tenant, label.user))
        results.append(learned)
    _store(connection, written, before)
    _touch(connection, named, learned=True)
    return results


def withdraw(connection: Connection, calls: Sequence[Withdraw]) -> list[bool]:
    """Withdraw labels by their keys; each result says whether there was one that held."""
    now, results = time.time(), []
    for call in calls:
        row = digest(call.tenant, call.key)
        found = connection.execute(
            update(labels)
            .where(labels.c.row == row, labels.c.withdrawn.is_(None))
            .values(withdrawn=now)
            .returning(labels.c.person)
        ).scalar()
        if found is not None:
            connection.execute(update(people).where(people.c.person == found).values(revision=people.c.revision + 1))
        results.append(found is not None)
    return results


def forget(connection: Connection, calls: Sequence[Named]) -> list[tuple[int, int]]:
    """Remove all that is known of people, and leave a tombstone; counts answers and labels."""
    results = []
    for call in calls:
        person = digest(call.tenant, call.name)
        gone = [connection.execute(delete(table).where(table.c.person == person)) for table in (answers, labels)]
        connection.execute(delete(people).where(people.c.person == person))
        _upsert(connection, tombstones, [{"person": person, "time": time.time()}], "person")
        results.append((gone[0].rowcount, gone[1].rowcount))
    counted = update(counters).where(counters.c.name == "forgets")
    connection.execute(counted.values(value=counters.c.value + len(calls)))
    return results


def note_folders(connection: Connection, calls: Sequence[Named]) -> list[None]:
    """Remember folders of models and runs."""
    now = time.time()
    rows = {digest(call.name): {"path": call.name, "kind": call.kind, "time": now} for call in calls}
    _upsert(connection, folders, [{"row": row, **values} for row, values in rows.items()], "row")
    return [None] * len(calls)


def _by_row(connection: Connection, table: Table, columns: Sequence[str], rows: list[bytes]) -> dict[bytes, Any]:
    """Read columns of rows by their digests."""
    if not rows:
        return {}
    chosen = [table.c[name] for name in columns]
    found = connection.execute(select(*chosen).where(table.c.row.in_(rows))).mappings()
    return {row["row"]: dict(row) for row in found}


def _refuse(
    label: Label, row: dict[str, Any], known: Mapping[bytes, Any], owners: Mapping[bytes, Any]
) -> InputError | None:
    """Say why a label cannot be stored: no such answer, or somebody else's answer or key."""
    if row["answer"] is not None:
        owner = owners.get(row["answer"])
        if owner is None:
            return InputError("answer", f"the id '{str(label.answer)[:60]}', which is not in the journal", "a known id")
        if owner["person"] != row["person"]:
            return InputError("user", f"'{label.user[:60]}'", "the user to whom the answer was given")
    stored = known.get(row["row"])
    if stored is not None and stored["person"] != row["person"]:
        return InputError("key", f"'{label.key[:60]}', which is a label of somebody else", "a key of its own")
    return None


def _enter(row: dict[str, Any], known: dict[bytes, Any], written: dict[bytes, Any], *, revive: bool) -> Any:  # noqa: ANN401
    """Decide what a label does, and note the row to be written."""
    stored = known.get(row["row"])
    if stored is None:
        known[row["row"]], written[row["row"]] = row, row
        return "new"
    same = all(stored[name] == row[name] for name in _SAID)
    if stored["withdrawn"] is not None and not revive:
        return "withdrawn"
    if same and stored["withdrawn"] is None:
        return "same"
    first = written.get(row["row"])
    changed = {**row, "changed": row["time"], "time": row["time"] if first is None else first["time"]}
    known[row["row"]], written[row["row"]] = changed, changed
    return "changed" if stored["withdrawn"] is None else "new"


def _store(connection: Connection, written: Mapping[bytes, dict[str, Any]], before: set[bytes]) -> None:
    """Insert the labels that are new and update those that are not."""
    fresh = [row for digest_, row in written.items() if digest_ not in before]
    changed = [row for digest_, row in written.items() if digest_ in before]
    if fresh:
        connection.execute(insert(labels), fresh)
    if changed:
        columns = (*_SAID[1:], "changed", "withdrawn")  # whose it is never changes
        statement = update(labels).where(labels.c.row == bindparam("at"))
        statement = statement.values({name: bindparam(f"new_{name}") for name in columns})
        values = [{"at": row["row"], **{f"new_{name}": row[name] for name in columns}} for row in changed]
        connection.execute(statement, values)


def _touch(connection: Connection, named: set[tuple[str, str]], *, learned: bool) -> None:
    """Make people known, and count up the revision of those of whom something was learned.

    A new person's revision is the time in microseconds, so that it is never one that a forgotten namesake had.
    """
    now = time.time_ns() // 1000
    rows = sorted(
        ({"person": digest(*name), "tenant": name[0], "user": name[1], "revision": now} for name in named),
        key=lambda row: row["person"],
    )
    _upsert(connection, people, rows, "person", {"revision": people.c.revision + 1} if learned else None)


def _upsert(
    connection: Connection,
    table: Table,
    rows: list[dict[str, Any]],
    key: str,
    change: Mapping[str, Any] | None = None,
) -> None:
    """Insert rows; those that are there are changed, or left as they are."""
    if not rows:
        return
    maker = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = maker(table)
    if change is None:
        statement = statement.on_conflict_do_nothing(index_elements=[key])
    else:
        statement = statement.on_conflict_do_update(index_elements=[key], set_=dict(change))
    connection.execute(statement, rows)
