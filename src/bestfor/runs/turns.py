"""Let one process at a time work in a run's folder, or several that do parts of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bestfor.backends.parts import WorkPart
from bestfor.backends.place import Place, kept_in
from bestfor.errors import InputError
from bestfor.files import hold, locked
from bestfor.runs.config import RunConfig

PLACE = ".steps"
"""Folder within the run's that is locked."""

_NO_PATH = {errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EINVAL}


@contextmanager
def working_in(folder: Path, tell: Callable[[str], None], *, shared: bool = False) -> Iterator[None]:
    """Hold a run's folder while the block runs; whoever comes second waits, and says so.

    The lock is the operating system's: it goes with the process, however that ends.

    Args:
        folder: the run's; made where it is not there, and removed again where nothing was written into it.
        tell: called with a line where somebody else works there.
        shared: whether others may do so at the same time that say the same: each does a part of its own.
    """
    if folder.exists() and not folder.is_dir():
        yield  # whoever works there says so
        return
    handle = _held(folder, tell, shared)
    try:
        yield
    finally:
        with suppress(OSError):
            (folder / PLACE).rmdir()
            folder.rmdir()
        if handle is not None:
            os.close(handle)


@contextmanager
def working(
    config: RunConfig, folder: Path, tell: Callable[[str], None], part: WorkPart | None = None
) -> Iterator[None]:
    """Work in a run's folder, alone or as one of several parts, and keep it in its shared place where it has one.

    Args:
        config: the run.
        folder: its folder.
        tell: called with a line where somebody else works there.
        part: what is done, None for all.
    """
    with working_in(folder, tell, shared=part is not None):
        place = Place(config.backend.place, folder) if config.backend.place else None
        with kept_in(place):
            yield


@contextmanager
def locked_step(folder: Path, step: str) -> Iterator[None]:
    """Hold one step of a run alone, for work that each of several parts needs and one does."""
    place = folder / PLACE / f".{step}"
    place.mkdir(parents=True, exist_ok=True)
    with locked(place):
        yield


def _held(folder: Path, tell: Callable[[str], None], shared: bool) -> int | None:
    place, told = folder / PLACE, False
    while True:
        _make(place)
        with suppress(FileNotFoundError):
            handle = hold(place, alone=not shared)
            if handle is not None:
                return handle
            if not told:
                tell(f"{folder}: another process works there, waiting until it is done")
                told = True
            return hold(place, alone=not shared, wait=True)


def _make(place: Path) -> None:
    """Make a folder.

    Raises:
        InputError: its path cannot be one; a full disk stays the operating system's error.
    """
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno not in _NO_PATH:
            raise
        found = f"a folder that cannot be made ({error.strerror})"
        raise InputError(str(place.parent), found, "a folder that can be written (--out)") from error
