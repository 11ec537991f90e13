"""A whole run whose candidates and judgements come from servers."""

import json
import math

import pyarrow.parquet as pq
import pytest

from bestfor.endpoint import OPENAI
from bestfor.errors import BestforError, InputError
from bestfor.policies import make_policy
from bestfor.pool import CandidatePool
from bestfor.rng import derive
from bestfor.runs.config import DiagnosisTable, parse_config
from bestfor.runs.run import run
from bestfor.runs.usage import notes_of
from support import odd
from support.servers import chat, error

KEY = "sk-run-secret-0123456789"
WORDS = ["calm", "bright", "river", "mayor", "llama", "garden", "today", "again"]


def writes(request):
    """A policy's server: honours n, and repeats the key it was sent."""
    asked, seed = request.body["messages"][-1]["content"], request.body["seed"]
    draws = (derive(seed, asked, index).choice(WORDS, 4) for index in range(request.body.get("n", 1)))
    return chat(*(" ".join(words) + request.headers["authorization"].removeprefix("Bearer") for words in draws))


def judges(request):
    """A judge's server: prefers short texts, and has no opinion on llamas."""
    text = request.body["messages"][1]["content"].partition("<text>\n")[2].partition("\n</text>")[0]
    if "llama llama" in text:
        return chat("no idea")
    answer = chat("3")
    top = [{"token": str(score), "logprob": math.log(1 / (1 + abs(score - len(text) / 12)))} for score in range(1, 6)]
    total = math.log(sum(math.exp(one["logprob"]) for one in top))
    for one in top:
        one["logprob"] -= total
    answer["choices"][0]["logprobs"] = {"content": [{**top[2], "top_logprobs": top}]}
    return answer


def config(policy, judge, **endpoint):
    server = {
        "base_url": policy.url,
        "key_env": "TEST_KEY",
        "identity": "x",
        **endpoint,
    }
    judged = {"base_url": judge.url.replace("127", "ann:hushed@127"), "input_price": 1.0, "output_price": 2.0}
    return parse_config(
        {
            "data": {"source": "world", "users": 4, "queries": 1},
            "split": {"min_fit": 0, "min_test": 2},
            "policy": {
                "kind": "openai",
                "model": "m",
                "n": 4,
                "fit_n": 2,
                "fit_items": 2,
                "chunk": 2,
                "endpoint": server,
            },
            "utility": {
                "metrics": ["judge", "rougeL"],
                "primary": "judge",
                "judge": {"model": "j", "identity": "y", "endpoint": judged},
            },
            "reward": [{"kind": "length"}],
            "diagnosis": {"n": [1, 2, 4]},
        },
        "run.toml",
    )


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_run_that_asks_servers(scripted, monkeypatch, tmp_path):
    monkeypatch.setenv("TEST_KEY", KEY)
    policy, judge = scripted(writes), scripted(judges)
    told = []
    out = tmp_path / "run"
    diagnosis = run(config(policy, judge), out, tell=told.append).diagnosis
    assert diagnosis.models["length"].captured
    usage = json.loads((out / "usage.json").read_text())
    assert usage["policy"]["requests"] == len(policy.requests) == 12
    assert usage["judge"]["requests"] == len(judge.requests)
    assert usage["judge"]["cost"] == pytest.approx((10 * 1.0 + 5 * 2.0) / 1e6 * len(judge.requests))
    assert any(line.startswith("policy: 12 requests, 120 + 60 tokens") for line in told)
    notes = [note for part in usage.values() for note in part["notes"]]
    assert any("gives or takes no logprobs" in note for note in notes)
    report = (out / "diagnosis.json").read_text()
    assert all(note in report for note in notes)
    for name, data in contents(out).items():
        assert KEY.encode() not in data, name
        assert b"hushed" not in data, name
    assert not any(KEY in line or "hushed" in line for line in told)
    assert all(request.headers["authorization"] == f"Bearer {KEY}" for request in policy.requests)
    assert all(request.headers["authorization"].startswith("Basic ") for request in judge.requests)
    policy.requests.clear()
    judge.requests.clear()
    before = contents(out)
    run(config(policy, judge), out)
    assert policy.requests == judge.requests == []
    assert contents(out) == before


