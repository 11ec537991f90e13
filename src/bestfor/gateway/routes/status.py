"""Serve ``/healthz``, ``/readyz``, ``/metrics``, the OpenAPI document and its page."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from bestfor.gateway.state import Gateway
from bestfor.gateway.wire import Json
from bestfor.serving.journal import JournalError


class StatusRoutes:
    """Routes about the gateway itself.

    Args:
        gateway: what they share.
        app: whose OpenAPI document is shown.
    """

    def __init__(self, gateway: Gateway, app: FastAPI) -> None:
        self._gateway, self._app = gateway, app
        self.router = APIRouter(tags=["status"])
        add = self.router.add_api_route
        add("/healthz", self.health, methods=["GET"])
        add("/readyz", self.ready, methods=["GET"])
        add("/metrics", self.metrics, methods=["GET"])
        add("/openapi.json", self.openapi, methods=["GET"], include_in_schema=False)
        add("/docs", self.docs, methods=["GET"], include_in_schema=False)

    async def health(self) -> Response:
        """Say that the process is alive."""
        return Json({"status": "ok"})

    async def ready(self) -> Response:
        """Say whether answers can be given now: the journal and the upstream are there."""
        try:
            await asyncio.to_thread(self._gateway.services.journal.standing, "", "")
            journal = "ok"
        except JournalError:
            journal = "the journal cannot be read"
        upstream = await self._gateway.writer.ready() or "ok"
        fine = journal == upstream == "ok"
        return Json(
            {"status": "ok" if fine else "not ready", "journal": journal, "upstream": upstream}, 200 if fine else 503
        )

    async def metrics(self, request: Request) -> Response:
        """Give all meters in Prometheus' text format."""
        self._gateway.access.admit(request, admin=True)
        return Response(self._gateway.meters.exposition(), media_type=CONTENT_TYPE_LATEST)

    async def openapi(self, request: Request) -> Response:
        """Give the OpenAPI document."""
        self._gateway.access.admit(request, admin=True)
        return Json(self._app.openapi())

    async def docs(self, request: Request) -> Response:
        """Show the OpenAPI document."""
        self._gateway.access.admit(request, admin=True)
        return get_swagger_ui_html(openapi_url="/openapi.json", title="bestfor gateway")
