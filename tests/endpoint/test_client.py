import asyncio
import gc
import threading
import time
from dataclasses import replace

import pytest

from bestfor.endpoint import Budget, BudgetSpentError, Endpoint, EndpointConfig, EndpointError, RefusedError
from bestfor.endpoint.failures import Failure
from bestfor.errors import InputError
from support import odd
from support.servers import DROP, HALF, RESET, STALL, Reply, chat, error

BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def config(server, **options):
    return EndpointConfig(base_url=server.url, **{"backoff": 0.001, "timeout": 10.0, **options})


def ask(endpoint, body=BODY, most=8, times=1):
    """The answers, or errors, to equal requests sent together."""

    async def work():
        posts = (endpoint.post("/chat/completions", body, most=most) for _ in range(times))
        return await asyncio.gather(*posts, return_exceptions=True)

    return endpoint.run(work)


def once(fault):
    """The first request meets a fault, the others are answered."""
    return lambda request: fault if request.number == 0 else chat("fine")


def test_what_is_sent_and_what_comes_back(scripted):
    server = scripted(lambda request: chat("a title", usage=(12, 3)))
    with Endpoint(config(server)) as endpoint:
        [answer] = ask(endpoint)
        assert answer["choices"][0]["message"]["content"] == "a title"
        assert server.requests[0].path == "/v1/chat/completions"
        assert server.requests[0].body == BODY
        usage = endpoint.usage
    assert (usage.requests, usage.failed, usage.prompt_tokens, usage.completion_tokens) == (1, 0, 12, 3)
    assert usage.cost is None


FAULTS = {
    "429": error(429, "slow down", {"retry-after": "0"}),
    "429 without advice": error(429, "slow down"),
    "500": error(500),
    "502 without JSON": Reply(502, b"<html>bad gateway</html>", {"content-type": "text/html"}),
    "529": error(529),
    "408": error(408),
    "no words at all": Reply(503, b""),
    "half a JSON": HALF,
    "half a JSON as text": Reply(200, b'{"choices": [', {"content-type": "text/plain"}),
    "no object": Reply(200, [1, 2]),
    "no choices": Reply(200, {"choices": []}),
    "choices of another kind": Reply(200, {"choices": ["text"]}),
    "an error as an answer": Reply(200, {"error": {"message": "overloaded", "code": 503}}),
    "dropped": DROP,
    "reset": RESET,
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_faults_that_pass_are_tried_again(scripted, fault):
    server = scripted(once(fault))
    with Endpoint(config(server)) as endpoint:
        [answer] = ask(endpoint)
        assert answer["choices"][0]["message"]["content"] == "fine"
        assert (endpoint.usage.requests, endpoint.usage.failed) == (2, 1)


@pytest.mark.parametrize("fault", [STALL, "drip"])
def test_a_server_that_stalls_or_drips_meets_the_timeout(scripted, fault):
    server = scripted(once(STALL))
    if fault == "drip":
        server.handle = dripping(server, server.handle)
    with Endpoint(config(server, timeout=0.2)) as endpoint:
        [answer] = ask(endpoint)
        assert answer["choices"][0]["message"]["content"] == "fine"


def dripping(server, handle):
    """Headers at once, then a byte of the body at a time: no single read ever waits long."""

    def drip(handler):
        if server.requests:
            return handle(handler)
        server.requests.append(None)
        handler.rfile.read(int(handler.headers["content-length"]))
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n")
        try:
            while not server.ended.wait(0.05):
                handler.wfile.write(b" ")
        except OSError:
            handler.close_connection = True
        return None

    return drip


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (error(500, "broken"), "HTTP 500: broken (3 attempts)"),
        (HALF, "no whole JSON object (3 attempts)"),
        (DROP, "no connection, or one that broke (RemoteProtocolError) (3 attempts)"),
    ],
)
def test_faults_that_stay_end_in_one_line(scripted, fault, told):
    server = scripted(lambda request: fault)
    with Endpoint(config(server, retries=2)) as endpoint:
        [failure] = ask(endpoint)
    assert isinstance(failure, EndpointError)
    assert str(failure).startswith(f"endpoint {server.url}: ")
    assert told in str(failure)
    assert "\n" not in str(failure)
    assert failure.hopeless, "a server that never answered"
    assert len(server.requests) == 3


