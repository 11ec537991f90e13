"""Spans of answers, read by OpenTelemetry's own exporter."""

import pytest

from bestfor.gateway import traces
from support.gateways import writes
from support.servers import error

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


@pytest.fixture
def exported(monkeypatch):
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(traces.trace, "get_tracer_provider", lambda: provider)
    monkeypatch.setattr(traces.trace, "get_tracer", provider.get_tracer)
    yield exporter.get_finished_spans
    provider.shutdown()


def test_answers_are_spans_with_the_conventions_names_and_no_text(serve, exported):
    gateway = serve(writes("a secret text", model="llama"))
    gateway.ask("ann", bestfor={"n": 2})
    gateway.http.post("/v1/completions", json={"prompt": "a secret prompt", "model": "m"}, headers={})
    chat, text = exported()
    assert (chat.name, text.name) == ("chat m", "text_completion m")
    assert dict(chat.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.response.model": "llama",
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 5,
    }
    assert "secret" not in chat.to_json() + text.to_json()
    assert "ann" not in chat.to_json()


def test_a_failure_is_a_span_with_its_status(serve, exported):
    serve(lambda request: error(503, "no")).ask("ann", bestfor={"n": 1})
    (span,) = exported()
    assert span.status.status_code.name == "ERROR"


def test_without_a_provider_nothing_is_traced(serve, monkeypatch):
    def never(*_):
        raise AssertionError("a tracer was asked for")

    monkeypatch.setattr(traces.trace, "get_tracer", never)
    assert serve().ask("ann").status_code == 200
