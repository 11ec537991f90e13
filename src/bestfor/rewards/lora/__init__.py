"""LoRA: a language model with an adapter and heads for each user."""

from bestfor.rewards.lora.model import Config, Lora

__all__ = ["Config", "Lora"]
