"""What adapters and heads are trained with: losses of a batch's rows, each query's level profiled out.

    minimise over c   sum_i w_i l(y_i - m_i - c_q) + L c_q^2 / 2

Candidates of a query share a level c_q that moves no pick. For squared error and for the Gaussian likelihood the best
level is the shrunk mean residual c_q = sum_i p_i (y_i - m_i) / (L + sum_i p_i), p_i the weight of a residual's square.
It is held fixed under differentiation: where c_q is a minimum, the derivative of the minimum is that of the loss at c_q
(the envelope theorem), for the mean and for the variance. A query of one row has no level of its own to speak of.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from bestfor.rewards.lora.config import Loss

LEVEL_PRECISION = 1.0


@dataclass(frozen=True)
class Objective:
    """The loss of a batch.

    Attributes:
        loss: which.
        beta: exponent of beta-NLL, 0 for the likelihood.
        levels: whether queries have levels.
    """

    loss: Loss
    beta: float = 0.0
    levels: bool = True


def total_loss(mean: Tensor, log_variance: Tensor, target: Tensor, group: Tensor, objective: Objective) -> Tensor:
    """The sum of the rows' losses; one number.

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
    """Bradley & Terry's (1952) negative log-likelihood over the pairs of each group that are no ties.

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
    """Shape (groups, n): a product sums in one order on every device, which scattered additions do not."""
    codes = torch.arange(int(group.max()) + 1, device=group.device)
    return (codes[:, None] == group[None, :]).to(like.dtype)


def _levels(residual: Tensor, weight: Tensor, member: Tensor) -> Tensor:
    level = (member @ (weight * residual)) / (LEVEL_PRECISION + member @ weight)
    return torch.where(member.sum(1) > 1, level, torch.zeros_like(level))
