"""What a run reads of ratings, and how it splits them where its file does not say."""

import tomllib

import pytest

from bestfor.errors import InputError
from bestfor.runs import sources
from bestfor.runs.config import parse_config
from bestfor.runs.run import run
from bestfor.runs.sources import load_dataset, read_ratings
from bestfor.runs.stages import folds

REWARD = [{"kind": "length"}]


def with_split(config):
    return sources.with_split(config, read_ratings(config))


def table_of(folder, rows, head="user,query,text,rating"):
    path = folder / "ratings.csv"
    path.write_text(head + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def prompted(tmp_path):
    rows = [(u, f"prompt {p}", f"answer {a} of {p}", a) for u in ("ann", "ben") for p in range(24) for a in range(4)]
    return table_of(tmp_path, rows)


def config_of(path, data=None, **split):
    raw = {"data": {"source": "table", "path": str(path), **(data or {})}, "reward": REWARD}
    return parse_config(raw | {"split": {"min_fit": 4, "min_test": 4, **split}}, "r.toml")


def test_prompts_are_split_where_answers_are_their_own(prompted, tmp_path):
    told = []
    result = run(config_of(prompted), tmp_path / "out", tell=told.append)
    assert tomllib.loads((tmp_path / "out" / "run.toml").read_text())["split"]["by"] == "query"
    assert result.diagnosis.signature["split"]["by"] == "query"
    assert any("users are tested" in line for line in told[: told.index("pool")])
    # the resolved file is the same run
    again = parse_config(tomllib.loads((tmp_path / "out" / "run.toml").read_text()), "run.toml")
    assert load_dataset(again).signature == load_dataset(with_split(config_of(prompted))).signature


def test_what_the_file_says_is_done(prompted):
    assert with_split(config_of(prompted, by="text", min_test=1)).split.by == "text"
    assert with_split(config_of(prompted, by="user")).split.by == "user"
    data = load_dataset(with_split(config_of(prompted, by="text", min_test=1)))
    assert any('by = "query" under [split]' in note for note in data.notes)


def test_texts_are_split_where_prompts_share_them(tmp_path):
    shared = [(u, f"prompt {p}", f"text {a}", a) for u in ("ann", "ben") for p in range(3) for a in range(24)]
    assert with_split(config_of(table_of(tmp_path, shared))).split.by == "text"
    bare = [(u, f"text {a}", a) for u in ("ann", "ben") for a in range(24)]
    assert with_split(config_of(table_of(tmp_path, bare, "user,text,rating"))).split.by == "text"


def test_every_prompt_is_a_test_prompt_in_one_fold(prompted, tmp_path):
    seen = []
    for stages in folds(config_of(prompted, fold="all"), tmp_path / "out", lambda line: None):
        queries = stages.data.queries.to_pylist()
        seen += [row["input"] for row in queries if row["split"] == "test" and row["user_id"] == "ann"]
    assert sorted(seen) == sorted(f"prompt {p}" for p in range(24))


def test_times_are_read_for_a_split_by_time_alone(tmp_path):
    rows = [("u", f"text {a}", a, "last week") for a in range(24)]
    path = table_of(tmp_path, rows, "user,text,rating,timestamp")
    assert load_dataset(config_of(path, by="text", min_test=3)).notes[-1].startswith("1 of 1 users are tested")
    with pytest.raises(InputError, match="row 1, column 'timestamp': found 'last week'"):
        load_dataset(config_of(path, by="time"))


def test_duplicates_are_a_setting_that_older_runs_do_not_write(tmp_path):
    rows = [("u", "q", f"text {a // 2}", a) for a in range(48)]
    path = table_of(tmp_path, rows)
    with pytest.raises(InputError, match='duplicates = "last"'):
        load_dataset(config_of(path, by="text"))
    config = config_of(path, {"duplicates": "mean"}, by="text", min_test=3)
    assert "24 ratings repeat" in load_dataset(config).notes[0]
    assert config.model_dump()["data"]["duplicates"] == "mean"
    assert "duplicates" not in config_of(path).model_dump()["data"]
    polis = parse_config({"data": {"source": "polis", "path": "p"}, "reward": REWARD}, "r.toml")
    assert polis.model_dump()["data"] == {"source": "polis", "path": "p"}


def test_a_metric_that_cannot_read_the_references_is_told_with_the_data(tmp_path):
    (tmp_path / "h.csv").write_text("user_id,input,output\nann,問,市議會討論\n", encoding="utf-8")
    (tmp_path / "q.csv").write_text("query_id,user_id,input,reference\nq,ann,問,橋樑維修\n", encoding="utf-8")
    data = {"source": "histories", "histories": str(tmp_path / "h.csv"), "queries": str(tmp_path / "q.csv")}
    raw = {"data": data, "reward": REWARD, "split": {"min_fit": 0, "min_test": 1}, "policy": {"n": 2}}
    (note,) = load_dataset(parse_config(raw, "r.toml")).notes
    assert note.startswith("rougeL sees 0% of the letters of the references")
    assert load_dataset(parse_config(raw | {"utility": {"metrics": ["rougeL_unicode"]}}, "r.toml")).notes == ()
