"""Load LaMP (Salemi et al. 2024): a file of questions, each with its user's profile, and a file of what users wrote.

``*_questions.json`` is an array of ``{id, input, profile: [{id, ...}]}``; ``*_outputs.json`` is ``{task, golds: [{id,
output}]}``. The files of the split by user and of the split by time differ in the items' ``date`` only. The layout of
OPPU (Tan et al. 2024), ``user_top_100_history.json``, is an array of users, ``{profile: [...], query: [{id, input}]}``,
with its labels in a file of outputs.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bestfor.data.read.objects import Row, objects_of, read_rows, text_of, time_of
from bestfor.data.read.tables import file_signature
from bestfor.data.sources.benchmarks import APART, Task, task_named, task_of_question
from bestfor.data.sources.histories import Collector, Entry, Questions, entries_of
from bestfor.data.split import Dataset
from bestfor.errors import InputError
from bestfor.files import hash_text, labelled


@dataclass(frozen=True)
class LampFiles:
    """Paths of a file of questions and of its outputs.

    Attributes:
        questions: of LaMP, or OPPU's file of users; .json or .json.gz. It is read as a stream.
        outputs: what users wrote; None where it is not public, or stands in the questions.
    """

    questions: Path
    outputs: Path | None = None


def load_lamp(
    questions: str | Path,
    outputs: str | Path | None = None,
    *,
    task: str | None = None,
    users: int | None = None,
    fit: LampFiles | None = None,
) -> Dataset:
    """Load questions as test queries and profiles as histories.

    Inputs are kept without the benchmark's instruction (a headline's article, a title's abstract), of questions and
    items alike: prompts bring their own. A user is whom ``user_id`` names; where there is none, questions with the same
    profile, item for item, are one user's, named by the first of them.

    Args:
        questions: see :class:`LampFiles`.
        outputs: likewise.
        task: ``"LaMP_1"`` to ``"LaMP_7"`` (``"LaMP_2N"`` for news), or LongLaMP's ``"email_generation"``; by default
            what the outputs or the questions say.
        users: keep the first so many users of each file.
        fit: more questions (the benchmark's training file, say), with outputs, to learn from.

    Returns:
        Histories, and queries whose split is ``test``, or ``fit`` for those of ``fit``.

    Raises:
        InputError: a file that cannot be read, a field that is missing or of another kind (names file, row and field),
            a question twice, or one without an output where outputs are given or needed.
    """
    test = LampFiles(Path(questions), Path(outputs) if outputs else None)
    golds = _Golds.read(test.outputs)
    known = _task_of(test.questions, golds, task)
    reader = _Reader(known, users)
    reader.read(test.questions, golds, "test")
    if fit is not None:
        reader.read(Path(fit.questions), _Golds.read(fit.outputs and Path(fit.outputs)), "fit")
    return reader.dataset(test, fit)


@dataclass(frozen=True)
class _Golds:
    """Outputs that users wrote, by question."""

    outputs: dict[str, str] = field(default_factory=dict)
    task: str | None = None
    path: Path | None = None

    @classmethod
    def read(cls, path: Path | None) -> _Golds:
        if path is None:
            return cls()
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

    def of(self, question: Row, name: str, where: str) -> str | None:
        """Find a question's output; that of the question itself where there is no file of outputs."""
        if self.path is None:
            own = next((key for key in ("output", "gold") if question.get(key) is not None), None)
            return None if own is None else text_of(question, own, where)
        if name not in self.outputs:
            raise InputError(str(self.path), f"no output of question '{name}'", "one for each question")
        return self.outputs[name]


def _task_of(source: Path, golds: _Golds, task: str | None) -> Task:
    if task is not None:
        return task_named(task, APART, "task")
    if golds.task is not None:
        return task_named(golds.task, APART, f"{golds.path}, field 'task'")
    rows = ((where, asked) for where, row in read_rows(source) for asked in _questions(row, where))
    for where, asked in itertools.islice(rows, 1):
        found = task_of_question(text_of(asked, "input", where), APART)
        if found is not None:
            return found
    raise InputError(str(source), "questions in no known wording", "a task: one of " + ", ".join(APART))


def _questions(row: Row, where: str) -> list[Row]:
    """List a row's questions: itself, or in OPPU's layout those of its user."""
    return list(objects_of(row, "query", where)) if "query" in row else [row]


class _Reader:
    """Reader of files of questions, row by row."""

    def __init__(self, task: Task, users: int | None) -> None:
        self._task, self._most = task, users
        self._items, self._asked = Collector(), Questions()
        self._profiles: dict[bytes, str] = {}
        self._users: dict[str, int] = {}

    def read(self, source: Path, golds: _Golds, split: str) -> None:
        fresh: set[str] = set()
        for where, row in read_rows(source):
            questions = _questions(row, where)
            if not questions:
                continue
            entries = entries_of(self._task, row, where)
            user = self._user(row, questions[0], entries, (where, split))
            if user not in fresh:
                if self._most is not None and len(fresh) >= self._most:
                    continue
                fresh.add(user)
            self._take(user, row, entries)
            for question in questions:
                self._ask(user, question, golds, (where, split))

    def _user(self, row: Row, question: Row, entries: Sequence[Entry], place: tuple[str, str]) -> str:
        where, split = place
        if "user_id" in row:
            return text_of(row, "user_id", where)
        name = _named(text_of(question, "id", where), split)
        if not entries:
            return name
        profile = b"".join(sorted(entry.content + str(entry.timestamp).encode() for entry in entries))
        return self._profiles.setdefault(hashlib.blake2b(profile, digest_size=16).digest(), name)

    def _take(self, user: str, row: Row, entries: Sequence[Entry]) -> None:
        known = user in self._users
        self._users[user] = self._users.get(user, 0) + len(entries)
        if "user_id" in row:
            self._items.add(user, entries)
        elif not known:
            # Without user ids another question can bring no other items: its profile is the same.
            self._items.add(user, entries)
            self._items.forget(user)

    def _ask(self, user: str, question: Row, golds: _Golds, place: tuple[str, str]) -> None:
        where, split = place
        name = text_of(question, "id", where)
        reference = golds.of(question, name, where)
        if split == "fit" and reference is None:
            raise InputError(where, f"no output of question '{name}'", "one for each question to learn from")
        plain = self._task.plain(text_of(question, "input", where))
        when = time_of(question.get("date"), f"{where}, field 'date'")
        self._asked.add((_named(name, split), user, plain, reference, split, when), where)

    def dataset(self, test: LampFiles, fit: LampFiles | None) -> Dataset:
        self._items.omitted.without = sum(count == 0 for count in self._users.values())
        paths = [test.questions, test.outputs, *((fit.questions, fit.outputs) if fit else ())]
        parts = [self._task.name, str(self._most), *("" if path is None else file_signature(path) for path in paths)]
        signature = labelled(hash_text("|".join(parts)))
        queries = self._asked.table(str(test.questions))
        histories = self._items.table(self._asked.contents)
        return Dataset(
            f"{self._task.name} ({test.questions.name})",
            signature,
            histories,
            queries,
            notes=self._items.omitted.notes(),
            task=self._task.name,
        )


def _named(name: str, split: str) -> str:
    """Prefix the id of a question of the fit files: ids count within a file, and those of two files must not meet."""
    return name if split == "test" else f"{split}-{name}"
