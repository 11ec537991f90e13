"""Parse a server's table in a run's file, for policies, metrics and reward models that ask one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_serializer

from bestfor.endpoint.address import OPENAI, redact
from bestfor.endpoint.budget import Budget
from bestfor.endpoint.client import EndpointConfig
from bestfor.errors import InputError


class EndpointTable(BaseModel):
    """Table of an OpenAI-compatible server.

    Keys as in :class:`bestfor.endpoint.EndpointConfig` and :class:`bestfor.endpoint.Budget`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

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
    also: tuple[str, ...] | None = Field(default=None, repr=False)

    @field_serializer("base_url")
    def _without_secrets(self, value: str) -> str:
        return redact(value)

    @field_serializer("also")
    def _also_without_secrets(self, value: tuple[str, ...] | None) -> list[str] | None:
        return None if value is None else [redact(one) for one in value]

    def config(self, where: str) -> EndpointConfig:
        """Convert the table to the client's settings.

        Raises:
            InputError: no address, or a budget in money without prices; ``where`` names the table.
        """
        budget = ("max_requests", "max_tokens", "max_cost", "input_price", "output_price")
        plain = ("base_url", "key_env", "concurrency", "timeout", "patience", "retries")
        try:
            limits = Budget(**{name: getattr(self, name) for name in budget})
            return EndpointConfig(**{name: getattr(self, name) for name in plain}, budget=limits, also=self.also or ())
        except InputError as error:
            raise InputError(f"{where} {error.where}", error.found, error.expected) from None


def hidden(values: Mapping[str, Any]) -> dict[str, Any]:
    """Redact the values of a run's file: addresses in them, however deep, lose their secrets."""
    shown: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            shown[name] = hidden(value)
        else:
            shown[name] = redact(value) if name == "base_url" and isinstance(value, str) else value
            if name == "also" and isinstance(value, list | tuple):
                shown[name] = [redact(str(one)) for one in value]
    return shown