@pytest.mark.slow
def test_a_run_goes_on_where_its_budget_ended(scripted, monkeypatch, tmp_path):
    monkeypatch.setenv("TEST_KEY", KEY)
    policy, judge = scripted(writes), scripted(judges)
    out = tmp_path / "run"
    for most in (5, 5, 9):
        with pytest.raises(BestforError, match=f"the budget of {most} requests is spent"):
            run(config(policy, judge, max_requests=most), out)
        assert len(policy.requests) == most, "a budget is a run's, however often it is called"
    run(config(policy, judge, max_requests=12), out)
    assert len(policy.requests) == 12, "no request is made twice"
    assert json.loads((out / "usage.json").read_text())["policy"]["requests"] == 12
    whole = tmp_path / "whole"
    run(config(policy, judge), whole)
    parts = [
        {name: data for name, data in contents(one).items() if name.startswith("pool/part")} for one in (out, whole)
    ]
    assert len(parts[0]) == 6
    assert parts[0] == parts[1], "a server that keeps its word gives the same pool"


@pytest.mark.slow
def test_a_run_with_a_dead_judge_stops_and_goes_on(scripted, monkeypatch, tmp_path):
    monkeypatch.setenv("TEST_KEY", KEY)
    policy = scripted(writes)
    judge = scripted(lambda request: judges(request) if request.number < 7 else error(401))
    with pytest.raises(BestforError, match="401"):
        run(config(policy, judge), tmp_path)
    answered = len((tmp_path / "judge.jsonl").read_text().splitlines())
    assert answered == 7
    judge.requests.clear()
    judge.answer = judges
    run(config(policy, judge), tmp_path)
    total = len((tmp_path / "judge.jsonl").read_text().splitlines())
    assert len(judge.requests) == total - answered


@pytest.mark.slow
@pytest.mark.parametrize("silent", ["test", "fit"])
def test_what_a_judge_cannot_judge_is_left_out_and_counted(scripted, monkeypatch, tmp_path, silent):
    monkeypatch.setenv("TEST_KEY", KEY)
    policy = scripted(writes)

    def moody(request):
        text = request.body["messages"][1]["content"].partition("<text>")[2]
        return chat("no idea") if silent == "fit" or "again" in text else judges(request)

    asked = config(policy, scripted(moody))
    asked = asked.model_copy(update={"diagnosis": DiagnosisTable(n=(1, 2))})
    if silent == "fit":
        with pytest.raises(BestforError, match=r"a value for none of 32 candidates: .*the judge said 'no idea'"):
            run(asked, tmp_path)
        return
    told = []
    found = run(asked, tmp_path, tell=told.append).diagnosis.to_dict()
    queries = dict(zip(*columns(tmp_path / "queries.parquet", "query_id", "split"), strict=True))
    judged = [queries[name] for name in columns(tmp_path / "utilities" / "judge.parquet", "query_id")[0]]
    sampled = [queries[name] for name in CandidatePool(tmp_path / "pool").scan()["query_id"].to_pylist()]
    lost = sampled.count("test") - judged.count("test")
    assert lost > 0
    unlabelled = sampled.count("fit") - judged.count("fit")
    assert any(line.startswith(f"fit: {unlabelled} of 16 candidates have no utility") for line in told)
    assert found["dropped"]["not_finite"] == lost
    assert f"{lost} candidates" in (tmp_path / "report.html").read_text()


def test_a_judge_that_fails_is_asked_again_by_the_next_run(scripted, monkeypatch, tmp_path):
    monkeypatch.setenv("TEST_KEY", KEY)
    policy = scripted(writes)
    lost = odd.answer([{"content": None, "reasoning_content": "Hm, 4"}], "length")
    # Some texts have no answer: the run goes on without them, and the next asks for them alone.
    judge = scripted(lambda request: lost if "again" in request.body["messages"][1]["content"] else judges(request))
    asked = config(policy, judge)
    asked = asked.model_copy(update={"diagnosis": DiagnosisTable(n=(1, 2))})
    told = []
    run(asked, tmp_path, tell=told.append)
    assert any("without an answer" in line and "stopped at max_tokens before any answer" in line for line in told)
    contents_asked = {request.body["messages"][1]["content"] for request in judge.requests}
    silent = {content for content in contents_asked if "again" in content}
    judge.requests.clear()
    judge.answer = judges
    told.clear()
    run(asked, tmp_path, tell=told.append)
    assert {request.body["messages"][1]["content"] for request in judge.requests} == silent
    assert len(silent) > 0
    assert any(line == "measure" for line in told)
    judge.requests.clear()
    run(asked, tmp_path, tell=told.append)
    assert judge.requests == []
    assert "measure: already there" in told[-20:]


