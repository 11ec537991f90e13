"""Answers in OpenAI's exact shape, picked for the user who asks; what goes in and comes out untouched."""

import json
import socket
import threading

import pytest

from bestfor.gateway.upstream.batch import add_usage
from support.gateways import MESSAGES, WORDS, single, writes
from support.servers import DROP, HALF, RESET, Reply, chat, error


def test_each_user_gets_the_candidate_they_would_pick(serve):
    gateway = serve()
    assert gateway.text("ann") == "ann-word here"
    assert gateway.text("ben") == "ben-word here"
    assert gateway.ask("eve").json()["bestfor"]["served"] == "everybody"


def test_the_answer_has_openais_shape_and_our_key_beside_it(serve):
    gateway = serve(writes(usage=(10, 40), system_fingerprint="fp", unheard={"of": [1]}))
    answered = gateway.ask("ann")
    body = answered.json()
    own = body.pop("bestfor")
    assert answered.headers["X-Bestfor-Answer"] == own["answer_id"]
    message = {"role": "assistant", "content": "ann-word here"}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    known = {"id": "x", "object": "chat.completion", "created": 0, "model": "m"}
    usage = {"prompt_tokens": 10, "completion_tokens": 40, "total_tokens": 50}
    assert body == {**known, "system_fingerprint": "fp", "unheard": {"of": [1]}, "choices": [choice], "usage": usage}
    assert (own["user"], own["n"], own["received"], own["served"]) == ("ann", 8, 8, "own")
    assert (own["rule"], own["chosen"], own["tokens"], own["requests"]) == ("best", 1, 40, 1)
    assert own["rewards"] == [0, 1, 0, 0, 0, 0, 0, 0]
    assert own["chances"] == [0, 1, 0, 0, 0, 0, 0, 0]
    assert own["stds"] == [1] * 8
    assert own["expected_gain"] == pytest.approx(1 - 1 / 8)
    assert own["feedback_url"].startswith(f"{gateway.url}/f/")


def test_all_but_our_own_keys_reach_the_upstream_as_they_are(serve):
    gateway = serve()
    sent = {
        "temperature": 0.3,
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "response_format": {"type": "json_object"},
        "logprobs": True,
        "stop": ["x"],
        "reasoning_effort": "low",
        "unheard": {"of": None},
        "metadata": {"a": "b"},
        "user": "ann",
    }
    gateway.ask(bestfor={"n": 3}, **sent)
    (request,) = gateway.upstream.requests
    assert request.body == {"model": "m", "messages": MESSAGES, "n": 3, **sent}
    assert request.path == "/v1/chat/completions"


def test_the_configured_model_takes_the_place_of_the_clients(serve):
    gateway = serve(upstream={"model": "theirs"})
    gateway.ask("ann", model="mine")
    assert gateway.upstream.requests[0].body["model"] == "theirs"


def test_identifying_fields_stay_here_where_configured(serve):
    gateway = serve(users={"forward": False})
    gateway.ask(user="ann", safety_identifier="s", metadata={"user_id": "u"})
    assert not {"user", "safety_identifier", "metadata"} & set(gateway.upstream.requests[0].body)


def test_texts_are_continued_too(serve):
    def answer(request):
        choices = [{"index": 0, "text": text, "finish_reason": "stop", "logprobs": None} for text in WORDS]
        return {"id": "x", "object": "text_completion", "created": 0, "model": "m", "choices": choices}

    gateway = serve(answer)
    answered = gateway.http.post("/v1/completions", json={"prompt": "an animal", "user": "ben"}).json()
    assert answered["choices"] == [{"index": 0, "text": "ben-word here", "finish_reason": "stop", "logprobs": None}]
    assert gateway.upstream.requests[0].path == "/v1/completions"


def test_a_server_without_n_is_asked_for_each_and_that_is_remembered(serve):
    gateway = serve(single())
    assert gateway.text("ann", seed=7) == "ann-word here"
    bodies = [request.body for request in gateway.upstream.requests]
    assert [body.get("n") for body in bodies] == [8] + [None] * 7
    assert sorted(body["seed"] for body in bodies) == list(range(7, 15))
    gateway.ask("ann")
    assert [request.body.get("n") for request in gateway.upstream.requests[8:]] == [None] * 8


