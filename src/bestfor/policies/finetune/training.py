"""Train by a loop of batches in, weights out, with a state on disk to continue from.

The loop is the project's own and not a trainer's because of what it promises: a state that is written in one step,
holds tensors and JSON only, and continues to the same bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, cast

import numpy as np
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from bestfor import rng
from bestfor.errors import InputError
from bestfor.files import sweep, writing_folder
from bestfor.policies.finetune.corpus import Encoded, batches
from bestfor.policies.finetune.settings import Finetune, plain
from bestfor.progress import Progress

Point = dict[str, float | None]
"""One point of the loss curve: step, mean training loss since the last point, held-out loss."""


class Training:
    """Training under way: model, optimiser, and the state on disk.

    Args:
        config: how to train.
        model: what to train, in place.
        data: the signature of the data; a saved state with another one is refused.

    Raises:
        InputError: the saved state belongs to other settings or other data.
    """

    def __init__(self, config: Finetune, model: PreTrainedModel, data: str) -> None:
        self.config, self.model = config, cast(Any, model).to(config.device)
        self.optimizers = _optimizers(model, config)
        self.averaged = [weight.detach().clone() for weight in model.parameters()] if config.average > 0 else []
        self.folder = config.out / "resume"
        self.identity = {"settings": plain(config), "data": data}
        self.step = 0
        self.curve: list[Point] = []
        sweep(config.out)
        self._load()

    def train(self, rows: list[Encoded], tests: list[Encoded], console: Console | None) -> list[Point]:
        """Run the remaining steps; the curve holds the mean training loss and the held-out loss at every save."""
        config = self.config
        last = config.steps if config.until is None else min(config.until, config.steps)
        seen: list[float] = []
        with Progress.on(console, "fine-tuning", config.steps, self.step) as progress:
            for batch in schedule(rows, config, config.steps, done=self.step):
                if self.step >= last:
                    break
                seen.append(self._one(batch))
                self.step += 1
                progress.describe(f"fine-tuning, loss {np.mean(seen[-50:]):.3f}")
                progress.advance()
                if self.step % config.save_every == 0 or self.step == last:
                    with self._kept():
                        held = loss_of(self.model, tests, config.tokens, precision=config.precision)
                    self.curve.append({"step": self.step, "loss": round(float(np.mean(seen)), 4), "held_out": held})
                    progress.note(str(self.curve[-1]))
                    seen = []
                    self._store()
        self._swap()
        return self.curve

    def _one(self, batch: list[Encoded]) -> float:
        config = self.config
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate_at(self.step, config, config.steps)
        self.model.train()
        # Dropout, where a checkpoint has any, is then the same in a training that was interrupted.
        torch.manual_seed(int(rng.derive(config.seed, "dropout", self.step).integers(1 << 62)))
        hidden = rng.derive(config.seed, "hidden", self.step) if config.hide > 0 else None
        with _precision(self.model, config.precision):
            total, weight = weighted_loss(self.model, batch, context=config.context, hide=config.hide, draw=hidden)
        loss = total / weight
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        for optimizer in self.optimizers:
            optimizer.step()
        with torch.no_grad():
            # The average forgets the first steps faster than its decay would.
            decay = min(config.average, (1 + self.step) / (10 + self.step))
            for mean, weights in zip(self.averaged, self.model.parameters(), strict=False):
                mean.lerp_(weights, 1 - decay)
        return float(loss.detach())

    def _swap(self) -> None:
        with torch.no_grad():
            for mean, weights in zip(self.averaged, self.model.parameters(), strict=False):
                last = weights.detach().clone()
                weights.copy_(mean)
                mean.copy_(last)

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Put the weights into the model that would be kept if the training ended here, for the time of a context."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _store(self) -> None:
        tensors = {f"model.{name}": weight.detach() for name, weight in self.model.named_parameters()}
        tensors |= {f"average.{index}": mean for index, mean in enumerate(self.averaged)}
        for place, optimizer in enumerate(self.optimizers):
            for index, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{place}.{index}.{name}": value.clone() for name, value in state.items()}
        written = {"identity": self.identity, "step": self.step, "curve": self.curve}
        with writing_folder(self.folder) as partial:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial / "state.safetensors")
            (partial / "state.json").write_text(json.dumps(written))

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
            for index, mean in enumerate(self.averaged):
                mean.copy_(tensors[f"average.{index}"])
        for place, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, torch.Tensor]] = {}
            for name, tensor in tensors.items():
                if name.startswith(f"optimizer.{place}."):
                    index, key = name.split(".")[2:]
                    state.setdefault(int(index), {})[key] = tensor
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        self.step, self.curve = written["step"], written["curve"]


class Pace(Protocol):
    """Settings of the order of batches and of the learning rate."""

    @property
    def seed(self) -> int:
        """The seed of the order."""
        ...

    @property
    def tokens(self) -> int:
        """Padded tokens of a batch."""
        ...

    @property
    def rate(self) -> float:
        """Peak learning rate."""
        ...

    @property
    def warmup(self) -> float:
        """Share of the steps in which the rate rises."""
        ...

    @property
    def floor(self) -> float:
        """Last rate, as a share of the peak."""
        ...


def rate_at(step: int, pace: Pace, steps: int) -> float:
    """Compute the learning rate of a step: linear rise over the warm-up, then half a cosine to its floor."""
    rise = max(1, round(pace.warmup * steps))
    if step < rise:
        return pace.rate * (step + 1) / rise
    done = (step - rise) / max(1, steps - rise)
    return pace.rate * (pace.floor + (1 - pace.floor) * 0.5 * (1 + math.cos(math.pi * done)))


def loss_of(
    model: PreTrainedModel, rows: Sequence[Encoded], tokens: int, *, precision: str = "float32"
) -> float | None:
    """Compute the mean negative log-likelihood per target token, in nats; None without rows."""
    model.eval()
    total, count = 0.0, 0.0
    with torch.inference_mode(), _precision(model, precision):
        for group in batches(rows, tokens, seed=0, epoch=0) if rows else ():
            part, size = weighted_loss(model, [rows[index] for index in group])
            total, count = total + float(part), count + size
    return round(total / count, 4) if count else None


def _optimizers(model: PreTrainedModel, config: Finetune) -> list[torch.optim.Optimizer]:
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    embeddings = {id(weight) for end in ends if end is not None for weight in end.parameters()}
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    matrices = [weight for weight in weights if weight.ndim > 1]
    inner = [w for w in matrices if w.ndim == 2 and id(w) not in embeddings] if config.optimizer == "muon" else []
    taken = {id(weight) for weight in inner}
    groups = [
        {"params": [weight for weight in matrices if id(weight) not in taken], "weight_decay": config.decay},
        {"params": [weight for weight in weights if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    found: list[torch.optim.Optimizer] = []
    if groups:
        found.append(torch.optim.AdamW(groups, lr=config.rate, betas=(0.9, 0.98), eps=1e-8))
    if inner:
        found.append(torch.optim.Muon(inner, lr=config.rate, weight_decay=config.decay, adjust_lr_fn="match_rms_adamw"))
    return found


def _precision(model: PreTrainedModel, name: str) -> torch.autocast:
    return torch.autocast(model.device.type, torch.bfloat16, enabled=name == "bfloat16")


def schedule(rows: list[Encoded], pace: Pace, steps: int, *, done: int = 0) -> Iterator[list[Encoded]]:
    """List the batches of a training's steps from ``done`` on, epoch after epoch."""
    step, epoch = 0, 0
    while True:
        for group in batches(rows, pace.tokens, seed=pace.seed, epoch=epoch):
            if step >= steps:
                return
            if step >= done:
                yield [rows[index] for index in group]
            step += 1
        epoch += 1


