"""Keep low-rank updates on disk, one small file a user, and read a user's when it is needed.

A user's update is the one for all with their own laid beside it as further ranks, which is the sum of both
(:func:`bestfor.lm.adapters.summed`). :class:`AdapterFolder` reads the adapters of a policy; :class:`AdapterStore`
writes and reads those of a reward model, and keeps in memory what was read last, up to a bound in bytes. Tensors have
peft's names.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any, overload

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save

from bestfor.errors import InputError
from bestfor.files import hash_bytes, hash_parts, hash_text, write_bytes
from bestfor.lm.adapters import Pair, summed

INDEX = "adapters.json"
SHARED = "shared.safetensors"
NOTES = "bestfor"
KEPT = 64
"""Users whose updates are kept in memory; neighbours in a run's order are often one user's queries."""

PREFIX, DOWN, UP = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
HEADER = 8
"""Bytes that say how long the header of a safetensors file is."""


def file_of(user: str) -> str:
    """Name a user's file: any user id makes a valid name."""
    return hash_text(user)[:24] + ".safetensors"


def notes_of(path: Path) -> dict[str, Any]:
    """Read the notes in an adapter's file; empty where there is no whole file."""
    try:
        with safe_open(path, "pt") as opened:
            return json.loads((opened.metadata() or {}).get(NOTES, "{}"))
    except (OSError, ValueError, SafetensorError):
        return {}