@pytest.mark.parametrize(
    "refusal",
    [
        error(400, "Unsupported parameter: 'n'", param="n"),
        error(422, "n must be 1"),
        Reply(400, {"detail": [{"loc": ["body", "n"], "msg": "Input should be 1"}]}),
    ],
)
def test_a_server_that_refuses_n_is_asked_for_each(serve, refusal):
    honest = single()
    gateway = serve(lambda request: refusal if request.body.get("n") else honest(request))
    assert gateway.text("ann") == "ann-word here"
    assert len(gateway.upstream.requests) == 9


def test_equal_texts_are_scored_once_and_share_one_chance(serve):
    gateway = serve(writes("red fish", "red fish", "blue fish"))
    own = gateway.ask("eve", bestfor={"n": 3}).json()["bestfor"]
    assert own["chances"] == [pytest.approx(0.25), pytest.approx(0.25), pytest.approx(0.5)]
    journal = gateway.app.state.gateway.services.journal
    assert journal.answer("", own["answer_id"]).texts == ("red fish", "blue fish")


def test_wishes_come_from_the_body_then_headers_then_defaults(serve):
    gateway = serve(defaults={"n": 5, "rule": "second"})
    assert gateway.ask("ann").json()["bestfor"]["n"] == 5
    headers = {"X-Bestfor-N": "3", "X-Bestfor-Rule": "best", "X-Bestfor-User": "ann", "X-Bestfor-Detail": "short"}
    own = gateway.ask(headers=headers).json()["bestfor"]
    assert own["n"] == 3
    assert set(own) == {"answer_id", "user", "served", "n", "received", "feedback_url", "notes"}
    own = gateway.ask(headers=headers, bestfor={"n": 2, "detail": "full", "candidates": True}).json()["bestfor"]
    assert (own["n"], own["rule"]) == (2, "best")
    assert [one["text"] for one in own["candidates"]] == list(WORDS[:2])
    assert "bestfor" not in gateway.ask("ann", bestfor={"detail": "off"}).json()


def test_the_clients_own_n_gets_the_n_best_in_order(serve):
    gateway = serve(writes("dog", "ann-word", "ann-word ann-word", "cat"))
    answered = gateway.ask("ann", n=2, bestfor={"n": 4}).json()
    assert [one["message"]["content"] for one in answered["choices"]] == ["ann-word ann-word", "ann-word"]
    assert [one["index"] for one in answered["choices"]] == [0, 1]
    assert len(gateway.ask("ann", n=12).json()["choices"]) == 12


WHO = [
    ({"X-Bestfor-User": "a"}, {"user": "b", "safety_identifier": "c", "metadata": {"user_id": "d"}}, "a"),
    ({}, {"user": "b", "safety_identifier": "c", "metadata": {"user_id": "d"}}, "b"),
    ({}, {"user": "", "safety_identifier": "c", "metadata": {"user_id": "d"}}, "c"),
    ({}, {"metadata": {"user_id": "d"}}, "d"),
    ({}, {"metadata": {"other": "d"}}, None),
]


def test_who_the_user_is(serve):
    gateway = serve()
    for headers, body, user in WHO:
        own = gateway.ask(headers=headers, **body).json()["bestfor"]
        assert own["user"] == user
        assert any("no user was named" in note for note in own["notes"]) == (user is None)
        assert own["served"] == "everybody"


def test_a_trusted_header_goes_before_what_clients_say(serve):
    gateway = serve(users={"header": "X-Forwarded-User"})
    headers = {"X-Forwarded-User": "ann", "X-Bestfor-User": "ben"}
    assert gateway.ask(headers=headers, user="ben").json()["bestfor"]["user"] == "ann"


