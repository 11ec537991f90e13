"""Tables of a run's file about servers: where candidates or judgements come from, and what they may cost."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_serializer

from bestfor.endpoint import OPENAI, Budget, EndpointConfig
from bestfor.endpoint.address import redact
from bestfor.errors import InputError


class Section(BaseModel):
    """A table of the file: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EndpointTable(Section):
    """An OpenAI-compatible server; keys as in :class:`bestfor.endpoint.EndpointConfig` and its budget."""

    base_url: str = Field(default=OPENAI, repr=False)
    key_env: str = ""
    concurrency: int = Field(default=32, ge=1)
    timeout: float = Field(default=120.0, gt=0)
    patience: float = Field(default=600.0, gt=0)
    retries: int = Field(default=6, ge=0)
    max_requests: int | None = Field(default=None, ge=0)
    max_tokens: int | None = Field(default=None, ge=0)
    max_cost: float | None = Field(default=None, ge=0)
    input_price: float | None = Field(default=None, ge=0)
    output_price: float | None = Field(default=None, ge=0)
    extra_body: dict[str, Any] = Field(default_factory=dict)

    @field_serializer("base_url")
    def _without_secrets(self, value: str) -> str:
        return redact(value)

    def config(self, where: str) -> EndpointConfig:
        """The table as the client takes it.

        Raises:
            InputError: no address, or a budget in money without prices; ``where`` names the table.
        """
        budget = ("max_requests", "max_tokens", "max_cost", "input_price", "output_price")
        plain = ("base_url", "key_env", "concurrency", "timeout", "patience", "retries")
        try:
            limits = Budget(**{name: getattr(self, name) for name in budget})
            return EndpointConfig(**{name: getattr(self, name) for name in plain}, budget=limits)
        except InputError as error:
            raise InputError(f"{where} {error.where}", error.found, error.expected) from None


class PolicyEndpoint(EndpointTable):
    """The server of ``[policy]`` with ``kind = "openai"``; keys as in :class:`bestfor.policies.openai.OpenAIPolicy`."""

    api: Literal["chat", "completions"] = "chat"
    logprobs: bool = True
    context: int | None = Field(default=None, ge=1)
    identity: str = ""
    user_model: str = ""


class JudgeTable(Section):
    """The judge behind the metric ``judge``; keys as in :class:`bestfor.utilities.judge.JudgeConfig`."""

    model: str = Field(min_length=1)
    rubric: str = ""
    low: int = 1
    high: int = 5
    logprobs: bool = True
    max_tokens: int = Field(default=16, ge=1)
    identity: str = ""
    endpoint: EndpointTable = EndpointTable()


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
