import threading

import pyarrow as pa
import pytest

from bestfor.endpoint import EndpointConfig
from bestfor.errors import BestforError, InputError
from bestfor.pool import CandidatePool
from support.answers import asked, honest, single
from support.pools import fill
from support.servers import STALL, error


def test_a_pool_keeps_what_came_owes_the_rest_and_goes_on(policy, tmp_path):
    made, server = policy(lambda request: error(400, "too long") if asked(request) == "b" else honest(request), chunk=2)
    with pytest.raises(
        BestforError,
        match=r"^3 candidates are missing, all others are kept: query 'b': .*too long \(refused = \"skip\" in .*",
    ):
        fill(made, tmp_path, "a", "b", "c", "d")
    pool = CandidatePool(tmp_path)
    assert len(pool.missing()) == 1
    assert pool.verify() == []
    assert pool.scan(partial=True)["query_id"].to_pylist() == ["a"] * 3 + ["c"] * 3 + ["d"] * 3
    with pytest.raises(InputError, match="1 of 2 parts"):
        pool.scan()
    server.requests.clear()
    server.answer = honest
    before = pool.scan(partial=True)
    whole = fill(made, tmp_path, "a", "b", "c", "d").scan()
    assert [asked(request) for request in server.requests] == ["b"]
    assert whole.filter(pa.compute.not_equal(whole["query_id"], "b")).equals(before)
    assert whole["candidate"].to_pylist() == [0, 1, 2] * 4
    assert [path.name for path in tmp_path.glob("*-some*")] == []


def test_a_request_that_suits_no_query_is_not_made_for_all(policy, tmp_path):
    made, server = policy(lambda request: error(400, "no such setting"), chunk=1, server=EndpointConfig(concurrency=1))
    with pytest.raises(BestforError, match=r"^120 candidates are missing, .*no such setting"):
        fill(made, tmp_path, *(f"q{index:02d}" for index in range(40)))
    assert len(server.requests) <= 6


def test_parts_of_a_query_are_kept_too(policy, tmp_path):
    made, server = policy(lambda request: error(400, "no") if request.number % 2 else single(request), chunk=2)
    for _ in range(12):
        try:
            fill(made, tmp_path, "a", "b", n=5)
            break
        except BestforError:
            had = CandidatePool(tmp_path).scan(partial=True).num_rows
            assert had > 0
    answered = sum(request.number % 2 == 0 for request in server.requests)
    assert CandidatePool(tmp_path).scan().num_rows == 10
    assert answered == 10, "each answer is used, none is asked for twice"


def test_several_chunks_keep_the_connections_busy(policy, tmp_path):
    lock, full, busy = threading.Lock(), threading.Event(), [0]

    def answer(request):
        with lock:
            busy[0] += 1
            if busy[0] == 4:
                full.set()
        assert full.wait(10), "four at once, though a chunk holds one query"
        return honest(request)

    made, _ = policy(answer, chunk=1, server=EndpointConfig(concurrency=4))
    assert fill(made, tmp_path, *"abcdefgh").scan().num_rows == 24


def test_an_interrupt_keeps_what_came(policy, tmp_path, monkeypatch):
    from bestfor.backends import processes

    came = threading.Event()

    def answer(request):
        if asked(request) == "a":
            came.set()
            return honest(request)
        return STALL

    def interrupted(*args, **kwargs):
        assert came.wait(10)
        while made.usage.prompt_tokens == 0:
            pass
        raise KeyboardInterrupt

    made, _ = policy(answer, chunk=2)
    monkeypatch.setattr(processes, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fill(made, tmp_path, "a", "b")
    assert CandidatePool(tmp_path).scan(partial=True)["query_id"].to_pylist() == ["a"] * 3
