"""Serve ``/v1/chat/completions``, ``/v1/completions`` and ``/v1/models``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from bestfor.gateway.answering import CHAT, TEXT, Answered, Question
from bestfor.gateway.errors import ApiError
from bestfor.gateway.routes.schemas import COMPLETION, QUESTION, documented
from bestfor.gateway.state import Gateway
from bestfor.gateway.streaming import events
from bestfor.gateway.wire import Json, read_object

QUICK = 0.03
"""Seconds that a stream waits before its headers: a refusal that is quick keeps its own status."""

WHILE = 0.02
"""Seconds of an answer from which on its client is looked for: shorter work is done whether it waits or not."""

T = TypeVar("T")


class AnswerRoutes:
    """Routes that answer.

    Args:
        gateway: what they share.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.router = APIRouter(tags=["answers"])
        add = self.router.add_api_route
        add("/v1/chat/completions", self.chat, methods=["POST"], openapi_extra=documented(QUESTION))
        add("/v1/completions", self.text, methods=["POST"], openapi_extra=documented(COMPLETION))
        add("/v1/models", self.models, methods=["GET"])

    async def chat(self, request: Request) -> Response:
        """Answer a chat with the candidate that this user would pick."""
        return await self._answer(request, CHAT)

    async def text(self, request: Request) -> Response:
        """Continue a text with the candidate that this user would pick."""
        return await self._answer(request, TEXT)

    async def models(self, request: Request) -> Response:
        """List the upstream's models."""
        self._gateway.access.admit(request)
        return Json({"object": "list", "data": await self._gateway.writer.models()})

    async def _answer(self, request: Request, path: str) -> Response:
        gateway = self._gateway
        caller = gateway.access.admit(request)
        await gateway.limits.request(caller.tenant)
        body = await read_object(request)
        if not gateway.services.is_open(caller.tenant):
            await asyncio.to_thread(gateway.services.of, caller.tenant)
        question = gateway.answering.read(caller, path, request.headers, body, base_of(request))
        request.state.user = question.user
        if body.get("stream"):
            return await self._stream(question, body)
        answered = await while_connected(request, gateway.answering.answer(question))
        return Json(answered.body, headers=answered.headers)

    async def _stream(self, question: Question, body: dict[str, Any]) -> Response:
        task = asyncio.create_task(self._gateway.answering.answer(question))
        try:
            await asyncio.wait([task], timeout=QUICK)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if task.done() and task.exception() is not None:
            raise task.exception() or ApiError(500, "no answer")
        given = events(_result(task), question.path, self._gateway.config.keepalive, body.get("stream_options"))
        # Proxies that gather a stream would undo it.
        headers = {"X-Bestfor-Answer": question.id, "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        return StreamingResponse(given, media_type="text/event-stream", headers=headers)


def base_of(request: Request) -> str:
    """Give the gateway's address as the client wrote it."""
    scope = request.scope
    return f"{scope['scheme']}://{request.headers.get('host', '')}{scope.get('root_path', '')}"


async def _result(task: asyncio.Task[Answered]) -> Answered:
    try:
        return await task
    finally:
        task.cancel()


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """Wait for work as long as the client is there; cancelled where it has gone.

    Raises:
        ApiError: the client has gone (499).
    """
    task = asyncio.current_task()
    watch = _Watch(request.receive, task)
    try:
        return await work
    except asyncio.CancelledError:
        if not watch.gone or task is None or task.uncancel():
            raise
        raise ApiError(499, "the client has gone") from None
    finally:
        watch.end()


class _Watch:
    """Cancels a task when its client goes; a client is not looked for before a while has passed.

    Args:
        receive: of the request.
        task: that works for the client.
    """

    def __init__(self, receive: Callable[[], Awaitable[Any]], task: asyncio.Task[Any] | None) -> None:
        self._receive, self._task = receive, task
        self._looking: asyncio.Task[None] | None = None
        self._ended = self.gone = False
        self._timer = asyncio.get_running_loop().call_later(WHILE, self._look)

    def _look(self) -> None:
        self._looking = asyncio.create_task(_gone(self._receive))
        self._looking.add_done_callback(self._left)

    def _left(self, looking: asyncio.Task[None]) -> None:
        if self._ended or looking.cancelled() or self._task is None:
            return
        self.gone = True
        self._task.cancel()

    def end(self) -> None:
        """Stop looking."""
        self._ended = True
        self._timer.cancel()
        if self._looking is not None:
            self._looking.cancel()


async def _gone(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
