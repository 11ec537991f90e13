"""Point: the deterministic user reward model of Zhang & He 2026, a mean trained with squared error.

    minimise  sum_i (y_i - phi(x_i)'(v + v_u) - c_q - t_i)^2 / 2 + priors

phi is a shared body, v a shared head and v_u a user's deviation from it (:mod:`bestfor.rewards.heads.model`); c_q is
the level of a query and t_i that of a text that several people rated. ``shared = false`` leaves every user to their own
labels, which is where such models collapse or turn against their users. Users without fit labels get the shared head.
"""

from __future__ import annotations

from bestfor.rewards.heads.model import HeadModel, HeadsConfig, training_options
from bestfor.rewards.heads.settings import TrainingOptions


class Config(HeadsConfig):
    """Features, body and training: squared error has no options."""


class Point(HeadModel):
    """A mean per user."""

    kind = "point"
    Config = Config

    def _training(self) -> TrainingOptions:
        return training_options(self.config, "squared")
