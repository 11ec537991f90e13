"""Remove a person from a journal, and find the folders of models and runs that still hold them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from bestfor import artifacts
from bestfor.artifacts import CONFIG_FILE
from bestfor.errors import BestforError
from bestfor.serving.base import users_of
from bestfor.serving.journal import Forgotten
from bestfor.serving.names import JOURNAL, model_name

if TYPE_CHECKING:
    from bestfor.serving.journal import Journal


def forget_person(journal: Journal, tenant: str, user: str, folders: Iterable[tuple[Path, bool]] = ()) -> Forgotten:
    """Remove a person from a journal for good.

    Args:
        journal: where they are removed.
        tenant: whose user it is.
        user: who goes.
        folders: of models and runs beside those that the journal knows, and whether each is a run's.

    Returns:
        A receipt that names what still holds them.

    Raises:
        InputError: an id that cannot be one.
        JournalError: it could not be done.
    """
    answers, labels, wiped = journal.forget(tenant, user)
    held, notes = folders_with([*journal.folders(), *folders], model_name(tenant, user))
    if not wiped:
        notes.append("the journal's log could not be emptied (another reader, or a full disk): forget again")
    if journal.url.get_backend_name() == "postgresql":
        notes.append("PostgreSQL's own write-ahead log, replicas and backups are not reached from here")
    return Forgotten(user, answers, labels, wiped, tuple(held), tuple(notes))


def folders_with(folders: Iterable[tuple[Path, bool]], name: str) -> tuple[list[str], list[str]]:
    """Look for a person in folders, and in every model of those that are runs.

    Args:
        folders: paths, and whether each is a run's.
        name: as models call the person.

    Returns:
        Folders that hold their labels, weights or texts, and sentences on those that could not be read.
    """
    held: list[str] = []
    notes: list[str] = []
    for folder, is_run in sorted(set(folders)):
        if not folder.is_dir():
            continue
        try:
            if is_run and name in users_of(folder):
                held.append(str(folder))
            models = sorted(path.parent for path in folder.glob(f"models/*/{CONFIG_FILE}")) if is_run else [folder]
            held += [str(one) for one in models if _knows(one, name) and str(one) not in held]
        except (BestforError, OSError) as error:
            notes.append(f"{folder} could not be read, it may hold them still ({error})")
    return held, notes


def _knows(model: Path, name: str) -> bool:
    """Tell whether a model has rows of a person's own."""
    if not (model / CONFIG_FILE).is_file():
        return False
    return bool(artifacts.read(model, users=[name, name + JOURNAL]).users)
