"""Attach users' low-rank updates to a running model: one batch serves many users, each row with its own update.

A layer's output gains ``scale * B_u A_u x`` (Hu et al. 2022, equation 3) with the matrices of the row's user u: two
batched multiplications for the whole batch, whoever is in it. An adapter for all is laid beside the personal one as
further ranks, which is their sum.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch

from bestfor.errors import InputError

Pair = tuple["torch.Tensor", "torch.Tensor"]
"""A of shape (rank, in) and B of shape (out, rank), the latter already scaled."""


def summed(parts: Sequence[Mapping[str, Pair]]) -> Mapping[str, Pair]:
    """Sum some updates, by layer: their ranks side by side."""
    layers = sorted({layer for part in parts for layer in part})
    pairs = {layer: [part[layer] for part in parts if layer in part] for layer in layers}
    return {
        layer: (torch.cat([down for down, _ in found], dim=0), torch.cat([up for _, up in found], dim=1))
        for layer, found in pairs.items()
    }


class Attached:
    """The updates of a batch, row for row; ``select`` names the prompts of the batch that comes next."""

    def __init__(self, stacks: dict[str, Pair]) -> None:
        self._stacks = self._now = stacks

    def select(self, rows: Sequence[int]) -> None:
        """Take these prompts for a batch's rows from now on; a single one's rows are all that prompt's copies."""
        chosen = list(rows)
        self._now = {layer: (down[chosen], up[chosen]) for layer, (down, up) in self._stacks.items()}

    def update(self, layer: str, x: torch.Tensor) -> torch.Tensor:
        """Compute what a layer's output gains: x of shape (rows, t, in), result of shape (rows, t, out)."""
        down, up = self._now[layer]
        return (x @ down.transpose(1, 2)) @ up.transpose(1, 2)


@contextmanager
def attached(model: torch.nn.Module, users: Sequence[Mapping[str, Pair]]) -> Iterator[Attached]:
    """Attach updates to a model: within, row i of every batch is run with the i-th of them.

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
    batch = Attached(stacks)

    def add(layer: str, module: torch.nn.Module, args: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        return output + batch.update(layer, args[0])

    handles = [modules[layer].register_forward_hook(partial(add, layer)) for layer in layers]
    try:
        yield batch
    finally:
        for handle in handles:
            handle.remove()


def _stack(module: torch.nn.Module, pairs: Sequence[Pair | None]) -> Pair:
    """Stack the matrices of a batch, padded with zero ranks."""
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