def test_a_verified_claim_goes_before_all(serve, monkeypatch):
    jwt = pytest.importorskip("jwt")
    secret = "a secret of the proxy that is long enough for HS256"
    monkeypatch.setenv("JWT_SECRET", secret)
    gateway = serve(users={"header": "X-Forwarded-User", "jwt_key_env": "JWT_SECRET", "jwt_claim": "uid"})
    good = jwt.encode({"uid": "ann", "exp": 4_000_000_000}, secret, "HS256")
    headers = {"X-Bestfor-JWT": f"Bearer {good}", "X-Forwarded-User": "ben"}
    assert gateway.ask(headers=headers).json()["bestfor"]["user"] == "ann"
    for bad in (
        jwt.encode({"uid": "ann", "exp": 4_000_000_000}, secret + "!", "HS256"),
        jwt.encode({"uid": "ann", "exp": 1}, secret, "HS256"),
        jwt.encode({"uid": "ann"}, secret, "HS256"),
        jwt.encode({"uid": "ann", "exp": 4_000_000_000}, None, "none"),
        "nonsense",
    ):
        refused = gateway.ask(headers={"X-Bestfor-JWT": bad, "X-Forwarded-User": "ben"})
        assert refused.status_code == 401
        assert refused.json()["error"]["param"] == "X-Bestfor-JWT"


def test_answers_for_nobody_teach_nobody(serve):
    gateway = serve(writes("red fish", "blue fish"))
    answer = gateway.ask().json()["bestfor"]["answer_id"]
    assert gateway.learn(answer, value=False).status_code == 201
    for user in (None, "eve"):
        assert gateway.ask(user, bestfor={"n": 2}).json()["bestfor"]["rewards"] == [0, 0]


WRONG = [
    ({"messages": []}, {}, "messages"),
    ({"messages": "hello"}, {}, "messages"),
    ({"messages": [{"content": "x"}]}, {}, "messages[0]"),
    ({"model": 5}, {}, "model"),
    ({"n": 0}, {}, "n"),
    ({"n": True}, {}, "n"),
    ({"n": 65}, {}, "n"),
    ({"stream": "yes"}, {}, "stream"),
    ({"stream_options": {}}, {}, "stream_options"),
    ({"user": 5}, {}, "user"),
    ({"user": "a\x1eb"}, {}, "user"),
    ({"user": "x" * 513}, {}, "user"),
    ({"metadata": {"user_id": ["d"]}}, {}, "metadata.user_id"),
    ({"bestfor": 5}, {}, "bestfor"),
    ({"bestfor": {"nn": 5}}, {}, "bestfor.nn"),
    ({"bestfor": {"n": 65}}, {}, "bestfor.n"),
    ({"bestfor": {"n": 1}, "n": 2}, {}, "bestfor.n"),
    ({"bestfor": {"rule": "bset"}}, {}, "bestfor.rule"),
    ({"bestfor": {"rule": 5}}, {}, "bestfor.rule"),
    ({"bestfor": {"deadline": 0}}, {}, "bestfor.deadline"),
    ({"bestfor": {"candidates": 1}}, {}, "bestfor.candidates"),
    ({"bestfor": {"detail": "all"}}, {}, "bestfor.detail"),
    ({}, {"X-Bestfor-N": "many"}, "X-Bestfor-N"),
    ({}, {"X-Bestfor-K": "0"}, "X-Bestfor-K"),
    ({}, {"X-Bestfor-Deadline": "soon"}, "X-Bestfor-Deadline"),
]


def test_what_is_wrong_is_named_in_openais_shape(serve):
    gateway = serve()
    for body, headers, param in WRONG:
        refused = gateway.ask(headers=headers, **body)
        assert refused.status_code == 400, (body, headers)
        said = refused.json()["error"]
        assert (said["param"], said["type"], said["code"]) == (param, "invalid_request_error", None)
        assert param in said["message"]
    assert gateway.upstream.requests == []


