"""Heads on a backbone's states: mean and log-variance, with each user's deviations, and the losses that train them.

    x = [(h - c) / (s sqrt(H)), 1],   m = x'(v + v_u),   log s^2 = x'(a + a_u)

h is the state of a text's last token, c and s its mean and standard deviation over the fit texts on the backbone as it
is, by coordinate: some coordinates of a language model's states are hundreds of times larger than others. x has about
unit length whatever the width H, so one prior and one learning rate suit every backbone.

Losses profile out each query's level:

    minimise over c   sum_i w_i l(y_i - m_i - c_q) + L c_q^2 / 2

Candidates of a query share a level c_q that moves no pick. For squared error and for the Gaussian likelihood the best
level is the shrunk mean residual c_q = sum_i p_i (y_i - m_i) / (L + sum_i p_i), p_i the weight of a residual's square.
It is held fixed under differentiation: where c_q is a minimum, the derivative of the minimum is that of the loss at c_q
(the envelope theorem), for the mean and for the variance. A query of one row has no level of its own to speak of.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import softplus

from bestfor.rewards.heads.losses import clamped
from bestfor.rewards.lora.config import Config, Loss

HELD_APART = 1e-6
"""Standard deviation of a coordinate below which it says nothing."""
LEVEL_PRECISION = 1.0
"""L, the prior precision of a query's level."""


@dataclass(frozen=True)
class Standardizer:
    """Standardise states to columns.

    Attributes:
        centre: shape (hidden,).
        factor: shape (hidden,), 1 / (s sqrt(H)); 0 for a coordinate that never varies.
    """

    centre: Tensor
    factor: Tensor

    @classmethod
    def of(cls, states: npt.NDArray[np.float32], device: torch.device) -> Self:
        """Standardise by states of the fit texts, shape (texts, hidden)."""
        values = states.astype(np.float64)
        width = values.std(axis=0) if len(values) > 1 else np.ones(values.shape[1])
        varies = width > HELD_APART * max(float(width.max()), HELD_APART)
        factor = np.where(varies, 1.0 / (np.where(varies, width, 1.0) * math.sqrt(values.shape[1])), 0.0)
        return cls(*(torch.from_numpy(part.astype(np.float32)).to(device) for part in (values.mean(axis=0), factor)))

    def columns(self, states: Tensor) -> Tensor:
        """Standardise states to columns, shape (n, hidden + 1), the last of them 1."""
        values = (states - self.centre) * self.factor
        return torch.cat([values, torch.ones_like(values[:, :1])], 1)


@dataclass(frozen=True)
class LoraHeads:
    """Weights of all heads; k = hidden + 1.

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
        """Make first weights: the mean of the labels and their variance for everybody."""
        shapes = ((hidden + 1,), (users, hidden + 1)) * 2
        return cls(*(torch.zeros(shape, device=device, dtype=dtype) for shape in shapes))

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def trained(self, config: Config, *, alone: bool) -> list[str]:
        """Name what is learned; ``alone``: of one user's part."""
        names = [] if alone else ["mean"]
        names += ["own_mean"] if config.own_heads else []
        if config.loss == "gaussian":
            names += [] if alone else ["spread"]
            names += ["own_spread"] if config.own_heads else []
        return names

    def leaves(self, names: list[str]) -> Self:
        """Copy the weights with these of them to be learned."""
        found = {name: value.detach().clone() for name, value in self.tensors().items()}
        for name in names:
            found[name].requires_grad_()
        return replace(self, **found)

    def of(self, user: int) -> Self:
        """Take one user's, with a code of 0."""
        rows = slice(user, user + 1)
        return replace(self, own_mean=self.own_mean[rows], own_spread=self.own_spread[rows])

    def strangers(self) -> Self:
        """Leave out all deviations: what serves somebody without labels."""
        return replace(self, own_mean=torch.zeros_like(self.own_mean), own_spread=torch.zeros_like(self.own_spread))

    def moments(self, columns: Tensor, user: Tensor, *, faithful: bool = False) -> tuple[Tensor, Tensor]:
        """Compute mean and log-variance on the standard scale, each (n,).

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
        """Compute the prior: half the sum of precision times squared weight over what is learned."""
        precisions = {"mean": 1.0, "own_mean": config.deviation, "spread": 1.0}
        precisions["own_spread"] = config.deviation * config.spread
        total = self.mean.new_zeros(())
        for name in names:
            weights = self.tensors()[name]
            total = total + precisions[name] * weights[..., :-1].square().sum() + weights[..., -1].square().sum()
        return 0.5 * total


@dataclass(frozen=True)
class Objective:
    """Choice of the loss of a batch.

    Attributes:
        loss: which.
        beta: exponent of beta-NLL, 0 for the likelihood.
        levels: whether queries have levels.
    """

    loss: Loss
    beta: float = 0.0
    levels: bool = True


def total_loss(mean: Tensor, log_variance: Tensor, target: Tensor, group: Tensor, objective: Objective) -> Tensor:
    """Sum the rows' losses; one number.

    Args:
        mean: shape (n,).
        log_variance: shape (n,), looked at by the likelihood only.
        target: shape (n,).
        group: shape (n,), codes 0.. of queries, or of what is compared.
        objective: which loss.
    """
    if objective.loss == "bradley_terry":
        return pairwise_total(mean, target, group)
    residual, weight, constant = target - mean, torch.ones_like(mean), torch.zeros_like(mean)
    if objective.loss == "gaussian":
        share = (objective.beta * log_variance.detach()).exp()
        weight, constant = share * (-log_variance).exp(), 0.5 * share * log_variance
    total = constant.sum()
    if objective.levels:
        member = _member(group, residual)
        level = _levels(residual.detach(), weight.detach(), member)
        residual = residual - level @ member
        total = total + 0.5 * LEVEL_PRECISION * level.square().sum()
    return total + 0.5 * (weight * residual.square()).sum()


def pairwise_total(score: Tensor, target: Tensor, group: Tensor) -> Tensor:
    """Sum Bradley & Terry's (1952) negative log-likelihood over the pairs of each group that are no ties.

    A group's mean over its pairs counts as often as the group has rows, so that all labels weigh the same.
    """
    better = (group[:, None] == group[None, :]) & (target[:, None] > target[None, :])
    lost = softplus(score[None, :] - score[:, None])
    member = _member(group, score)
    count = better.to(score.dtype).sum(1)
    pairs, rows = member @ count, member.sum(1)
    each = (rows / pairs.clamp_min(1.0)) @ member
    return (torch.where(better, lost, torch.zeros_like(lost)).sum(1) * each).sum()


def _member(group: Tensor, like: Tensor) -> Tensor:
    """Mark members, shape (groups, n): a product sums in one order on every device, scattered additions do not."""
    codes = torch.arange(int(group.max()) + 1, device=group.device)
    return (codes[:, None] == group[None, :]).to(like.dtype)


def _levels(residual: Tensor, weight: Tensor, member: Tensor) -> Tensor:
    """Shrink each query's mean residual to its level, shape (groups,); 0 for groups of one row."""
    level = (member @ (weight * residual)) / (LEVEL_PRECISION + member @ weight)
    return torch.where(member.sum(1) > 1, level, torch.zeros_like(level))
