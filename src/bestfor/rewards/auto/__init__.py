"""Auto: several kinds of reward models, weighed by what each tells of labels that it has not seen."""

from bestfor.rewards.auto.model import Auto, Config

__all__ = ["Auto", "Config"]
