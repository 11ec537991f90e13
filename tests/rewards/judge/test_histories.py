"""A judge in the histories door: whatever its personas are written from, no test query sees what came later."""

import json

import pytest

from bestfor.data import schema
from bestfor.data.candidates import History
from bestfor.runs.config import parse_config
from bestfor.runs.joins import build_history
from bestfor.runs.run import run
from bestfor.runs.stages import folds
from support.servers import chat, judging, parts

ITEMS = [("ann", at, f"ask {at}", f"ann wrote {at}") for at in range(1, 7)]
ITEMS += [("bob", at, f"ask {at}", f"bob wrote {at}") for at in range(1, 4)]
QUERIES = [
    ("q1", "ann", "ask 5", "ann wrote 5", 5),
    ("q2", "ann", "ask 9", "ann would write 9", 4),
    ("q3", "bob", "ask 9", "bob would write 9", 9),
]


@pytest.fixture
def door(scripted, tmp_path, monkeypatch):
    """A run of two users, of whom ann is asked from within her history; the policy and the judge are scripted."""
    monkeypatch.chdir(tmp_path)
    rows = [dict(zip(("user_id", "timestamp", "input", "output"), item, strict=True)) for item in ITEMS]
    lines = [json.dumps({**row, "item_id": f"i{row['timestamp']}"}) for row in rows]
    (tmp_path / "h.jsonl").write_text("\n".join(lines) + "\n")
    names = ("query_id", "user_id", "input", "reference", "timestamp")
    lines = [json.dumps(dict(zip(names, query, strict=True))) for query in QUERIES]
    (tmp_path / "q.jsonl").write_text("\n".join(lines) + "\n")
    policy = scripted(lambda request: chat(*[f"{word} wrote" for word in ("ann", "bob", "who")[: request.body["n"]]]))
    judge = scripted(judging())

    def config(**options):
        return parse_config(
            {
                "data": {"source": "histories", "histories": "h.jsonl", "queries": "q.jsonl"},
                "split": {"min_fit": 0, "min_test": 1},
                "policy": {
                    "kind": "openai",
                    "model": "p",
                    "n": 3,
                    "fit_n": 3,
                    "endpoint": {"base_url": policy.url, "logprobs": False},
                },
                "reward": [{"kind": "judge", "model": "m", "endpoint": {"base_url": judge.url}, **options}],
                "diagnosis": {"n": [1, 2]},
            },
            "run.toml",
        )

    return config, judge


def test_a_persona_holds_no_later_text_and_no_reference(door, tmp_path):
    config, server = door
    result = run(config(rated=1), tmp_path / "out")
    written = {parts(request)["item"][0][:3]: parts(request) for request in server.requests if "item" in parts(request)}
    # What ann wrote at 5 answers q1, and q2 was asked at 4.
    assert written["ann"]["item"] == ["ann wrote 1", "ann wrote 2", "ann wrote 3", "ann wrote 4"]
    assert written["bob"]["item"] == ["bob wrote 1", "bob wrote 2", "bob wrote 3"]
    assert all(len(one["liked"]) == len(one["disliked"]) == 1 for one in written.values())
    for request in server.requests:
        told = request.body["messages"][1]["content"]
        assert "would write" not in told
        assert "ann wrote 5" not in told
    assert result.diagnosis.dropped.not_finite == 0
    assert not any("general rubric" in note for note in result.diagnosis.models["judge"].notes)


def test_fit_queries_are_not_judged_by_what_answers_them(door, tmp_path):
    config, server = door
    stages = next(folds(config(rated=0), tmp_path / "out", lambda line: None))
    stages.sample()
    spec = stages.config.reward[0]
    stages.fit(spec)
    labelled = stages.parts().fit
    from bestfor.rewards import load

    model = load(tmp_path / "out" / "models" / "judge")
    before = len(server.requests)
    model.predict(labelled)
    model.close()
    asked = {(parts(one)["asked"][0], parts(one)["persona"][0][:7]) for one in server.requests[before:]}
    # Only what ann was asked after her persona's texts is judged by it.
    assert ("ask 6", "Likes a") in asked
    assert {who for what, who in asked if what != "ask 6"} == {"Nothing"}


def test_what_every_test_query_sees(door, tmp_path):
    config, _ = door
    stages = next(folds(config(), tmp_path / "out", lambda line: None))
    stages.sample()
    history = build_history(stages.data.histories, schema.read(stages.folder / "queries.parquet", schema.QUERIES))
    assert history.tested == {"ann": 4, "bob": 3}
    assert history.before_tests("ann") == history.before("ann", "q2")
    assert history.before_tests("zoe") == ()
    assert History({"zoe": ("a", "b")}).before_tests("zoe") == ("a", "b")
