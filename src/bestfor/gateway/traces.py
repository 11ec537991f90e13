"""Name the spans of answers as OpenTelemetry's conventions for generative models do; nothing where none is set up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

try:
    from opentelemetry import trace
except ModuleNotFoundError:  # it comes with fastapi, and a gateway works without it
    trace = None


class AnswerSpan:
    """Span of one answer, or nothing.

    Args:
        span: of OpenTelemetry, None where it is not installed.
    """

    def __init__(self, span: Any = None) -> None:  # noqa: ANN401 - opentelemetry is optional
        self._span = span

    def usage(self, usage: Mapping[str, Any] | None, model: object) -> None:
        """Note the tokens of an answer and the model that wrote it."""
        if self._span is None or not self._span.is_recording():
            return
        named = {"input_tokens": "prompt_tokens", "output_tokens": "completion_tokens"}
        for ours, theirs in named.items():
            if isinstance((usage or {}).get(theirs), int):
                self._span.set_attribute(f"gen_ai.usage.{ours}", (usage or {})[theirs])
        if isinstance(model, str):
            self._span.set_attribute("gen_ai.response.model", model)


@contextmanager
def traced(path: str, model: object) -> Iterator[AnswerSpan]:
    """Open the span of an answer; it holds no text and no user."""
    # Without a provider of their own the conventions' spans go nowhere, and still cost.
    if trace is None or isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        yield AnswerSpan()
        return
    operation = "chat" if path.startswith("/chat") else "text_completion"
    name = model if isinstance(model, str) else ""
    attributes = {"gen_ai.operation.name": operation, "gen_ai.request.model": name}
    with trace.get_tracer("bestfor").start_as_current_span(
        f"{operation} {name}".strip(), attributes=attributes
    ) as span:
        yield AnswerSpan(span)