def test_a_judge_that_answers_nothing_ends_the_run_and_the_next_measures_again(scripted, monkeypatch, tmp_path):
    monkeypatch.setenv("TEST_KEY", KEY)
    policy = scripted(writes)
    thinks = odd.answer([{"content": None, "reasoning_content": "Hm, 4"}], "length")
    judge = scripted(lambda request: thinks)
    told = r"for none of 32 candidates: .*stopped at max_tokens before any answer.*raise max_tokens"
    with pytest.raises(BestforError, match=told):
        run(config(policy, judge), tmp_path)
    judge.answer = judges
    assert run(config(policy, judge), tmp_path).diagnosis.models["length"]


@pytest.mark.slow
def test_a_run_without_a_refused_query_is_diagnosed_and_names_it(scripted, monkeypatch, tmp_path):
    monkeypatch.setenv("TEST_KEY", KEY)
    judge = scripted(judges)
    policy = scripted(writes)
    run(config(policy, judge), tmp_path / "whole")
    word = policy.requests[-1].body["messages"][-1]["content"]
    refusing = scripted(lambda request: odd.FILTERED if odd.last(request) == word else writes(request))
    out = tmp_path / "run"
    found = run(config(refusing, judge), out).diagnosis
    assert any("refuses 1 of 12 queries" in note for note in found.to_dict()["models"]["length"]["notes"])
    refusing.requests.clear()
    again = run(config(refusing, judge), out).diagnosis
    assert refusing.requests == []
    assert again.to_dict() == found.to_dict()


def columns(path, *names):
    table = pq.read_table(path)
    return [table[name].to_pylist() for name in names]


def policy_table(**policy):
    raw = {"data": {"source": "world"}, "reward": [{"kind": "length"}], "policy": {"n": 2, **policy}}
    return parse_config(raw | {"split": {"min_fit": 0, "min_test": 1}}, "run.toml").policy


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ({"endpoint": {}}, r"\[policy.endpoint\]: found a server of a policy of kind 'transformers'"),
        ({"kind": "openai", "endpoint": {"retry": 1}}, "unknown key 'retry'; expected 'retries'"),
        ({"kind": "openai", "endpoint": {"api": "responses"}}, "api: found 'responses'"),
        ({"kind": "openai", "endpoint": {"max_cost": 1}}, "max_cost: found no prices"),
        ({"kind": "openai", "endpoint": {"base_url": "http://***@host/v1"}}, "whose secrets were left out"),
        ({"kind": "openai", "stop": [""]}, "stop"),
        ({"kind": "openai", "adapters": {}, "fit_share": 0.5}, "a policy of kind 'openai'"),
    ],
)
def test_servers_in_a_run_file(policy, told):
    with pytest.raises(InputError, match=told):
        policy_table(**policy)


def test_a_policy_of_a_run_file():
    endpoint = {"base_url": "http://h/v1", "concurrency": 3, "max_tokens": 9, "context": 99, "extra_body": {"k": 1}}
    made = make_policy(policy_table(kind="openai", model="m", stop=["x"], temperature=0.3, endpoint=endpoint))
    assert (made.model, made.stop, made.temperature, made.context) == ("m", ("x",), 0.3, 99)
    assert (made.server.concurrency, made.server.budget.max_tokens, made.extra_body) == (3, 9, {"k": 1})
    assert make_policy(policy_table(kind="openai", model="m")).server.base_url == OPENAI


def test_a_record_that_cannot_be_read_is_begun_anew(tmp_path):
    for text in ("{", "[]", '{"policy": 3}'):
        (tmp_path / "usage.json").write_text(text)
        assert notes_of(tmp_path) == ()
