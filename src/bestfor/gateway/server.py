"""Listen: one process of uvicorn, its address bound before it is told."""

from __future__ import annotations

import gc
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from bestfor.endpoint.address import LOCAL
from bestfor.endpoint.local import lasting_server, local_settings
from bestfor.errors import BestforError, InputError
from bestfor.gateway.app import make_app
from bestfor.gateway.config import GatewayConfig
from bestfor.gateway.state import Gateway

GRACE = 10
"""Seconds that answers under way have when the process is asked to end."""


def serve_forever(config: GatewayConfig, tell: Callable[[str], None]) -> None:
    """Serve until the process is asked to end.

    Args:
        config: what is served.
        tell: is given plain sentences: the address, and what this service cannot do as it is set up.

    Raises:
        InputError: what :func:`bestfor.gateway.app.make_app` refuses, or an address that cannot be listened on.
    """
    with served_locally(config) as ready:
        _serve(ready, tell)


@contextmanager
def served_locally(config: GatewayConfig) -> Iterator[GatewayConfig]:
    """Run the server of an upstream on this machine (``local:NAME``) while the block runs, again where it has died.

    Yields:
        The configuration with the server's address.

    Raises:
        InputError: no such model here, or one that cannot be served.
    """
    if config.upstream is None or not config.upstream.base_url.startswith(LOCAL):
        yield config
        return
    with lasting_server(local_settings(config.upstream.base_url)) as url:
        upstream = config.upstream.model_copy(update={"base_url": url})
        yield config.model_copy(update={"upstream": upstream})


def _serve(config: GatewayConfig, tell: Callable[[str], None]) -> None:
    # Eight short texts are tokenized sooner than threads are woken for them.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    listening = _bind(config)
    with listening:
        app = make_app(config)
        _warm(app.state.gateway)
        # What is loaded by now stays: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        gateway: Gateway = app.state.gateway
        host, port = listening.getsockname()[:2]
        for note in gateway.services.of("").notes:
            tell(note)
        tell(f"candidates from {gateway.writer.shown}; journal {gateway.services.journal.name}")
        tell(f"http://{f'[{host}]' if ':' in host else host}:{port}/v1 (stop with Ctrl+C)")
        _log_to_stderr(requests=config.log_requests)
        settings = uvicorn.Config(
            app,
            log_level="warning",
            # uvicorn's own lines hold paths, which may hold ids and tokens.
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE,
        )
        uvicorn.Server(settings).run(sockets=[listening])


def _warm(gateway: Gateway) -> None:
    """Load what requests would wait for: a table of token vectors at once, a network beside the first requests."""
    services, load = gateway.services, getattr(gateway.writer, "load", None)
    if services.quick:
        services.warm()
    slow = [one for one in (None if services.quick else services.warm, load) if one is not None]

    def work() -> None:
        for one in slow:
            try:
                one()
            except BestforError as error:
                logging.getLogger("bestfor.gateway").error("%s", error)

    if slow:
        threading.Thread(target=work, name="bestfor-warm", daemon=True).start()


def _log_to_stderr(*, requests: bool) -> None:
    """Write a line for each request and each unforeseen error, with as little as logging can do for it."""
    logging._srcfile = None  # pyright: ignore[reportAttributeAccessIssue] - Python's own advice for servers
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    own = logging.getLogger("bestfor.gateway")
    own.addHandler(handler)
    own.setLevel(logging.INFO if requests else logging.WARNING)


def _bind(config: GatewayConfig) -> socket.socket:
    """Bind the address.

    Raises:
        InputError: it cannot be bound.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((config.host.strip("[]"), config.port))
        bound.listen(2048)
    except OSError as error:
        bound.close()
        found = f"an address that cannot be listened on ({error.strerror or error})"
        raise InputError(f"{config.host}:{config.port}", found, "a free one (--host, --port)") from None
    return bound
