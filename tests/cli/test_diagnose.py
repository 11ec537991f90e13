"""The scores door: anybody's table, diagnosed from the command line."""

import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bestfor.__main__ import main
from bestfor.diagnostics import Settings
from bestfor.errors import InputError
from bestfor.runs.table import TableColumns, diagnose_table


def bestfor(monkeypatch, capfd, *words):
    monkeypatch.setattr(sys, "argv", ["bestfor", *map(str, words)])
    code = main()
    out, err = capfd.readouterr()
    return code, out, err


@pytest.fixture(scope="module")
def scores():
    draw = np.random.default_rng(1)
    rows = []
    for user in range(12):
        for query in range(3):
            for utility in draw.normal(size=10):
                rows.append((f"u{user}", f"u{user}q{query}", utility, utility + draw.normal(), draw.normal()))
    return pa.table(
        [list(column) for column in zip(*rows, strict=True)], names=["user", "query", "utility", "good", "bad"]
    )


def test_parquet_and_csv_agree_and_models_stand_side_by_side(monkeypatch, capfd, tmp_path, scores):
    pq.write_table(scores, tmp_path / "s.parquet")
    lines = [",".join(scores.column_names), *(",".join(map(str, row.values())) for row in scores.to_pylist())]
    (tmp_path / "s.csv").write_text("\n".join(lines) + "\n")
    results = []
    for name in ("s.parquet", "s.csv"):
        words = ("diagnose", tmp_path / name, "--reward", "good", "--reward", "bad", "--n", "1,2,4,10", "--json")
        code, out, err = bestfor(monkeypatch, capfd, *words)
        assert code == 0, err
        results.append(json.loads(out))
    for result in results:
        result["signature"].pop("data")
    assert results[0]["models"] == results[1]["models"]
    models = results[0]["models"]
    assert models["good"]["utility"][-1] > models["bad"]["utility"][-1]
    assert models["good"]["utility"][0] == pytest.approx(results[0]["pool_mean"], abs=1e-12)