def test_nobody_listens(scripted):
    server = scripted(lambda request: chat("x"))
    server.close()
    server.close = lambda: None
    with Endpoint(config(server, retries=1)) as endpoint:
        [failure] = ask(endpoint)
    assert "no connection" in str(failure)
    assert failure.hopeless


def test_single_losses_are_no_dead_server(scripted):
    """Among answers a lost request is its own misfortune; three in a row are the server's."""
    server = scripted(lambda request: chat("x") if request.number == 0 else error(500))
    with Endpoint(config(server, retries=0)) as endpoint:
        ask(endpoint)
        assert [ask(endpoint)[0].hopeless for _ in range(4)] == [False, False, True, True]
        server.answer = lambda request: chat("x")
        assert isinstance(ask(endpoint)[0], dict)
        server.answer = lambda request: error(500)
        assert not ask(endpoint)[0].hopeless


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refusal_is_not_repeated(scripted, status):
    server = scripted(lambda request: error(status, "n must be 1", param="n"))
    with Endpoint(config(server)) as endpoint:
        [failure] = ask(endpoint)
    assert isinstance(failure, RefusedError)
    assert (failure.status, failure.parameter, failure.reason) == (status, "n", f"HTTP {status}: n must be 1")
    assert not failure.hopeless
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_some_refusals_hold_for_all_requests(scripted, status):
    server = scripted(lambda request: error(status))
    with Endpoint(config(server)) as endpoint:
        [failure] = ask(endpoint)
    assert failure.hopeless
    assert ("key_env" in str(failure)) == (status == 401)
    assert len(server.requests) == 1


def test_a_quota_that_is_spent_is_not_waited_for(scripted):
    server = scripted(lambda request: error(429, "pay", code="insufficient_quota"))
    with Endpoint(config(server)) as endpoint:
        assert ask(endpoint)[0].hopeless
    assert len(server.requests) == 1


def test_a_model_that_one_request_names_wrongly_is_its_own_misfortune(scripted):
    server = scripted(lambda request: chat("x") if request.body["model"] == "m" else error(404))
    with Endpoint(config(server)) as endpoint:
        ask(endpoint)
        assert not ask(endpoint, {**BODY, "model": "other"})[0].hopeless


def test_servers_that_ask_not_to_be_asked_again_are_not(scripted):
    server = scripted(lambda request: error(500, headers={"x-should-retry": "false"}))
    with Endpoint(config(server)) as endpoint:
        ask(endpoint)
    assert len(server.requests) == 1


def test_retry_after_is_waited_out_by_everybody(scripted):
    times = {}

    def answer(request):
        times[request.number] = time.monotonic()
        return error(429, headers={"retry-after": "0.3"}) if request.number == 0 else chat("fine")

    server = scripted(answer)
    with Endpoint(config(server, concurrency=1)) as endpoint:
        answers = ask(endpoint, times=3)
    assert all(isinstance(one, dict) for one in answers)
    assert len(times) == 4
    assert min(times[1], times[2], times[3]) - times[0] >= 0.29


def test_patience_ends_a_wait_before_it_begins(scripted):
    server = scripted(lambda request: error(429, headers={"retry-after": "3600"}))
    with Endpoint(config(server, patience=60.0)) as endpoint:
        [failure] = ask(endpoint)
    assert "429" in str(failure)
    assert len(server.requests) == 1


def test_patience_ends_the_wait_of_those_who_were_not_refused_themselves(scripted):
    busy = error(429, headers={"retry-after": "50"})
    server = scripted(lambda request: busy if request.number == 0 else chat("fine"))
    with Endpoint(config(server, patience=60.0, retries=0)) as endpoint:
        ask(endpoint)
        object.__setattr__(endpoint.config, "patience", 40.0)
        [failure] = ask(endpoint)
    assert "asks to wait for longer than patience lasts" in str(failure)
    assert len(server.requests) == 1


