"""Bradley-Terry: the user reward model of Zhang & He 2026 trained on which of two candidates is the better.

    minimise  -sum_pairs log sigmoid(r_better - r_worse) + priors,   r = phi'(v + v_u) + c_q + t_i

(Bradley & Terry 1952). Pairs are drawn anew in every epoch, one for each label, within all labels of a user (queries
have levels of their own) or within a query, where its level cancels; equal utilities make no pair. The scale is lost:
rewards only order. Everything else is as in ``point``.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bestfor.rewards.heads.model import HeadModel, HeadsConfig, training_options
from bestfor.rewards.heads.settings import TrainingOptions


class Config(HeadsConfig):
    """Features, body, training, and the pairs.

    Attributes:
        pairs: within what two labels are compared, a user or a query.
    """

    deviation: float = Field(default=0.5, ge=0)
    pairs: Literal["user", "query"] = "user"


class BradleyTerry(HeadModel):
    """A score per user."""

    kind = "bradley_terry"
    scale = "arbitrary"
    Config = Config

    def _training(self) -> TrainingOptions:
        return training_options(self.config, "pairwise", pairs=self.config.pairs)
