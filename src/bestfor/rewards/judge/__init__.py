"""Reward by a judge: a language model behind a server that scores as a user would."""

from bestfor.rewards.judge.model import ANSWERS, Config, Judge

__all__ = ["ANSWERS", "Config", "Judge"]
