"""Run ``bestfor serve RUN_OR_MODEL``: personalized Best-of-N behind the OpenAI API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bestfor.cli._output import tell
from bestfor.errors import InputError
from bestfor.extras import require

Given = Annotated[str | None, typer.Argument(help="A run's folder, or a fitted model's.", show_default=False)]
Upstream = Annotated[
    str | None, typer.Option(help="Address of the server that writes candidates, up to /v1.", show_default=False)
]
ModelName = Annotated[str | None, typer.Option("--model", help="Its model's name.", show_default=False)]
KeyEnv = Annotated[str | None, typer.Option(help="Environment variable with its key.", show_default=False)]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="gateway.toml.", show_default=False)]
Journal = Annotated[str | None, typer.Option(help="Journal of answers and labels.", show_default="feedback.db")]
Keys = Annotated[str | None, typer.Option(help="File of API keys.", show_default="bestfor-keys.json")]
Explore = Annotated[
    float | None,
    typer.Option(help="Share of answers picked at random, so that logs can be evaluated.", show_default="0"),
]


def serve(
    source: Given = None,
    upstream: Upstream = None,
    model: ModelName = None,
    key_env: KeyEnv = None,
    config: ConfigFile = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.", show_default="8000")] = None,
    journal: Journal = None,
    keys: Keys = None,
    n: Annotated[int | None, typer.Option(help="Candidates of an answer.", show_default="8")] = None,
    rule: Annotated[str | None, typer.Option(help="Picks among them.", show_default="best")] = None,
    explore: Explore = None,
    refit: Annotated[bool, typer.Option("--refit", help="Fit again in the background as the journal grows.")] = False,
) -> None:
    """Serve personalized answers behind the OpenAI API, and learn from feedback at once.

    For example: bestfor serve runs/demo, or bestfor serve runs/mine --upstream http://127.0.0.1:8001/v1
    """
    for package in ("fastapi", "uvicorn", "aiohttp", "prometheus_client"):
        require(package, "serve")
    from bestfor.gateway.config import load_gateway_config
    from bestfor.gateway.server import serve_forever

    if upstream is None and config is None and (model is not None or key_env is not None):
        raise InputError("--model", "no upstream", "--upstream URL or --config FILE beside it")
    given = {
        "source": source,
        "upstream": {"base_url": upstream, "model": model, "key_env": key_env},
        "host": host,
        "port": port,
        "journal": journal,
        "keys": keys,
        "refit": {"fits": True} if refit else None,
        "defaults": {"n": n, "rule": rule, "explore": explore},
    }
    if source is None and config is None:
        raise InputError("serve", "no model", "a run's folder or a model's: bestfor serve runs/demo")
    serve_forever(load_gateway_config(config, given), tell)
