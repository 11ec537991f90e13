"""What all runs of a fit share: settings, the device's limits, and how losses come from a body's states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from bestfor.errors import BestforError
from bestfor.lm.checkpoint import is_full
from bestfor.lm.packing import Pack
from bestfor.rewards._lora_loss import Objective, total_loss
from bestfor.rewards._lora_steps import batches, largest
from bestfor.rewards.lora.config import Config
from bestfor.rewards.lora.heads import Heads, Standard
from bestfor.rewards.lora.rows import Bundle, Rows
from bestfor.types import FloatArray


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
