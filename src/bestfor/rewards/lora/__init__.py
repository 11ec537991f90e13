"""Reward users' texts by a language model with LoRA: an adapter and heads for each user."""

from bestfor.rewards.lora.model import Config, Lora

__all__ = ["Config", "Lora"]
