"""Losses that train the heads of a user reward model, of one row or of one pair of rows.

The variants of Zhang & He 2026 differ in these functions alone. All take and return tensors of shape (n,).
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import softplus

from bestfor.rewards.heads.settings import LOG_LIMITS, UNIT_PRECISION


def squared_error(mean: Tensor, target: Tensor) -> Tensor:
    """Half the squared error, (y - m)^2 / 2."""
    return 0.5 * (target - mean) ** 2


def gaussian_nll(mean: Tensor, log_variance: Tensor, target: Tensor, beta: float = 0.0) -> Tensor:
    """Gaussian negative log-likelihood without log sqrt(2 pi), weighted by the stopped variance to the power beta.

    w [(y - m)^2 / s^2 + log s^2] / 2 with w = stop(s^2)^beta: beta = 0 is the likelihood (Nix & Weigend 1994), beta = 1
    has the gradient of :func:`squared_error` to the mean, between them it is beta-NLL (Seitzer et al. 2022).
    """
    variance = log_variance.exp()
    value = 0.5 * ((target - mean) ** 2 / variance + log_variance)
    return value if beta == 0 else variance.detach() ** beta * value


def pairwise_logistic(better: Tensor, worse: Tensor) -> Tensor:
    """Negative log-likelihood of Bradley & Terry (1952), -log sigmoid(r_better - r_worse)."""
    return softplus(worse - better)


def natural_moments(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of a Gaussian from heads on its natural parameters (Immer et al. 2023).

    The precision is p = softplus(second + log(e - 1)), which is 1 at 0, and the mean is first / p.
    """
    precision = softplus(second + UNIT_PRECISION).clamp_min(math.exp(-LOG_LIMITS[1]))
    return first / precision, -precision.log()


def clamped(log_variance: Tensor) -> Tensor:
    """Limit a log-variance to where nothing overflows."""
    return log_variance.clamp(*LOG_LIMITS)
