"""Load LongLaMP (Kumar et al. 2024): abstracts, posts, reviews, emails; each row a question with its profile.

Rows are ``{<user>, input, output, profile: [{...}]}``; the field that names the user is ``name`` for abstracts,
``author`` for posts and ``reviewerId`` for reviews. On the hub (``LongLaMP/LongLaMP``) each task and setting has a
folder of Parquet files, ``product_review_user/test-00000-of-00001.parquet``. Emails come from a corpus that is not
public; the benchmark's script makes them in LaMP's layout (:mod:`bestfor.data.sources.lamp`). Rows of one's own in the
shape of the other tasks are read here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bestfor.data.read.objects import KINDS, Row, read_rows, text_of, time_of
from bestfor.data.read.tables import file_signature
from bestfor.data.sources.benchmarks import LONGLAMP, TASKS, Task, task_named
from bestfor.data.sources.histories import Collector, Questions, entries_of
from bestfor.data.split import Dataset
from bestfor.errors import InputError
from bestfor.extras import require
from bestfor.files import hash_text, labelled

SETTINGS = ("user", "temporal")


def load_longlamp(
    path: str | Path, *, task: str | None = None, split: str = "test", users: int | None = None
) -> Dataset:
    """Load questions as test queries and profiles as histories; inputs lose the benchmark's instruction.

    Rows of one user are merged: an item that is there already is not taken again.

    Args:
        path: a file (.parquet, .jsonl, .json), a folder of such files, or the name of a data set on the hub.
        task: ``"abstract_generation"``, ``"topic_writing"``, ``"product_review"`` or ``"email_generation"``, with
            ``_user`` or ``_temporal`` (the setting) where a folder or the hub holds both; by default what the fields
            of the first row say.
        split: which files of a folder or data set: those whose names begin with it.
        users: keep the first so many users.

    Returns:
        Histories, and queries that are all test queries; a query is named by its file and row.

    Raises:
        InputError: no such file or data set, a field that is missing or of another kind (names file, row and field), or
            rows in which no task is recognised.
        MissingExtraError: a name on the hub without huggingface_hub.
    """
    files = _files(str(path), task, split)
    known = task_named(task, LONGLAMP, "task") if task else _task_of(files[0])
    items, asked = Collector(), Questions()
    found: dict[str, int] = {}
    for file in files:
        for number, (where, row) in enumerate(read_rows(file)):
            user = _user(known, row, where)
            if user not in found and users is not None and len(found) >= users:
                continue
            entries = entries_of(known, row, where)
            found[user] = found.get(user, 0) + len(entries)
            items.add(user, entries)
            asked.add(_query(known, row, (f"{file.name.split('.')[0]}-{number:06d}", user), where), where)
    items.omitted.without = sum(count == 0 for count in found.values())
    parts = [known.name, str(users), *(file_signature(file) for file in files)]
    signature = labelled(hash_text("|".join(parts)))
    name = f"LongLaMP {known.name} ({Path(path).name})"
    queries, histories = asked.table(str(path)), items.table(asked.contents)
    return Dataset(name, signature, histories, queries, notes=items.omitted.notes(), task=known.name)


def _query(
    task: Task, row: Row, names: tuple[str, str], where: str
) -> tuple[str, str, str, str | None, str, int | None]:
    name, user = names
    plain = task.plain(text_of(row, "input", where))
    reference = None if row.get("output") is None else text_of(row, "output", where)
    return (name, user, plain, reference, "test", time_of(row.get("date"), f"{where}, field 'date'"))


def _user(task: Task, row: Row, where: str) -> str:
    field = "user_id" if row.get("user_id") is not None else task.user
    return text_of(row, field, where)


def _task_of(file: Path) -> Task:
    first = next(iter(read_rows(file)), None)
    if first is None:
        raise InputError(str(file), "no rows", "at least one question")
    where, row = first
    for name in LONGLAMP:
        if row.get(TASKS[name].user) is not None:
            return TASKS[name]
    raise InputError(where, "no field of any task's user", "a task: one of " + ", ".join(LONGLAMP))


def _files(path: str, task: str | None, split: str) -> Sequence[Path]:
    place = Path(path)
    if place.is_file():
        return [place]
    if place.is_dir():
        return _within(place, task, split)
    if path.count("/") == 1 and not path.startswith((".", "/", "~")) and not path.endswith(KINDS):
        return _within(_from_hub(path, task, split), task, split)
    raise InputError(path, "no file", "a file, a folder, or the name of a data set on the hub (LongLaMP/LongLaMP)")


def _within(folder: Path, task: str | None, split: str) -> Sequence[Path]:
    inner = next((folder / name for name in _folders(task) if (folder / name).is_dir()), folder)
    files = sorted(file for file in inner.iterdir() if file.name.startswith(split) and file.name.endswith(KINDS))
    if not files:
        found = f"no file whose name begins with '{split}' and ends in one of {', '.join(KINDS)}"
        raise InputError(str(inner), found, "the files of a task and split, such as test-00000-of-00001.parquet")
    return files


def _folders(task: str | None) -> list[str]:
    """List folders that may hold a task's files: by the name given, else by the setting of new users."""
    if task is None:
        return []
    if task.endswith(SETTINGS):
        return [task]
    name = task_named(task, LONGLAMP, "task").name
    return [f"{name}_user", name]


def _from_hub(name: str, task: str | None, split: str) -> Path:
    hub, errors = require("huggingface_hub", "models"), require("huggingface_hub.errors", "models")
    cache = require("huggingface_hub.constants", "models").HF_HUB_CACHE
    if task is None:
        expected = "one of " + ", ".join(f"{known}_{setting}" for known in LONGLAMP[:3] for setting in SETTINGS)
        raise InputError(f"data set '{name}' of the hub", "no task", expected)
    patterns = [f"{folder}/{split}-*.parquet" for folder in _folders(task)]
    expected = (
        "a data set of the hub's cache: run 'hf download --repo-type dataset "
        f'{name} --include "{patterns[0]}"\' where there is a network and copy it to {cache}, '
        "or give the path of a file"
    )
    try:
        return Path(hub.snapshot_download(name, repo_type="dataset", allow_patterns=patterns))
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError, ValueError) as error:
        raise InputError(f"data set '{name}'", f"nothing to be had ({type(error).__name__})", expected) from error
