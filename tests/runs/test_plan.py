"""What a run will take: counts against what the run then does, money, and what a stopped run still owes."""

import json
from dataclasses import replace

import numpy as np
import pytest

from bestfor.__main__ import main
from bestfor.encoders.cache import CachedEncoder
from bestfor.errors import InputError
from bestfor.files import hash_tree
from bestfor.policies.base import Prompt, Sampled
from bestfor.pool import CandidatePool
from bestfor.runs.config import parse_config
from bestfor.runs.plan import _is_here, plan_run
from bestfor.runs.probe import probe_encoder, probe_policy
from bestfor.runs.run import run
from support.servers import chat

RUN = {
    "data": {"source": "world", "users": 2, "queries": 1},
    "split": {"min_fit": 0, "min_test": 2},
    "policy": {"n": 3, "fit_n": 2, "fit_items": 3, "chunk": 2, "max_new_tokens": 6},
    "reward": [{"kind": "length"}],
    "diagnosis": {"n": [1, 2, 3]},
}


def config(**tables):
    return parse_config({**RUN, **tables}, "run.toml")


class Counts:
    """A policy that writes as many words as the query's number, and keeps what it was asked."""

    name, chunk, signature = "counts", 4, {"kind": "counts"}

    def __init__(self):
        self.asked = []

    def sample(self, prompts, n, *, seed):
        self.asked.append([prompt.query_id for prompt in prompts])
        return [[Sampled("ab", int(prompt.query_id), None, "stop")] * n for prompt in prompts]


class Lengths:
    """An encoder that gives a text's length."""

    name, signature, dim = "lengths", "0" * 32, 1

    def __init__(self):
        self.asked = []

    def encode(self, texts):
        self.asked += texts
        return np.array([[float(len(text))] for text in texts], dtype=np.float32)


def test_a_probe_asks_for_other_prompts_each_time_up_to_a_chunk():
    policy, prompts = Counts(), [Prompt(str(i), ({"role": "user", "content": "x"},)) for i in range(20)]
    speed = probe_policy(policy, prompts, 3, 60.0, seed=0)
    assert [len(part) for part in policy.asked] == [1, 2, 4, 4, 4, 4]
    assert sorted(int(one) for part in policy.asked for one in part) != list(range(20))
    flat = [one for part in policy.asked for one in part]
    assert len(set(flat)) == len(flat) == speed.candidates // 3 == 19
    assert speed.tokens_per_candidate == pytest.approx(np.mean([int(one) for one in flat]))
    assert speed.bytes_per_candidate == 2.0
    once = Counts()
    assert probe_policy(once, prompts, 3, 0.0, seed=0).candidates == 3
    assert [len(part) for part in once.asked] == [1]


def test_an_encoder_is_probed_on_texts_of_the_run():
    encoder, texts = Lengths(), [f"text {i}" for i in range(100)]
    speed = probe_encoder(encoder, texts, 60.0)
    assert speed.texts == 16 + 32
    assert len(set(encoder.asked[1:])) == 48
    assert set(encoder.asked) <= set(texts)
    assert speed.texts_per_second > 0


def test_a_cache_knows_what_it_does_not_hold(tmp_path):
    cached = CachedEncoder(Lengths(), tmp_path)
    cached.encode(["a", "b"])
    assert cached.missing(["c", "a", "c", "d"]) == ["c", "d"]
    assert CachedEncoder(Lengths(), tmp_path).missing(["a", "b", ""]) == [""]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan") / "out"
    run(config(), folder)
    return folder


def test_a_plan_counts_what_the_run_then_does(done, tmp_path):
    found = plan_run(config(), tmp_path / "new", probe=0.0)
    (fold,) = found.folds
    table = CandidatePool(done / "pool").scan()
    assert fold.sampling.owed_candidates == fold.sampling.candidates == table.num_rows
    assert fold.sampling.owed_prompts == fold.sampling.prompts == len(set(table["query_id"].to_pylist()))
    assert fold.sampling.most_new_tokens == table.num_rows * 6
    assert fold.sampling.hours is found.hours is found.cost is None
    assert not fold.sampling.estimated
    assert "not measured" in found.notes[0]
    assert not (tmp_path / "new").exists()


def test_a_run_that_is_done_owes_nothing_and_a_stopped_one_the_rest(done):
    before = hash_tree([done])
    found = plan_run(config(), done)
    assert found.folds[0].steps == ()
    assert (found.folds[0].sampling.owed_candidates, found.hours, found.disk_bytes) == (0, 0.0, 0)
    # One part of four was never sampled: as if a run had been stopped there.
    more = config(policy={**RUN["policy"], "n": 4})
    (fold,) = plan_run(more, done, probe=0.0).folds
    assert (fold.sampling.owed_prompts, fold.sampling.owed_candidates) == (2, 8)
    assert fold.sampling.candidates == 8 + 2 * 6
    assert hash_tree([done]) == before


