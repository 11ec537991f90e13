"""Real clients against a gateway that really listens: OpenAI's, synchronous and asynchronous, streams and tools."""

import asyncio
import threading

import pytest

from bestfor.gateway.upstream.local import LocalUpstream, open_local
from bestfor.policies.transformers import TransformersPolicy
from support import later
from support.gateways import MESSAGES, writes
from support.servers import chat, error

openai = later("openai")

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"place": "Rome"}'}}


@pytest.fixture
def client():
    """Makes OpenAI's own client of a gateway."""
    opened = []

    def make(gateway, **how):
        opened.append(openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", **{"max_retries": 0, **how}))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def test_the_client_asks_and_reads_our_key(serve, client):
    answer = client(serve()).chat.completions.create(model="m", messages=MESSAGES, user="ann")
    assert answer.choices[0].message.content == "ann-word here"
    assert answer.model_extra["bestfor"]["served"] == "own"
    raw = client(serve()).chat.completions.with_raw_response.create(
        model="m", messages=MESSAGES, safety_identifier="ben", extra_body={"bestfor": {"n": 4, "detail": "off"}}
    )
    assert raw.parse().choices[0].message.content == "ben-word here"
    assert raw.headers["X-Bestfor-Answer"]


def test_the_client_streams(serve, client):
    gateway = serve(writes("red fish", "ann-word and quite a lot more than forty-eight letters of text"))
    with client(gateway).chat.completions.create(
        model="m", messages=MESSAGES, user="ann", stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    text = "".join(one.choices[0].delta.content or "" for one in chunks if one.choices)
    assert text == "ann-word and quite a lot more than forty-eight letters of text"
    assert chunks[-1].usage.total_tokens == 15
    with client(gateway).chat.completions.stream(model="m", messages=MESSAGES, user="ann") as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == text
    assert final.choices[0].finish_reason == "stop"


def test_the_client_calls_tools_in_a_stream_and_without(serve, client):
    def answer(request):
        assert request.body["tools"] == TOOLS
        made = chat(*["x"] * request.body.get("n", 1))
        for choice in made["choices"]:
            choice["message"] = {"role": "assistant", "content": None, "tool_calls": [CALL]}
            choice["finish_reason"] = "tool_calls"
        return made

    opened = client(serve(answer))
    plain = opened.chat.completions.create(model="m", messages=MESSAGES, tools=TOOLS)
    assert plain.choices[0].message.tool_calls[0].function.arguments == '{"place": "Rome"}'
    with opened.chat.completions.stream(model="m", messages=MESSAGES, tools=TOOLS) as stream:
        call = stream.get_final_completion().choices[0].message.tool_calls[0]
    assert (call.id, call.function.name, call.function.arguments) == ("c1", "weather", '{"place": "Rome"}')


def test_many_asynchronous_clients_at_once_get_each_their_own(serve):
    gateway = serve()

    async def ask():
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none") as opened:
            users = ["ann", "ben"] * 10
            asked = [opened.chat.completions.create(model="m", messages=MESSAGES, user=user) for user in users]
            return users, await asyncio.gather(*asked)

    users, answers = asyncio.run(ask())
    assert [one.choices[0].message.content for one in answers] == [f"{user}-word here" for user in users]
    assert len({one.model_extra["bestfor"]["answer_id"] for one in answers}) == 20


def test_the_client_knows_our_errors_and_tries_again_where_it_may(serve, client):
    replies = [error(429, "slow", {"Retry-After": "0"}), chat("red fish"), error(400, "no", param="temperature")]
    gateway = serve(lambda request: replies[request.number], defaults={"n": 1})
    opened = client(gateway, max_retries=1)
    assert opened.chat.completions.create(model="m", messages=MESSAGES).choices[0].message.content == "red fish"
    with pytest.raises(openai.BadRequestError) as refused:
        opened.chat.completions.create(model="m", messages=MESSAGES)
    assert refused.value.param == "temperature"
    with pytest.raises(openai.BadRequestError, match=r"bestfor\.n") as refused:
        opened.chat.completions.create(model="m", messages=MESSAGES, extra_body={"bestfor": {"n": 0}})
    assert refused.value.param == "bestfor.n"


def test_the_client_does_not_ask_again_where_its_own_deadline_has_passed(serve, client):
    waiting = threading.Event()

    def answer(request):
        waiting.wait(20)
        return chat("too late")

    gateway = serve(answer)
    with pytest.raises(openai.APIStatusError) as refused:
        client(gateway, max_retries=2).chat.completions.create(
            model="m", messages=MESSAGES, extra_body={"bestfor": {"n": 1, "deadline": 0.1}}
        )
    waiting.set()
    assert (refused.value.status_code, refused.value.code) == (504, "deadline_exceeded")
    assert len(gateway.upstream.requests) == 1


def test_models_are_the_upstreams(serve, client):
    assert [one.id for one in client(serve()).models.list()] == []


@pytest.fixture
def local(checkpoint):
    """A policy in this process, of random weights."""
    pytest.importorskip("torch")
    return LocalUpstream(TransformersPolicy(str(checkpoint), max_new_tokens=6))


def test_a_policy_in_this_process_answers_chats_and_texts(serve, client, local):
    gateway = serve(writer=local, defaults={"n": 3})
    opened = client(gateway)
    first, second = (gateway.ask("ann", seed=5, bestfor={"candidates": True}).json() for _ in range(2))
    texts = [[one["text"] for one in each["bestfor"]["candidates"]] for each in (first, second)]
    assert texts[0] == texts[1]
    assert 3 <= first["usage"]["completion_tokens"] <= 18
    assert opened.completions.create(model="m", prompt="an animal", max_tokens=2).usage.completion_tokens <= 6
    assert len(list(opened.models.list())) == 1
    for wrong, param in (
        ({"tools": TOOLS}, "tools"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"messages": [{"role": "user", "content": "word " * 5000}]}, "messages"),
    ):
        refused = gateway.ask("ann", **wrong)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param), refused.text


def test_a_policy_in_this_process_keeps_a_deadline_and_writes_for_one_at_a_time(serve, local, monkeypatch):
    begun, go_on, under_way, most = threading.Event(), threading.Event(), [], []
    write = type(local)._write

    def slow(self, *given):
        under_way.append(1)
        most.append(len(under_way))
        begun.set()
        go_on.wait(20)
        under_way.pop()
        return write(self, *given)

    monkeypatch.setattr(type(local), "_write", slow)
    gateway = serve(writer=local, defaults={"n": 2})
    refused = gateway.ask("ann", bestfor={"deadline": 0.1})
    assert (refused.status_code, refused.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert begun.is_set()
    threading.Timer(0.1, go_on.set).start()
    assert gateway.ask("ann").json()["bestfor"]["received"] == 2
    assert max(most) == 1


def test_the_shipped_policy_stands_in_where_nobody_knows_a_run():
    pytest.importorskip("torch")
    assert open_local(None).shown == "embedded in this process"
