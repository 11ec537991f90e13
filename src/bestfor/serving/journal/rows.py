"""Turn records into rows of a journal's tables and back, and apply calls to them within a transaction."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    Table,
    bindparam,
    delete,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from bestfor.errors import BestforError, InputError
from bestfor.serving.journal.many import execute_many
from bestfor.serving.journal.records import RATING_KINDS, Label, Learned, LoggedAnswer, digest, item_of, pack
from bestfor.serving.journal.tables import answers, counters, folders, labels, people, tombstones

_SAID = ("person", "answer", "kind", "value", "low", "high", "texts", "prompt", "weight", "hashed")
"""Columns of a label in which two labels of one key differ where the later one changes the earlier."""

_ONE: ColumnElement[int] = literal_column("1")  # no parameter, which each row would have to give
LOOKED_UP = 500
"""Rows that one statement looks up: databases have a limit of parameters."""


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


@dataclass
class Change:
    """Change of a person's counts: of their answers, and of their labels that hold."""

    answers: int = 0
    labels: int = 0


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
        "key": label.key,
        "kind": label.kind,
        "value": label.value,
        "low": label.low,
        "high": label.high,
        "texts": pack(label.texts),
        "prompt": pack(label.prompt),
        "weight": label.weight,
        "time": label.time,
        "changed": label.changed,
        "withdrawn": label.withdrawn,
        "hashed": label.hashed,
    }


def rated_item(tenant: str, label: Label, answer: Mapping[str, Any] | None) -> bytes | None:
    """Name the text that a label rates; None where it rates none by itself.

    Args:
        tenant: whose label it is.
        label: to be stored.
        answer: ``prompt`` and ``hashed`` as they are stored of the answer that it is about.
    """
    if label.kind not in RATING_KINDS or len(label.texts) != 1:
        return None
    prompt = (label.prompt, label.hashed and label.prompt != "")
    if answer is not None:
        prompt = (json.loads(answer["prompt"]), bool(answer["hashed"]))
    return item_of(tenant, prompt, (label.texts[0], label.hashed))


def read_label(row: Mapping[Any, Any], user: str, answer: str | None) -> Label:
    """Read a label of a row, about the answer of an id."""
    names = ("key", "kind", "value", "low", "high", "weight", "time", "changed", "withdrawn", "hashed")
    texts, prompt = tuple(json.loads(row["texts"])), json.loads(row["prompt"])
    return Label(user=user, answer=answer, texts=texts, prompt=prompt, **{name: row[name] for name in names})


def add_answers(connection: Connection, calls: Sequence[AddAnswer]) -> list[BestforError | None]:
    """Add answers; an id that is there already is an error of its own call."""
    rows = [answer_row(call.tenant, call.answer) for call in calls]
    taken = set(_by_row(connection, answers, ("row",), [row["row"] for row in rows]))
    results: list[BestforError | None] = []
    fresh = []
    named: dict[tuple[str, str], Change] = defaultdict(Change)
    for call, row in zip(calls, rows, strict=True):
        if row["row"] in taken:
            results.append(InputError("answer", f"the id '{call.answer.id[:60]}' again", "an id of its own"))
            continue
        taken.add(row["row"])
        fresh.append(row)
        named[call.tenant, call.answer.user].answers += 1
        results.append(None)
    execute_many(connection, insert(answers), fresh)
    _touch(connection, named, learned=False)
    return results


def keep_answers(connection: Connection, calls: Sequence[Sequence[AddAnswer]]) -> list[int]:
    """Add the answers of calls whose ids are not there; counts the new ones of each call."""
    return [sum(found is None for found in add_answers(connection, call)) for call in calls]


def add_labels(connection: Connection, calls: Sequence[AddLabels]) -> list[Any]:
    """Add, keep or change the labels of calls; a call with one that cannot be stored adds none."""
    rows = [[label_row(call.tenant, label) for label in call.labels] for call in calls]
    every = [row for each in rows for row in each]
    columns = ("row", "withdrawn", *_SAID)
    known = _by_row(connection, labels, columns, [row["row"] for row in every], lock=True)
    asked = ("row", "person", "prompt", "hashed")
    owners = _by_row(connection, answers, asked, [row["answer"] for row in every if row["answer"]])
    before, results = set(known), []
    written: dict[bytes, dict[str, Any]] = {}
    named: dict[tuple[str, str], Change] = defaultdict(Change)
    for call, each in zip(calls, rows, strict=True):
        refused = (_refuse(label, row, known, owners) for label, row in zip(call.labels, each, strict=True))
        wrong = next((found for found in refused if found is not None), None)
        if wrong is not None:
            results.append(wrong)
            continue
        learned = []
        for label, row in zip(call.labels, each, strict=True):
            row["item"] = rated_item(call.tenant, label, owners.get(row["answer"]))
            held = _holds(known.get(row["row"]))
            status = _enter(row, known, written, revive=call.revive)
            learned.append(Learned(label.key, status))
            if status in ("new", "changed"):
                named[call.tenant, label.user].labels += _holds(known[row["row"]]) - held
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
            lose(connection, [{"who": found, "lost": 1}], "labels")
        results.append(found is not None)
    return results


