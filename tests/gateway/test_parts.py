"""Parts of the gateway by themselves: what a diagnosis decides, pauses, buckets, hosts, and what competes."""

import json

import pytest

from bestfor.endpoint.address import is_loopback
from bestfor.endpoint.choices import Spent, read_choice
from bestfor.errors import InputError
from bestfor.gateway import load_gateway_config
from bestfor.gateway.errors import of_error
from bestfor.gateway.tenants import Services
from bestfor.gateway.upstream import breaker as breaking
from bestfor.gateway.upstream.batch import Batch, Came, Fault
from bestfor.gateway.upstream.breaker import Breaker
from bestfor.serving.base import ServedModel
from bestfor.serving.journal import JournalError
from bestfor.serving.labels import LabelScale
from support.gateways import writes
from support.taught import taught


def test_a_diagnosis_decides_for_users_until_they_say_something(serve, tmp_path, monkeypatch):
    run = tmp_path / "run"
    (run / "models" / "taught").mkdir(parents=True)
    rows = [
        {"user": "ann", "queries": 2, "gain": 0.1, "collapsed": True},
        {"user": "ben", "queries": 12, "gain": -0.1, "collapsed": False},
        {"user": "eve", "queries": 9, "gain": -0.1, "collapsed": False},
    ]
    (run / "diagnosis.json").write_text("{}")
    monkeypatch.setattr(
        "bestfor.gateway.tenants.load_diagnosis", lambda folder: {"models": {"taught": {"per_user": rows}}}
    )
    gateway = serve(writes("red fish", "ann-word", "ben-word"), defaults={"n": 3})
    services = gateway.app.state.gateway.services
    services.model = ServedModel(taught("ann", "ben"), "digest", run / "models" / "taught", run)
    own = gateway.ask("ann").json()["bestfor"]
    assert (own["served"], own["rewards"]) == ("everybody", [0, 0, 0])
    assert any("collapsed" in note for note in own["notes"])
    own = gateway.ask("ben").json()["bestfor"]
    assert (own["n"], own["received"]) == (1, 1)
    assert any("bring this user nothing" in note for note in own["notes"])
    assert gateway.ask("ben", bestfor={"n": 2}).json()["bestfor"]["n"] == 2
    assert gateway.ask("eve").json()["bestfor"]["n"] == 3
    assert gateway.learn(own["answer_id"], value=True).status_code == 201
    assert gateway.ask("ben").json()["bestfor"]["n"] == 3
    assert services.known("other", "ann") == (False, False)


def test_a_model_without_a_run_says_its_scale_in_the_configuration(tmp_path):
    given = {"source": "x", "journal": str(tmp_path / "f.db")}
    for labels, fine in (({}, False), ({"labels": {"worst": -1, "best": 3}}, True)):
        services = Services(load_gateway_config(None, {**given, **labels}), ServedModel(taught(), "d"))
        try:
            if fine:
                assert services.of("").scale == LabelScale(-1.0, 3.0)
                assert services.of("").learn(user="eve", text="a", rating=1.0).status == "new"
            else:
                with pytest.raises(InputError, match="whose run nobody knows"):
                    services.of("").learn(user="eve", text="a", rating=1.0)
        finally:
            services.close()


def test_a_breaker_lets_one_request_a_pause_through(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(breaking.time, "monotonic", lambda: now[0])
    breaker = Breaker(2, 2.0)
    breaker.lost()
    assert breaker.wait() is None
    breaker.lost()
    assert breaker.wait() == 2
    now[0] = 102.1
    assert breaker.wait() is None
    assert breaker.wait() == 1
    breaker.lost()
    assert breaker.wait() == 4
    now[0] = 1000.0
    assert breaker.wait() is None
    breaker.left()
    assert breaker.wait() is None
    breaker.good()
    assert not breaker.open
    for _ in range(100):
        breaker.lost()
    assert breaker.wait() == 60


def test_what_is_loopback():
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "localhost.evil", "")))


def came(**choice):
    choice = {"finish_reason": "stop", **choice}
    return Came(choice, {}, read_choice(choice, Spent(5)))


def said(text, **more):
    return came(message={"content": text, **more})


def test_what_competes():
    one, other, empty = said("a"), said("b"), said("")
    refused = came(message={"content": None, "refusal": "I will not"})
    thought = said(None, reasoning_content="hm")
    call, same, third = (came(message={"content": None, "tool_calls": [{"function": {"name": n}}]}) for n in "ffg")
    assert Batch((one, empty, other, refused)).scored() == (one, other)
    assert Batch((one, call, other, third)).scored() == (one, other)
    assert Batch((one, third, call, same)).scored() == (call, same)
    assert Batch((thought, refused)).scored() == (refused,)
    assert Batch((thought, empty)).scored() == (thought,)
    assert refused.text == "I will not"
    assert said("<think>hm</think>yes").text == "yes"


def test_the_most_frequent_failure_speaks_for_all():
    faults = (Fault(500, "a"), Fault(429, "b", after="3"), Fault(429, "c", after="9"))
    assert Batch((), faults).worst() is faults[1]
    assert Batch((), ()).worst().code == "deadline_exceeded"


def test_errors_that_are_not_known_to_be_harmless_are_not_repeated():
    assert (
        of_error(RuntimeError("secret")).body["error"]["message"] == "an error within the gateway; its log says which"
    )
    assert (of_error(JournalError("at postgresql://u:pw@h")).status, of_error(ValueError("x")).status) == (503, 500)
    assert "pw" not in json.dumps(of_error(JournalError("at postgresql://u:pw@h")).body)
    found = of_error(InputError("key", "'k', which is a label of somebody else", "a key of its own"))
    assert (found.status, found.param) == (409, "key")
