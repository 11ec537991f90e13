"""Low-rank updates of a reward model's backbone on disk: one small file a user, read when somebody asks for it.

What a user wears is the update for all with their own laid beside it as further ranks, which is the sum of both
(:mod:`bestfor.policies._lora`). What was read stays in memory up to a bound in bytes; the least recently used goes.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import RLock
from typing import Any, overload

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from bestfor.artifacts import write_bytes
from bestfor.errors import InputError
from bestfor.policies._lora import DOWN, NOTES, PREFIX, SHARED, UP, Pair, file_of, summed

HEADER = 8
"""Bytes that say how long the header of a safetensors file is."""


class AdapterStore:
    """Updates of a backbone's layers for all and for each user.

    Safe to share between threads: one of them reads a file, the others find it read.

    Args:
        folder: where the files lie; made when the first one is written.
        base: fingerprint of the backbone that wears them.
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
        """Store what a user wears beside the update for all; the file is either as before or complete.

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
        digest = hashlib.sha256(content).hexdigest()
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
        """What a user wears, by the layer's name; for None, or a user without a file, what is for all, if anything.

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
        """The update in a user's own file; None where there is none and none is expected."""
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
        digest = hashlib.sha256(content).hexdigest()
        if expected not in (None, digest):
            raise InputError(str(path), f"sha256 {digest[:16]} (another adapter)", f"sha256 {str(expected)[:16]}")
        return _layers_of(tensors, path)

    def _path(self, user: str | None) -> Path:
        try:
            return self.folder / (SHARED if user is None else file_of(user))
        except UnicodeEncodeError:
            raise InputError("adapters", f"user {user!r}", "an id that can be written as UTF-8") from None


class AdaptersOf(Sequence[Mapping[str, Pair]]):
    """What some users wear, asked of the store one by one: never more in memory than it keeps.

    Args:
        store: the files.
        users: whose, in the order they are asked for; None wears what is for all.
    """

    def __init__(self, store: AdapterStore, users: Sequence[str | None]) -> None:
        self._store, self._users = store, users

    def __len__(self) -> int:
        return len(self._users)

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Pair]: ...

    @overload
    def __getitem__(self, index: slice) -> AdaptersOf: ...

    def __getitem__(self, index: int | slice) -> Mapping[str, Pair] | AdaptersOf:
        if isinstance(index, slice):
            return AdaptersOf(self._store, self._users[index])
        return self._store.of(self._users[index])


def _size(layers: Mapping[str, Pair]) -> int:
    return sum(matrix.nbytes for pair in layers.values() for matrix in pair)


def _notes(content: bytes) -> dict[str, Any]:
    """What a safetensors file says about itself."""
    length = int.from_bytes(content[:HEADER], "little")
    header = json.loads(content[HEADER : HEADER + length])
    return json.loads(header.get("__metadata__", {}).get(NOTES, "{}"))


def _layers_of(tensors: Mapping[str, torch.Tensor], path: Path) -> Mapping[str, Pair]:
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
