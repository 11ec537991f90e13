"""Hierarchical: every user has a reward of their own, drawn from one learned distribution."""

from bestfor.rewards.hierarchical.model import Config, Hierarchical

__all__ = ["Config", "Hierarchical"]
