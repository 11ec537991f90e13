"""Tables of a run's file about servers, of candidates or judgements and what they may cost, and about models."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from bestfor.endpoint.tables import EndpointTable, hidden


class Section(BaseModel):
    """A table of the file: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PolicyEndpoint(EndpointTable):
    """The server of ``[policy]`` with ``kind = "openai"``; keys as in :class:`bestfor.policies.openai.OpenAIPolicy`."""

    api: Literal["chat", "completions"] = "chat"
    logprobs: bool = True
    context: int | None = Field(default=None, ge=1)
    identity: str = ""
    user_model: str = ""


class JudgeTable(Section):
    """The judge behind the metric ``judge``; keys as in :class:`bestfor.metrics.judge.JudgeConfig`."""

    model: str = Field(min_length=1)
    rubric: str = ""
    low: int = 1
    high: int = 5
    logprobs: bool = True
    max_tokens: int = Field(default=16, ge=1)
    identity: str = ""
    endpoint: EndpointTable = EndpointTable()


class Reward(Section):
    """A reward model; keys beyond ``kind`` and ``name`` belong to the kind."""

    model_config = ConfigDict(extra="allow", frozen=True)
    kind: str
    name: str = Field(default="", pattern=r"^[A-Za-z0-9._-]*$")

    @property
    def label(self) -> str:
        """The model's name in tables and folders: its own, or its kind."""
        return self.name or self.kind

    @property
    def options(self) -> dict[str, Any]:
        """What the kind's own configuration takes."""
        return dict(self.model_extra or {})

    @model_serializer(mode="wrap")
    def _without_secrets(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return hidden(handler(self))


class AdaptersTable(Section):
    """Per-user LoRA on the policy's checkpoint, trained within the run."""

    rank: int = Field(default=8, ge=1)
    alpha: float = Field(default=16.0, gt=0)
    targets: tuple[str, ...] = Field(default=("q_proj", "k_proj", "v_proj", "o_proj"), min_length=1)
    steps: int = Field(default=20, ge=1)
    shared_steps: int = Field(default=0, ge=0)
    rate: float = Field(default=1e-3, gt=0)
    tokens: int = Field(default=2048, ge=1)
    limit: int = Field(default=2048, ge=1)
