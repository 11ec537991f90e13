"""Find folders of models and runs that still hold a person who was forgotten."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bestfor import artifacts
from bestfor.artifacts import CONFIG_FILE
from bestfor.errors import BestforError
from bestfor.serving.base import users_of
from bestfor.serving.names import JOURNAL


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
