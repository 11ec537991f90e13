"""Run folders opened from Python: of a file, of all folds, of calls, of an earlier version; scores from elsewhere."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import bestfor as bf
from bestfor.data.candidates import Candidates
from bestfor.rewards import KINDS
from bestfor.runs.config import parse_config
from bestfor.runs.run import run

BEFORE = Path(__file__).parent.parent / "fixtures" / "before" / "runs"


@pytest.fixture(scope="module")
def ratings(tmp_path_factory):
    """A run of three folds on twelve people's ratings of twenty-four texts."""
    folder = tmp_path_factory.mktemp("ratings")
    draw = np.random.default_rng(0)
    rows = [
        {"user": f"p{user}", "text": "point " + "x" * (at + 1), "rating": draw.normal() + (user % 3 - 1) * at / 8}
        for user in range(12)
        for at in range(24)
    ]
    pd.DataFrame(rows).to_csv(folder / "ratings.csv", index=False)
    config = {
        "name": "three",
        "data": {"source": "table", "path": str(folder / "ratings.csv")},
        "split": {"fold": "all", "min_fit": 4, "min_test": 4},
        "reward": [{"kind": "length"}, {"kind": "pooled", "components": 0}],
        "diagnosis": {"n": [1, 2, 4]},
    }
    run(parse_config(config, "three"), folder / "out")
    return folder / "out"


@pytest.mark.parametrize("name", ["ratings", "histories"])
def test_a_run_of_before_opens(name):
    opened = bf.load_run(BEFORE / name)
    models = opened.models()
    assert set(models) == set(opened.names)
    test = opened.candidates()
    rewards = opened.rewards().to_pandas()
    for label, group in rewards.groupby("model"):
        assert len(group) == len(test)
        if name == "histories":
            np.testing.assert_allclose(models[label].predict(test).mean, group["mean"], rtol=1e-6, atol=1e-6)
    assert models["length"] is models["length"], "loaded once"
    assert np.isfinite(test.utility).all()
    assert len(opened.candidates("fit")) > 0
    stored = json.loads((BEFORE / name / "diagnosis.json").read_text())
    curves = opened.curves().to_pandas()
    for label, model in stored["models"].items():
        assert curves[curves["model"] == label]["utility"].tolist() == model["utility"]
    assert len(opened.per_user().to_arrow()) == sum(len(model["per_user"]) for model in stored["models"].values())


@pytest.mark.parametrize("name", ["ratings", "histories"])
def test_it_is_diagnosed_as_it_was(name):
    stored = json.loads((BEFORE / name / "diagnosis.json").read_text())
    found = bf.load_run(BEFORE / name).diagnose().to_dict()
    assert set(found["models"]) == set(stored["models"])
    for label, model in stored["models"].items():
        assert found["models"][label]["utility"] == pytest.approx(model["utility"], rel=1e-6, abs=1e-9)
        for key in ("low", "high"):
            # two users no longer carry an interval
            now = found["models"][label][key]
            assert now == [None] * len(now) or now == pytest.approx(model[key], rel=1e-6, abs=1e-9)
        assert found["models"][label]["interval"] == model["interval"]


class TestFolds:
    def test_all_folds_stand_side_by_side(self, ratings):
        opened = bf.load_run(ratings)
        assert repr(opened).endswith("models length, pooled, 3 folds)")
        test, each = opened.candidates(), [opened.candidates("test", fold) for fold in range(3)]
        assert len(test) == sum(map(len, each)) == 12 * 24
        rewards = opened.rewards().to_pandas()
        assert rewards.groupby(["model", "fold"]).size().tolist() == [len(one) for one in each] * 2
        for fold in range(3):
            length = opened.models(fold)["length"].predict(each[fold]).mean
            shown = rewards[(rewards["fold"] == fold) & (rewards["model"] == "length")]["mean"]
            assert length.tolist() == shown.tolist()
        with pytest.raises(bf.InputError, match="fold = 0 to 2"):
            opened.models()
        with pytest.raises(bf.InputError, match="found fold 3"):
            opened.curves(3)
        assert opened.curves(0).to_arrow()["n"].to_pylist() == [1, 2, 4] * 2

    def test_the_diagnosis_of_the_run_comes_again(self, ratings):
        stored = json.loads((ratings / "diagnosis.json").read_text())
        found = bf.load_run(ratings).diagnose().to_dict()
        assert found["models"] == stored["models"]
        assert list(bf.load_run(ratings).diagnosis.models) == list(stored["models"])

    def test_tables_are_taken_by_polars_and_say_what_they_hold(self, ratings):
        found = bf.load_run(ratings).utilities()
        assert pl.DataFrame(found).height == len(found)
        assert repr(found).startswith("RunTable(utilities: ")
        with pytest.raises(bf.InputError, match="metric 'rouge'"):
            bf.load_run(ratings).utilities("rouge")
        with pytest.raises(bf.InputError, match="'fit' or 'test'"):
            bf.load_run(ratings).candidates("dev")


