"""``bestfor select`` and ``bestfor score``: a run's pool, files, standard input, bad lines; ``picks.parquet``."""

import io
import json
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from bestfor.__main__ import main
from bestfor.data import schema
from bestfor.runs.picks import best_model

LINE = {"user": "u1", "prompt": "what is new", "texts": ["town 1", "town 1 is new x y", "new"]}


class Typed:
    """Standard input."""

    def __init__(self, text):
        self.buffer = io.BytesIO(text)


@pytest.fixture
def bestfor(monkeypatch, capfd):
    def call(*words, typed=None):
        monkeypatch.setattr(sys, "argv", ["bestfor", *map(str, words)])
        if typed is not None:
            monkeypatch.setattr(sys, "stdin", Typed(typed if isinstance(typed, bytes) else lines(typed)))
        code = main()
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def objects(text):
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def run(bestfor, headlines, tmp_path):
    """A finished run of two models."""
    out = tmp_path / "run"
    code, _, err = bestfor("run", headlines, "--out", out)
    assert code == 0, err
    return out


def test_a_run_leaves_the_answers_of_its_best_model(bestfor, headlines, run):
    picks = pq.read_table(run / "picks.parquet")
    assert picks.column_names == ["query_id", "user_id", "candidate", "text", "reward", "std", "rule"]
    best = best_model(json.loads((run / "diagnosis.json").read_text()))
    rewards = schema.read(run / "rewards" / f"{best}.parquet", schema.REWARDS).to_pandas()
    for row in picks.to_pylist():
        own = rewards[rewards.query_id == row["query_id"]].sort_values("candidate")
        assert row["candidate"] == own.candidate.iloc[int(np.argmax(own["mean"]))]
        assert (row["reward"], row["rule"]) == (own["mean"].max(), "best")
    assert picks.num_rows == 6
    before = (run / "picks.parquet").read_bytes()
    (run / "picks.parquet").unlink()
    code, _, err = bestfor("run", headlines, "--out", run)
    assert code == 0
    assert "pick" in err
    assert (run / "picks.parquet").read_bytes() == before
    assert "pick: already there" in bestfor("run", headlines, "--out", run)[2]


def test_the_pool_of_a_run_is_scored_as_in_the_run_and_picked_of(bestfor, run, tmp_path):
    code, out, err = bestfor("score", run, "--model", "length")
    assert code == 0, err
    rewards = schema.read(run / "rewards" / "length.parquet", schema.REWARDS).to_pylist()
    stored = {(row["query_id"], row["candidate"]): row["mean"] for row in rewards}
    found = {
        (one["query"], candidate): mean
        for one in objects(out)
        for candidate, mean in zip(one["candidate"], one["mean"], strict=True)
    }
    assert found == stored
    assert {one["model"] for one in objects(out)} == {"length"}
    code, out, err = bestfor("select", run, "--model", "length")
    assert code == 0, err
    picked = objects(out)
    assert [one["chance"] for one in picked] == [1.0] * 6
    assert bestfor("select", run, "--model", "length", "--out", tmp_path / "p.parquet")[0] == 0
    table = pq.read_table(tmp_path / "p.parquet").to_pylist()
    assert table == picked
    assert bestfor("score", run, "--model", "length", "--out", tmp_path / "s.parquet")[0] == 0
    assert pq.read_table(tmp_path / "s.parquet").num_rows == 24


def test_lines_in_lines_out_by_any_rule_and_any_n(bestfor, run, tmp_path):
    model = run / "models" / "length"
    rows = [{**LINE, "query": f"q{place}"} for place in range(200)]
    code, out, err = bestfor("select", model, "-", "--rule", "epsilon:0.5", "--seed", "3", typed=rows)
    assert code == 0, err
    picked = objects(out)
    assert [one["query"] for one in picked] == [row["query"] for row in rows]
    top = int(np.argmax(picked[0]["chances"]))
    share = np.mean([one["candidate"] == top for one in picked])
    assert abs(share - 2 / 3) < 4.5 * np.sqrt(2 / 9 / 200)
    assert {round(one["chance"], 9) for one in picked if one["candidate"] != top} == {round(1 / 6, 9)}
    assert bestfor("select", model, "-", "--rule", "epsilon:0.5", "--seed", "3", typed=rows)[1] == out
    assert bestfor("select", model, "-", "--rule", "epsilon:0.5", "--seed", "4", typed=rows)[1] != out
    (tmp_path / "in.jsonl").write_bytes(lines(rows))
    assert bestfor("select", model, tmp_path / "in.jsonl", "--rule", "epsilon:0.5", "--seed", "3")[1] == out
    first = objects(bestfor("select", model, "-", "--n", 1, typed=rows[:2])[1])
    assert [one["candidates"] for one in first] == [[0], [0]]
    some = objects(bestfor("select", model, "-", "--n", 2, "--subset", "random", typed=rows)[1])
    assert {tuple(one["candidates"]) for one in some} == {(0, 1), (0, 2), (1, 2)}
    assert all(one["candidate"] in one["candidates"] for one in some)
    short = objects(bestfor("select", model, "-", "--rule", "length_capped:1", typed=rows[:1])[1])
    assert short[0]["text"] == "new"


def test_lines_before_a_bad_one_are_answered(bestfor, run):
    model = run / "models" / "length"
    typed = lines([LINE, LINE]) + b'{"user": "u1"}\n' + lines([LINE])
    for verb in ("select", "score"):
        code, out, err = bestfor(verb, model, "-", typed=typed)
        assert (code, len(objects(out))) == (2, 2)
        assert "standard input, line 3: found no 'texts'" in err
        assert len(err.splitlines()) == 1


def test_a_file_is_whole_or_as_before(bestfor, run, tmp_path):
    model, out = run / "models" / "length", tmp_path / "picks.jsonl"
    assert bestfor("select", model, "-", "--out", out, typed=[LINE])[0] == 0
    before = out.read_bytes()
    assert bestfor("select", model, "-", "--out", out, typed=lines([LINE]) + b"{\n")[0] == 2
    assert out.read_bytes() == before
    assert bestfor("select", model, out, "--out", out)[0] == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("select", "{run}", "--rule", "bestest"), "rule: found 'bestest'"),
        (("select", "{run}", "--model", "lenght"), "--model: found 'lenght'; expected 'length'"),
        (("select", "{run}", "--n", "0"), "--n: found 0"),
        (("select", "{run}", "--out", "x.csv"), "--out: found a file ending in '.csv'"),
        (("select", "{run}/models/length"), "CANDIDATES: found nothing; expected a file, or - for JSON lines"),
        (("select", "{run}/models/length", "--model", "length", "-"), "nothing beside a model's folder"),
        (("score", "{run}/nowhere"), "found no folder; expected the folder of a run or of a model"),
        (("score", "{run}/pool"), "found a folder without run.toml or a model"),
        (("score", "{run}", "nofile.jsonl"), "nofile.jsonl: found no file"),
        (("select", "{run}", "--model", "length", "--rule", "thompson"), "no standard deviations of the means"),
    ],
)
def test_what_cannot_be_answered_is_one_line(bestfor, run, words, said):
    code, out, err = bestfor(*(word.format(run=run) for word in words))
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1