def test_patience_bounds_all_attempts_together(scripted):
    server = scripted(lambda request: STALL)
    with Endpoint(config(server, patience=0.2, timeout=0.15, retries=50)) as endpoint:
        [failure] = ask(endpoint)
    assert "no answer within" in str(failure)
    assert len(server.requests) <= 3


def test_no_more_requests_at_once_than_allowed(scripted):
    lock, full, busy = threading.Lock(), threading.Event(), [0, 0]

    def answer(request):
        with lock:
            busy[0] += 1
            busy[1] = max(busy)
            if busy[0] == 4:
                full.set()
        full.wait(10)
        with lock:
            busy[0] -= 1
        return chat("x")

    with Endpoint(config(scripted(answer), concurrency=4)) as endpoint:
        assert len(ask(endpoint, times=24)) == 24
    assert busy == [0, 4]


def test_callers_in_threads_and_within_event_loops_share_a_connection(scripted):
    server = scripted(lambda request: chat("x"))
    with Endpoint(config(server)) as endpoint:
        found = []
        threads = [threading.Thread(target=lambda: found.extend(ask(endpoint, times=3))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        async def notebook():
            return ask(endpoint)

        found.extend(asyncio.run(notebook()))
        assert [type(one) for one in found] == [dict] * 13
        assert endpoint.usage.requests == 13


def test_a_closed_endpoint_opens_again_and_keeps_its_count(scripted):
    server = scripted(lambda request: chat("x"))
    endpoint = Endpoint(config(server, budget=Budget(max_requests=2)))
    for _ in range(2):
        assert isinstance(ask(endpoint)[0], dict)
        endpoint.close()
    assert isinstance(ask(endpoint)[0], BudgetSpentError)
    endpoint.close()


def test_an_endpoint_that_nobody_closes_ends_with_its_last_reference(scripted):
    server = scripted(lambda request: chat("x"))
    endpoint = Endpoint(config(server))
    ask(endpoint)
    [thread] = [thread for thread in threading.enumerate() if thread.name == "bestfor-endpoint"]
    assert thread.is_alive()
    del endpoint
    gc.collect()
    # The loop may be the last to let go of it, and then ends a moment later.
    thread.join(30)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("option", "value"),
    [("concurrency", 0), ("retries", -1), ("timeout", 0.0), ("patience", -1.0), ("backoff", float("nan"))],
)
def test_options_out_of_range(option, value):
    with pytest.raises(InputError, match=option):
        replace(EndpointConfig(), **{option: value})


class Slow(Endpoint):
    """An endpoint whose attempts take 10 s of a clock that stands still otherwise; the first of each request breaks."""

    def __init__(self, config):
        super().__init__(config)
        self.now, self.given, self.begun = 0.0, [], set()

    async def _attempt(self, path, body, timeout):
        self.given.append(timeout)
        self.now += 10.0
        await asyncio.sleep(0)
        if body["model"] not in self.begun:
            self.begun.add(body["model"])
            return Failure("no connection, or one that broke")
        return chat("fine")


@pytest.mark.parametrize("patience", [25.0, 15.0, 10.0])
def test_patience_counts_a_request_s_own_time_and_not_the_wait_for_its_turn(patience):
    slow = Slow(EndpointConfig("http://h/v1", concurrency=1, timeout=20.0, patience=patience, backoff=0.0))

    async def work():
        loop = asyncio.get_running_loop()
        loop.time = lambda: slow.now
        posts = (slow.post("/chat/completions", {**BODY, "model": str(at)}, most=8) for at in range(12))
        return await asyncio.gather(*posts, return_exceptions=True)

    with slow:
        outcomes = slow.run(work)
    if patience > 10:
        assert all(isinstance(outcome, dict) for outcome in outcomes)
        assert sorted(slow.given) == [patience - 10.0] * 12 + [min(20.0, patience)] * 12
    else:
        assert len(slow.given) == 12, "no attempt is begun with no time left for it"
        assert all("one that broke" in str(outcome) for outcome in outcomes), "the reason is that of the attempt"


HTML, NDJSON = {"content-type": "text/html"}, {"content-type": "application/x-ndjson"}


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (odd.PAGE, "a web page instead of JSON ('Please sign in'): is 'base_url' the address up to /v1"),
        (odd.STREAM, "a stream, which was not asked for: extra_body = { stream = false }"),
        ({"error": "Unexpected endpoint or method. (POST /chat/completions)"}, "HTTP 200 with an error: Unexpected"),
        (odd.answer([""], "error"), "an answer that failed: finish_reason error"),
        (odd.answer([None], usage={"prompt_tokens": 0, "completion_tokens": 0}), "no text, no reason and no tokens"),
        ({"choices": None}, "an answer without choices"),
        (Reply(200, odd.PAGE.body, {"content-type": "application/json"}), "a web page instead of JSON"),
        (Reply(200, odd.STREAM.body, {"content-type": "application/json"}), "a stream, which was not asked for"),
        (
            Reply(200, b'{"response":"Ri","done":false}\n{"response":"ver"}', NDJSON),
            "a stream, which was not asked for",
        ),
        ({"choices": [{"index": 0, "delta": {"content": "Ri"}}]}, "a stream, which was not asked for"),
        ({"code": "Throttled", "message": "come again"}, "an answer without choices: come again"),
        (Reply(502, b"<html><head><title>502 Bad Gateway</title></head></html>", HTML), "HTTP 502: 502 Bad Gateway"),
    ],
)
def test_failures_within_an_http_200_are_tried_again_and_say_what_they_are(scripted, reply, told):
    server = scripted(once(reply))
    with Endpoint(config(server)) as endpoint:
        [answer] = ask(endpoint)
        assert answer["choices"][0]["message"]["content"] == "fine"
        [(why, count)] = endpoint.usage.why
    assert count == 1
    assert told.startswith(why) or told in why
    stays = scripted(lambda request: reply)
    with Endpoint(config(stays, retries=1)) as endpoint:
        [failure] = ask(endpoint)
    assert told in str(failure)


