"""The command line on real files: runs, resumption, and every kind of bad input."""

import hashlib
import json
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from bestfor.__main__ import main

RUN = """
name = "town"
[data]
source = "polis"
path = "{path}"
[split]
fold = {fold}
min_fit = 10
min_test = 4
[[reward]]
kind = "length"
[[reward]]
kind = "pooled"
components = 4
[diagnosis]
n = [1, 2, 4]
"""
TOPICS = ("buses", "parks", "schools", "roads", "taxes", "trees", "noise", "shops", "rents", "jobs")


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    """A small Polis export: 30 people, 40 statements; half like public things, half do not."""
    folder = tmp_path_factory.mktemp("town")
    draw = np.random.default_rng(0)
    texts = [f"We need {'more' if i % 2 else 'fewer'} {TOPICS[i % 10]}, and soon: point {i}" for i in range(40)]
    comments = ["timestamp,datetime,comment-id,author-id,agrees,disagrees,moderated,comment-body"]
    comments += [f'{i},x,{i},900,0,0,1,"{text}"' for i, text in enumerate(texts)]
    votes = ["participant,group-id,n-comments,n-votes,n-agree,n-disagree," + ",".join(str(i) for i in range(40))]
    for user in range(30):
        likes = 1 if user % 2 else -1
        cast = [str(int(np.sign(likes * (1 if i % 2 else -1) + draw.normal(scale=0.8)))) for i in range(40)]
        votes.append(f"{user},0,0,40,0,0," + ",".join(cast))
    (folder / "comments.csv").write_text("\n".join(comments) + "\n", encoding="utf-8")
    (folder / "participants-votes.csv").write_text("\n".join(votes) + "\n", encoding="utf-8")
    return folder


def write_run(folder, town, fold="0", old="", new=""):
    path = folder / "run.toml"
    path.write_text(RUN.format(path=town, fold=fold).replace(old, new, 1) if old else RUN.format(path=town, fold=fold))
    return path


def bestfor(monkeypatch, capfd, *words):
    monkeypatch.setattr(sys, "argv", ["bestfor", *map(str, words)])
    code = main()
    out, err = capfd.readouterr()
    return code, out, err


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.slow
def test_a_run_of_three_folds_leaves_a_folder_and_prints_json(monkeypatch, capfd, tmp_path, town):
    code, out, err = bestfor(
        monkeypatch, capfd, "run", write_run(tmp_path, town, '"all"'), "--out", tmp_path / "o", "--json"
    )
    assert code == 0, err
    printed = json.loads(out)
    assert len(printed["folds"]) == 3
    picks = [pq.read_table(tmp_path / "o" / f"fold-{fold}" / "picks.parquet") for fold in range(3)]
    merged = pq.read_table(tmp_path / "o" / "picks.parquet")
    assert merged.column_names == ["fold", *picks[0].column_names]
    assert merged.drop_columns("fold").to_pylist() == [row for table in picks for row in table.to_pylist()]
    assert [int(fold) for fold in merged["fold"].unique().to_pylist()] == [0, 1, 2]
    assert printed == json.loads((tmp_path / "o" / "diagnosis.json").read_text())
    assert printed["models"]["pooled"]["captured"][0] is None
    told = printed["models"]["pooled"]["calibration"]
    assert told["candidates"] == printed["candidates"]
    assert told["values"] == len({-1, 1})
    assert sum(told["reliability"]["candidates"]) == sum(fold["candidates"] for fold in printed["folds"])
    assert printed["models"]["length"]["calibration"] is None
    assert {row["against"] for row in printed["comparisons"]} == {"length"} or "pooled" in str(printed["comparisons"])
    page = (tmp_path / "o" / "report.html").read_text()
    suspects = printed["models"]["length"]["suspects"]
    assert not suspects or "We need" in page
    assert f"report: {tmp_path / 'o' / 'report.html'}" in err.replace("\n", "")


