"""The stages of a run as verbs, and the verbs that look into a pool."""

import hashlib
import json
import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from bestfor.__main__ import main


@pytest.fixture
def bestfor(monkeypatch, capfd):
    def call(*words):
        monkeypatch.setattr(sys, "argv", ["bestfor", *map(str, words)])
        code = main()
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.slow
def test_one_stage_after_another_is_a_whole_run(bestfor, headlines, tmp_path):
    out = tmp_path / "stages"
    code, said, err = bestfor("generate", headlines, "--out", out, "--json")
    assert code == 0, err
    found = json.loads(said)
    assert found["parts"] == {"planned": 18, "there": 18, "missing": 0, "damaged": 0, "other": 0}
    assert found["queries"] == {"fit": 30, "test": 6}
    assert found["candidates"] == 30 * 2 + 6 * 4
    assert found["candidates_of_a_query"] == [2, 4]
    assert found["finish_reasons"] == {"stop": 84}
    assert found["prompts"]["queries"] == 36
    assert found["prompts"]["items_dropped"] > 0
    assert f"{found['prompts']['items_dropped']} history items found no room" in err
    code, said, err = bestfor("measure", out, "--json")
    assert code == 0, err
    measured = json.loads(said)["folders"][str(out)]["rougeL"]
    assert (measured["fit"]["candidates"], measured["test"]["candidates"]) == (60, 24)
    assert 0 < measured["test"]["mean"] < 1
    code, said, _ = bestfor("fit", out, "--json")
    assert [model["kind"] for model in json.loads(said)["models"].values()] == ["length", "logprob"]
    code, said, _ = bestfor("predict", out, "--json")
    rewards = json.loads(said)["folders"][str(out)]
    assert {name: reward["candidates"] for name, reward in rewards.items()} == {"length": 24, "logprob": 24}
    code, said, err = bestfor("report", out)
    assert (code, said) == (2, "")
    assert f"found no file; expected the diagnosis of a finished run (bestfor run {out})" in err
    code, _, err = bestfor("run", out)
    assert code == 0, err
    assert "pool: already there" in err
    assert "predict logprob: already there" in err
    assert bestfor("report", out)[0] == 0
    assert bestfor("run", headlines, "--out", tmp_path / "whole")[0] == 0
    assert contents(out) == contents(tmp_path / "whole")


def test_for_people_the_same_as_tables(bestfor, headlines, tmp_path):
    out = tmp_path / "o"
    code, said, err = bestfor("generate", headlines, "--out", out)
    assert code == 0, err
    assert "18 planned, 18 there" in said
    assert "items dropped" in said
    code, said, _ = bestfor("pool", "info", out)
    assert code == 0
    assert "84, 2 to 4 of a query" in said
    said = bestfor("measure", out)[1]
    assert said.count("rougeL") == 2
    assert "length" in bestfor("fit", out)[1]
    assert "arbitrary" in bestfor("predict", out)[1]


def test_a_stage_never_samples_what_the_stage_before_owes(bestfor, headlines, tmp_path):
    out = tmp_path / "o"
    for verb in ("measure", "fit", "predict"):
        code, said, err = bestfor(verb, headlines, "--out", out)
        assert (code, said) == (2, "")
        assert (
            err.splitlines()[-1]
            == f"bestfor: {out}: found no candidates; expected those that bestfor generate leaves there"
        )
    assert bestfor("generate", headlines, "--out", out)[0] == 0
    next((out / "pool").glob("part-test-*")).unlink()
    code, _, err = bestfor("fit", out)
    assert code == 2
    assert "generate again" in err.splitlines()[-1]
    assert bestfor("pool", "verify", out) == (
        0,
        "17 parts are as they were written; 1 more are owed (bestfor generate goes on)\n",
        "",
    )
    code, said, _ = bestfor("pool", "info", out, "--json")
    assert json.loads(said)["parts"] == {"planned": 18, "there": 17, "missing": 1, "damaged": 0, "other": 0}


def edit(path):
    table = pq.read_table(path)
    pq.write_table(table.slice(0, table.num_rows - 1), path)


@pytest.mark.parametrize("harm", [edit, lambda path: path.write_bytes(path.read_bytes()[:-7])], ids=["edited", "torn"])
def test_verify_finds_a_damaged_part_and_only_it_is_redone(bestfor, headlines, tmp_path, harm):
    out = tmp_path / "o"
    assert bestfor("generate", headlines, "--out", out)[0] == 0
    before = contents(out)
    part = sorted((out / "pool").glob("part-fit-*"))[3]
    written = {path: path.stat().st_mtime_ns for path in (out / "pool").glob("part-*")}
    harm(part)
    code, said, _ = bestfor("pool", "verify", out, "--json")
    assert code == 1
    found = json.loads(said)
    assert (found["ok"], found["parts"], found["planned"], found["missing"]) == (False, 18, 1, [])
    assert [problem["path"] for problem in found["damaged"]] == [str(part)]
    code, said, _ = bestfor("pool", "verify", out / "pool")
    assert code == 1
    assert said.splitlines()[-1].startswith("1 of 18 parts are damaged; bestfor generate (or run) redoes the 1 that")
    assert bestfor("generate", headlines, "--out", out)[0] == 0
    assert contents(out) == before
    assert {path for path, at in written.items() if path.stat().st_mtime_ns != at} == {part}


