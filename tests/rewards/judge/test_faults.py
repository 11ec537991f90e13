"""A judge under faults: what is missing stays missing up to the report, and no answer is paid for twice."""

import json
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from bestfor import rewards
from bestfor.errors import BestforError
from bestfor.testing.rewards import taste_examples
from support.servers import DROP, HALF, RESET, STALL, Reply, chat, error, judging

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
    estimate = model.predict(examples)
    mean = estimate.mean
    wrong = examples.text == examples.text[1]
    np.testing.assert_array_equal(np.isnan(mean), wrong)
    assert set(mean[~wrong]) == {3.0}
    assert f"{wrong.sum()} of {len(examples)} candidates have no reward from m" in estimate.notes
    [said] = [note for note in estimate.notes if "gave nothing" in note]
    refused = 0 if fault in ("nonsense", "out of the scale", "two numbers") else wrong.sum()
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
    estimate = model.predict(examples)
    assert np.isfinite(estimate.mean).all()
    assert "1 of 2 users have no persona: judged by the general rubric" in estimate.notes


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


@pytest.mark.slow
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
found = model.predict(examples)
print(found.mean.tolist(), model.notes, found.notes)
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
