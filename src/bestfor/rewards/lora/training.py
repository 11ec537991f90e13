"""One training run of heads, and of an adapter below them: AdamW (Loshchilov & Hutter 2019) over whole queries.

A step's gradient is added up over batches that fit on the device, so it is the same however many there are. Where one
does not fit after all, batches are halved from there on and the step begins again. The rate rises over the first steps
and falls in a straight line to a tenth; gradients are clipped.

What a fit leaves on disk while it goes on, so that one that was killed continues and ends with the same bytes.

A folder per identity (settings, data, base, seed, versions) with a safetensors file for each part of the work: its
tensors, and a JSON object in the header. A file is written in one step, so it is there whole or not at all.

What all runs of a fit share: settings, the device's limits, and how losses come from a body's states.

How long a run goes on: a number of passes, or until held-out labels gain nothing; its state on disk meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bestfor import rng
from bestfor.artifacts import write_bytes
from bestfor.errors import BestforError
from bestfor.lm.adapter_files import NOTES
from bestfor.lm.loading import is_full
from bestfor.lm.packing import Pack
from bestfor.rewards.lora.config import Config
from bestfor.rewards.lora.heads import Heads, Objective, Standard, total_loss
from bestfor.rewards.lora.rows import Bundle, Rows, batches, largest, schedule
from bestfor.types import FloatArray

ADAPTERS = "adapters"

Tensors = dict[str, torch.Tensor]


class State:
    """Files of one fit.

    Args:
        root: folder of the states of all fits.
        identity: all that decides the result, as plain values.
    """

    def __init__(self, root: Path, identity: Mapping[str, Any]) -> None:
        self.identity = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self.folder = root / f"lora-{self.identity[:16]}"

    @property
    def adapters(self) -> Path:
        """Folder of the finished adapters."""
        return self.folder / ADAPTERS

    def get(self, name: str) -> tuple[Tensors, dict[str, Any]] | None:
        """Tensors and notes of a part; None where there is no whole file of this fit."""
        try:
            with safe_open(self._path(name), "pt") as opened:
                notes = json.loads((opened.metadata() or {})[NOTES])
                tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 - no mapping
        except (OSError, ValueError, KeyError, SafetensorError):
            return None
        return (tensors, notes["notes"]) if notes.get("identity") == self.identity else None

    def put(self, name: str, tensors: Mapping[str, torch.Tensor], notes: Mapping[str, Any]) -> None:
        """Write a part in the place of the one before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        ready = {key: value.detach().to("cpu").contiguous() for key, value in tensors.items()}
        # One key: the order of several would differ from process to process.
        header = {NOTES: json.dumps({"identity": self.identity, "notes": notes}, sort_keys=True)}
        write_bytes(self._path(name), save(ready, header))

    def remove(self) -> None:
        """What was fitted has been saved elsewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


@dataclass
class Device:
    """What batches are made for, shared by the runs of a fit.

    Attributes:
        tokens: padded tokens of a batch; halved where memory does not suffice.
        packed: whether texts lie side by side.
        tell: takes a sentence about the fit.
    """

    tokens: int
    packed: bool
    tell: Callable[[str], None]

    def tried(self, work: Callable[[], Tensor], least: int) -> Tensor:
        """The result of some work, which is done again with smaller batches where memory does not suffice.

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
            self.tell(f"Out of memory: batches hold at most {self.tokens:,} tokens from here on.")
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


@dataclass(frozen=True)
class Body:
    """What states come from.

    Attributes:
        states: of packs, shape (texts, hidden), in the order of their texts.
        weights: of the adapter that is trained, by name; none where the backbone stays as it is.
        training: a context for the passes of a step.
    """

    states: Callable[[Sequence[Pack]], Tensor]
    weights: dict[str, Tensor] = field(default_factory=dict)
    training: Callable[[], AbstractContextManager[None]] = nullcontext