@pytest.mark.slow
def test_two_at_once_share_the_work(bestfor, headlines, tmp_path):
    command = [sys.executable, "-m", "bestfor", "generate", str(headlines), "--out", str(tmp_path / "shared"), "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    writers = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert bestfor("generate", headlines, "--out", tmp_path / "alone")[0] == 0
    said = [writer.communicate(timeout=120)[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0]
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")
    assert [json.loads(line)["candidates"] for line in said] == [84, 84]


def test_a_missing_reference_is_known_before_anything_is_sampled(bestfor, headlines, tmp_path):
    authors = [{"user_id": f"u{at // 4}", "input": f"ask {at}", "output": f"text {at}"} for at in range(8)]
    (tmp_path / "h.jsonl").write_text("".join(json.dumps(row) + "\n" for row in authors))
    asked = {"query_id": "q0", "user_id": "u0", "input": "ask", "reference": "text"}
    rows = [asked, {**asked, "query_id": "q1", "reference": None}]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = f'source = "histories"\nhistories = "{tmp_path}/h.jsonl"\nqueries = "{tmp_path}/q.jsonl"\n[split]'
    text = headlines.read_text()
    headlines.write_text(f"[data]\n{data}{text.partition('[split]')[2]}")
    code, said, err = bestfor("generate", headlines, "--out", tmp_path / "o")
    assert (code, said) == (2, "")
    assert "query 'q1': found no reference; expected the user's own text, which rougeL needs" in err
    assert not (tmp_path / "o" / "pool").exists()


def test_ratings_have_nothing_to_generate(bestfor, tmp_path):
    table = tmp_path / "ratings.csv"
    rows = [f"u{user},t{text} words,{(user * text) % 3}" for user in range(4) for text in range(30)]
    table.write_text("user,text,rating\n" + "\n".join(rows) + "\n")
    file = tmp_path / "run.toml"
    file.write_text(
        f'[data]\nsource = "table"\npath = "{table}"\n[split]\nmin_fit = 2\nmin_test = 2\n[[reward]]\nkind = "length"\n'
    )
    code, _, err = bestfor("generate", file, "--out", tmp_path / "o")
    assert code == 2
    assert "ratings bring their own candidates" in err
    code, said, err = bestfor("measure", file, "--out", tmp_path / "o", "--json")
    assert code == 0, err
    assert set(json.loads(said)["folders"][str(tmp_path / "o")]) == {"rating"}
    assert bestfor("predict", tmp_path / "o")[0] == 0, "a run's folder holds its file, in a form that can be read"


def test_every_fold_is_measured_and_fitted(bestfor, tmp_path):
    table, file, out = tmp_path / "ratings.csv", tmp_path / "run.toml", tmp_path / "o"
    rows = [f"u{user},t{text} words,{(user * text) % 3}" for user in range(4) for text in range(40)]
    table.write_text("user,text,rating\n" + "\n".join(rows) + "\n")
    split = 'fold = "all"\nmin_fit = 2\nmin_test = 2\n[diagnosis]\nn = [1, 2]\n'
    file.write_text(f'[data]\nsource = "table"\npath = "{table}"\n[split]\n{split}[[reward]]\nkind = "length"\n')
    code, said, err = bestfor("measure", file, "--out", out, "--json")
    assert code == 0, err
    assert set(json.loads(said)["folders"]) == {str(out / f"fold-{fold}") for fold in range(3)}
    code, said, err = bestfor("predict", out, "--json")
    assert code == 0, err
    assert len(json.loads(said)["folders"]) == 3
    code, _, err = bestfor("run", out / "run.toml", "--out", out)
    assert code == 0, err


def test_folds_whose_pools_differ_in_size_meet_at_the_n_they_share(bestfor, tmp_path):
    table, file, out = tmp_path / "ratings.csv", tmp_path / "run.toml", tmp_path / "o"
    rows = [f"u{user},t{text} words,{(user * text) % 3}" for user in range(4) for text in range(40)]
    table.write_text("user,text,rating\n" + "\n".join(rows) + "\n")
    split = 'fold = "all"\nmin_fit = 2\nmin_test = 2\n'
    file.write_text(f'[data]\nsource = "table"\npath = "{table}"\n[split]\n{split}[[reward]]\nkind = "length"\n')
    code, said, err = bestfor("run", file, "--out", out, "--json")
    assert code == 0, err
    found = json.loads(said)
    sizes = [json.loads((out / f"fold-{fold}" / "diagnosis.json").read_text())["oracle"]["n"] for fold in range(3)]
    assert found["oracle"]["n"][:4] == [1, 2, 4, 8]
    assert sizes == [found["oracle"]["n"]] * 3


def test_what_is_no_run_is_one_line(bestfor, headlines, tmp_path):
    for words, message in (
        (("pool", "info", tmp_path / "none"), "found no folder; expected a run's folder"),
        (("pool", "verify", tmp_path), "found no pool; expected a run's folder"),
        (("measure", tmp_path / "none.toml"), "found no file"),
        (("fit", tmp_path, "--out", tmp_path / "o"), "nothing beside the run's folder"),
        (("generate",), "Missing argument"),
        (("diagnose", tmp_path), f"a folder of Parquet files; bestfor run {tmp_path} diagnoses a run"),
        (("pool", "nothing"), "No such command"),
    ):
        code, said, err = bestfor(*words)
        assert (code, said) == (2, ""), words
        assert message in err
        assert len(err.splitlines()) == 1
