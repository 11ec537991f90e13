"""Serve personalized Best-of-N behind the OpenAI API: candidates from an upstream, and feedback that counts at once.

Needs the extras ``serve`` and ``journal``; importing this package imports none of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bestfor.gateway.config import GatewayConfig, load_gateway_config

if TYPE_CHECKING:
    from bestfor.gateway.app import make_app

__all__ = ["GatewayConfig", "load_gateway_config", "make_app"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a function of a module that needs fastapi
    if name == "make_app":
        from bestfor.extras import require

        for package in ("fastapi", "aiohttp", "prometheus_client"):
            require(package, "serve")
        return importlib.import_module("bestfor.gateway.app").make_app
    raise AttributeError(f"module 'bestfor.gateway' has no attribute '{name}'")