def forget(connection: Connection, calls: Sequence[Named]) -> list[tuple[int, int]]:
    """Remove all that is known of people, and leave a tombstone; counts answers and labels."""
    results = []
    for call in calls:
        person = digest(call.tenant, call.name)
        # First, so that whoever is adding something of theirs has ended before, or finds them unknown.
        connection.execute(delete(people).where(people.c.person == person))
        gone = [connection.execute(delete(table).where(table.c.person == person)) for table in (answers, labels)]
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


def _by_row(
    connection: Connection, table: Table, columns: Sequence[str], rows: list[bytes], *, lock: bool = False
) -> dict[bytes, Any]:
    """Read columns of rows by their digests; ``lock``: nobody else changes them until the transaction ends."""
    chosen = select(*[table.c[name] for name in columns])
    if lock:
        chosen = chosen.order_by(table.c.row).with_for_update()  # SQLite knows no locks of rows and needs none
    wanted = sorted(set(rows))
    found: dict[bytes, Any] = {}
    for start in range(0, len(wanted), LOOKED_UP):
        those = chosen.where(table.c.row.in_(wanted[start : start + LOOKED_UP]))
        found |= {row["row"]: dict(row) for row in connection.execute(those).mappings()}
    return found


def _holds(row: Mapping[str, Any] | None) -> bool:
    return row is not None and row["withdrawn"] is None


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
    fresh.sort(key=itemgetter("person", "row"))  # as they lie in the file
    changed = [row for digest_, row in written.items() if digest_ in before]
    execute_many(connection, insert(labels), fresh)
    if changed:
        columns = (*_SAID[1:], "item", "changed", "withdrawn")  # whose it is never changes
        statement = update(labels).where(labels.c.row == bindparam("at"))
        statement = statement.values({name: bindparam(f"new_{name}") for name in columns})
        values = [{"at": row["row"], **{f"new_{name}": row[name] for name in columns}} for row in changed]
        execute_many(connection, statement, values)


def touching(dialect: str, *, learned: bool) -> Executable:
    """Build the statement that makes a person known and counts what was added of theirs.

    Args:
        dialect: of the database, by SQLAlchemy's name.
        learned: whether their revision counts up, since something was learned of them.

    Returns:
        A statement whose parameters are the columns of ``people``; ``answers`` and ``labels`` are what was added.
    """
    statement = _maker(dialect)(people)
    counts = {name: people.c[name] + statement.excluded[name] for name in ("answers", "labels")}
    revision = {"revision": people.c.revision + _ONE} if learned else {}
    return statement.on_conflict_do_update(index_elements=["person"], set_={**counts, **revision})


def lose(connection: Connection, losses: Sequence[Mapping[str, Any]], what: str) -> None:
    """Count down people's ``answers`` or ``labels``; where labels go, their revision counts up.

    Args:
        connection: within the transaction that removes them.
        losses: ``who``, digest of a person, and ``lost``, how many; each person once.
        what: the column.
    """
    change = {what: people.c[what] - bindparam("lost")}
    if what == "labels":
        change["revision"] = people.c.revision + _ONE
    ordered = sorted(losses, key=itemgetter("who"))
    execute_many(connection, update(people).where(people.c.person == bindparam("who")).values(change), ordered)


def _touch(connection: Connection, named: Mapping[tuple[str, str], Change], *, learned: bool) -> None:
    """Make people known, count what was added, and count up the revision of those of whom something was learned.

    A new person's revision is the time in microseconds, so that it is never one that a forgotten namesake had.
    """
    now = time.time_ns() // 1000
    rows = [
        {"person": digest(*name), "tenant": name[0], "user": name[1], "revision": now, **vars(change)}
        for name, change in named.items()
    ]
    rows.sort(key=itemgetter("person"))
    execute_many(connection, touching(connection.dialect.name, learned=learned), rows)


def _upsert(connection: Connection, table: Table, rows: list[dict[str, Any]], key: str) -> None:
    """Insert rows; those that are there are left as they are."""
    statement = _maker(connection.dialect.name)(table).on_conflict_do_nothing(index_elements=[key])
    execute_many(connection, statement, rows)


def _maker(dialect: str) -> Any:  # noqa: ANN401 - ``insert`` of a dialect
    return postgresql.insert if dialect == "postgresql" else sqlite.insert
