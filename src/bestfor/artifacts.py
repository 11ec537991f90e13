"""Store models in folders: arrays as safetensors, everything else as JSON, never pickle.

A folder holds ``config.json`` and one ``weights-<hash>.safetensors``. The configuration names its weights and their
SHA-256 and is replaced last, so a folder is the old model or the new one, never a mixture. A reader that finds the
weights gone (a writer has replaced the model since) begins again with the new configuration, and what it has opened it
keeps; writers of one folder wait for each other.

Arrays whose name begins with ``user.`` have one row a user; with a companion ``NAME.ends`` (users + 1 offsets from 0)
they have as many rows as each user needs. An index beside them makes it possible to find some users out of a million
by binary search, and to read and check their rows without the others':

    index.names  shape (bytes,), UTF-8 of all ids in ascending order, one after the other
    index.ends   shape (users + 1,), where each id ends
    index.checks shape (users,), CRC-32 over a user's rows of all ``user.`` arrays in the order of their names

UTF-8 keeps the order of code points, so ids that ascend as strings ascend as bytes.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from bestfor.errors import InputError
from bestfor.files import hash_file, hash_text, locked, write_bytes, writing

T = TypeVar("T")
Arrays = dict[str, npt.NDArray[Any]]
Read = Callable[[str, int, int], npt.NDArray[Any]]
"""Reads rows of an array: its name, the first row, and the one after the last."""

FORMAT = "bestfor-model"
VERSION = 2
CONFIG_FILE = "config.json"
PERSONAL = "user."
INDEX = "index."
ENDS = ".ends"
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

    Raises:
        ValueError: ids that do not ascend, an array that does not have a row a user, or a number that is not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    every = {**arrays, **_index(users, arrays)}
    contiguous = {name: np.ascontiguousarray(every[name]) for name in sorted(every)}
    shared = {name: _checksum(values) for name, values in contiguous.items() if not _is_personal(name)}

    def place(partial: Path, _: Path) -> None:
        partial.replace(folder / weights["file"])

    with locked(folder):
        with writing(folder / ".weights", place=place) as partial:
            save_file(contiguous, partial)
            digest = hash_file(partial)
            weights = {"file": f"weights-{digest[:16]}.safetensors", "sha256": digest, "checks": shared}
            document = {"format": FORMAT, "version": VERSION, "weights": weights, "model": config}
            text = json.dumps(document, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
        write_bytes(folder / CONFIG_FILE, text.encode())
        for stale in folder.glob("weights-*.safetensors"):
            if stale.name != weights["file"]:
                stale.unlink(missing_ok=True)
    return _digest(config, digest)


class ReplacedError(InputError):
    """A file of a model that is not there: damage, or a writer has replaced the model since it was opened."""


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


def read(folder: Path, *, users: Sequence[str] | None = None) -> Artifact:
    """Read a model folder and check it; a writer that replaces the model meanwhile does no harm.

    Args:
        folder: what :func:`write` made.
        users: whose rows of the ``user.`` arrays are wanted, None for everybody's; ids that are not there are left out.
            Only these rows are read, and checked by their checksums; a whole read is checked by the file's SHA-256.

    Raises:
        InputError: no model there, another format or version, or files that are damaged or do not belong together.
    """
    return retrying(lambda: _read(folder, users))


def read_config(folder: Path) -> dict[str, Any]:
    """Read the configuration alone, as :func:`write` took it.

    Raises:
        InputError: no model there, or another format or version.
    """
    return _document(folder / CONFIG_FILE)["model"]


def _read(folder: Path, users: Sequence[str] | None) -> Artifact:
    document = _document(folder / CONFIG_FILE)
    weights, model = document["weights"], document["model"]
    name, expected = str(weights.get("file")), str(weights.get("sha256"))
    path = folder / Path(name).name
    try:
        found = hash_file(path) if users is None else expected
        if found != expected:
            raise InputError(str(path), f"sha256 {found[:16]} (a damaged or foreign file)", f"sha256 {expected[:16]}")
        arrays, ids = _arrays(path, users, weights.get("checks"))
    except FileNotFoundError as error:
        raise ReplacedError(str(folder), f"no file '{path.name}'", "the weights that config.json names") from error
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(str(path), f"unreadable weights ({error})", "a safetensors file from bestfor") from error
    held = {key: values for key, values in arrays.items() if not key.startswith(INDEX)}
    return Artifact(model, held, _digest(model, expected), ids)


def _arrays(path: Path, users: Sequence[str] | None, checks: object) -> tuple[Arrays, tuple[str, ...]]:
    """Read the arrays of a weights file, and whose rows they hold."""
    with safe_open(path, framework="np") as handle:
        if users is not None:
            return _some_users(handle, users, checks)
        arrays = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118 - no mapping
    return arrays, _all_users(arrays)


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
    if document.get("version") != VERSION:
        raise InputError(str(path), f"version {document.get('version')}", f"version {VERSION} (fit the model again)")
    if not (isinstance(document.get("weights"), dict) and isinstance(document.get("model"), dict)):
        raise InputError(str(path), "no 'weights' and 'model' objects", "a configuration from bestfor")
    return document


def _digest(config: dict[str, Any], weights_hash: str) -> str:
    text = json.dumps(config, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return hash_text(f"{text}\n{weights_hash}")


def _index(users: Sequence[str], arrays: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    """Make the index of users; nothing where there are none.

    Raises:
        ValueError: ids that do not ascend, or an array that does not have a row a user.
    """
    personal = _personal(arrays)
    if not users:
        if personal:
            raise ValueError(f"arrays {', '.join(personal)} without users")
        return {}
    if any(low >= high for low, high in pairwise(users)):
        raise ValueError("user ids that do not ascend")
    count = len(users)
    for name in personal:
        ends = arrays.get(name + ENDS)
        fits = len(arrays[name]) == (count if ends is None else int(ends[-1]))
        if not fits or (ends is not None and len(ends) != count + 1):
            raise ValueError(f"array {name} with {len(arrays[name])} rows for {count} users")
    encoded = [user.encode() for user in users]
    checks = np.zeros(count, dtype=np.uint32)
    for name in personal:
        ends = arrays.get(name + ENDS)
        values = np.ascontiguousarray(arrays[name])
        bounds = np.arange(count + 1) if ends is None else ends
        for code in range(count):
            checks[code] = _checksum(values[bounds[code] : bounds[code + 1]], int(checks[code]))
    return {
        "index.names": np.frombuffer(b"".join(encoded), dtype=np.uint8),
        "index.ends": np.cumsum([0, *map(len, encoded)]).astype(np.int64),
        "index.checks": checks,
    }


def _all_users(arrays: Mapping[str, npt.NDArray[Any]]) -> tuple[str, ...]:
    """List every id of an index."""
    if "index.ends" not in arrays:
        return ()
    names, ends = arrays["index.names"].tobytes(), arrays["index.ends"].tolist()
    return tuple(names[low:high].decode() for low, high in pairwise(ends))


def _some_users(
    handle: Any,  # noqa: ANN401 - an open safetensors file has no public type
    users: Sequence[str],
    checks: object,
) -> tuple[Arrays, tuple[str, ...]]:
    """Read shared arrays whole, and the rows of some users.

    Args:
        handle: an open safetensors file.
        users: ids in any order; those that are not in the file are left out.
        checks: CRC-32 of each shared array by name.

    Returns:
        Arrays of the found users in ascending order, and their ids.

    Raises:
        ValueError: bytes that do not match their checksums.
    """
    names = set(handle.keys())
    if not isinstance(checks, dict) or {name for name in names if not _is_personal(name)} != set(checks):
        raise ValueError("other tensors than config.json lists")
    arrays: Arrays = {name: handle.get_tensor(name) for name in sorted(checks)}
    for name, values in arrays.items():
        if _checksum(values) != checks[name]:
            raise ValueError(f"a damaged tensor '{name}'")
    slices: dict[str, Any] = {name: handle.get_slice(name) for name in names if _is_personal(name)}

    def read(name: str, low: int, high: int) -> npt.NDArray[Any]:
        return slices[name][low:high]

    wanted = sorted(set(users)) if "index.ends" in names else []
    places = [(user, _find(read, slices["index.ends"].get_shape()[0] - 1, user)) for user in wanted]
    found = [(user, place) for user, place in places if place is not None]
    return {**arrays, **_rows(read, _personal(slices), slices, [place for _, place in found])}, tuple(
        user for user, _ in found
    )


def _rows(read: Read, personal: list[str], known: Mapping[str, Any], places: list[int]) -> Arrays:
    """Read and check the rows of the users at some places."""
    arrays: Arrays = {}
    check = [0] * len(places)
    for name in personal:
        parts = []
        for spot, place in enumerate(places):
            low, high = place, place + 1
            if name + ENDS in known:
                low, high = (int(end) for end in read(name + ENDS, place, place + 2))
            parts.append(read(name, low, high))
            check[spot] = _checksum(parts[-1], check[spot])
        arrays[name] = np.concatenate(parts) if parts else read(name, 0, 0)
        if name + ENDS in known:
            arrays[name + ENDS] = np.cumsum([0, *map(len, parts)]).astype(np.int64)
    for spot, place in enumerate(places):
        if check[spot] != int(read("index.checks", place, place + 1)[0]):
            raise ValueError(f"damaged rows of user number {place}")
    return arrays


def _find(read: Read, count: int, user: str) -> int | None:
    """Find the place of an id by binary search; None where it is absent."""
    key, low, high = user.encode(), 0, count
    while low < high:
        middle = (low + high) // 2
        start, stop = (int(end) for end in read("index.ends", middle, middle + 2))
        name = read("index.names", start, stop).tobytes()
        if name == key:
            return middle
        low, high = (middle + 1, high) if name < key else (low, middle)
    return None


def _personal(names: Mapping[str, Any]) -> list[str]:
    """List the arrays with rows of users, in the order in which checksums run over them."""
    return sorted(name for name in names if name.startswith(PERSONAL) and not name.endswith(ENDS))


def _is_personal(name: str) -> bool:
    """Check whether an array is read by user: rows of users, or the index of users."""
    return name.startswith((PERSONAL, INDEX))


def _checksum(values: npt.NDArray[Any], start: int = 0) -> int:
    """CRC-32 of an array's bytes, continued from ``start``."""
    return zlib.crc32(np.ascontiguousarray(values).view(np.uint8).data if values.size else b"", start)
