"""Hierarchical: every user has a reward of their own, drawn from one learned distribution."""

from bestfor.rewards.hierarchical.fit import HierarchicalFit, LeftOutUsers, fit_rows, judge_users, predict_rows
from bestfor.rewards.hierarchical.model import Config, Hierarchical
from bestfor.rewards.hierarchical.structure import Structure
from bestfor.rewards.hierarchical.users import Scorer

__all__ = [
    "Config",
    "Hierarchical",
    "HierarchicalFit",
    "LeftOutUsers",
    "Scorer",
    "Structure",
    "fit_rows",
    "judge_users",
    "predict_rows",
]
