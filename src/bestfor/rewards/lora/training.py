"""One training run of heads, and of an adapter below them: AdamW (Loshchilov & Hutter 2019) over whole queries.

A step's gradient is added up over batches that fit on the device, so it is the same however many there are. Where one
does not fit after all, batches are halved from there on and the step begins again. The rate rises over the first steps
and falls in a straight line to a tenth; gradients are clipped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bestfor import rng
from bestfor.errors import BestforError
from bestfor.rewards._lora_context import Body, Context
from bestfor.rewards._lora_steps import batches, largest, schedule
from bestfor.rewards.lora.heads import Heads
from bestfor.rewards.lora.rows import Bundle, Rows

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