def test_a_server_elsewhere_is_not_asked_unless_it_is_said(scripted, tmp_path, monkeypatch):
    server = scripted(lambda request: chat(*["four little words here"] * request.body.get("n", 1)))
    prices = {"base_url": server.url, "input_price": 2.0, "output_price": 10.0}
    policy = {**RUN["policy"], "kind": "openai", "model": "m", "endpoint": prices}
    found = plan_run(config(policy=policy), tmp_path / "new", probe=0.0)
    one = found.folds[0].sampling
    assert one.cost == found.cost == pytest.approx((one.prompt_tokens * 2 + one.most_new_tokens * 10) / 1e6)
    assert (one.estimated, one.new_tokens, one.speed) == (True, None, None)
    monkeypatch.setattr("bestfor.runs.plan._is_here", lambda config: False)
    assert plan_run(config(policy=policy), tmp_path / "new").folds[0].sampling.speed is None
    assert server.requests == []
    monkeypatch.undo()
    asked = plan_run(config(policy=policy), tmp_path / "new").folds[0].sampling
    assert asked.speed.candidates == sum(request.body.get("n", 1) for request in server.requests) > 0
    assert asked.hours > 0
    assert asked.speed.bytes_per_candidate == len("four little words here")


def test_servers_that_do_not_answer_a_probe_are_one_line(tmp_path):
    dead = {"base_url": "http://127.0.0.1:9/v1", "also": ["http://127.0.0.1:8/v1"], "retries": 0}
    policy = {**RUN["policy"], "kind": "openai", "model": "m", "endpoint": dead}
    expected = r"--probe: found no answer \(.*endpoint http://127.* do not answer\)\); expected .* --probe 0"
    with pytest.raises(InputError, match=expected):
        plan_run(config(policy=policy), tmp_path / "new")
    found = plan_run(config(policy=policy, backend={"workers": 2}), tmp_path / "new", probe=0.0)
    assert any("of one process" in note for note in found.notes)
    assert not (tmp_path / "new").exists()


def test_judges_are_counted(tmp_path, scripted):
    server = scripted(lambda request: chat("3"))
    judge = {"model": "j", "endpoint": {"base_url": server.url, "input_price": 1.0, "output_price": 1.0}}
    utility = {"metrics": ["judge"], "judge": judge}
    found = plan_run(config(utility=utility), tmp_path / "new", probe=0.0)
    (fold,) = found.folds
    (one,) = fold.judging
    assert (one.judge, one.requests, one.most_new_tokens) == ("judge", fold.sampling.candidates, 16 * one.requests)
    assert one.cost == pytest.approx((one.prompt_tokens + one.most_new_tokens) / 1e6)
    assert found.cost == one.cost
    assert server.requests == []


@pytest.mark.parametrize(
    ("servers", "here"),
    [
        (["http://127.0.0.1:1/v1"], True),
        (["http://localhost:1/v1", "http://[::1]:2/v1"], True),
        (["local:smollm2"], True),
        (["https://example.org/v1"], False),
        (["http://127.0.0.1:1/v1", "http://10.0.0.1:1/v1"], False),
    ],
)
def test_a_policy_is_here_where_all_its_servers_are(servers, here):
    first, *also = servers
    policy = {**RUN["policy"], "kind": "openai", "model": "m", "endpoint": {"base_url": first}}
    if also:
        policy["endpoint"]["also"] = also
    assert _is_here(config(policy=policy)) is here


@pytest.mark.slow
def test_texts_of_ratings_are_encoded_once_for_all_folds(tmp_path, capsys, monkeypatch):
    rows = ["user,text,rating"]
    rows += [f"u{user},text {text},{(user * text) % 7}" for user in range(6) for text in range(30)]
    (tmp_path / "ratings.csv").write_text("\n".join(rows))
    (tmp_path / "run.toml").write_text(
        f'[data]\nsource = "table"\npath = "{tmp_path / "ratings.csv"}"\n'
        '[split]\nfold = "all"\nmin_fit = 4\nmin_test = 4\n[[reward]]\nkind = "similarity"\n'
    )

    def bestfor(*options):
        told = ["bestfor", *options, str(tmp_path / "run.toml"), "--out", str(tmp_path / "out")]
        monkeypatch.setattr("sys.argv", told)
        assert main() == 0
        return capsys.readouterr().out

    found = json.loads(bestfor("plan", "--probe", "1", "--json"))
    (encoding,) = found["encoding"]
    assert (encoding["texts"], encoding["owed"], encoding["models"]) == (30, 30, ["similarity"])
    assert encoding["hours"] == pytest.approx(30 / encoding["speed"]["texts_per_second"] / 3600)
    assert found["disk_bytes"] == 30 * (encoding["dim"] * 4 + 32)
    assert len(found["folds"]) == 3
    bestfor("run")
    assert "nothing is owed" in bestfor("plan")


def test_hours_are_a_rate_times_what_is_owed(done, monkeypatch):
    real = probe_policy

    def measured(*arguments, **options):
        return replace(real(*arguments, **options), candidates_per_second=0.5, tokens_per_candidate=4.0)

    monkeypatch.setattr("bestfor.runs.plan.probe_policy", measured)
    one = plan_run(config(policy={**RUN["policy"], "n": 4}), done, probe=0.1).folds[0].sampling
    assert one.hours == pytest.approx(8 / 0.5 / 3600)
    assert one.new_tokens == 32
