"""Adapters at sampling time: many users' low-rank updates in one batch, each row of which belongs to one prompt.

A layer's output gains ``scale * B_u A_u x`` (Hu et al. 2022, equation 3) with the matrices of the row's user u: two
batched multiplications for the whole batch, whoever is in it. An adapter for all is laid beside the personal one as
further ranks, which is their sum.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bestfor.errors import InputError
from bestfor.extras import require

if TYPE_CHECKING:
    import torch

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
