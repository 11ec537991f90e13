"""Model folders: arrays as safetensors, everything else as JSON, never pickle.

A folder holds ``config.json`` and one ``weights-<hash>.safetensors``. The configuration names its weights and their
SHA-256 and is replaced last, so a folder is the old model or the new one, never a mixture.

Arrays whose name begins with ``user.`` have one row a user; with a companion ``NAME.ends`` (users + 1 offsets from 0)
they have as many rows as each user needs. Their owners' ids lie beside them, sorted, so that some users out of a
million are found by binary search and read without the others: see :mod:`bestfor._slices`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from bestfor import _slices
from bestfor.errors import InputError

FORMAT = "bestfor-model"
VERSION = 2
CONFIG_FILE = "config.json"

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Artifact:
    """What a model folder holds.

    Attributes:
        config: the JSON object that was stored.
        arrays: the stored arrays by name; of some users only where so asked.
        digest: SHA-256 of configuration and weights together, the model's content hash.
        users: ids of the users whose rows the arrays hold, in their order.
    """

    config: dict[str, Any]
    arrays: Arrays
    digest: str
    users: tuple[str, ...] = field(default=())


def write(folder: Path, config: dict[str, Any], arrays: Arrays, users: Sequence[str] = ()) -> str:
    """Store a model so that the folder is either as before or complete.

    Args:
        folder: made where absent; a model already there is replaced.
        config: JSON values only; NaN and infinities are refused.
        arrays: numeric arrays by name.
        users: ids in ascending order, the owners of the rows of ``user.`` arrays.

    Returns:
        The content hash: equal content gives equal hashes on every machine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    every = {**arrays, **_slices.index(users, arrays)}
    contiguous = {name: np.ascontiguousarray(every[name]) for name in sorted(every)}
    shared = {name: _slices.checksum(values) for name, values in contiguous.items() if not _slices.is_personal(name)}
    partial = folder / f".weights.{os.getpid()}.partial"
    try:
        save_file(contiguous, partial)
        weights_hash = _file_hash(partial)
        weights_file = f"weights-{weights_hash[:16]}.safetensors"
        document = {
            "format": FORMAT,
            "version": VERSION,
            "weights": {"file": weights_file, "sha256": weights_hash, "checks": shared},
            "model": config,
        }
        text = json.dumps(document, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
        _place(partial, folder / weights_file)
    finally:
        partial.unlink(missing_ok=True)
    write_bytes(folder / CONFIG_FILE, text.encode())
    for stale in folder.glob("weights-*.safetensors"):
        if stale.name != weights_file:
            stale.unlink(missing_ok=True)
    return _digest(config, weights_hash)


def read(folder: Path, *, users: Sequence[str] | None = None) -> Artifact:
    """Read a model folder and check it.

    Args:
        folder: what :func:`write` made.
        users: whose rows of the ``user.`` arrays are wanted, None for everybody's; ids that are not there are left out.
            Only these rows are read, and checked by their checksums; a whole read is checked by the file's SHA-256.

    Raises:
        InputError: no model there, another format or version, or files that are damaged or do not belong together.
    """
    document = _document(folder / CONFIG_FILE)
    weights, model = document["weights"], document["model"]
    name, expected = str(weights.get("file")), str(weights.get("sha256"))
    path = folder / Path(name).name
    if not path.is_file():
        raise InputError(str(folder), f"no file '{path.name}'", "the weights that config.json names")
    if users is None:
        found = _file_hash(path)
        if found != expected:
            raise InputError(str(path), f"sha256 {found[:16]} (a damaged or foreign file)", f"sha256 {expected[:16]}")
    try:
        with safe_open(path, framework="np") as handle:
            if users is None:
                arrays = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118 - no mapping
                ids = _slices.all_users(arrays)
            else:
                arrays, ids = _slices.some_users(handle, users, weights.get("checks"))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(str(path), f"unreadable weights ({error})", "a safetensors file from bestfor") from error
    held = {key: values for key, values in arrays.items() if not key.startswith(_slices.INDEX)}
    return Artifact(model, held, _digest(model, expected), ids)


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration alone, as :func:`write` took it.

    Raises:
        InputError: no model there, or another format or version.
    """
    return _document(folder / CONFIG_FILE)["model"]


def write_bytes(path: Path, payload: bytes) -> None:
    """Write a file so that it is either whole or absent (its folder must exist)."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(payload)
        _place(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _place(partial: Path, path: Path) -> None:
    """Give a complete file its name, after its bytes are on the disk."""
    with partial.open("rb") as handle:
        os.fsync(handle.fileno())
    partial.replace(path)


def _file_hash(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _document(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(str(path.parent), f"no {path.name}", "the folder of a saved model")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(str(path), f"no JSON ({error})", "the configuration of a saved model") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InputError(str(path), "another format", f'"format": "{FORMAT}"')
    if document.get("version") != VERSION:
        raise InputError(str(path), f"version {document.get('version')}", f"version {VERSION} (fit the model again)")
    if not (isinstance(document.get("weights"), dict) and isinstance(document.get("model"), dict)):
        raise InputError(str(path), "no 'weights' and 'model' objects", "a configuration from bestfor")
    return document


def _digest(config: dict[str, Any], weights_hash: str) -> str:
    text = json.dumps(config, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return hashlib.sha256(f"{text}\n{weights_hash}".encode()).hexdigest()
