"""A judge in a run: what is missing up to the report, one account over folds, edited personas, no password."""

import json
import textwrap
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from bestfor.errors import BestforError
from bestfor.rewards.judge.personas import FOLDER
from bestfor.runs.config import load_config, parse_config
from bestfor.runs.folder import describe_rewards, write_run
from bestfor.runs.run import run
from support.servers import error, judging, parts

QUICK = {"timeout": 5, "retries": 1}

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


def test_scores_without_an_answer_are_asked_again_by_the_next_run(scripted, ratings, tmp_path):
    answer = judging()

    def moody(request):
        scored = "text" in parts(request)
        return error(400, "content filter") if scored and parts(request)["text"][0].endswith("9") else answer(request)

    server = scripted(moody)
    config = parse_config(ratings(server.url), "run.toml")
    run(config, tmp_path / "out")
    assert pq.read_table(tmp_path / "out" / "rewards" / "judge.parquet")["mean"].null_count > 0
    server.requests.clear()
    server.answer = answer
    told = []
    run(config, tmp_path / "out", tell=told.append)
    assert server.requests
    assert all(parts(request)["text"][0].endswith("9") for request in server.requests)
    assert {"fit judge: already there", "predict judge"} <= set(told)
    assert pq.read_table(tmp_path / "out" / "rewards" / "judge.parquet")["mean"].null_count == 0
    server.requests.clear()
    told.clear()
    run(config, tmp_path / "out", tell=told.append)
    assert server.requests == []
    assert "predict judge: already there" in told


def test_comments_of_the_fit_part_reach_the_personas(scripted, ratings, tmp_path):
    lines = Path("ratings.csv").read_text().splitlines()
    said = [f"{lines[0]},comment", *(f"{line},remark {number}" for number, line in enumerate(lines[1:]))]
    Path("ratings.csv").write_text("\n".join(said) + "\n")
    server = scripted(judging())
    run(parse_config(ratings(server.url), "run.toml"), tmp_path / "out")
    candidates = [
        row for path in (tmp_path / "out" / "pool").glob("*.parquet") for row in pq.read_table(path).to_pylist()
    ]
    fit = {row["text"] for row in candidates if row["query_id"].endswith("/fit-0")}
    remarks = {f"remark {number}": line.split('"')[1] for number, line in enumerate(lines[1:])}
    written = [found for request in server.requests if "liked" in (found := parts(request))]
    assert len(written) == 6
    for found in written:
        assert [remarks[one] for one in found["comment"]] == [*found["liked"], *found["disliked"]]
        assert {remarks[one] for one in found["comment"]} <= fit


@pytest.mark.slow
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
    one, two = (each.diagnosis.to_dict()["models"]["length"]["quantities"] for each in (first, again))
    assert one == two
    moved = scripted(judging(score=lambda found: error(401)))
    run(parse_config(ratings(moved.url, identity="the judge"), "run.toml"), out)
    assert moved.requests == []


@pytest.mark.slow
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


@pytest.mark.slow
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