def test_bodies_that_are_no_json_object_and_paths_that_are_none(serve):
    post = serve().http.post
    json_type = {"Content-Type": "application/json"}
    for data in (b"", b"{", b"[1]", b'"x"', b"[" * 100_000, b"\xff\xfe"):
        refused = post("/v1/chat/completions", content=data, headers=json_type)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "body")
    refused = post("/v1/chat/completions", content=b"{}", headers={"Content-Type": "text/plain"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (415, "Content-Type")
    assert post("/v1/nothing", json={}).json()["error"]["type"] == "not_found_error"
    assert serve().http.get("/v1/chat/completions").status_code == 405


def test_bodies_are_bounded_with_and_without_a_length(serve):
    gateway = serve(body_bytes=2000)
    assert gateway.ask("ann").status_code == 200
    refused = gateway.ask("ann", unheard="x" * 3000)
    assert (refused.status_code, refused.json()["error"]["param"]) == (413, "body")
    parts = (b"x" * 500 for _ in range(10))
    refused = gateway.http.post("/v1/chat/completions", content=parts, headers={"Content-Type": "application/json"})
    assert refused.status_code == 413


FAILURES = [
    (error(429, "slow down", {"Retry-After": "7"}, code="rate_limit_exceeded"), 429, "7"),
    (error(400, "no such thing", param="temperature"), 400, None),
    (error(401, "bad key"), 401, None),
    (error(404, "no model"), 404, None),
    (error(500, "boom"), 500, None),
    (error(503, "loading", {"Retry-After": "3"}), 503, "3"),
    (Reply(502, b"<html>bad gateway</html>", {"content-type": "text/html"}), 502, None),
    (Reply(302, b"", {"location": "http://127.0.0.1:1/"}), 502, None),
    (DROP, 502, None),
    (RESET, 502, None),
    (HALF, 502, None),
    ({"choices": []}, 502, None),
    ({"error": {"message": "within", "code": 529}}, 529, None),
    ([1, 2], 502, None),
]


@pytest.mark.parametrize("apart", [False, True])
def test_where_all_fail_the_status_is_the_upstreams_own(serve, apart):
    now = []
    gateway = serve(lambda request: now[-1], upstream={"n": "no" if apart else "yes", "failures": 1000})
    for reply, status, after in FAILURES:
        now.append(reply)
        refused = gateway.ask("ann", bestfor={"n": 3})
        assert (refused.status_code, refused.headers.get("Retry-After")) == (status, after), reply
        assert set(refused.json()["error"]) == {"message", "type", "param", "code"}


def test_one_failure_among_eight_is_an_answer_of_seven_and_said(serve):
    lock, count = threading.Lock(), []

    def answer(request):
        with lock:
            count.append(1)
            place = len(count) - 1
        return error(500, "boom") if place == 3 else chat(WORDS[place % 8])

    own = serve(answer, upstream={"n": "no"}).ask("ann").json()["bestfor"]
    assert (own["n"], own["received"], own["requests"]) == (8, 7, 8)
    assert any("1 of 8 candidates did not come: upstream: boom" in note for note in own["notes"])


def test_choices_that_failed_within_an_answer_are_left_out(serve):
    def answer(request):
        made = chat(*WORDS)
        for choice in made["choices"][1::2]:
            choice |= {"finish_reason": "error", "error": {"code": 502, "message": "lost"}}
            choice["message"]["content"] = ""
        return made

    own = serve(answer).ask("eve").json()["bestfor"]
    assert (own["received"], len(own["rewards"])) == (4, 4)


def stalls(good):
    """An upstream of which so many requests are answered; the others wait for the end of the test."""
    lock, count, ended = threading.Lock(), [], threading.Event()

    def answer(request):
        with lock:
            count.append(1)
            place = len(count) - 1
        if place >= good:
            ended.wait(20)
        return chat(WORDS[place % 8])

    return answer, ended


def test_k_of_n_answers_as_soon_as_k_are_there(serve):
    answer, ended = stalls(3)
    own = serve(answer).ask("eve", bestfor={"n": 8, "k": 3}).json()["bestfor"]
    ended.set()
    assert (own["n"], own["received"]) == (8, 3)
    assert any("5 of 8 candidates did not come: not waited for" in note for note in own["notes"])


@pytest.mark.slow
def test_a_deadline_takes_what_came_and_is_an_error_where_nothing_did(serve):
    answer, ended = stalls(2)
    gateway = serve(answer)
    own = gateway.ask("eve", bestfor={"n": 4, "deadline": 1.0}).json()["bestfor"]
    assert own["received"] == 2
    refused = gateway.ask("eve", bestfor={"n": 2, "deadline": 0.05})
    assert (refused.status_code, refused.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert refused.headers["X-Should-Retry"] == "false"
    ended.set()


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_takes_its_requests_with_it(serve, stream):
    came, broken = threading.Event(), threading.Event()

    def answer(request):
        came.set()
        handler = gateway.upstream.connections[-1]
        handler.settimeout(20)
        try:
            if handler.recv(1) == b"":
                broken.set()
        except OSError:
            broken.set()
        return DROP

    gateway = serve(answer)
    host, port = gateway.url.removeprefix("http://").split(":")
    body = json.dumps({"messages": MESSAGES, "stream": stream}).encode()
    with socket.create_connection((host, int(port))) as client:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert came.wait(20)
        if stream:
            assert client.recv(100).startswith(b"HTTP/1.1 200")
    assert broken.wait(20)


def test_an_upstream_that_is_lost_is_left_alone_and_tried_again(serve):
    replies = [error(500, "boom")] * 2 + [chat("red fish")]
    gateway = serve(lambda request: replies[min(request.number, 2)], upstream={"failures": 2, "pause": 0.05})
    assert [gateway.ask("ann", bestfor={"n": 1}).status_code for _ in range(2)] == [500, 500]
    refused = gateway.ask("ann", bestfor={"n": 1})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "upstream_unavailable")
    assert refused.headers["Retry-After"] == "1"
    assert len(gateway.upstream.requests) == 2
    ended = threading.Event()
    while gateway.ask("ann", bestfor={"n": 1}).status_code == 503:
        ended.wait(0.02)
    assert gateway.text("ann", bestfor={"n": 1}) == "red fish"


CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"place": "Rome"}'}}


def tool(call=CALL):
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    return {"index": 0, "message": message, "finish_reason": "tool_calls", "logprobs": None}


def test_tool_calls_win_where_they_are_more_and_come_out_whole(serve):
    other = {**CALL, "function": {"name": "weather", "arguments": '{"place": "Oslo"}'}}

    def answer(request):
        made = chat("red fish", "blue fish")
        made["choices"] += [tool(other), tool(), tool()]
        return made

    body = serve(answer).ask("ann").json()
    assert body["choices"] == [tool()]
    assert body["bestfor"]["rewards"] == [None, None, None, 0, 0]


def test_texts_win_where_tool_calls_are_fewer(serve):
    def answer(request):
        made = chat("red fish", "ann-word")
        made["choices"] += [tool()]
        return made

    assert serve(answer).text("ann") == "ann-word"


def test_half_a_surrogate_pair_and_no_numbers_pass(serve):
    data = json.dumps(chat("a \ud83d b", usage=(1, 2), odd=float("nan"))).encode()
    answered = serve(lambda request: Reply(200, data)).ask("ann", user="é漢", bestfor={"n": 1})
    assert answered.status_code == 200
    assert answered.json()["choices"][0]["message"]["content"] == "a \ud83d b"
    assert answered.json()["odd"] is None


def test_a_user_is_found_whatever_the_headers_case_and_letters(serve):
    gateway = serve()
    assert gateway.ask(headers={"x-bestfor-user": "ann"}).json()["bestfor"]["user"] == "ann"
    for raw, user in (("jürgen".encode(), "jürgen"), ("漢".encode(), "漢"), (b"j\xfcrgen", "jürgen")):
        assert gateway.ask(headers={"X-Bestfor-User": raw}).json()["bestfor"]["user"] == user
    assert gateway.ask(user="漢").json()["bestfor"]["user"] == "漢"


def test_usage_is_added_details_too():
    first = {"usage": {"prompt_tokens": 1, "completion_tokens": 2, "details": {"reasoning_tokens": 1}, "tier": "a"}}
    second = {"usage": {"prompt_tokens": 1, "completion_tokens": 5, "details": {"reasoning_tokens": 3}, "tier": "a"}}
    expected = {"prompt_tokens": 2, "completion_tokens": 7, "details": {"reasoning_tokens": 4}, "tier": "a"}
    assert add_usage([first, {}, second]) == expected
    assert add_usage([{}]) is None


def test_a_journal_that_cannot_be_written_still_leaves_an_answer_that_says_so(serve, monkeypatch):
    from bestfor.serving.journal import JournalError

    gateway = serve()

    def full(*_, **__):
        raise JournalError("journal x: the disk is full")

    monkeypatch.setattr(gateway.app.state.gateway.services.journal, "send_answer", full)
    answered = gateway.ask("ann")
    own = answered.json()["bestfor"]
    assert answered.json()["choices"][0]["message"]["content"] == WORDS[0]
    assert (own["served"], own["answer_id"], own["rule"]) == ("nothing", None, "none")
    assert "X-Bestfor-Answer" not in answered.headers
    assert gateway.http.post("/v1/feedback", json={"answer_id": "x", "kind": "thumb", "value": True}).status_code == 404