@pytest.mark.parametrize(
    "reply",
    [
        odd.NO_CHOICES,
        {"promptFeedback": {"blockReason": "SAFETY"}},
        {"error": {"message": "filtered", "code": "content_filter"}},
        Reply(400, [{"error": {"code": 400, "message": "filtered", "status": "INVALID_ARGUMENT"}}]),
    ],
)
def test_a_refusal_within_an_http_200_or_a_list_is_not_tried_again(scripted, reply):
    server = scripted(lambda request: reply if request.number else chat("fine"))
    with Endpoint(config(server)) as endpoint:
        ask(endpoint)
        [failure] = ask(endpoint)
    assert isinstance(failure, RefusedError)
    assert failure.lasting
    assert len(server.requests) == 2
    assert "[{" not in str(failure)


def test_failed_requests_are_told_by_reason(scripted):
    replies = [error(503, "busy"), error(503, "busy"), error(500, "broken"), HALF, error(502, "gone"), chat("fine")]
    server = scripted(lambda request: replies[request.number])
    with Endpoint(config(server)) as endpoint:
        ask(endpoint)
        told = str(endpoint.usage)
    assert "5 requests failed (2 x HTTP 503: busy; 1 x HTTP 500: broken; 1 x " in told
    assert told.endswith("; 1 x others)")
    assert "why" not in endpoint.usage.to_dict()


def test_a_forbidden_request_is_a_refusal_and_ends_the_work_where_nothing_was_answered(scripted):
    server = scripted(lambda request: error(403, "no logprobs"))
    with Endpoint(config(server)) as endpoint:
        [failure] = ask(endpoint)
    assert isinstance(failure, RefusedError)
    assert failure.hopeless
    assert not failure.lasting
