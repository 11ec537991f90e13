"""Model folders: arrays as safetensors, everything else as JSON, never pickle.

A folder holds ``config.json`` and one ``weights-<hash>.safetensors``. The configuration names its weights and their
SHA-256 and is replaced last, so a folder is the old model or the new one, never a mixture.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from bestfor.errors import InputError

FORMAT = "bestfor-model"
VERSION = 1
CONFIG_FILE = "config.json"

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Artifact:
    """What a model folder holds.

    Attributes:
        config: the JSON object that was stored.
        arrays: the stored arrays by name.
        digest: SHA-256 of configuration and weights together, the model's content hash.
    """

    config: dict[str, Any]
    arrays: Arrays
    digest: str


def write(folder: Path, config: dict[str, Any], arrays: Arrays) -> str:
    """Store a model so that the folder is either as before or complete.

    Args:
        folder: made where absent; a model already there is replaced.
        config: JSON values only; NaN and infinities are refused.
        arrays: numeric arrays by name.

    Returns:
        The content hash: equal content gives equal hashes on every machine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    contiguous = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
    payload = save_tensors(contiguous)
    weights_hash = hashlib.sha256(payload).hexdigest()
    weights_file = f"weights-{weights_hash[:16]}.safetensors"
    document = {
        "format": FORMAT,
        "version": VERSION,
        "weights": {"file": weights_file, "sha256": weights_hash},
        "model": config,
    }
    text = json.dumps(document, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
    write_bytes(folder / weights_file, payload)
    write_bytes(folder / CONFIG_FILE, text.encode())
    for stale in folder.glob("weights-*.safetensors"):
        if stale.name != weights_file:
            stale.unlink(missing_ok=True)
    return _digest(config, weights_hash)


def read(folder: Path) -> Artifact:
    """Read a model folder and check it against its own hashes.

    Raises:
        InputError: no model there, another format or version, or files that are damaged or do not belong together.
    """
    document = _document(folder / CONFIG_FILE)
    weights = document.get("weights")
    model = document.get("model")
    if not (isinstance(weights, dict) and isinstance(model, dict)):
        raise InputError(str(folder / CONFIG_FILE), "no 'weights' and 'model' objects", "a configuration from bestfor")
    name, expected = str(weights.get("file")), str(weights.get("sha256"))
    path = folder / Path(name).name
    if not path.is_file():
        raise InputError(str(folder), f"no file '{path.name}'", "the weights that config.json names")
    payload = path.read_bytes()
    found = hashlib.sha256(payload).hexdigest()
    if found != expected:
        raise InputError(str(path), f"sha256 {found[:16]} (a damaged or foreign file)", f"sha256 {expected[:16]}")
    try:
        arrays = load_tensors(payload)
    except (SafetensorError, ValueError, KeyError) as error:
        raise InputError(str(path), f"unreadable weights ({error})", "a safetensors file") from error
    return Artifact(model, arrays, _digest(model, found))


def write_bytes(path: Path, payload: bytes) -> None:
    """Write a file so that it is either whole or absent (its folder must exist)."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as handle:
            handle.write(payload)
            handle.flush()
            os.fsync(handle.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


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
        raise InputError(str(path), f"version {document.get('version')}", f"version {VERSION}")
    return document


def _digest(config: dict[str, Any], weights_hash: str) -> str:
    text = json.dumps(config, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return hashlib.sha256(f"{text}\n{weights_hash}".encode()).hexdigest()
