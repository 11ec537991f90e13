"""Heads on frozen features, trained by gradient: ``point``, ``gaussian``, ``bradley_terry`` and their ``ensemble``.

Losses and training need torch, so they are imported from :mod:`bestfor.rewards.heads.losses` and
:mod:`bestfor.rewards.heads.training` alone.
"""

from bestfor.rewards.heads.bradley_terry import BradleyTerry
from bestfor.rewards.heads.ensemble import Ensemble
from bestfor.rewards.heads.gaussian import Gaussian
from bestfor.rewards.heads.labels import HeadLabels, build_labels, partners, with_pooled_user
from bestfor.rewards.heads.model import HeadsConfig, training_options
from bestfor.rewards.heads.point import Point
from bestfor.rewards.heads.settings import LOG_LIMITS, TrainingOptions

__all__ = [
    "LOG_LIMITS",
    "BradleyTerry",
    "Ensemble",
    "Gaussian",
    "HeadLabels",
    "HeadsConfig",
    "Point",
    "TrainingOptions",
    "build_labels",
    "partners",
    "training_options",
    "with_pooled_user",
]
