"""Make the ASGI application of a gateway."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from bestfor.errors import BestforError, InputError
from bestfor.gateway.access import Access
from bestfor.gateway.answering import Answering
from bestfor.gateway.background_refits import BackgroundRefits
from bestfor.gateway.config import GatewayConfig
from bestfor.gateway.errors import ApiError, of_error
from bestfor.gateway.keys import KeyFile
from bestfor.gateway.limits import Limits
from bestfor.gateway.meters import Meters
from bestfor.gateway.middleware import Bounded, Logged, place_of
from bestfor.gateway.routes.answers import AnswerRoutes
from bestfor.gateway.routes.feedback import FeedbackRoutes
from bestfor.gateway.routes.page import PageRoutes
from bestfor.gateway.routes.people import PeopleRoutes
from bestfor.gateway.routes.rerank import RerankRoutes
from bestfor.gateway.routes.status import StatusRoutes
from bestfor.gateway.state import Gateway
from bestfor.gateway.tenants import Services
from bestfor.gateway.upstream import Upstream
from bestfor.version import __version__

log = logging.getLogger("bestfor.gateway")


def make_app(config: GatewayConfig, services: Services | None = None, writer: Upstream | None = None) -> FastAPI:
    """Make the application; it closes the journal and the upstream's connections at its end.

    Args:
        config: what is served.
        services: take the place of those of the configuration.
        writer: takes the place of the configuration's upstream.

    Raises:
        InputError: an address that is not loopback without any API key, no such model, journal, rule or upstream key.
    """
    keys = KeyFile(config.keys)
    check_bound(config, keys)
    services = Services(config) if services is None else services
    try:
        access, meters = Access(config, keys), Meters()
        writer = open_writer(config, services) if writer is None else writer
        limits = Limits(config.limits, config.tenants, services.journal)
        answering = Answering(config, services, writer, access, limits, meters)
        gateway = Gateway(config, services, writer, access, limits, meters, answering)
    except BaseException:
        services.close()
        raise
    return _application(gateway)


def open_writer(config: GatewayConfig, services: Services) -> Upstream:
    """Open the upstream, or the policy in this process."""
    if config.upstream is not None:
        from bestfor.gateway.upstream.http import HttpUpstream

        return HttpUpstream(config.upstream)
    from bestfor.gateway.upstream.local import open_local

    return open_local(services.model.run if services.model.run is not None else _run(config))


def check_bound(config: GatewayConfig, keys: KeyFile) -> None:
    """Refuse to listen where others can reach it without API keys.

    Raises:
        InputError: no keys.
    """
    if not config.loopback and not keys.ring().keys:
        expected = "127.0.0.1, or API keys first (bestfor keys add TENANT)"
        raise InputError("host", f"'{config.host}', which other machines can reach, without API keys", expected)


def _run(config: GatewayConfig) -> Path | None:
    return Path(config.source) if (Path(config.source) / "run.toml").is_file() else None


def _application(gateway: Gateway) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        refits = BackgroundRefits(gateway.config, gateway.services)
        refits.start()
        try:
            yield
        finally:
            refits.stop()
            await gateway.writer.close()
            gateway.services.close()

    app = GatewayApp(
        title="bestfor gateway", version=__version__, docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan
    )
    app.state.gateway = gateway
    answers = AnswerRoutes(gateway)
    app.include_router(answers.router)
    for routes in (FeedbackRoutes, RerankRoutes, PeopleRoutes, PageRoutes):
        app.include_router(routes(gateway).router)
    app.include_router(StatusRoutes(gateway, app).router)
    app.add_exception_handler(BestforError, _known_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_middleware(Bounded, most=gateway.config.body_bytes)
    app.add_middleware(Logged, meters=gateway.meters)
    for route in answers.router.routes:
        if isinstance(route, APIRoute) and "POST" in (route.methods or ()):
            layers = Bounded(Direct(route.path, route.endpoint), gateway.config.body_bytes)
            app.direct[route.path] = Logged(layers, gateway.meters)
    return app


class GatewayApp(FastAPI):
    """Application whose busiest paths go past its routing, which would take longer than they do."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - FastAPI's own
        super().__init__(**settings)
        self.direct: dict[str, ASGIApp] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        direct = self.direct.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if direct is None:
            await super().__call__(scope, receive, send)
        else:
            await direct(scope, receive, send)


class Direct:
    """Calls one endpoint.

    Args:
        path: names the route in logs and meters.
        endpoint: answers.
    """

    def __init__(self, path: str, endpoint: Callable[[Request], Awaitable[Response]]) -> None:
        self._route, self._endpoint = SimpleNamespace(path=path), endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        scope["route"] = self._route
        request = Request(scope, receive, send)
        try:
            response = await self._endpoint(request)
        except BestforError as error:
            response = await _known_error(request, error)
        await response(scope, receive, send)


async def _known_error(request: Request, error: Exception) -> Response:
    found = of_error(error)
    if found.status == 500:
        log.error("%s at %s", type(error).__name__, place_of(error))
    return found.response()


async def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    said = {404: "no such path", 405: "the path does not take this method"}.get(error.status_code, "a bad request")
    return ApiError(error.status_code, said, headers=dict(error.headers or {})).response()
