"""Heads on frozen features, trained by gradient: ``point``, ``gaussian``, ``bradley_terry`` and their ``ensemble``."""

from bestfor.rewards.heads.bradley_terry import BradleyTerry
from bestfor.rewards.heads.ensemble import Ensemble
from bestfor.rewards.heads.gaussian import Gaussian
from bestfor.rewards.heads.point import Point

__all__ = ["BradleyTerry", "Ensemble", "Gaussian", "Point"]
