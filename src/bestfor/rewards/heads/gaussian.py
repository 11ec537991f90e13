"""Gaussian: the probabilistic user reward model of Zhang & He 2026, a mean and a variance trained by likelihood.

    m = phi'(v + v_u) + c_q + t_i,   log s^2 = phi'(a + a_u)
    minimise  sum_i stop(s_i^2)^beta [ (y_i - m_i)^2 / s_i^2 + log s_i^2 ] / 2 + priors

A noisy label's pull is divided by its variance. ``loss`` is the plain likelihood (Nix & Weigend 1994), beta-NLL, which
does not give up on what is hard to fit (Seitzer et al. 2022), or the likelihood of heads on the natural parameters
m / s^2 and -1 / 2 s^2 (Immer et al. 2023). The mean is learned first. Everything else is as in ``point``. ``std`` is
predictive, on the scale of held-out errors; only the mean selects.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bestfor.rewards.heads.model import HeadModel, HeadsConfig, training_options
from bestfor.rewards.heads.settings import TrainingOptions


class Config(HeadsConfig):
    """Features, body, training, and the likelihood.

    Attributes:
        loss: nll, beta_nll or natural.
        beta: exponent of beta-NLL; 0 is the likelihood, 1 has the gradient of squared error to the mean.
        warm_up: first epochs, of squared error.
        spread: how much more users' log-variance heads are pulled to the shared one than their mean heads.
    """

    loss: Literal["nll", "beta_nll", "natural"] = "beta_nll"
    beta: float = Field(default=0.5, ge=0, le=1)
    warm_up: int = Field(default=5, ge=0)
    spread: float = Field(default=3.0, ge=0)


class Gaussian(HeadModel):
    """A mean and a log-variance per user."""

    kind = "gaussian"
    Config = Config

    def _training(self) -> TrainingOptions:
        config = self.config
        beta = config.beta if config.loss == "beta_nll" else 0.0
        return training_options(config, config.loss, beta=beta, warm_up=config.warm_up, spread=config.spread)
