"""The client of the upstream: its time, the length and packing of answers, addresses with secrets, no one there."""

import gzip
import logging
import socket
from pathlib import Path

import pytest

from support.gateways import writes
from support.servers import STALL, Reply, chat


def failed(gateway, **body):
    refused = gateway.ask("ann", bestfor={"n": 1}, **body)
    return refused.status_code, refused.json()["error"]["code"]


def test_an_upstream_that_says_nothing_is_waited_for_as_long_as_configured(serve):
    gateway = serve(lambda request: STALL, upstream={"timeout": 0.2})
    assert failed(gateway) == (504, "upstream_timeout")


def test_nobody_listens(serve):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    gateway = serve(upstream={"base_url": f"http://127.0.0.1:{port}/v1"})
    assert failed(gateway) == (502, "upstream_unreachable")
    ready = gateway.http.get("/readyz")
    assert (ready.status_code, ready.json()["journal"]) == (503, "ok")
    assert gateway.http.get("/v1/models").json()["data"] == []


def packed(answer):
    import json

    return Reply(200, gzip.compress(json.dumps(answer).encode()), {"content-encoding": "gzip"})


def test_packed_answers_are_unpacked(serve):
    assert serve(lambda request: packed(chat("red fish"))).text("ann", bestfor={"n": 1}) == "red fish"


@pytest.mark.parametrize("pack", [packed, lambda answer: answer])
def test_answers_that_are_too_long_are_not_read(serve, pack):
    gateway = serve(lambda request: pack(chat("a" * 200_000)), upstream={"answer_bytes": 50_000})
    assert failed(gateway) == (502, "upstream_too_long")


def test_secrets_of_the_address_are_sent_and_shown_nowhere(serve, scripted, caplog):
    caplog.set_level(logging.DEBUG)

    def answer(request):
        if request.body.get("stop"):
            return Reply(400, {"error": {"message": f"no such path: {request.path} of ann%40b:pw-4711"}})
        return chat("red fish")

    upstream = scripted(answer)
    address = upstream.url.replace("http://", "http://ann%40b:pw-4711@") + "?api-version=2026-01&sig=secret%2F4711%3D"
    gateway = serve(upstream={"base_url": address, "key_env": ""})
    assert gateway.text("ann", bestfor={"n": 1}) == "red fish"
    sent = upstream.requests[0]
    assert sent.path == "/v1/chat/completions?api-version=2026-01&sig=secret%2F4711%3D"
    assert sent.headers["authorization"].startswith("Basic ")
    said = gateway.ask("ann", stop="x", bestfor={"n": 1}).text + gateway.http.get("/readyz").text + caplog.text
    assert "no such path" in said
    assert not any(secret in said for secret in ("4711", "ann@b"))


def test_the_token_of_a_link_is_in_no_log(serve, caplog):
    caplog.set_level(logging.DEBUG, "bestfor")
    gateway = serve(writes("old cat"))
    url = gateway.ask("eve", bestfor={"n": 1}).json()["bestfor"]["feedback_url"]
    gateway.http.get(url)
    gateway.http.post(url, data={"thumb": "yes"})
    own = [one.getMessage() for one in caplog.records if one.name.startswith("bestfor")]
    assert sum("/f/{token}" in line for line in own) == 2
    assert url.rpartition("/")[2] not in "\n".join(own)


@pytest.mark.slow
def test_the_text_of_somebody_who_was_removed_is_in_no_file_of_the_running_gateway(serve, tmp_path):
    gateway = serve(writes("secret7f3a", "words8b1d"))
    for number in range(70):
        body = {"messages": [{"role": "user", "content": f"prompt5c{number}"}], "user": "eve-9d2e"}
        gateway.http.post("/v1/chat/completions", json={**body, "bestfor": {"n": 2}})
    own = gateway.ask("eve-9d2e", bestfor={"n": 2}).json()["bestfor"]
    gateway.learn(own["answer_id"], "comment", text="comment6a")
    words = (b"secret7f3a", b"words8b1d", b"prompt5c", b"eve-9d2e", b"comment6a")

    def found():
        data = b"".join(one.read_bytes() for one in Path(tmp_path).iterdir() if one.is_file())
        return [word for word in words if word in data]

    assert found() == list(words)
    gone = gateway.http.delete("/v1/users/eve-9d2e").json()
    assert (gone["answers"], gone["labels"]) == (71, 1)
    assert found() == []
