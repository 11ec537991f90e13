"""Store models in folders: arrays as safetensors, everything else as JSON, never pickle.

A folder holds ``config.json`` and one ``weights-<hash>.safetensors``. The configuration names its weights and their
SHA-256 and is replaced last, so a folder is the old model or the new one, never a mixture. A reader that finds the
weights gone (a writer has replaced the model since) begins again with the new configuration, and what it has opened it
keeps; writers of one folder wait for each other.

Rows of users are read by themselves (:mod:`bestfor.weights`). A folder of version 3 holds them in shards of 1,024 to
2,048 users (:mod:`bestfor.shards`) and what these share in its weights, so that a million users are written block by
block and one is read by touching one shard; it is made of very many users, and a folder of version 2 of all others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from bestfor.errors import InputError
from bestfor.files import hash_file, hash_text, locked, write_bytes, writing
from bestfor.shards import (
    TABLE,
    ShardEntry,
    Shards,
    entries_of,
    file_of,
    shard_count,
    split_rows,
    table_of,
    write_shard,
)
from bestfor.weights import (
    ENDS,
    INDEX,
    PERSONAL,
    Arrays,
    ReplacedError,
    all_users,
    checksum,
    index_of,
    is_personal,
    some_users,
)

__all__ = ["ENDS", "INDEX", "PERSONAL", "Arrays", "ReplacedError"]

T = TypeVar("T")
FORMAT = "bestfor-model"
VERSION = 2
SHARDED = 3
"""Version of a folder whose users lie in shards."""
CONFIG_FILE = "config.json"
TRIES = 20
"""How often a reader begins again before it believes that a file is missing, and not replaced meanwhile."""


@dataclass(frozen=True)
class Artifact:
    """The content of a model folder.

    Attributes:
        config: the JSON object that was stored.
        arrays: the stored arrays by name; of some users only where so asked.
        digest: SHA-256 of configuration and weights together, the model's content hash.
        users: ids of the users whose rows the arrays hold, in their order.
        shards: where the rows of users lie in shards, these.
    """

    config: dict[str, Any]
    arrays: Arrays
    digest: str
    users: tuple[str, ...] = field(default=())
    shards: Shards | None = None


def write(folder: Path, config: dict[str, Any], arrays: Arrays, users: Sequence[str] = ()) -> str:
    """Store a model so that the folder is either as before or complete.

    Args:
        folder: made where absent; a model already there is replaced.
        config: JSON values only; NaN and infinities are refused.
        arrays: numeric arrays by name.
        users: ids in ascending order, the owners of the rows of ``user.`` arrays.

    Returns:
        The content hash: equal content gives equal hashes on every machine.

    Raises:
        ValueError: ids that do not ascend, an array that does not have a row a user, or a number that is not finite.
    """
    return _write(folder, config, {**arrays, **index_of(users, arrays)}, VERSION)


def write_sharded(
    folder: Path, config: dict[str, Any], arrays: Arrays, users: Sequence[str], count: int | None = None
) -> str:
    """Store a model whose users lie in shards, so that the folder is either as before or complete.

    Args:
        folder: as for :func:`write`, and so are the others.
        config: JSON values.
        arrays: numeric arrays by name.
        users: ids in ascending order.
        count: number of shards, a power of two; None takes what suits the number of users.

    Returns:
        The content hash.

    Raises:
        ValueError: as for :func:`write`.
    """
    personal = {name: values for name, values in arrays.items() if is_personal(name)}
    index_of(users, personal)
    folder.mkdir(parents=True, exist_ok=True)
    parts = split_rows(personal, users, count or shard_count(len(users)))
    entries = [write_shard(folder, rows, ids) for _, rows, ids in parts]
    return finish_shards(folder, config, {name: arrays[name] for name in arrays if name not in personal}, entries)


def finish_shards(folder: Path, config: dict[str, Any], arrays: Arrays, entries: Sequence[ShardEntry]) -> str:
    """Make a model of shards that :func:`bestfor.shards.write_shard` stored, in whatever process.

    Args:
        folder: that holds them.
        config: JSON values.
        arrays: what all users share.
        entries: one of each shard, in the order of their numbers; as many as a power of two.

    Returns:
        The content hash.

    Raises:
        InputError: a shard is not there.
    """
    for number, entry in enumerate(entries):
        if entry.users and not (folder / file_of(entry.digest)).is_file():
            raise InputError(str(folder), f"no shard {number} of {len(entries)}", "the shards that were written")
    return _write(folder, config, {**arrays, **table_of(entries)}, SHARDED, {file_of(one.digest) for one in entries})


def _write(
    folder: Path, config: dict[str, Any], every: Arrays, version: int, others: frozenset[str] | set[str] = frozenset()
) -> str:
    """Store weights and the configuration that names them; remove what no configuration names any more."""
    folder.mkdir(parents=True, exist_ok=True)
    contiguous = {name: np.ascontiguousarray(every[name]) for name in sorted(every)}
    shared = {name: checksum(values) for name, values in contiguous.items() if not is_personal(name)}

    def place(partial: Path, _: Path) -> None:
        partial.replace(folder / weights["file"])

    with locked(folder):
        with writing(folder / ".weights", place=place) as partial:
            save_file(contiguous, partial)
            digest = hash_file(partial)
            weights = {"file": f"weights-{digest[:16]}.safetensors", "sha256": digest, "checks": shared}
            document = {"format": FORMAT, "version": version, "weights": weights, "model": config}
            text = json.dumps(document, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
        write_bytes(folder / CONFIG_FILE, text.encode())
        for stale in (*folder.glob("weights-*.safetensors"), *folder.glob("users-*.safetensors")):
            if stale.name != weights["file"] and stale.name not in others:
                stale.unlink(missing_ok=True)
    return _digest(config, digest)


def retrying(load: Callable[[], T]) -> T:
    """Load something of a model folder, again from the start where a writer replaced the model meanwhile.

    Raises:
        ReplacedError: a file that is still missing after some trials.
    """
    for _ in range(TRIES - 1):
        try:
            return load()
        except ReplacedError:
            continue
    return load()


def read(folder: Path, *, users: Sequence[str] | None = None, opened: bool = False) -> Artifact:
    """Read a model folder and check it; a writer that replaces the model meanwhile does no harm.

    Args:
        folder: what :func:`write` made.
        users: whose rows of the ``user.`` arrays are wanted, None for everybody's; ids that are not there are left out.
            Only these rows are read, and checked by their checksums; a whole read is checked by the file's SHA-256.
        opened: whether rows that lie in shards stay there, where ``users`` is None; ``shards`` of the artifact reads
            them.

    Raises:
        InputError: no model there, another format or version, or files that are damaged or do not belong together.
    """
    return retrying(lambda: _read(folder, users, opened))


def read_config(folder: Path) -> dict[str, Any]:
    """Read the configuration alone, as :func:`write` took it.

    Raises:
        InputError: no model there, or another format or version.
    """
    return _document(folder / CONFIG_FILE)["model"]


def _read(folder: Path, users: Sequence[str] | None, opened: bool) -> Artifact:
    document = _document(folder / CONFIG_FILE)
    sharded = document["version"] == SHARDED
    if sharded and users is None and opened:
        users = ()
    weights, model = document["weights"], document["model"]
    name, expected = str(weights.get("file")), str(weights.get("sha256"))
    path = folder / Path(name).name
    try:
        found = hash_file(path) if users is None else expected
        if found != expected:
            raise InputError(str(path), f"sha256 {found[:16]} (a damaged or foreign file)", f"sha256 {expected[:16]}")
        arrays, ids = _arrays(path, users, weights.get("checks"))
        shards = Shards(folder, entries_of(arrays)) if sharded else None
    except FileNotFoundError as error:
        raise ReplacedError(str(folder), f"no file '{path.name}'", "the weights that config.json names") from error
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(str(path), f"unreadable weights ({error})", "a safetensors file from bestfor") from error
    if shards is not None:
        rows, ids = shards.every() if users is None else shards.rows(users)
        arrays |= rows
    held = {key: values for key, values in arrays.items() if not key.startswith((INDEX, TABLE))}
    return Artifact(model, held, _digest(model, expected), ids, shards)


def _arrays(path: Path, users: Sequence[str] | None, checks: object) -> tuple[Arrays, tuple[str, ...]]:
    """Read the arrays of a weights file, and whose rows they hold."""
    with safe_open(path, framework="np") as handle:
        if users is not None:
            return some_users(handle, users, checks)
        arrays = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118 - no mapping
    return arrays, all_users(arrays)


def _document(path: Path) -> dict[str, Any]:
    """Read and check a configuration file."""
    if not path.is_file():
        raise InputError(str(path.parent), f"no {path.name}", "the folder of a saved model")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(str(path), f"no JSON ({error})", "the configuration of a saved model") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InputError(str(path), "another format", f'"format": "{FORMAT}"')
    if document.get("version") not in (VERSION, SHARDED):
        raise InputError(str(path), f"version {document.get('version')}", f"version {VERSION} (fit the model again)")
    if not (isinstance(document.get("weights"), dict) and isinstance(document.get("model"), dict)):
        raise InputError(str(path), "no 'weights' and 'model' objects", "a configuration from bestfor")
    return document


def _digest(config: dict[str, Any], weights_hash: str) -> str:
    text = json.dumps(config, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return hash_text(f"{text}\n{weights_hash}")
