"""Train heads, and an adapter below them, over whole queries by AdamW (Loshchilov & Hutter 2019).

A step's gradient is added up over batches that fit on the device, so it is the same however many there are. Where one
does not fit after all, batches are halved from there on and the step begins again. The rate rises over the first steps
and falls in a straight line to a tenth; gradients are clipped. :mod:`bestfor.rewards.lora.resume` says how long a run
goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from bestfor import rng
from bestfor.errors import BestforError
from bestfor.lm.loading import is_full
from bestfor.lm.packing import Pack
from bestfor.rewards.lora.config import Config
from bestfor.rewards.lora.heads import LoraHeads, Objective, Standardizer, total_loss
from bestfor.rewards.lora.rows import Bundle, TokenRows, batches, largest, schedule
from bestfor.types import FloatArray

RISE = 0.05
"""Share of the steps in which the rate rises."""
FLOOR = 0.1
"""The last rate as a share of the peak."""
NAMED = 3
"""Queries that an error names."""


class NotFiniteError(BestforError):
    """Loss or gradient that is no number; the weights are those before it."""


@dataclass
class DeviceLimits:
    """Limits of batches on a device, shared by the runs of a fit.

    Attributes:
        tokens: padded tokens of a batch; halved where memory does not suffice.
        packed: whether texts lie side by side.
        note: takes a sentence about the fit.
    """

    tokens: int
    packed: bool
    note: Callable[[str], None]

    def run(self, work: Callable[[], Tensor], least: int) -> Tensor:
        """Do some work, again with smaller batches where memory does not suffice; return its result.

        Args:
            work: looks up ``tokens`` when it is called.
            least: padded tokens of what cannot be divided.

        Raises:
            BestforError: batches cannot be any smaller.
        """
        while True:
            try:
                return work()
            except RuntimeError as error:
                if not is_full(error):
                    raise
            if self.tokens <= least:
                raise BestforError(f"out of memory with {least:,} tokens; a smaller limit or checkpointing needs less")
            self.tokens = max(least, self.tokens // 2)
            self.note(f"Out of memory: batches hold at most {self.tokens:,} tokens from here on.")
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


@dataclass(frozen=True)
class StateSource:
    """Source of states: a backbone as it is, or with the adapter that is trained.

    Attributes:
        states: of packs, shape (texts, hidden), in the order of their texts.
        weights: of the adapter that is trained, by name; none where the backbone stays as it is.
        training: a context for the passes of a step.
    """

    states: Callable[[Sequence[Pack]], Tensor]
    weights: dict[str, Tensor] = field(default_factory=dict)
    training: Callable[[], AbstractContextManager[None]] = nullcontext


@dataclass(frozen=True)
class TrainingContext:
    """Settings, columns, limits and seed that all runs of a fit share, and losses by them.

    Attributes:
        config: the settings.
        standard: makes states columns.
        device: the limits of batches.
        seed: of everything random.
    """

    config: Config
    standard: Standardizer
    device: DeviceLimits
    seed: int

    def objective(self, *, warming: bool, levels: bool, beta: float | None = None) -> Objective:
        """Choose the loss that is minimised; with ``beta = 0`` the one that is compared."""
        config = self.config
        if beta is None:
            beta = config.beta if config.likelihood == "beta_nll" else 0.0
        loss = "point" if warming and config.loss == "gaussian" else config.loss
        return Objective(loss, beta, levels)

    def loss(
        self, rows: TokenRows, batch: Sequence[Bundle], body: StateSource, heads: LoraHeads, *, warming: bool
    ) -> Tensor:
        """Sum the losses of a batch's rows."""
        columns, these, group = self.columns(rows, batch, body)
        user, target = self._tensor(rows.user[these]), self._tensor(rows.target[these]).to(columns.dtype)
        mean, log_variance = heads.moments(columns, user, faithful=self.config.faithful)
        objective = self.objective(warming=warming, levels=rows.levels)
        return total_loss(mean, log_variance, target, self._tensor(group), objective)

    def columns(
        self, rows: TokenRows, batch: Sequence[Bundle], body: StateSource
    ) -> tuple[Tensor, np.ndarray, np.ndarray]:
        """Compute columns of a batch's rows, shape (n, k), which rows they are, and the bundle of each, from 0."""
        packs = [rows.packs[index] for bundle in batch for index in bundle.packs]
        texts = np.concatenate([pack.rows for pack in packs])
        place = np.empty(int(texts.max()) + 1, dtype=np.int64)
        place[texts] = np.arange(len(texts))
        these = np.concatenate([bundle.rows for bundle in batch])
        group = np.repeat(np.arange(len(batch)), [len(bundle.rows) for bundle in batch])
        states = body.states(packs)[self._tensor(place[rows.text[these]])]
        return self.standard.columns(states), these, group

    def predict(self, rows: TokenRows, body: StateSource, variants: Sequence[LoraHeads]) -> FloatArray:
        """Predict means and log-variances of rows under several heads, shape (variants, 2, n)."""
        least = largest(rows, rows.bundles(), packed=self.device.packed)
        return self.device.run(lambda: self._predicted(rows, body, variants), least).cpu().double().numpy()

    def _predicted(self, rows: TokenRows, body: StateSource, variants: Sequence[LoraHeads]) -> Tensor:
        like = self.standard.centre
        found = like.new_zeros((len(variants), 2, len(rows)))
        with torch.no_grad():
            for batch in batches(rows, rows.bundles(), self.device.tokens, packed=self.device.packed):
                columns, these, _ = self.columns(rows, batch, body)
                user, where = self._tensor(rows.user[these]), self._tensor(these)
                for place, heads in enumerate(variants):
                    found[place, :, where] = torch.stack(heads.moments(columns, user))
        return found

    def held_loss(self, rows: TokenRows, moments: FloatArray) -> float:
        """Sum the losses that say when to stop, from means and log-variances of shape (2, n)."""
        objective = self.objective(warming=False, levels=rows.levels, beta=0.0)
        values = [torch.from_numpy(part) for part in (*moments, rows.target)]
        total = 0.0
        for bundle in rows.bundles():
            mean, log_variance, target = (value[bundle.rows] for value in values)
            total += float(
                total_loss(mean, log_variance, target, torch.zeros(len(target), dtype=torch.long), objective)
            )
        return total

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.standard.centre.device)