class TestScoresFromElsewhere:
    def scores(self, opened, draw):
        frame = opened.candidates().to_pandas()
        return frame.assign(reward=frame["utility"] + draw.normal(size=len(frame)))

    @pytest.mark.parametrize("form", ["pandas", "polars", "arrow", "csv", "columns"])
    def test_any_table_in_any_order_is_diagnosed_beside_the_models(self, ratings, tmp_path, form):
        opened, draw = bf.load_run(ratings), np.random.default_rng(1)
        frame = self.scores(opened, draw)
        shuffled = frame[["query_id", "candidate", "reward"]].sample(frac=1, random_state=0)
        given = {
            "pandas": lambda: shuffled,
            "polars": lambda: pl.DataFrame(shuffled.to_dict("list")),
            "arrow": lambda: pa.table(shuffled.to_dict("list")),
            "csv": lambda: shuffled.to_csv(tmp_path / "s.csv", index=False) or tmp_path / "s.csv",
            "columns": lambda: shuffled.to_dict("list"),
        }[form]()
        found = opened.diagnose({"mine": given}).to_dict()
        assert set(found["models"]) == {"length", "pooled", "mine"}
        columns = (frame["user_id"], frame["query_id"], frame["utility"], {"mine": frame["reward"].to_numpy()})
        alone = bf.diagnose_arrays(*(list(one) for one in columns[:3]), columns[3], bf.Settings(n=[1, 2, 4])).to_dict()
        # Folds weigh the same in the one, users of all folds together in the other: both are means of the same gains.
        assert found["models"]["mine"]["utility"][-1] == pytest.approx(alone["models"]["mine"]["utility"][-1], abs=0.1)
        assert found["models"]["mine"]["utility"][-1] > found["models"]["length"]["utility"][-1]

    def test_added_scores_stand_among_the_rewards(self, ratings):
        opened = bf.load_run(ratings)
        frame = self.scores(opened, np.random.default_rng(1))
        rewards = opened.rewards().add(frame, "mine", scale="utility").add(frame.assign(reward=1.0), "flat")
        table = rewards.to_pandas()
        mine = table[table["model"] == "mine"].merge(frame, on=["query_id", "candidate"])
        assert len(mine) == len(frame)
        assert mine["mean"].tolist() == mine["reward"].tolist()
        found = rewards.diagnose(["mine", "flat"]).to_dict()["models"]
        assert list(found) == ["mine", "flat"]
        assert found["mine"]["scale"] == "utility"
        assert found["flat"]["gain"][-1] == pytest.approx(0)
        assert not (ratings / "fold-0" / "rewards" / "mine.parquet").exists()
        with pytest.raises(bf.InputError, match=r"'mene'.*mine"):
            rewards.diagnose(["mene"])

    def test_rows_that_match_nothing_are_counted(self, ratings):
        opened = bf.load_run(ratings)
        frame = self.scores(opened, np.random.default_rng(1))
        strange = frame.assign(candidate=frame["candidate"].where(frame.index > 4, 99 + frame.index))
        with pytest.raises(
            bf.InputError, match=r"5 of 288 rows that match no candidate \(query '.*', candidate \d+, is one\)"
        ):
            opened.diagnose({"mine": strange})
        with pytest.raises(bf.InputError, match="2 candidates that stand twice"):
            opened.diagnose({"mine": pd.concat([frame, frame[:2]])})
        with pytest.raises(bf.InputError, match="no column 'reward'"):
            opened.diagnose({"mine": frame.drop(columns="reward")})
        with pytest.raises(bf.InputError, match="the name of another model"):
            opened.diagnose({"length": frame})
        fit = opened.candidates("fit").to_pandas().assign(reward=0.0)
        with pytest.raises(bf.InputError, match="none of 288 test candidates among"):
            opened.diagnose({"mine": fit})

    def test_what_has_no_score_is_left_out_and_noted(self, ratings):
        opened = bf.load_run(ratings)
        frame = self.scores(opened, np.random.default_rng(1))
        fit = opened.candidates("fit").to_pandas().assign(reward=0.0)
        some = pd.concat([frame[frame["candidate"] != 0], fit])
        found = opened.diagnose({"mine": some}, models=["mine"]).to_dict()
        left = int((frame["candidate"] == 0).sum())
        assert found["dropped"]["not_finite"] == left
        notes = " ".join(found["models"]["mine"]["notes"])
        assert f"{left} of 288 test candidates have no score" in notes
        assert f"{len(fit)} of {len(some)} scores are of fit candidates" in notes


def test_a_folder_of_calls_opens(tmp_path):
    """What generate, measure and diagnose leave is a run: models, rewards and figures are read back."""
    shutil.copytree(BEFORE / "histories", tmp_path / "made")
    for name in ("run.toml", "diagnosis.json"):
        (tmp_path / "made" / name).unlink()
    shutil.rmtree(tmp_path / "made" / "rewards")
    shutil.rmtree(tmp_path / "made" / "models")
    opened = bf.load_run(tmp_path / "made")
    assert opened.names == ()
    assert opened.config is None
    fit = opened.candidates("fit")
    scores = KINDS["length"]().fit(fit, rng=0).predict(opened.candidates()).mean
    frame = opened.candidates().to_pandas().assign(reward=scores)
    assert set(opened.diagnose({"mine": frame}).models) == {"mine"}
    with pytest.raises(bf.InputError, match="no file"):
        opened.curves()
    assert isinstance(opened.candidates(), Candidates)


@pytest.mark.parametrize(("name", "found"), [("nowhere", "no folder"), ("empty", "no candidates")])
def test_what_is_no_run_is_one_line(tmp_path, name, found):
    (tmp_path / "empty").mkdir()
    with pytest.raises(bf.InputError, match=found):
        bf.load_run(tmp_path / name)