@dataclass(frozen=True)
class Context:
    """What all runs of a fit share.

    Attributes:
        config: the settings.
        standard: how states become columns.
        device: the limits of batches.
        seed: of everything random.
    """

    config: Config
    standard: Standard
    device: Device
    seed: int

    def objective(self, *, warming: bool, levels: bool, beta: float | None = None) -> Objective:
        """The loss that is minimised; with ``beta = 0`` the one that is compared."""
        config = self.config
        if beta is None:
            beta = config.beta if config.likelihood == "beta_nll" else 0.0
        loss = "point" if warming and config.loss == "gaussian" else config.loss
        return Objective(loss, beta, levels)

    def loss(self, rows: Rows, batch: Sequence[Bundle], body: Body, heads: Heads, *, warming: bool) -> Tensor:
        """Sum of the losses of a batch's rows."""
        columns, these, group = self.columns(rows, batch, body)
        user, target = self._tensor(rows.user[these]), self._tensor(rows.target[these]).to(columns.dtype)
        mean, log_variance = heads.moments(columns, user, faithful=self.config.faithful)
        objective = self.objective(warming=warming, levels=rows.levels)
        return total_loss(mean, log_variance, target, self._tensor(group), objective)

    def columns(self, rows: Rows, batch: Sequence[Bundle], body: Body) -> tuple[Tensor, np.ndarray, np.ndarray]:
        """Columns of a batch's rows, shape (n, k), which rows they are, and the bundle of each, codes from 0."""
        packs = [rows.packs[index] for bundle in batch for index in bundle.packs]
        texts = np.concatenate([pack.rows for pack in packs])
        place = np.empty(int(texts.max()) + 1, dtype=np.int64)
        place[texts] = np.arange(len(texts))
        these = np.concatenate([bundle.rows for bundle in batch])
        group = np.repeat(np.arange(len(batch)), [len(bundle.rows) for bundle in batch])
        states = body.states(packs)[self._tensor(place[rows.text[these]])]
        return self.standard.columns(states), these, group

    def predict(self, rows: Rows, body: Body, variants: Sequence[Heads]) -> FloatArray:
        """Means and log-variances of rows under several heads, shape (variants, 2, n)."""
        least = largest(rows, rows.bundles(), packed=self.device.packed)
        return self.device.tried(lambda: self._predicted(rows, body, variants), least).cpu().double().numpy()

    def _predicted(self, rows: Rows, body: Body, variants: Sequence[Heads]) -> Tensor:
        like = self.standard.centre
        found = like.new_zeros((len(variants), 2, len(rows)))
        with torch.no_grad():
            for batch in batches(rows, rows.bundles(), self.device.tokens, packed=self.device.packed):
                columns, these, _ = self.columns(rows, batch, body)
                user, where = self._tensor(rows.user[these]), self._tensor(these)
                for place, heads in enumerate(variants):
                    found[place, :, where] = torch.stack(heads.moments(columns, user))
        return found

    def held_loss(self, rows: Rows, moments: FloatArray) -> float:
        """Sum of the losses that say when to stop, from means and log-variances of shape (2, n)."""
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


RISE = 0.05
FLOOR = 0.1
NAMED = 3


@dataclass(frozen=True)
class Stage:
    """One of the runs of a fit.

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


class Descent:
    """A run from its first weights.

    Args:
        rows: labels to learn from.
        body: where states come from.
        heads: first weights; ``heads`` holds the present ones.
        stage: which run.
        context: configuration, how states become columns, the device's limits, and the seed.
    """

    def __init__(self, rows: Rows, body: Body, heads: Heads, stage: Stage, context: Context) -> None:
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
        """Everything that is learned, by name."""
        return {**self.body.weights, **{name: self.heads.tensors()[name] for name in self.names}}

    def moments(self, prefix: str) -> dict[str, Tensor]:
        """The optimiser's state, by name."""
        state = {} if self.optimizer is None else self.optimizer.state_dict()["state"]
        return {f"{prefix}{index}.{key}": value.clone() for index, part in state.items() for key, value in part.items()}

    def restore(self, tensors: dict[str, Tensor], prefix: str) -> None:
        """Go on from what :meth:`moments` gave."""
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            index, key = name.removeprefix(prefix).split(".")
            state.setdefault(int(index), {})[key] = value
        if self.optimizer is not None:
            self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})

    def epoch(self, number: int, after: Callable[[int], None] | None = None) -> None:
        """The pass of a number, or what is left of it; ``after`` is called with the rows of each step."""
        steps = schedule(self.rows, self.bundles, self.stage.rows, self.context.seed, *self.stage.names, number)
        done = self.step - self.first(number)
        for place in range(done, len(steps)):
            self._pace((number + place / len(steps)) / self.stage.epochs, 1.0 / (len(steps) * self.stage.epochs))
            chosen = [self.bundles[index] for index in steps[place]]
            self._one(chosen, warming=number + self.stage.before < self.context.config.warm_up)
            self.step += 1
            if after is not None:
                after(sum(len(bundle.rows) for bundle in chosen))

    def first(self, number: int) -> int:
        """Steps before a pass."""
        return sum(
            len(schedule(self.rows, self.bundles, self.stage.rows, self.context.seed, *self.stage.names, earlier))
            for earlier in range(number)
        )

    def _pace(self, done: float, each: float) -> None:
        factor = min(1.0, (done + each) / RISE) * (1.0 - (1.0 - FLOOR) * min(done, 1.0))
        for group, peak in zip(self.optimizer.param_groups if self.optimizer else (), self.peaks, strict=True):
            group["lr"] = peak * factor

    def _one(self, chosen: Sequence[Bundle], *, warming: bool) -> None:
        if self.optimizer is None:
            return
        if self.context.config.dropout:
            torch.manual_seed(int(self._draw().integers(1 << 62)))
        device = self.context.device
        least = largest(self.rows, chosen, packed=device.packed)
        loss = device.tried(lambda: self.gradient(chosen, warming=warming), least)
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
        shown = ", ".join(f"'{name}'" for name in names[:NAMED])
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        where = " of ".join(self.stage.names)
        return (
            f"training ({where}), step {self.step}: the loss is {loss} or its gradient is not finite, "
            f"in queries {shown}{more}; a lower rate or dtype = 'float32' may help"
        )


