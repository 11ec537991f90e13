"""The training loop of :mod:`bestfor.policies.finetune`: batches in, weights out, a state on disk to continue from."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from bestfor.errors import InputError
from bestfor.policies._corpus import Encoded, batches

IGNORED = -100


@dataclass(frozen=True)
class Size:
    """The shape of a model that starts from scratch (Qwen3 architecture, tied embeddings)."""

    vocabulary: int = 1536
    hidden: int = 160
    layers: int = 4
    heads: int = 5
    kv_heads: int = 1
    intermediate: int = 384
    positions: int = 1024


@dataclass(frozen=True)
class Finetune:
    """How to fine-tune.

    Attributes:
        out: folder of the finished checkpoint; the state of a training under way is kept in its ``resume`` folder.
        seed: initial weights and order of batches.
        init: a checkpoint to start from, or None for a new model and tokenizer.
        steps: optimiser steps.
        tokens: padded tokens of a batch.
        items: longest conversation, in items.
        limit: longest conversation, in tokens.
        rate: peak learning rate.
        warmup: share of the steps in which the rate rises.
        floor: last learning rate as a share of the peak.
        decay: weight decay of matrices.
        clip: largest norm of the gradient.
        save_every: steps between saved states.
        held_out: share of users whose loss is measured and not trained on.
        size: shape of a new model.
    """

    out: Path
    seed: int = 0
    init: Path | None = None
    steps: int = 1500
    tokens: int = 4096
    items: int = 5
    limit: int = 512
    rate: float = 3e-3
    warmup: float = 0.04
    floor: float = 0.02
    decay: float = 0.05
    clip: float = 1.0
    save_every: int = 100
    held_out: float = 0.02
    size: Size = field(default_factory=Size)


Point = dict[str, float | None]
"""One point of the loss curve: step, mean training loss since the last point, held-out loss."""


def plain(config: Finetune) -> dict[str, Any]:
    """Settings as JSON, without the folder: where a training is kept does not change it."""
    settings = asdict(config)
    del settings["out"]
    return {**settings, "init": str(config.init) if config.init else None}


class Training:
    """One training: model, optimiser, and the state on disk.

    Args:
        config: how to train.
        model: what to train, in place.
        data: the signature of the data; a saved state with another one is refused.

    Raises:
        InputError: the saved state belongs to other settings or other data.
    """

    def __init__(self, config: Finetune, model: PreTrainedModel, data: str) -> None:
        self.config, self.model = config, model
        matrices = [weight for weight in model.parameters() if weight.ndim > 1]
        vectors = [weight for weight in model.parameters() if weight.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": config.decay}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=config.rate, betas=(0.9, 0.98), eps=1e-8)
        self.folder = config.out / "resume"
        self.identity = {"settings": plain(config), "data": data}
        self.step = 0
        self.curve: list[Point] = []
        self._load()

    def train(self, rows: list[Encoded], tests: list[Encoded], console: Console | None) -> list[Point]:
        """Run the remaining steps; the curve holds the mean training loss and the held-out loss at every save."""
        config = self.config
        seen: list[float] = []
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, disable=console is None) as progress:
            bar = progress.add_task("fine-tuning", total=config.steps, completed=self.step)
            for batch in _schedule(rows, config, self.step):
                seen.append(self._one(batch))
                self.step += 1
                progress.update(bar, completed=self.step, description=f"loss {np.mean(seen[-50:]):.3f}")
                if self.step % config.save_every == 0 or self.step == config.steps:
                    held = loss_of(self.model, tests, config.tokens)
                    self.curve.append({"step": self.step, "loss": round(float(np.mean(seen)), 4), "held_out": held})
                    progress.console.log(str(self.curve[-1]))
                    seen = []
                    self._store()
        return self.curve

    def _one(self, batch: list[Encoded]) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(self.step, self.config)
        self.model.train()
        total, count = _loss(self.model, batch)
        loss = total / count
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizer.step()
        return float(loss.detach())

    def _store(self) -> None:
        partial = self.folder.with_name("resume.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        tensors = {f"model.{name}": weight.detach() for name, weight in self.model.named_parameters()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value.clone() for name, value in state.items()}
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial / "state.safetensors")
        written = {"identity": self.identity, "step": self.step, "curve": self.curve}
        (partial / "state.json").write_text(json.dumps(written))
        shutil.rmtree(self.folder, ignore_errors=True)
        partial.rename(self.folder)

    def _load(self) -> None:
        if not (self.folder / "state.json").is_file():
            return
        written = json.loads((self.folder / "state.json").read_text())
        if written["identity"] != self.identity:
            raise InputError(
                str(self.folder), "a training with other settings or data", "the same ones, or a new folder"
            )
        tensors = load_file(self.folder / "state.safetensors")
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                weight.copy_(tensors[f"model.{name}"])
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                state.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.step, self.curve = written["step"], written["curve"]


def rate_at(step: int, config: Finetune) -> float:
    """Learning rate of a step: linear rise over the warm-up, then half a cosine from the peak to its floor."""
    rise = max(1, round(config.warmup * config.steps))
    if step < rise:
        return config.rate * (step + 1) / rise
    done = (step - rise) / max(1, config.steps - rise)
    return config.rate * (config.floor + (1 - config.floor) * 0.5 * (1 + math.cos(math.pi * done)))


def loss_of(model: PreTrainedModel, rows: Sequence[Encoded], tokens: int) -> float | None:
    """Mean negative log-likelihood per target token, in nats; None without rows."""
    model.eval()
    total, count = 0.0, 0
    with torch.inference_mode():
        for group in batches(rows, tokens, seed=0, epoch=0) if rows else ():
            part, size = _loss(model, [rows[index] for index in group])
            total, count = total + float(part), count + size
    return round(total / count, 4) if count else None


def _schedule(rows: list[Encoded], config: Finetune, done: int) -> Iterator[list[Encoded]]:
    step, epoch = 0, 0
    while True:
        for group in batches(rows, config.tokens, seed=config.seed, epoch=epoch):
            if step >= config.steps:
                return
            if step >= done:
                yield [rows[index] for index in group]
            step += 1
        epoch += 1


def _loss(model: PreTrainedModel, batch: Sequence[Encoded]) -> tuple[torch.Tensor, int]:
    """Sum of the targets' negative log-likelihoods, and their number; padding stands right, so causality masks it."""
    width = max(len(one.ids) for one in batch)
    ids = np.zeros((len(batch), width), dtype=np.int64)
    labels = np.full((len(batch), width), IGNORED, dtype=np.int64)
    for row, one in enumerate(batch):
        ids[row, : len(one.ids)] = one.ids
        labels[row, : len(one.ids)] = np.where(one.target == 1, one.ids, IGNORED)
    wanted = torch.from_numpy(labels)[:, 1:]
    at = wanted != IGNORED
    head = cast(torch.nn.Module, model.get_output_embeddings())
    states = model.base_model(input_ids=torch.from_numpy(ids), use_cache=False).last_hidden_state[:, :-1][at]
    return cross_entropy(head(states), wanted[at], reduction="sum"), int(at.sum())
