"""What a run would do, said from the steps' own hashes without doing or writing anything."""

import json
import shutil

import pytest

from bestfor.__main__ import main
from bestfor.files import hash_tree
from bestfor.policies.adapters import LoraSettings
from bestfor.runs.config import load_config
from bestfor.runs.foreseen import foresee
from bestfor.runs.run import run

RUN = """
[data]
source = "world"
users = 2
queries = 1
[split]
min_fit = 0
min_test = 2
[policy]
n = 3
fit_n = 2
fit_items = 3
chunk = 2
max_new_tokens = 6
[[reward]]
kind = "length"
[[reward]]
kind = "logprob"
[diagnosis]
n = [1, 2, 3]
"""
KINDS, LAST = ("length", "logprob"), ("pick", "answers")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("foreseen")
    (folder / "run.toml").write_text(RUN)
    run(load_config(folder / "run.toml"), folder / "out")
    return folder


def steps(folder, *changes, out="out"):
    (found,) = foresee(load_config(folder / "run.toml", changes), folder / out)
    return {one.name: one.why for one in found.steps if one.owed}


def test_nothing_is_owed_after_a_run_and_nothing_is_written(done):
    before = hash_tree([done])
    assert steps(done) == {}
    assert hash_tree([done]) == before
    assert steps(done, out="elsewhere")["sample"].endswith("never sampled")
    assert hash_tree([done]) == before


def test_what_follows_from_a_change_is_owed_and_says_why(done):
    assert steps(done, "policy.temperature=0.5") == {
        "sample": "4 of 4 parts are owed: policy.temperature changed",
        "measure": "after sample",
        "fit length": "after measure",
        "predict length": "after fit length, after measure",
        "fit logprob": "after measure",
        "predict logprob": "after fit logprob, after measure",
        "pick": "after predict length",
        "answers": "after predict length",
    }
    assert steps(done, "policy.n=4")["sample"] == "1 of 4 parts are owed: n changed"
    assert steps(done, 'utility.metrics=["rouge1"]')["measure"] == "metrics changed"
    found = steps(done, "reward.2.kind=pooled", "reward.2.components=2")
    assert found == {
        "fit pooled": "never done",
        "predict pooled": "never done",
        "pick": "after predict pooled",
        "answers": "after predict pooled",
    }


@pytest.mark.slow
def test_options_are_named(done, tmp_path):
    (tmp_path / "run.toml").write_text(RUN)
    run(load_config(tmp_path / "run.toml", ["reward.2.kind=pooled", "reward.2.components=2"]), tmp_path / "out")
    changes = "reward.2.kind=pooled", "reward.2.components=3"
    assert steps(tmp_path, *changes)["fit pooled"] == "options.components changed"


@pytest.mark.slow
def test_files_that_are_lost_or_edited_are_owed(done, tmp_path):
    (tmp_path / "run.toml").write_text(RUN)
    run(load_config(tmp_path / "run.toml"), tmp_path / "out")
    part = sorted((tmp_path / "out" / "pool").glob("part-test-*"))[0]
    part.unlink()
    assert steps(tmp_path)["sample"] == "1 of 4 parts are owed: not there yet"
    run(load_config(tmp_path / "run.toml"), tmp_path / "out")
    assert steps(tmp_path) == {}
    (tmp_path / "out" / "rewards" / "length.parquet").write_bytes(b"torn")
    assert steps(tmp_path)["predict length"] == "rewards/length.parquet was changed since"
    stamp = tmp_path / "out" / ".steps" / "fit length.json"
    held = json.loads(stamp.read_text())
    stamp.write_text(json.dumps({"inputs": "another", "outputs": held["outputs"]}))
    assert steps(tmp_path)["fit length"] == "an input is another one"


def test_a_pool_without_the_tables_of_its_data_is_foreseen(done, tmp_path):
    shutil.copytree(done / "out" / "pool", tmp_path / "out" / "pool")
    shutil.copy(done / "run.toml", tmp_path)
    told = steps(tmp_path)
    assert "sample" not in told
    assert told["data"] == "never done"
    assert told["measure"] == "after data"
    assert set(told) == {"data", "measure", *(f"{do} {kind}" for do in ("fit", "predict") for kind in KINDS), *LAST}


def test_adapters_that_are_owed_decide_the_candidates(done):
    rank = LoraSettings().rank
    found = steps(done, f"policy.adapters.rank={rank}", "policy.fit_share=0.5", out="elsewhere")
    assert found["adapters"] == "never done"
    assert found["sample"].endswith("after adapters")


def test_each_fold_is_foreseen(tmp_path, capsys, monkeypatch):
    rows = ["user,text,rating"]
    rows += [f"u{user},text {text},{(user * text) % 7}" for user in range(6) for text in range(30)]
    (tmp_path / "ratings.csv").write_text("\n".join(rows))
    (tmp_path / "run.toml").write_text(
        f'[data]\nsource = "table"\npath = "{tmp_path / "ratings.csv"}"\n'
        '[split]\nfold = "all"\nmin_fit = 4\nmin_test = 4\n[[reward]]\nkind = "length"\n'
    )

    def bestfor(*options):
        monkeypatch.setattr(
            "sys.argv", ["bestfor", "run", str(tmp_path / "run.toml"), "--out", str(tmp_path / "out"), *options]
        )
        assert main() == 0
        return capsys.readouterr().out

    found = json.loads(bestfor("--dry-run", "--json"))["folders"]
    assert [fold["folder"][-6:] for fold in found] == ["fold-0", "fold-1", "fold-2"]
    assert all(step["owed"] for fold in found for step in fold["steps"])
    assert not (tmp_path / "out").exists()
    bestfor()
    said = bestfor("--dry-run")
    assert said.count(" no ") == 3 * 6
    assert " yes " not in said
