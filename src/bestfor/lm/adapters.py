"""Adapters at sampling time: many users' low-rank updates in one batch, each row of which belongs to one prompt.

A layer's output gains ``scale * B_u A_u x`` (Hu et al. 2022, equation 3) with the matrices of the row's user u: two
batched multiplications for the whole batch, whoever is in it. An adapter for all is laid beside the personal one as
further ranks, which is their sum.

Low-rank updates of a reward model's backbone on disk: one small file a user, read when somebody asks for it.

What a user wears is the update for all with their own laid beside it as further ranks, which is the sum of both
(:mod:`bestfor.lm.adapters`). What was read stays in memory up to a bound in bytes; the least recently used goes.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from threading import RLock
from typing import Any, overload

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from bestfor.artifacts import write_bytes
from bestfor.errors import InputError
from bestfor.extras import require

INDEX = "adapters.json"
SHARED = "shared.safetensors"
NOTES = "bestfor"
KEPT = 64
"""Users whose updates are kept in memory; neighbours in a run's order are often one user's queries."""

PREFIX, DOWN, UP = "base_model.model.", ".lora_A.weight", ".lora_B.weight"

Pair = tuple["torch.Tensor", "torch.Tensor"]
"""A of shape (rank, in) and B of shape (out, rank), the latter already scaled."""


def file_of(user: str) -> str:
    """The name of a user's file: any user id makes a valid one."""
    return hashlib.sha256(user.encode()).hexdigest()[:24] + ".safetensors"


def notes_of(path: Path) -> dict[str, Any]:
    """The notes in an adapter's file; empty where there is no whole file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as opened:
            return json.loads((opened.metadata() or {}).get(NOTES, "{}"))
    except (OSError, ValueError, SafetensorError):
        return {}


@dataclass(frozen=True)
class AdapterFolder:
    """The adapters of a folder, as :func:`bestfor.policies.adapters.train_adapters` leaves them.

    Attributes:
        path: the folder.
        base: the fingerprint of the checkpoint that is to wear them.

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
        """What ``adapters.json`` holds.

        Raises:
            InputError: there is none, or it is no such file.
        """
        path = self.path / INDEX
        try:
            index = json.loads(path.read_text(encoding="utf-8"))
            index["base"], index["users"], index["settings"]["alpha"]  # pyright: ignore[reportUnusedExpression]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(str(path), f"no adapters ({type(error).__name__})", "a folder of adapters") from error
        return index

    @cached_property
    def digest(self) -> str:
        """A hash of everything that decides what the adapters do."""
        total = hashlib.sha256()
        for name in sorted([INDEX, *(entry["file"] for entry in self.index["users"].values()), *self._all]):
            total.update(name.encode() + b"\0" + hashlib.sha256(self._bytes(name)).digest())
        return total.hexdigest()

    def of(self, user: str) -> Mapping[str, Pair]:
        """A user's updates by layer, that for all included; empty for a user without an adapter where there is none.

        Raises:
            InputError: a file that is torn or missing.
        """
        if user not in self._read:
            if len(self._read) >= KEPT:
                self._read.clear()
            entry = self.index["users"].get(user)
            parts = [self._pairs(name) for name in (*self._all, *([entry["file"]] if entry else []))]
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
        require("torch", "models")
        from safetensors import SafetensorError
        from safetensors.torch import load

        scale = self.index["settings"]["alpha"] / self.index["settings"]["rank"]
        try:
            tensors = {key: tensor.float() for key, tensor in load(self._bytes(name)).items()}
            layers = [key.removesuffix(DOWN) for key in sorted(tensors) if key.endswith(DOWN)]
            return {
                layer.removeprefix(PREFIX): (tensors[layer + DOWN], tensors[layer + UP] * scale) for layer in layers
            }
        except (SafetensorError, KeyError) as error:
            raise InputError(str(self.path / name), f"no adapter ({error})", "a whole file") from error


def summed(parts: Sequence[Mapping[str, Pair]]) -> Mapping[str, Pair]:
    """The sum of some updates, by layer: their ranks side by side."""
    import torch

    layers = sorted({layer for part in parts for layer in part})
    pairs = {layer: [part[layer] for part in parts if layer in part] for layer in layers}
    return {
        layer: (torch.cat([down for down, _ in found], dim=0), torch.cat([up for _, up in found], dim=1))
        for layer, found in pairs.items()
    }


class Worn:
    """The updates of a batch, row for row; ``only`` narrows it to the prompts of the batch that comes next."""

    def __init__(self, stacks: dict[str, Pair]) -> None:
        self._stacks = self._now = stacks

    def only(self, rows: Sequence[int]) -> None:
        """From now on a batch's rows are these prompts; a single one's rows are all that prompt's copies."""
        chosen = list(rows)
        self._now = {layer: (down[chosen], up[chosen]) for layer, (down, up) in self._stacks.items()}

    def update(self, layer: str, x: torch.Tensor) -> torch.Tensor:
        """What a layer's output gains: x of shape (rows, t, in), result of shape (rows, t, out)."""
        down, up = self._now[layer]
        return (x @ down.transpose(1, 2)) @ up.transpose(1, 2)


@contextmanager
def worn(model: torch.nn.Module, users: Sequence[Mapping[str, Pair]]) -> Iterator[Worn]:
    """Within, row i of every batch wears the i-th updates.

    Args:
        model: the base.
        users: updates by layer; empty for the base alone.

    Raises:
        InputError: updates of layers that the model does not have.
    """
    layers = sorted({layer for user in users for layer in user})
    modules = dict(model.named_modules())
    for layer in layers:
        if layer not in modules:
            raise InputError("adapters", f"an update of '{layer}'", "layers of the base")
    stacks = {layer: _stack(modules[layer], [user.get(layer) for user in users]) for layer in layers}
    batch = Worn(stacks)

    def add(layer: str, module: torch.nn.Module, args: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        return output + batch.update(layer, args[0])

    handles = [modules[layer].register_forward_hook(partial(add, layer)) for layer in layers]
    try:
        yield batch
    finally:
        for handle in handles:
            handle.remove()


def _stack(module: torch.nn.Module, pairs: Sequence[Pair | None]) -> Pair:
    """Matrices of a batch, padded with zero ranks."""
    like = next(module.parameters())
    shapes = [(down.shape[0], down.shape[1], up.shape[0]) for down, up in (pair for pair in pairs if pair)]
    rank = max(shape[0] for shape in shapes)
    down = like.new_zeros(len(pairs), rank, shapes[0][1])
    up = like.new_zeros(len(pairs), shapes[0][2], rank)
    for row, pair in enumerate(pairs):
        if pair:
            size = pair[0].shape[0]
            down[row, :size] = pair[0].to(like)
            up[row, :, :size] = pair[1].to(like)
    return down, up


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