def test_not_finite_rewards_are_dropped_and_counted(monkeypatch, capfd, tmp_path):
    rows = [f"u{u},q{u},{'nan' if c == 0 else 'inf' if c == 1 else c},{c}" for u in range(4) for c in range(6)]
    path = tmp_path / "s.csv"
    path.write_text("user,query,reward,utility\n" + "\n".join(rows) + "\n")
    code, out, err = bestfor(monkeypatch, capfd, "diagnose", path, "--n", "1,2,4", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert result["dropped"]["not_finite"] == 8
    assert result["candidates"] == 16


@pytest.mark.parametrize(
    ("content", "words", "message"),
    [
        ("user,query,reward\nu,q,1\n", (), "no column 'utility'; expected one of user, query, reward (say which with "),
        ("who,query,reward,utility\nu,q,1,1\n", (), "no column 'user'"),
        (
            "user,query,points,utility\nu,q,1,1\n",
            (),
            "expected one of user, query, points, utility (say which with --rew",
        ),
        (
            "user,query,rewrd,utility\nu,q,1,1\n",
            (),
            "(say which with --reward NAME); its columns are user, query, rewr",
        ),
        ("user,query,reward,utility\nu,q,high,1\n", (), "row 1, column 'reward': found 'high'; expected a number"),
        ("user,query,reward,utility\n", (), "no rows"),
        ("", (), "an empty file"),
        ("user,query,reward,utility\nu,q,1,1\nu,q,2,1\n", ("--n", "4"), "4"),
        ("user,query,reward,utility\nu,q,1,1\n", ("--scale", "utlity"), "'utility' (did you mean it?)"),
        ("user,query,reward,utility\nu,q,1,1\n", ("--n", "two"), "positive whole numbers"),
        ("user,query,reward,utility\nu,q,1,1\n", ("--reward", "rewrd"), "no column 'rewrd'"),
    ],
)
def test_bad_tables_are_one_line(monkeypatch, capfd, tmp_path, content, words, message):
    path = tmp_path / "s.csv"
    path.write_text(content)
    code, out, err = bestfor(monkeypatch, capfd, "diagnose", path, *words)
    assert code == 2, out
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert message in err


@pytest.mark.parametrize("place", ["folder", "file/under.html", "device"])
def test_a_page_that_cannot_be_written_is_refused_first(monkeypatch, capfd, tmp_path, place):
    table = tmp_path / "s.csv"
    table.write_text("user,query,reward,utility\nu,q,1,1\nu,q,2,3\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("kept")
    out = "/dev/null" if place == "device" else tmp_path / place
    code, printed, err = bestfor(monkeypatch, capfd, "diagnose", table, "--out", out)
    assert code == 2
    assert printed == ""
    assert len(err.strip().splitlines()) == 1
    assert (tmp_path / "file").read_text() == "kept"


def test_the_table_is_not_replaced_by_its_page(monkeypatch, capfd, tmp_path):
    table = tmp_path / "s.csv"
    table.write_text("user,query,reward,utility\nu,q,1,1\nu,q,2,3\n")
    code, _, err = bestfor(monkeypatch, capfd, "diagnose", table, "--out", tmp_path / "." / "s.csv")
    assert code == 2
    assert "another file" in err
    assert table.read_text().startswith("user,query")


def test_a_candidate_that_stands_twice_is_an_error(monkeypatch, capfd, tmp_path):
    table = tmp_path / "s.csv"
    table.write_text("user,query,c,reward,utility\nu,q,0,1,1\nu,q,0,2,3\n")
    code, _, err = bestfor(monkeypatch, capfd, "diagnose", table, "--candidate", "c")
    assert code == 2
    assert "twice" in err


def test_averaging_and_level_are_named_and_count(monkeypatch, capfd, tmp_path):
    rows = [f"u,{q},{r},{u}" for q, pairs in enumerate([[(1, 0), (2, 1)]] * 3) for r, u in pairs]
    rows += [f"v,9,{r},{u}" for r, u in [(1, 3), (2, 5)]] + [f"w,8,{r},{u}" for r, u in [(1, 3), (2, 4)]]
    rows += [f"{user},7,{r},{u}" for user in "xyz" for r, u in [(1, 0), (2, 2)]]
    table = tmp_path / "s.csv"
    table.write_text("user,query,reward,utility\n" + "\n".join(rows) + "\n")
    found = {}
    for words in (("user", "0.95"), ("query", "0.95"), ("user", "0.5")):
        options = ("--averaging", words[0], "--level", words[1], "--n", "1,2", "--json")
        code, out, err = bestfor(monkeypatch, capfd, "diagnose", table, *options)
        assert code == 0, err
        found[words] = json.loads(out)
        assert found[words]["signature"]["averaging"] == words[0]
    by_user, by_query = found["user", "0.95"], found["query", "0.95"]
    assert by_user["models"]["reward"]["utility"][1] == pytest.approx((1 + 5 + 4 + 2 * 3) / 6)
    assert by_query["models"]["reward"]["utility"][1] == pytest.approx((1 + 1 + 1 + 5 + 4 + 2 * 3) / 8)
    assert found["user", "0.5"]["models"]["reward"]["low"][1] > by_user["models"]["reward"]["low"][1]
    for words in (("--averaging", "usr"), ("--level", "95")):
        code, _, err = bestfor(monkeypatch, capfd, "diagnose", table, *words)
        assert code == 2
        assert len(err.strip().splitlines()) == 1


def test_one_user_and_single_candidates_have_no_intervals(monkeypatch, capfd, tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("user,query,reward,utility\nu,q,1,1\nu,q,2,3\nu,r,1,1\n")
    code, out, err = bestfor(monkeypatch, capfd, "diagnose", path, "--n", "1,2", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert result["dropped"]["too_few_candidates"] == 1
    assert result["models"]["reward"]["low"] == [None, None]
    code, out, err = bestfor(monkeypatch, capfd, "diagnose", path)
    assert code == 0, err
    assert "reward" in out


def scored(rows=3000, users=40, seed=4):
    draw = np.random.default_rng(seed)
    std, mean = np.exp(0.4 * draw.normal(size=rows)), draw.normal(size=rows)
    user = np.sort(draw.integers(users, size=rows))
    utility = mean + 1.4 * std * draw.normal(size=rows)
    names = [f"u{one:02d}" for one in user]
    return pa.table({"user": names, "query": names, "reward": mean, "s": std, "utility": utility})


@pytest.mark.slow
def test_a_column_of_standard_deviations_is_judged(monkeypatch, capfd, tmp_path):
    path = tmp_path / "s.parquet"
    pq.write_table(scored(), path)
    words = ("diagnose", path, "--std", "s", "--scale", "utility", "--json")
    code, out, err = bestfor(monkeypatch, capfd, *words)
    assert code == 0, err
    found = json.loads(out)
    told = found["models"]["reward"]["calibration"]
    assert told["temperature_low"] < 1.96 < told["temperature_high"]
    assert found["signature"]["std"] == {"reward": "s"}
    code, out, err = bestfor(monkeypatch, capfd, "diagnose", path, "--json")
    assert json.loads(out)["models"]["reward"]["calibration"] is None
    code, out, err = bestfor(monkeypatch, capfd, *words[:-1])
    assert code == 0, err


def test_in_blocks_the_same_calibration(monkeypatch, tmp_path):
    path = tmp_path / "s.parquet"
    table = scored()
    broken = table.set_column(4, "utility", pa.array([None, *table["utility"].to_pylist()[1:]]))
    pq.write_table(broken.take(np.random.default_rng(0).permutation(table.num_rows)), path)
    columns = TableColumns(stds={"reward": "s"})
    at_once = diagnose_table(path, columns, Settings(n=[1, 8]), scale="utility").to_dict()
    monkeypatch.setattr("bestfor.runs.table.LARGE", 100)
    in_blocks = diagnose_table(path, columns, Settings(n=[1, 8]), scale="utility").to_dict()
    one, other = (found["models"]["reward"]["calibration"] for found in (at_once, in_blocks))
    for part in (one, other):
        part["reliability"] = [number for key in sorted(part["reliability"]) for number in part["reliability"][key]]
        part["coverage"] = [number for entry in part["coverage"] for number in entry.values()]
    assert one.keys() == other.keys()
    for key in one:
        assert other[key] == (one[key] if key == "verdict" else pytest.approx(one[key])), key
    assert one["candidates"] == 2999


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--std", "s"), "--scale utility"),
        (
            ("--std", "s", "--std", "s", "--scale", "utility"),
            "found 2 columns; expected one for each --reward, which are 1",
        ),
        (
            ("--std", "t", "--scale", "utility"),
            "no column 't'; expected one of user, query, reward, s, utility (say wh",
        ),
        (
            ("--std", "reward", "--scale", "utility"),
            "s.csv, row 2, column 'reward': found -2; expected a standard devi",
        ),
    ],
)
def test_bad_columns_of_standard_deviations(monkeypatch, capfd, tmp_path, words, message):
    path = tmp_path / "s.csv"
    path.write_text("user,query,reward,s,utility\nu,q,1,1,1\nu,q,-2,1,3\n")
    code, out, err = bestfor(monkeypatch, capfd, "diagnose", path, *words)
    assert (code, out) == (2, "")
    assert message in err
    monkeypatch.setattr("bestfor.runs.table.LARGE", 0)
    assert bestfor(monkeypatch, capfd, "diagnose", path, *words)[2] == err


class Stream:
    """What a DataFrame of any library offers: the Arrow stream interface and nothing else."""

    def __init__(self, table):
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


def test_frames_and_files_agree(tmp_path, scores):
    pq.write_table(scores, tmp_path / "s.parquet")
    columns = TableColumns(rewards=("good",))
    found = [diagnose_table(source, columns).to_dict() for source in (tmp_path / "s.parquet", scores, Stream(scores))]
    assert found[0]["models"] == found[1]["models"] == found[2]["models"]
    with pytest.raises(InputError, match="found a list"):
        diagnose_table([1, 2])
    with pytest.raises(InputError, match=r"no column 'reward'.*say which with TableColumns\(rewards=\(\"NAME\",\)\)"):
        diagnose_table(scores)
