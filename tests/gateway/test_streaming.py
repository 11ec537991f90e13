"""Streams: comments while candidates are sampled, then OpenAI's chunks, usage where it is asked for."""

import json
import threading

from bestfor.gateway.answering import CHAT, TEXT
from bestfor.gateway.streaming import PIECE, chunks
from support.gateways import MESSAGES, writes
from support.servers import chat, error


def streamed(gateway, user="ann", **body):
    given = {"messages": MESSAGES, "stream": True, "user": user, **body}
    with gateway.http.stream("POST", "/v1/chat/completions", json=given) as answer:
        return answer.status_code, answer.headers, answer.read().decode()


def parsed(text):
    lines = [line for line in text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1] if line.startswith("data: ")]


def test_the_chosen_answer_comes_as_chunks(serve):
    long = "ann-word " + "and so on " * 20
    gateway = serve(writes("red fish", long, usage=(10, 5)))
    status, headers, text = streamed(gateway, stream_options={"include_usage": True})
    assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert text.startswith(": sampling candidates\n\n")
    found = parsed(text)
    assert {one["object"] for one in found} == {"chat.completion.chunk"}
    assert "".join(one["choices"][0]["delta"].get("content", "") for one in found[:-1]) == long
    assert found[0]["choices"][0]["delta"]["role"] == "assistant"
    assert max(len(one["choices"][0]["delta"].get("content", "")) for one in found[:-1]) == PIECE
    assert [one["choices"][0]["finish_reason"] for one in found[:-1]] == [None] * (len(found) - 2) + ["stop"]
    assert found[-1]["choices"] == []
    assert found[-1]["usage"] == {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    assert all(one["usage"] is None for one in found[:-1])
    assert found[-2]["bestfor"]["answer_id"] == headers["X-Bestfor-Answer"]
    assert "stream" not in gateway.upstream.requests[0].body
    assert "stream_options" not in gateway.upstream.requests[0].body


def test_without_stream_options_no_chunk_speaks_of_usage(serve):
    assert all("usage" not in one for one in parsed(streamed(serve())[2]))


def test_comments_keep_a_stream_alive_and_its_first_byte_waits_for_nobody(serve):
    go = threading.Event()

    def answer(request):
        go.wait(20)
        return chat("red fish")

    gateway = serve(answer, keepalive=0.02)
    given = {"messages": MESSAGES, "stream": True, "bestfor": {"n": 1}}
    seen = b""
    with gateway.http.stream("POST", "/v1/chat/completions", json=given) as response:
        for part in response.iter_raw():
            seen += part
            if seen.count(b": sampling candidates\n\n") == 3:
                go.set()
    assert seen.count(b": sampling") >= 3
    assert parsed(seen.decode())[-1]["choices"][0]["finish_reason"] == "stop"


def test_a_failure_that_is_quick_keeps_its_status(serve):
    gateway = serve(lambda request: error(429, "slow down", {"Retry-After": "7"}), upstream={"n": "yes"})
    status, headers, text = streamed(gateway)
    if status == 200:  # a machine so busy that the refusal came after the headers
        assert parsed(text)[-1]["error"]["type"] == "rate_limit_error"
    else:
        assert (status, headers["Retry-After"]) == (429, "7")


def test_a_late_failure_is_an_event(serve):
    go = threading.Event()

    def answer(request):
        go.wait(20)
        return error(503, "loading")

    gateway = serve(answer, upstream={"n": "yes"}, keepalive=0.02)
    with gateway.http.stream("POST", "/v1/chat/completions", json={"messages": MESSAGES, "stream": True}) as response:
        parts = response.iter_raw()
        seen = next(parts)
        go.set()
        seen += b"".join(parts)
    assert parsed(seen.decode()) == [
        {"error": {"message": "upstream: loading", "type": "error", "param": None, "code": None}}
    ]


def test_tool_calls_other_fields_and_logprobs_are_streamed_whole():
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {
        "role": "assistant",
        "content": "x" * 100,
        "reasoning_content": "hm",
        "tool_calls": [call],
        "audio": None,
    }
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls", "logprobs": {"content": [1]}, "own": 5}
    body = {"id": "i", "model": "m", "created": 1, "object": "chat.completion", "choices": [choice], "fp": 1}
    found = [one["choices"][0] for one in chunks(body, CHAT, usage=False)]
    deltas = [one["delta"] for one in found]
    assert {"reasoning_content": "hm"} in deltas
    assert {"tool_calls": [{"index": 0, **call}]} in deltas
    assert deltas[-2] == {"content": "x" * 100}
    assert found[-2]["logprobs"] == {"content": [1]}
    assert (found[-1]["finish_reason"], found[-1]["own"]) == ("tool_calls", 5)
    assert all(one["fp"] == 1 for one in chunks(body, CHAT, usage=False))


def test_texts_are_streamed_as_texts():
    choice = {"index": 0, "text": "y" * 100, "finish_reason": "length", "logprobs": None}
    found = list(chunks({"id": "i", "object": "text_completion", "choices": [choice]}, TEXT, usage=False))
    assert {one["object"] for one in found} == {"text_completion"}
    assert "".join(one["choices"][0]["text"] for one in found) == "y" * 100
    assert found[-1]["choices"][0]["finish_reason"] == "length"
