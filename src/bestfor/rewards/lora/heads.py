"""Heads on the states of a backbone: a mean and a log-variance for everybody, and each user's deviations from them.

    x = [(h - c) / (s sqrt(H)), 1],   m = x'(v + v_u),   log s^2 = x'(a + a_u)

h is the state of a text's last token, c and s its mean and standard deviation over the fit texts on the backbone as it
is, by coordinate: some coordinates of a language model's states are hundreds of times larger than others. x has about
unit length whatever the width H, so one prior and one learning rate suit every backbone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bestfor.rewards.heads.losses import clamped
from bestfor.rewards.lora.config import Config
from bestfor.types import FloatArray

HELD_APART = 1e-6
"""Standard deviation of a coordinate below which it says nothing."""


@dataclass(frozen=True)
class Standard:
    """How states become columns.

    Attributes:
        centre: shape (hidden,).
        factor: shape (hidden,), 1 / (s sqrt(H)); 0 for a coordinate that never varies.
    """

    centre: Tensor
    factor: Tensor

    @classmethod
    def of(cls, states: npt.NDArray[np.float32], device: torch.device) -> Self:
        """Of states of the fit texts, shape (texts, hidden)."""
        values = states.astype(np.float64)
        width = values.std(axis=0) if len(values) > 1 else np.ones(values.shape[1])
        told = width > HELD_APART * max(float(width.max()), HELD_APART)
        factor = np.where(told, 1.0 / (np.where(told, width, 1.0) * math.sqrt(values.shape[1])), 0.0)
        return cls(*(torch.from_numpy(part.astype(np.float32)).to(device) for part in (values.mean(axis=0), factor)))

    def columns(self, states: Tensor) -> Tensor:
        """Shape (n, hidden + 1), the last of them 1."""
        values = (states - self.centre) * self.factor
        return torch.cat([values, torch.ones_like(values[:, :1])], 1)


@dataclass(frozen=True)
class Heads:
    """Weights; k = hidden + 1.

    Attributes:
        mean: shape (k,).
        own_mean: shape (users, k).
        spread: shape (k,).
        own_spread: shape (users, k).
    """

    mean: Tensor
    own_mean: Tensor
    spread: Tensor
    own_spread: Tensor

    @classmethod
    def zero(cls, users: int, hidden: int, device: torch.device, dtype: torch.dtype = torch.float32) -> Self:
        """First weights: the mean of the labels and their variance for everybody."""
        shapes = ((hidden + 1,), (users, hidden + 1)) * 2
        return cls(*(torch.zeros(shape, device=device, dtype=dtype) for shape in shapes))

    def tensors(self) -> dict[str, Tensor]:
        """By name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def trained(self, config: Config, *, alone: bool) -> list[str]:
        """Names of what is learned; ``alone``: of one user's part."""
        names = [] if alone else ["mean"]
        names += ["own_mean"] if config.own_heads else []
        if config.loss == "gaussian":
            names += [] if alone else ["spread"]
            names += ["own_spread"] if config.own_heads else []
        return names

    def leaves(self, names: list[str]) -> Self:
        """A copy in which these are learned."""
        found = {name: value.detach().clone() for name, value in self.tensors().items()}
        for name in names:
            found[name].requires_grad_()
        return replace(self, **found)

    def of(self, user: int) -> Self:
        """One user's, with a code of 0."""
        rows = slice(user, user + 1)
        return replace(self, own_mean=self.own_mean[rows], own_spread=self.own_spread[rows])

    def strangers(self) -> Self:
        """What serves somebody without labels, for everybody."""
        return replace(self, own_mean=torch.zeros_like(self.own_mean), own_spread=torch.zeros_like(self.own_spread))

    def moments(self, columns: Tensor, user: Tensor, *, faithful: bool = False) -> tuple[Tensor, Tensor]:
        """Mean and log-variance on the standard scale, each (n,).

        Args:
            columns: shape (n, k).
            user: shape (n,), codes.
            faithful: whether the variance's gradient stops at the columns.
        """
        mean = columns @ self.mean + (columns * self.own_mean[user]).sum(1)
        columns = columns.detach() if faithful else columns
        spread = columns @ self.spread + (columns * self.own_spread[user]).sum(1)
        return mean, clamped(spread)

    def penalty(self, config: Config, names: list[str]) -> Tensor:
        """Half the sum of precision times squared weight over what is learned."""
        precisions = {"mean": 1.0, "own_mean": config.deviation, "spread": 1.0}
        precisions["own_spread"] = config.deviation * config.spread
        total = self.mean.new_zeros(())
        for name in names:
            weights = self.tensors()[name]
            total = total + precisions[name] * weights[..., :-1].square().sum() + weights[..., -1].square().sum()
        return 0.5 * total

    def arrays(self) -> dict[str, FloatArray]:
        """What everybody and each user are served with, in float64: strangers' ``mean`` and ``spread`` apart."""
        return {name: value.detach().cpu().double().numpy() for name, value in self.tensors().items()}
