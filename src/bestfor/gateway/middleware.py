"""Bound the bodies of requests, and write one line of log for each request, ids hashed."""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bestfor.gateway.errors import ApiError, of_error
from bestfor.gateway.meters import Meters

log = logging.getLogger("bestfor.gateway.requests")

_SALT = secrets.token_bytes(16)


class Bounded:
    """Reads the body of a request before anything else does, and refuses one that is too long (413).

    Args:
        app: what comes behind.
        most: bytes at most.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if length.isdigit() and int(length) > self._most:
            await self._refuse(scope, receive, send)
            return
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            part = message.get("body", b"")
            size, more = size + len(part), message.get("more_body", False)
            if size > self._most:
                await self._refuse(scope, receive, send)
                return
            parts.append(part)
        given = [{"type": "http.request", "body": b"".join(parts), "more_body": False}]

        async def again() -> Message:
            return given.pop() if given else await receive()

        await self._app(scope, again, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = ApiError(413, f"a body of more than {self._most} bytes", param="body", headers={"Connection": "close"})
        await error.response()(scope, receive, send)


class Logged:
    """Counts requests, writes a line for each, users hashed with a salt of this process, and answers unforeseen errors.

    Args:
        app: what comes behind.
        meters: what is counted.
    """

    def __init__(self, app: ASGIApp, meters: Meters) -> None:
        self._app, self._meters = app, meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status, begun_sending = time.perf_counter(), 500, False

        async def noted(message: Message) -> None:
            nonlocal status, begun_sending
            if message["type"] == "http.response.start":
                status, begun_sending = message["status"], True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception as error:
            log.error("%s at %s", type(error).__name__, place_of(error))
            if not begun_sending:
                await of_error(error).response()(scope, receive, noted)
        finally:
            route = route_of(scope)
            self._meters.requests.labels(route, str(status)).inc()
            if log.isEnabledFor(logging.INFO):
                took = 1000 * (time.perf_counter() - begun)
                user = scope.get("state", {}).get("user")
                log.info("%s %s %d %.1f ms user=%s", scope["method"], route, status, took, hashed(user))


def place_of(error: BaseException) -> str:
    """Name the line that raised: the words of an error may repeat what a client or an upstream sent."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return "nowhere" if place is None else f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}"


def route_of(scope: Mapping[str, Any]) -> str:
    """Name the route of a request: its template, never the path, which may hold ids and tokens."""
    return str(getattr(scope.get("route"), "path", "other"))


def hashed(user: str | None) -> str:
    """Hash an id for the log; the same id has the same hash as long as the process lives."""
    if user is None:
        return "-"
    return hashlib.blake2b(user.encode(errors="replace"), key=_SALT, digest_size=6).hexdigest()