@pytest.mark.slow
def test_a_run_repeated_or_mended_ends_with_the_same_bytes(monkeypatch, capfd, tmp_path, town):
    run = write_run(tmp_path, town)
    assert bestfor(monkeypatch, capfd, "run", run, "--out", tmp_path / "o")[0] == 0
    first = contents(tmp_path / "o")
    code, _, err = bestfor(monkeypatch, capfd, "run", run, "--out", tmp_path / "o")
    assert code == 0
    assert "fit pooled: already there" in err
    assert contents(tmp_path / "o") == first
    # A torn part, a lost model and an edited table are made again.
    part = next((tmp_path / "o" / "pool").glob("part-*.parquet"))
    part.write_bytes(part.read_bytes()[: part.stat().st_size // 2])
    (tmp_path / "o" / "models" / "pooled" / "config.json").unlink()
    (tmp_path / "o" / "rewards" / "length.parquet").write_bytes(b"")
    assert bestfor(monkeypatch, capfd, "run", run, "--out", tmp_path / "o")[0] == 0
    assert contents(tmp_path / "o") == first
    assert bestfor(monkeypatch, capfd, "run", run, "--out", tmp_path / "p")[0] == 0
    other = contents(tmp_path / "p")
    assert {name: other[name] for name in first} == first


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("min_fit", "min_fitt", "'min_fit' (did you mean it?)"),
        ("min_fit = 10", "min_fit = 1000", "no such user in fold 0"),
        ('path = "', 'path = "/gone', "no folder"),
        ("n = [1, 2, 4]", "n = [1, 4000]", "4000"),
        ('kind = "length"', 'kind = "logprob"', "logprob"),
        ("components = 4", 'encoder = "/no/such/encoder"', "/no/such/encoder"),
    ],
)
def test_bad_input_is_one_line_and_leaves_results_alone(monkeypatch, capfd, tmp_path, town, old, new, message):
    out = tmp_path / "o"
    assert bestfor(monkeypatch, capfd, "run", write_run(tmp_path, town), "--out", out)[0] == 0
    before = contents(out)
    code, printed, err = bestfor(monkeypatch, capfd, "run", write_run(tmp_path, town, "0", old, new), "--out", out)
    lines = [line for line in err.splitlines() if line.startswith("bestfor: ")]
    assert code == 2
    assert printed == ""
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in err
    after = contents(out)
    for name in ("diagnosis.json", "report.html", "rewards/pooled.parquet", "queries.parquet"):
        assert after[name] == before[name]


def test_a_folder_of_other_data_is_refused(monkeypatch, capfd, tmp_path, town):
    assert bestfor(monkeypatch, capfd, "run", write_run(tmp_path, town), "--out", tmp_path / "o")[0] == 0
    code, _, err = bestfor(monkeypatch, capfd, "run", write_run(tmp_path, town, "1"), "--out", tmp_path / "o")
    assert code == 2
    assert "other data or another split" in err


@pytest.mark.slow
def test_report_again_and_its_picture(monkeypatch, capfd, tmp_path, town):
    out = tmp_path / "o"
    assert bestfor(monkeypatch, capfd, "run", write_run(tmp_path, town), "--out", out)[0] == 0
    before = (out / "report.html").read_bytes()
    (out / "report.html").unlink()
    code, _, err = bestfor(monkeypatch, capfd, "report", out, "--picture", tmp_path / "curves.png")
    assert code == 0, err
    assert (out / "report.html").read_bytes() == before
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert bestfor(monkeypatch, capfd, "report", tmp_path)[0] == 2


def test_usage_errors_are_one_line(monkeypatch, capfd):
    for words in (("rnu",), ("run",), ("run", "a.toml", "--jsn"), ("demo", "--users", "none")):
        code, _, err = bestfor(monkeypatch, capfd, *words)
        assert code == 2
        assert len(err.strip().splitlines()) == 1, err


def test_doctor_tells_what_is_there(monkeypatch, capfd):
    code, out, _ = bestfor(monkeypatch, capfd, "doctor", "--json")
    checks = {row["what"]: row for row in json.loads(out)["checks"]}
    assert code == 0
    assert checks["numpy"]["ok"]
    assert checks["encoder all-MiniLM-L6-v2"]["ok"], checks
    assert checks["shipped policy"]["ok"], checks
