"""LaMP (Salemi et al. 2024): a file of questions, each with its user's profile, and a file of what users wrote.

``*_questions.json`` is an array of ``{id, input, profile: [{id, ...}]}``; ``*_outputs.json`` is ``{task, golds: [{id,
output}]}``. The files of the split by user and of the split by time differ in the items' ``date`` only. The layout of
OPPU (Tan et al. 2024), ``user_top_100_history.json``, is an array of users, ``{profile: [...], query: [{id, input}]}``,
with its labels in a file of outputs.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from bestfor.data.benchmarks import LAMP, Task, task_named, task_of_question
from bestfor.data.histories import Collector, Entry, objects_of, text_of, time_of
from bestfor.data.jsonarray import read_array
from bestfor.data.schema import QUERIES
from bestfor.data.split import Dataset
from bestfor.data.table import file_signature
from bestfor.errors import InputError

Row = Mapping[str, object]


def load_lamp(
    questions: str | Path, outputs: str | Path | None = None, *, task: str | None = None, users: int | None = None
) -> Dataset:
    """Questions as test queries, profiles as histories.

    Inputs are kept without the benchmark's instruction (a headline's article, a title's abstract), of questions and
    items alike: prompts bring their own. A user is whom ``user_id`` names; where there is none, questions with the same
    profile, item for item, are one user's, named by the first of them.

    Args:
        questions: the file of questions, or OPPU's file of users; .json or .json.gz. It is read as a stream.
        outputs: the file of what users wrote; None where it is not public.
        task: ``"LaMP_1"`` to ``"LaMP_7"`` (``"LaMP_2N"`` for news); by default what the outputs or the questions say.
        users: keep the first so many users of the file.

    Returns:
        Histories, and queries that are all test queries.

    Raises:
        InputError: a file that cannot be read, a field that is missing or of another kind (names file, row and field),
            a question twice, or one without an output where outputs are given.
    """
    golds = _Golds.read(Path(outputs)) if outputs else _Golds({}, None, None)
    source = Path(questions)
    reader = _Reader(source, golds, users)
    reader.read(_task_of(source, golds, task))
    return reader.dataset()


@dataclass(frozen=True)
class _Golds:
    """What users wrote, by question."""

    outputs: dict[str, str]
    task: str | None
    path: Path | None

    @classmethod
    def read(cls, path: Path) -> _Golds:
        try:
            found = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:
            line = (str(getattr(error, "strerror", None) or error).splitlines() or ["unreadable"])[0]
            raise InputError(str(path), f"what cannot be read ({line})", "a file of outputs, JSON in UTF-8") from error
        top = found if isinstance(found, dict) else {"golds": found}
        outputs: dict[str, str] = {}
        for row, gold in enumerate(objects_of(top, "golds", str(path)), start=1):
            where = f"{path}, gold {row}"
            name = text_of(gold, "id", where)
            if name in outputs:
                raise InputError(f"{where}, field 'id'", f"'{name}' twice", "distinct ids")
            outputs[name] = text_of(gold, "output", where)
        return cls(outputs, text_of(top, "task", str(path)) if top.get("task") is not None else None, path)


def _task_of(source: Path, golds: _Golds, task: str | None) -> Task:
    if task is not None:
        return task_named(task, LAMP, "task")
    if golds.task is not None:
        return task_named(golds.task, LAMP, f"{golds.path}, field 'task'")
    rows = (
        (number, asked) for number, row in read_array(source) for asked in _questions(row, f"{source}, row {number}")
    )
    for number, asked in itertools.islice(rows, 1):
        found = task_of_question(text_of(asked, "input", f"{source}, row {number}"), LAMP)
        if found is not None:
            return found
    raise InputError(str(source), "questions in no known wording", "a task: one of " + ", ".join(LAMP))


def _questions(row: Row, where: str) -> list[Row]:
    """A row's questions: itself, or in OPPU's layout those of its user."""
    return list(objects_of(row, "query", where)) if "query" in row else [row]


class _Reader:
    """Reads questions row by row."""

    def __init__(self, source: Path, golds: _Golds, users: int | None) -> None:
        self._source, self._golds = source, golds
        self._most = users
        self._items = Collector()
        self._profiles: dict[bytes, str] = {}
        self._users: dict[str, int] = {}
        self._seen: dict[str, int] = {}
        self._rows: list[tuple[object, ...]] = []
        self._task = ""

    def read(self, task: Task) -> None:
        self._task = task.name
        for number, row in read_array(self._source):
            where = f"{self._source}, row {number}"
            asked = _questions(row, where)
            if asked:
                self._row(task, row, asked, where)

    def _row(self, task: Task, row: Row, asked: list[Row], where: str) -> None:
        entries = list(_entries(task, row, where))
        user = self._user(row, asked[0], entries, where)
        if user not in self._users and self._most is not None and len(self._users) >= self._most:
            return
        first = user not in self._users
        self._users[user] = self._users.get(user, 0) + len(entries)
        # Without user ids an equal profile is all that a second question could bring.
        if first or "user_id" in row:
            self._items.add(user, entries)
        if "user_id" not in row:
            self._items.forget(user)
        for question in asked:
            self._ask(task, user, question, where)

    def _user(self, row: Row, question: Row, entries: list[Entry], where: str) -> str:
        if "user_id" in row:
            return text_of(row, "user_id", where)
        name = text_of(question, "id", where)
        if not entries:
            return name
        profile = b"".join(sorted(entry.content + str(entry.timestamp).encode() for entry in entries))
        return self._profiles.setdefault(hashlib.blake2b(profile, digest_size=16).digest(), name)

    def _ask(self, task: Task, user: str, question: Row, where: str) -> None:
        name = text_of(question, "id", where)
        if name in self._seen:
            raise InputError(f"{where}, field 'id'", f"question '{name}' twice", "distinct ids")
        self._seen[name] = 1
        when = time_of(question.get("date"), f"{where}, field 'date'")
        plain = task.plain(text_of(question, "input", where))
        self._rows.append((name, user, plain, self._reference(question, name, where), "test", when))

    def _reference(self, question: Row, name: str, where: str) -> str | None:
        if self._golds.path is None:
            own = next((field for field in ("output", "gold") if question.get(field) is not None), None)
            return None if own is None else text_of(question, own, where)
        if name not in self._golds.outputs:
            raise InputError(str(self._golds.path), f"no output of question '{name}'", "one for each question")
        return self._golds.outputs[name]

    def dataset(self) -> Dataset:
        if not self._rows:
            raise InputError(str(self._source), "no questions", "at least one")
        left = self._items.left
        left.without = sum(count == 0 for count in self._users.values())
        paths = [path for path in (self._source, self._golds.path) if path is not None]
        parts = [self._task, str(self._most), *(file_signature(path) for path in paths)]
        signature = "sha256:" + hashlib.sha256("|".join(parts).encode()).hexdigest()
        columns = [list(column) for column in zip(*self._rows, strict=True)]
        queries = pa.table(
            [pa.array(column, kind.type) for column, kind in zip(columns, QUERIES, strict=True)], schema=QUERIES
        )
        name = f"{self._task} ({self._source.name})"
        return Dataset(name, signature, self._items.table(), queries, notes=left.notes(), task=self._task)


def _entries(task: Task, row: Row, where: str) -> Iterator[Entry]:
    for at, item in enumerate(objects_of(row, "profile", where)):
        place = f"{where}, profile[{at}]"
        asked, wrote = task.item({field: text_of(item, field, place) for field in task.fields})
        name = text_of(item, "id", place) if item.get("id") is not None else str(at)
        yield Entry(name, asked, wrote, time_of(item.get("date"), f"{place}, field 'date'"))
