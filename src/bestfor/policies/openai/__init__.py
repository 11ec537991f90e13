"""A model behind an OpenAI-compatible server as a policy."""

from bestfor.policies.openai.policy import OpenAIPolicy

__all__ = ["OpenAIPolicy"]
