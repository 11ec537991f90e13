"""A judge under faults: what is missing stays missing up to the report, and no answer is paid for twice."""

import json
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from bestfor import rewards
from bestfor.errors import BestforError
from bestfor.pipeline.config import load_config, parse_config
from bestfor.pipeline.inventory import describe_rewards
from bestfor.pipeline.run import run
from bestfor.pipeline.stages import write_run
from bestfor.rewards._persona import FOLDER
from bestfor.testing.rewards import taste_examples
from servers import DROP, HALF, RESET, STALL, Reply, chat, error, judging, parts

QUICK = {"timeout": 5, "retries": 1}
TORN = Reply(body=b'{"choices": [{"mess')


@pytest.fixture
def judge(scripted):
    made = []

    def make(answer, *, cache=None, endpoint=None, **options):
        server = scripted(answer)
        table = {"base_url": server.url, **QUICK, **(endpoint or {})}
        made.append(rewards.build("judge", cache=cache, model="m", endpoint=table, identity="one", **options))
        return made[-1], server

    yield make
    for one in made:
        one.close()


def small(**how):
    return taste_examples(**{"users": 2, "queries": 1, "candidates": 3, **how})


FAULTS = {
    "nonsense": chat("I like it."),
    "out of the scale": chat("9"),
    "two numbers": chat("4 or 5"),
    "nothing": chat(None),
    "refused": error(400, "content policy"),
    "broken": error(500),
    "overloaded": error(503, headers={"retry-after": "0"}),
    "half": HALF,
    "torn": TORN,
    "dropped": DROP,
    "reset": RESET,
    "stalled": STALL,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_score_is_missing_and_never_made_up(judge, fault):
    examples = small()
    bad = examples.texts[examples.text[1]]
    stalled = {"timeout": 0.3, "retries": 0} if fault == "stalled" else {"retries": 0}
    model, _ = judge(judging(score=lambda found: FAULTS[fault] if found["text"][0] == bad else 3), endpoint=stalled)
    model.fit(examples, rng=0)
    mean = model.predict(examples).mean
    wrong = examples.text == examples.text[1]
    np.testing.assert_array_equal(np.isnan(mean), wrong)
    assert set(mean[~wrong]) == {3.0}
    assert f"{wrong.sum()} of {len(examples)} candidates have no reward from m" in model.notes
    [said] = [note for note in model.notes if "gave nothing" in note]
    refused = 0 if fault in ("nonsense", "out of the scale", "two numbers", "nothing") else wrong.sum()
    assert f"({refused} without an answer, {wrong.sum() - refused} with one that is no score)" in said


@pytest.mark.parametrize("fault", ["nonsense", "nothing", "refused", "half", "dropped"])
def test_a_persona_that_is_not_written_is_none(judge, fault):
    examples = small()
    bad = iter([False, True])
    model, _ = judge(
        judging(write=lambda found: FAULTS[fault] if next(bad) else "<persona>p</persona><rubric>r</rubric>"),
        endpoint={"concurrency": 1, "retries": 0},
    )
    model.fit(examples, rng=0)
    assert len(model.personas) == 1
    assert any(note.startswith("1 of 2 rubrics were not written") for note in model.notes)
    assert np.isfinite(model.predict(examples).mean).all()
    assert "1 of 2 users have no persona: judged by the general rubric" in model.notes


def test_a_mean_over_fewer_rubrics_is_no_reward(judge):
    """Of candidates under different rubrics it could not be compared."""
    examples = small(users=1)
    bad = examples.texts[examples.text[0]]
    rubric = iter(["r1", "r2"])

    def score(found):
        return "no idea" if (found["text"][0], found["rubric"][0]) == (bad, "r2") else 4

    model, _ = judge(
        judging(score=score, write=lambda found: f"<persona>p</persona><rubric>{next(rubric)}</rubric>"), rubrics=2
    )
    assert np.isnan(model.fit(examples, rng=0).predict(examples).mean).tolist() == [True, False, False]


def test_a_busy_server_is_waited_for(judge):
    busy = iter([error(429, headers={"retry-after-ms": "20"}), error(503)])
    calm = judging(score=lambda found: 2)
    model, _ = judge(lambda request: next(busy, None) or calm(request), endpoint={"retries": 3, "concurrency": 1})
    examples = small()
    assert set(model.fit(examples, rng=0).predict(examples).mean) == {2.0}
    assert (model.usage.requests, model.usage.failed) == (2 + 2 + 6, 2)


@pytest.mark.parametrize("dead", [error(401), error(500), DROP])
def test_a_dead_server_ends_the_work_and_loses_nothing(judge, tmp_path, dead):
    examples = small(users=3)
    alive = judging(score=lambda found: 2)
    model, server = judge(alive, cache=tmp_path, endpoint={"concurrency": 1, "retries": 0})
    model.fit(examples, rng=0)
    server.answer = lambda request: alive(request) if request.number < 5 else dead
    with pytest.raises(BestforError, match=r"the judge of query 'q\d': endpoint"):
        model.predict(examples)
    kept = len((tmp_path / "answers.jsonl").read_text().splitlines())
    server.answer, before = alive, len(server.requests)
    assert np.isfinite(model.predict(examples).mean).all()
    assert len(server.requests) - before == 3 + 9 - kept


def test_a_spent_budget_stops_and_a_larger_one_goes_on(judge, tmp_path):
    examples = small()
    model, server = judge(judging(), cache=tmp_path, endpoint={"max_requests": 4, "concurrency": 1})
    with pytest.raises(BestforError, match="the budget of 4 requests is spent"):
        model.fit(examples, rng=0).predict(examples)
    assert len(server.requests) == 4
    spent = model.usage
    model, server = judge(judging(), cache=tmp_path, endpoint={"max_requests": 8})
    model.charge(spent)
    model.fit(examples, rng=0).predict(examples)
    assert len(server.requests) == 4
    model, server = judge(judging(), cache=tmp_path, endpoint={"max_requests": 8})
    model.charge(spent)
    with pytest.raises(BestforError, match="budget of 8 requests"):
        model.fit(small(seed=1), rng=0).predict(small(seed=1))


TOPICS = ("buses", "parks", "schools", "roads", "taxes", "trees", "noise", "shops")


@pytest.fixture
def ratings(tmp_path, monkeypatch):
    """Six people who rated 30 statements, as a table and a run of it with a judge."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    lines = ["user,text,rating"]
    for user in range(6):
        lines += [f'p{user},"More {TOPICS[i % 8]} and soon: point {i}",{draw.choice([-1, 0, 1])}' for i in range(30)]
    Path("ratings.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def config(url, **options):
        endpoint = {"base_url": url, **QUICK, **options.pop("endpoint", {})}
        return {
            "data": {"source": "table", "path": "ratings.csv"},
            "split": {"min_fit": 5, "min_test": 4, "fold": options.pop("fold", 0)},
            "reward": [
                {"kind": "judge", "model": "m", "rated": 2, "endpoint": endpoint, **options},
                {"kind": "length"},
            ],
            "diagnosis": {"n": [1, 2]},
        }

    return config


def test_a_missing_score_goes_all_the_way_to_the_report(scripted, ratings, tmp_path):
    server = scripted(judging(score=lambda found: "hm" if found["text"][0].endswith("9") else 3))
    config = parse_config(ratings(server.url), "run.toml")
    told = []
    result = run(config, tmp_path / "out", tell=told.append)
    table = pq.read_table(tmp_path / "out" / "rewards" / "judge.parquet")
    missing = table["mean"].null_count
    told_of = describe_rewards(tmp_path / "out", ["judge"])["judge"]
    assert (told_of["candidates"], told_of["missing"]) == (table.num_rows - missing, missing)
    assert 0 < missing < table.num_rows
    assert np.isnan(table["mean"].to_numpy()).sum() == missing
    found = json.loads((tmp_path / "out" / "diagnosis.json").read_text())
    assert found["dropped"]["not_finite"] == missing
    assert found["models"]["judge"]["scale"] == "arbitrary"
    assert f"{missing} of {table.num_rows} candidates have no reward from m" in found["models"]["judge"]["notes"]
    page = result.report.read_text(encoding="utf-8")
    assert f"{missing} candidates have a reward or a utility that is no finite number" in " ".join(page.split())
    usage = json.loads((tmp_path / "out" / "usage.json").read_text())["reward judge"]
    assert usage["requests"] == len(server.requests)
    assert any(line.startswith("reward judge: ") and "tokens" in line for line in told)


def test_a_run_asks_once_and_honours_what_a_person_edits(scripted, ratings, tmp_path):
    server = scripted(judging())
    config = parse_config(ratings(server.url, identity="the judge"), "run.toml")
    out = tmp_path / "out"
    first = run(config, out)
    asked = len(server.requests)
    run(config, out)
    assert len(server.requests) == asked
    path = out / "models" / "judge" / FOLDER / "p3.toml"
    path.write_text(path.read_text().replace("Is like", "Is not like"), encoding="utf-8")
    again = run(config, out)
    fresh = server.requests[asked:]
    assert fresh
    assert all(parts(request)["rubric"][0].startswith("Is not like") for request in fresh)
    assert any("a persona that a person edited" in note for note in again.diagnosis.models["judge"].notes)
    assert first.diagnosis.models["length"].quantities == again.diagnosis.models["length"].quantities
    moved = scripted(judging(score=lambda found: error(401)))
    run(parse_config(ratings(moved.url, identity="the judge"), "run.toml"), out)
    assert moved.requests == []


def test_a_budget_holds_for_a_run_however_often_it_is_called(scripted, ratings, tmp_path):
    server = scripted(judging())

    def config(most):
        return parse_config(ratings(server.url, endpoint={"max_requests": most, "concurrency": 1}), "run.toml")

    for most in (4, 9):
        with pytest.raises(BestforError, match=f"the budget of {most} requests is spent; raise it and run again"):
            run(config(most), tmp_path / "out")
        assert len(server.requests) == most
    run(config(1000), tmp_path / "out")
    bodies = [json.dumps(request.body, sort_keys=True) for request in server.requests]
    assert len(set(bodies)) == len(bodies)
    assert json.loads((tmp_path / "out" / "usage.json").read_text())["reward judge"]["requests"] == len(bodies)


def test_folds_share_answers_and_one_account(scripted, ratings, tmp_path):
    server = scripted(judging())
    run(parse_config(ratings(server.url, fold="all"), "run.toml"), tmp_path / "out")
    usage = json.loads((tmp_path / "out" / "usage.json").read_text())["reward judge"]
    assert usage["requests"] == len(server.requests)
    bodies = [json.dumps(request.body, sort_keys=True) for request in server.requests]
    assert len(set(bodies)) == len(bodies)


def test_a_judge_that_knows_nothing_ends_the_run(scripted, ratings, tmp_path):
    server = scripted(judging(score=lambda found: "hm"))
    with pytest.raises(BestforError, match="the rewards of 'judge': found none for the test candidates"):
        run(parse_config(ratings(server.url), "run.toml"), tmp_path / "out")


def test_the_resolved_run_holds_no_password(ratings, tmp_path):
    given = parse_config(ratings("http://ann:topsecret@127.0.0.1:1/v1?code=alsosecret"), "run.toml")
    write_run(given, tmp_path)
    text = (tmp_path / "run.toml").read_text()
    assert "secret" not in text
    assert 'kind = "judge"' in text
    with pytest.raises(BestforError, match="whose secrets were left out"):
        load_config(tmp_path / "run.toml")


def test_a_run_file_in_toml(tmp_path):
    (tmp_path / "run.toml").write_text(
        textwrap.dedent("""
        [data]
        source = "polis"
        path = "x"
        [[reward]]
        kind = "judge"
        model = "m"
        endpoint = { base_url = "http://127.0.0.1:1/v1", max_tokens = 1000 }
        [[reward]]
        name = "many"
        kind = "judge"
        model = "m"
        [reward.endpoint]
        concurrency = 3
        """)
    )
    config = load_config(tmp_path / "run.toml")
    assert config.reward[0].options["endpoint"]["max_tokens"] == 1000
    assert config.reward[1].options["endpoint"] == {"concurrency": 3}


WORK = """
import sys
from pathlib import Path
from bestfor import rewards
from bestfor.testing.rewards import taste_examples

url, cache = sys.argv[1:]
endpoint = {"base_url": url, "concurrency": 1, "timeout": 60}
examples = taste_examples(users=2, queries=1, candidates=4)
model = rewards.build("judge", cache=Path(cache), model="m", identity="one", endpoint=endpoint)
model.fit(examples, rng=0)
print(model.predict(examples).mean.tolist(), model.notes)
model.close()
"""


@pytest.mark.slow
def test_a_killed_run_pays_for_nothing_twice(scripted, tmp_path):
    calm, reached = judging(), threading.Event()

    def answer(request):
        if request.number == 6:
            reached.set()
            return STALL
        return calm(request)

    server = scripted(answer)
    command = [sys.executable, "-c", WORK, server.url, str(tmp_path)]
    victim = subprocess.Popen(command)
    assert reached.wait(60)
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    kept = (tmp_path / "answers.jsonl").read_text().splitlines()
    assert len(kept) == 6
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    bodies = [json.dumps(request.body, sort_keys=True) for request in server.requests]
    assert len(bodies) == 2 + 8 + 1
    assert [number for number, body in enumerate(bodies) if bodies.index(body) < number] == [7]
    assert bodies[7] == bodies[6], "only what was under way is asked again"
    whole = subprocess.run([*command[:-1], str(tmp_path / "other")], capture_output=True, text=True, check=True)
    assert found.stdout == whole.stdout
