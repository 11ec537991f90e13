"""Table of a run's file about the server of an OpenAI-compatible policy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bestfor.endpoint.tables import EndpointTable


class PolicyEndpoint(EndpointTable):
    """Server of ``[policy]`` with ``kind = "openai"``; keys as in :class:`bestfor.policies.openai.OpenAIPolicy`."""

    api: Literal["chat", "completions"] = "chat"
    logprobs: bool = True
    context: int | None = Field(default=None, ge=1)
    identity: str = ""
    user_model: str = ""
    adapters: str = ""
