"""Stream an answer as server-sent events: comments while candidates are sampled, then the chosen one as chunks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from typing import Any

from bestfor.gateway.answering import CHAT, Answered
from bestfor.gateway.errors import of_error
from bestfor.gateway.wire import dump

PIECE = 48
"""Characters of a chunk; the chosen answer is whole before the first is sent."""
COMMENT = b": sampling candidates\n\n"
DONE = b"data: [DONE]\n\n"


async def events(
    answer: Awaitable[Answered], path: str, keepalive: float, options: Mapping[str, Any] | None
) -> AsyncIterator[bytes]:
    """Give the events of a stream.

    Args:
        answer: is waited for; cancelled where the stream is closed before.
        path: of the endpoint.
        keepalive: seconds between comments.
        options: ``stream_options`` of the request.
    """
    task = asyncio.ensure_future(answer)
    try:
        yield COMMENT
        while not task.done():
            await asyncio.wait([task], timeout=keepalive)
            if not task.done():
                yield COMMENT
        try:
            answered = task.result()
        except Exception as error:  # the status is sent already: what is left is an event
            yield _event(of_error(error).body)
            yield DONE
            return
        for chunk in chunks(answered.body, path, usage=bool((options or {}).get("include_usage"))):
            yield _event(chunk)
        yield DONE
    finally:
        task.cancel()


def chunks(body: Mapping[str, Any], path: str, *, usage: bool) -> Iterator[dict[str, Any]]:
    """Cut an answer into OpenAI's chunks; ``bestfor`` stands in the last one that has a choice."""
    kind = "chat.completion.chunk" if path == CHAT else "text_completion"
    base = {name: value for name, value in body.items() if name not in ("choices", "usage", "bestfor", "object")}
    base["object"] = kind
    made: list[dict[str, Any]] = []
    for choice in body["choices"]:
        made += _chat_chunks(choice) if path == CHAT else _text_chunks(choice)
    for place, choice in enumerate(made):
        last = place == len(made) - 1
        own = {"bestfor": body["bestfor"]} if last and "bestfor" in body else {}
        yield {**base, "choices": [choice], **({"usage": None} if usage else {}), **own}
    if usage:
        yield {**base, "choices": [], "usage": body.get("usage")}


def _chat_chunks(choice: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Cut one choice: its role, all that is no text, its text in pieces, why it ended."""
    message = dict(choice.get("message") or {})
    content = message.pop("content", None)
    calls = message.pop("tool_calls", None)
    role = message.pop("role", "assistant")
    rest = {
        name: value for name, value in choice.items() if name not in ("message", "index", "finish_reason", "logprobs")
    }
    first: dict[str, Any] = {"role": role, **({"content": ""} if isinstance(content, str) else {"content": content})}
    deltas: list[dict[str, Any]] = [first]
    deltas += [{name: value} for name, value in message.items() if value is not None]
    if isinstance(calls, list):
        deltas += [
            {"tool_calls": [{"index": place, **call}]} for place, call in enumerate(calls) if isinstance(call, dict)
        ]
    whole = choice.get("logprobs") is not None
    deltas += [{"content": piece} for piece in _pieces(content, whole=whole)]
    made = [_chunk(choice, {"delta": delta}) for delta in deltas]
    if whole:
        made[-1]["logprobs"] = choice["logprobs"]
    return [*made, {**_chunk(choice, {"delta": {}}), **rest, "finish_reason": choice.get("finish_reason")}]


def _text_chunks(choice: Mapping[str, Any]) -> list[dict[str, Any]]:
    whole = choice.get("logprobs") is not None
    made = [_chunk(choice, {"text": piece}) for piece in _pieces(choice.get("text"), whole=whole)]
    if whole and made:
        made[-1]["logprobs"] = choice["logprobs"]
    return [*made, {**_chunk(choice, {"text": ""}), "finish_reason": choice.get("finish_reason")}]


def _chunk(choice: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    return {"index": choice["index"], **said, "logprobs": None, "finish_reason": None}


def _pieces(text: object, *, whole: bool) -> list[str]:
    """Cut a text; log-probabilities belong to all of it, so that it is one piece where it has them."""
    if not isinstance(text, str) or not text:
        return []
    return [text] if whole else [text[start : start + PIECE] for start in range(0, len(text), PIECE)]


def _event(value: Mapping[str, Any]) -> bytes:
    return b"data: " + dump(value) + b"\n\n"