@dataclass(frozen=True)
class AdapterFolder:
    """The adapters of a policy, a folder as :func:`bestfor.policies.adapters.train_adapters` leaves it.

    Attributes:
        path: the folder.
        base: the fingerprint of the checkpoint to which they are attached.

    Raises:
        InputError: no adapters, or those of another base.
    """

    path: Path
    base: str
    _read: dict[str, Mapping[str, Pair]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.index["base"] != self.base:
            found = f"adapters made for another base ({self.index['base'][:12]}...)"
            raise InputError(str(self.path), found, f"those of this checkpoint ({self.base[:12]}...)")

    @cached_property
    def index(self) -> dict[str, Any]:
        """The content of ``adapters.json``.

        Raises:
            InputError: there is none, or it is no such file.
        """
        path = self.path / INDEX
        try:
            index = json.loads(path.read_text(encoding="utf-8"))
            _check_index(index)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(str(path), f"no adapters ({type(error).__name__})", "a folder of adapters") from error
        return index

    @cached_property
    def digest(self) -> str:
        """A hash of everything that decides what the adapters do."""
        names = sorted(
            [INDEX, *(entry["file"] for entry in self.index["users"].values() if "file" in entry), *self._all]
        )
        return hash_parts(name.encode() + b"\0" + bytes.fromhex(hash_bytes(self._bytes(name))) for name in names)

    def of(self, user: str) -> Mapping[str, Pair]:
        """Read a user's updates by layer, that for all included; empty where there is neither.

        Raises:
            InputError: a file that is torn or missing.
        """
        if user not in self._read:
            if len(self._read) >= KEPT:
                self._read.clear()
            entry = self.index["users"].get(user, {})
            parts = [self._pairs(name) for name in (*self._all, *([entry["file"]] if "file" in entry else []))]
            self._read[user] = summed(parts)
        return self._read[user]

    @property
    def _all(self) -> list[str]:
        return [SHARED] if self.index.get("shared") else []

    def _bytes(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise InputError(str(self.path / name), f"no adapter ({error.strerror})", "the file") from error

    def _pairs(self, name: str) -> Mapping[str, Pair]:
        scale = self.index["settings"]["alpha"] / self.index["settings"]["rank"]
        try:
            tensors = {key: tensor.float() for key, tensor in load(self._bytes(name)).items()}
            layers = [key.removesuffix(DOWN) for key in sorted(tensors) if key.endswith(DOWN)]
            return {
                layer.removeprefix(PREFIX): (tensors[layer + DOWN], tensors[layer + UP] * scale) for layer in layers
            }
        except (SafetensorError, KeyError) as error:
            raise InputError(str(self.path / name), f"no adapter ({error})", "a whole file") from error


def _check_index(index: Any) -> None:  # noqa: ANN401 - somebody's JSON
    """Look at every value of ``adapters.json`` that is read later; raises where it is another one."""
    settings = index["settings"]
    if not settings["rank"] > 0 or not settings["alpha"] + 0.0 == settings["alpha"]:
        raise ValueError
    files = [entry["file"] for entry in index["users"].values() if "file" in entry]
    if not all(isinstance(value, str) for value in (index["base"], *files)):
        raise TypeError
    if any(Path(name).name != name for name in files):
        raise ValueError


class AdapterStore:
    """Updates of a backbone's layers for all and for each user.

    Safe to share between threads: one of them reads a file, the others find it read.

    Args:
        folder: where the files lie; made when the first one is written.
        base: fingerprint of the backbone to which they are attached.
        most: bytes of updates that are kept in memory.
    """

    def __init__(self, folder: Path, *, base: str, most: int = 256 << 20) -> None:
        self.folder, self.base, self.most = folder, base, most
        self._expected: dict[str | None, str] = {}
        self._kept: OrderedDict[str | None, Mapping[str, Pair]] = OrderedDict()
        self._bytes = 0
        self._lock = RLock()

    @property
    def kept(self) -> int:
        """Bytes of updates in memory, at most ``most``."""
        return self._bytes

    def write(self, user: str | None, layers: Mapping[str, Pair]) -> str:
        """Store what a user has beside the update for all; the file is either as before or complete.

        Args:
            user: whose; None for the one for all.
            layers: A of shape (rank, in) and B of shape (out, rank), scaled already, by the layer's name.

        Returns:
            The SHA-256 of the file: equal updates give equal files.

        Raises:
            InputError: matrices that do not fit together or hold values that are not finite.
        """
        path = self._path(user)
        tensors: dict[str, torch.Tensor] = {}
        for layer in sorted(layers):
            down, up = (matrix.detach().to("cpu", torch.float32).contiguous() for matrix in layers[layer])
            tensors |= {f"{PREFIX}{layer}{DOWN}": down, f"{PREFIX}{layer}{UP}": up}
        _layers_of(tensors, path)
        content = save(tensors, {NOTES: json.dumps({"base": self.base})})
        digest = hash_bytes(content)
        with self._lock:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_bytes(path, content)
            self.expect(user, digest)
        return digest

    def expect(self, user: str | None, digest: str) -> None:
        """Refuse any file of this user but one: its SHA-256; None for the update for all."""
        with self._lock:
            self._expected[user] = digest
            for stale in [user] if user is not None else list(self._kept):
                self._drop(stale)

    def of(self, user: str | None) -> Mapping[str, Pair]:
        """Read a user's update, by the layer's name; for None, or a user without a file, what is for all, if anything.

        Raises:
            InputError: a file that is missing or different though expected, torn, or made for another base.
        """
        with self._lock:
            if user in self._kept:
                self._kept.move_to_end(user)
                return self._kept[user]
            if user is None:
                return self._keep(None, self._read(None) or {})
            own = self._read(user)
            common = self.of(None)
            if own is None:
                return common
            try:
                return self._keep(user, summed([common, own]))
            except RuntimeError as error:
                raise InputError(str(self._path(user)), "other shapes than for all", "those of the backbone") from error

    def _keep(self, user: str | None, layers: Mapping[str, Pair]) -> Mapping[str, Pair]:
        size = _size(layers)
        if size > self.most:
            return layers
        while self._kept and self._bytes + size > self.most:
            self._drop(next(iter(self._kept)))
        self._kept[user] = layers
        self._bytes += size
        return layers

    def _drop(self, user: str | None) -> None:
        if user in self._kept:
            self._bytes -= _size(self._kept.pop(user))

    def _read(self, user: str | None) -> Mapping[str, Pair] | None:
        """Read the update in a user's own file; None where there is none and none is expected."""
        path, expected = self._path(user), self._expected.get(user)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            if expected is None:
                return None
            raise InputError(str(path), "no file", f"an adapter with sha256 {expected[:16]}") from None
        except OSError as error:
            raise InputError(str(path), f"no adapter ({error.strerror})", "a file that can be read") from error
        try:
            notes = _notes(content)
            tensors = load(content)
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise InputError(str(path), f"a damaged adapter ({type(error).__name__})", "a whole file") from error
        if notes.get("base") != self.base:
            found = f"an adapter made for another base ({str(notes.get('base'))[:12]}...)"
            raise InputError(str(path), found, f"one of this backbone ({self.base[:12]}...)")
        digest = hash_bytes(content)
        if expected not in (None, digest):
            raise InputError(str(path), f"sha256 {digest[:16]} (another adapter)", f"sha256 {str(expected)[:16]}")
        return _layers_of(tensors, path)

    def _path(self, user: str | None) -> Path:
        try:
            return self.folder / (SHARED if user is None else file_of(user))
        except UnicodeEncodeError:
            raise InputError("adapters", f"user {user!r}", "an id that can be written as UTF-8") from None


class LazyAdapters(Sequence[Mapping[str, Pair]]):
    """The updates of some users, read from a store one by one: never more in memory than it keeps.

    Args:
        store: the files.
        users: whose, in order; None stands for what is for all.
    """

    def __init__(self, store: AdapterStore, users: Sequence[str | None]) -> None:
        self._store, self._users = store, users

    def __len__(self) -> int:
        return len(self._users)

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Pair]: ...

    @overload
    def __getitem__(self, index: slice) -> LazyAdapters: ...

    def __getitem__(self, index: int | slice) -> Mapping[str, Pair] | LazyAdapters:
        if isinstance(index, slice):
            return LazyAdapters(self._store, self._users[index])
        return self._store.of(self._users[index])


def _size(layers: Mapping[str, Pair]) -> int:
    return sum(matrix.nbytes for pair in layers.values() for matrix in pair)


def _notes(content: bytes) -> dict[str, Any]:
    """Read the notes in a safetensors file's header."""
    length = int.from_bytes(content[:HEADER], "little")
    header = json.loads(content[HEADER : HEADER + length])
    return json.loads(header.get("__metadata__", {}).get(NOTES, "{}"))


def _layers_of(tensors: Mapping[str, torch.Tensor], path: Path) -> Mapping[str, Pair]:
    """Pair the matrices of each layer; refuse those that do not fit together or are not finite."""
    found: dict[str, Pair] = {}
    for key in sorted(tensors):
        if not key.endswith(DOWN):
            continue
        layer = key.removesuffix(DOWN)
        down, up = tensors[key], tensors.get(layer + UP)
        if up is None or down.ndim != 2 or up.ndim != 2 or len(down) != up.shape[1]:
            shapes = f"{tuple(down.shape)} and {None if up is None else tuple(up.shape)}"
            raise InputError(str(path), f"matrices of shapes {shapes} for '{layer}'", "(rank, in) and (out, rank)")
        if not (bool(down.isfinite().all()) and bool(up.isfinite().all())):
            raise InputError(str(path), f"values of '{layer}' that are not finite", "finite ones")
        found[layer.removeprefix(PREFIX)] = (down, up)
    return found