class NotFiniteError(BestforError):
    """A loss or gradient that is no number; the weights are those before it."""


GAIN = 5e-4
NOW, BEST, MOMENTS = "now.", "best.", "moments."


@dataclass(frozen=True)
class Limits:
    """When a run ends.

    Attributes:
        passes: at most.
        patience: passes without gain.
        first: passes that the best weights took at least; 0 where those that it starts from may be best.
        held: mean held-out loss of the run's present weights; None goes on to the end.
    """

    passes: int
    patience: int = 1
    first: int = 0
    held: Callable[[], float] | None = None


@dataclass
class Part:
    """Where a run's state is kept.

    Attributes:
        state: the fit's files; None keeps nothing.
        name: of the run.
        every: steps after which the state is written.
    """

    state: State | None
    name: str
    every: int


@dataclass
class _Best:
    value: float = math.inf
    passes: int = 0
    weights: Tensors = field(default_factory=dict)


def descend(run: Descent, limits: Limits, part: Part, shown: Callable[[int], None]) -> int:
    """Train a run to its end; it then has its best weights.

    Args:
        run: from its first weights; goes on from where its state on disk is.
        limits: when it ends.
        part: where its state is kept.
        shown: called with the labels of each step.

    Returns:
        The passes that its weights took.

    Raises:
        NotFiniteError: a loss that is no number; the state before it is on disk.
    """
    best, number, done = _restored(run, part)
    if done:
        return best.passes

    def after(labels: int) -> None:
        shown(labels)
        if part.state is not None and run.step % part.every == 0:
            _store(run, part, best, number)

    if run.step == 0:
        _judged(run, limits, best, 0)
    while number < limits.passes:
        try:
            run.epoch(number, after)
        except NotFiniteError:
            _store(run, part, best, number)
            raise
        number += 1
        if _judged(run, limits, best, number):
            break
    if best.weights:
        _copy(best.weights, run)
    else:
        best.passes = number
    _store(run, part, best, number, done=True)
    return best.passes


def _judged(run: Descent, limits: Limits, best: _Best, number: int) -> bool:
    """Whether a run has gained nothing for too long after so many passes."""
    if limits.held is None or number < limits.first:
        return False
    value = limits.held()
    if value < best.value - GAIN:
        best.value, best.passes = value, number
        best.weights = {name: weight.detach().clone() for name, weight in run.weights.items()}
    return number - best.passes >= limits.patience


def _copy(tensors: Tensors, run: Descent) -> None:
    with torch.no_grad():
        for name, weight in run.weights.items():
            weight.copy_(tensors[name])


def _store(run: Descent, part: Part, best: _Best, number: int, *, done: bool = False) -> None:
    if part.state is None:
        return
    tensors = {NOW + name: weight for name, weight in run.weights.items()}
    if not done:
        tensors |= {BEST + name: weight for name, weight in best.weights.items()}
        tensors |= run.moments(MOMENTS)
    tokens = run.context.device.tokens
    notes = {"step": run.step, "number": number, "done": done, "passes": best.passes, "tokens": tokens}
    part.state.put(part.name, tensors, {**notes, "best": best.value if math.isfinite(best.value) else None})


def _restored(run: Descent, part: Part) -> tuple[_Best, int, bool]:
    """The best so far, the pass it is in, and whether that was all; a run's weights and moments as they were."""
    known = None if part.state is None else part.state.get(part.name)
    if known is None:
        return _Best(), 0, False
    tensors, notes = known
    _copy({name: tensors[NOW + name] for name in run.weights}, run)
    run.step = notes["step"]
    # what did not fit does not fit now
    run.context.device.tokens = min(run.context.device.tokens, notes["tokens"])
    run.restore({name: value for name, value in tensors.items() if name.startswith(MOMENTS)}, MOMENTS)
    weights = {name.removeprefix(BEST): value for name, value in tensors.items() if name.startswith(BEST)}
    value = math.inf if notes["best"] is None else notes["best"]
    device = run.heads.mean.device
    weights = {name: value.to(device) for name, value in weights.items()}
    return _Best(value, notes["passes"], weights), notes["number"], notes["done"]