def weighted_loss(
    model: PreTrainedModel,
    batch: Sequence[Encoded],
    *,
    context: float = 0.0,
    hide: float = 0.0,
    draw: np.random.Generator | None = None,
) -> tuple[torch.Tensor, float]:
    """Sum weighted negative log-likelihoods, and weights; padding stands right, so causality masks it."""
    width = max(len(one.ids) for one in batch)
    ids = np.zeros((len(batch), width), dtype=np.int64)
    weights = np.zeros((len(batch), width))
    for row, one in enumerate(batch):
        ids[row, : len(one.ids)] = one.ids
        weights[row, : len(one.ids)] = np.where(one.target == 1, 1.0, context)
    read = ids
    if draw is not None:
        read = np.where((draw.random(ids.shape) < hide) & (weights < 1.0), 0, ids)
    wanted = torch.from_numpy(ids)[:, 1:].to(model.device)
    shares = torch.from_numpy(weights)[:, 1:].float().to(model.device)
    at = shares > 0
    head = cast(torch.nn.Module, model.get_output_embeddings())
    states = model.base_model(input_ids=torch.from_numpy(read).to(model.device), use_cache=False).last_hidden_state[
        :, :-1
    ][at]
    losses = cross_entropy(head(states).float(), wanted[at], reduction="none")
    return (losses * shares[at]).sum(), float(weights[:, 1:].sum())