@dataclass(frozen=True)
class TrainingStage:
    """Settings of one of the runs of a fit.

    Attributes:
        names: of its random numbers, the user's id last where it is about one.
        rate: peak learning rate of the adapter.
        rows: labels of a step.
        epochs: passes that the learning rate is made for.
        before: passes that heads have seen already.
        alone: whether it is about one user.
    """

    names: tuple[str, ...]
    rate: float
    rows: int
    epochs: int
    before: int = 0
    alone: bool = False


class LoraRun:
    """Training run of heads and an adapter, from its first weights.

    Args:
        rows: labels to learn from.
        body: where states come from.
        heads: first weights; ``heads`` holds the present ones.
        stage: which run.
        context: configuration, standardisation, the device's limits, and the seed.
    """

    def __init__(
        self, rows: TokenRows, body: StateSource, heads: LoraHeads, stage: TrainingStage, context: TrainingContext
    ) -> None:
        self.rows, self.body, self.stage, self.context = rows, body, stage, context
        config = context.config
        self.names = heads.trained(config, alone=stage.alone)
        self.heads = heads.leaves(self.names)
        self.bundles = rows.bundles()
        self.step = 0
        learned = [self.heads.tensors()[name] for name in self.names]
        step = config.head_rate / math.sqrt(self.heads.mean.shape[0] - 1)
        groups = [
            {"params": list(body.weights.values()), "lr": stage.rate, "weight_decay": config.decay},
            {"params": learned, "lr": step, "weight_decay": 0.0},
        ]
        self.peaks = [group["lr"] for group in groups if group["params"]]
        kept = [group for group in groups if group["params"]]
        self.optimizer = torch.optim.AdamW(kept) if kept else None

    @property
    def weights(self) -> dict[str, Tensor]:
        """All weights that are learned, by name."""
        return {**self.body.weights, **{name: self.heads.tensors()[name] for name in self.names}}

    def moments(self, prefix: str) -> dict[str, Tensor]:
        """Copy the optimiser's state, by name."""
        state = {} if self.optimizer is None else self.optimizer.state_dict()["state"]
        return {f"{prefix}{index}.{key}": value.clone() for index, part in state.items() for key, value in part.items()}

    def restore(self, tensors: dict[str, Tensor], prefix: str) -> None:
        """Restore the optimiser's state from what :meth:`moments` gave."""
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            index, key = name.removeprefix(prefix).split(".")
            state.setdefault(int(index), {})[key] = value
        if self.optimizer is not None:
            self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})

    def epoch(self, number: int, after: Callable[[int], None] | None = None) -> None:
        """Do the pass of a number, or what is left of it; ``after`` is called with the rows of each step."""
        steps = schedule(self.rows, self.bundles, self.stage.rows, self.context.seed, *self.stage.names, number)
        done = self.step - self.first(number)
        for place in range(done, len(steps)):
            self._set_rate((number + place / len(steps)) / self.stage.epochs, 1.0 / (len(steps) * self.stage.epochs))
            chosen = [self.bundles[index] for index in steps[place]]
            self._do_step(chosen, warming=number + self.stage.before < self.context.config.warm_up)
            self.step += 1
            if after is not None:
                after(sum(len(bundle.rows) for bundle in chosen))

    def first(self, number: int) -> int:
        """Count the steps before a pass."""
        return sum(
            len(schedule(self.rows, self.bundles, self.stage.rows, self.context.seed, *self.stage.names, earlier))
            for earlier in range(number)
        )

    def _set_rate(self, done: float, each: float) -> None:
        factor = min(1.0, (done + each) / RISE) * (1.0 - (1.0 - FLOOR) * min(done, 1.0))
        for group, peak in zip(self.optimizer.param_groups if self.optimizer else (), self.peaks, strict=True):
            group["lr"] = peak * factor

    def _do_step(self, chosen: Sequence[Bundle], *, warming: bool) -> None:
        if self.optimizer is None:
            return
        if self.context.config.dropout:
            torch.manual_seed(int(self._draw().integers(1 << 62)))
        device = self.context.device
        least = largest(self.rows, chosen, packed=device.packed)
        loss = device.run(lambda: self.gradient(chosen, warming=warming), least)
        learned = [weight for weight in self.weights.values() if weight.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(learned, self.context.config.clip)
        if not bool(torch.isfinite(loss) & torch.isfinite(norm)):
            raise NotFiniteError(self._complaint(chosen, float(loss)))
        self.optimizer.step()

    def gradient(self, chosen: Sequence[Bundle], *, warming: bool = False) -> Tensor:
        """Put a step's gradient into ``weights``; returns its loss, the mean over the labels with the priors.

        Args:
            chosen: the step's queries.
            warming: whether the variance is left as it is.
        """
        for weight in self.weights.values():
            weight.grad = None
        config, count = self.context.config, sum(len(bundle.rows) for bundle in chosen)
        total = self.heads.mean.new_zeros(())
        with self.body.training():
            for batch in self._batches(chosen):
                part = self.context.loss(self.rows, batch, self.body, self.heads, warming=warming) / count
                part.backward()
                total = total + part.detach()
        prior = self.heads.penalty(config, self.names) / len(self.rows)
        if prior.requires_grad:
            prior.backward()
        return total + prior.detach()

    def _batches(self, chosen: Sequence[Bundle]) -> list[list[Bundle]]:
        device = self.context.device
        return batches(self.rows, chosen, device.tokens, packed=device.packed)

    def _draw(self) -> np.random.Generator:
        return rng.derive(self.context.seed, "dropout", *self.stage.names, self.step)

    def _complaint(self, chosen: Sequence[Bundle], loss: float) -> str:
        names = sorted({self.rows.queries[index] for bundle in chosen for index in bundle.packs})
        some = ", ".join(f"'{name}'" for name in names[:NAMED])
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        where = " of ".join(self.stage.names)
        return (
            f"training ({where}), step {self.step}: the loss is {loss} or its gradient is not finite, "
            f"in queries {some}{more}; a lower rate or dtype = 'float32' may help"
        )
