"""Sample from a model behind an OpenAI-compatible server."""

from bestfor.policies.openai.policy import OpenAIPolicy

__all__ = ["OpenAIPolicy"]
