"""A run does nothing twice: counted on the real code paths."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from bestfor.data.parts import CandidateParts
from bestfor.data.split import Ratings
from bestfor.pool import CandidatePool
from bestfor.rewards import model as base
from bestfor.runs import joins, sources, stages, workspace
from bestfor.runs.config import parse_config
from bestfor.runs.run import run

MODELS = [
    {"kind": "length"},
    {"kind": "pooled", "components": 0},
    {"kind": "ridge", "components": 0},
    {"kind": "hierarchical", "components": 0},
    {"kind": "length", "name": "again"},
    {"kind": "pooled", "name": "strict", "components": 0},
]


@pytest.fixture
def config(tmp_path):
    draw = np.random.default_rng(0)
    rows = [
        {
            "user": f"p{user}",
            "text": "point " + "x" * (at % 9 + 1) + f" {at}",
            "rating": draw.normal() + (user % 3) * at,
        }
        for user in range(9)
        for at in range(36)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "ratings.csv", index=False)
    return {
        "data": {"source": "table", "path": str(tmp_path / "ratings.csv")},
        "split": {"fold": "all", "min_fit": 4, "min_test": 4},
        "reward": MODELS,
    }


@pytest.fixture
def calls(monkeypatch):
    """How often what is costly was done."""
    counted = Counter()

    def count(owner, name, label):
        real = getattr(owner, name)

        def counting(*given, **options):
            counted[label(*given)] += 1
            return real(*given, **options)

        monkeypatch.setattr(owner, name, counting)

    count(sources, "load_ratings", lambda *_: "source parsed")
    count(CandidateParts, "part", lambda _, split: f"{split} part built")
    count(CandidatePool, "scan", lambda *_, **__: "pool read")
    count(stages, "load_model", lambda *_, **__: "model read back")
    count(workspace, "read_rewards", lambda *_: "rewards read back")
    count(joins, "_lookup", lambda *_: "tables joined")
    count(base.RewardModel, "fit", lambda *_, **__: "models fitted")
    build = Ratings.build.__func__
    monkeypatch.setattr(
        Ratings, "build", classmethod(lambda *given, **how: counted.update(["ratings coded"]) or build(*given, **how))
    )
    return counted


@pytest.mark.slow
@pytest.mark.parametrize("n", [[1, 2, 4], []], ids=["N named", "N chosen"])
def test_three_folds_of_six_models_parse_once_and_build_each_part_once_a_fold(config, calls, tmp_path, n):
    run(parse_config({**config, "diagnosis": {"n": n}}, "run.toml"), tmp_path / "out")
    assert calls == {
        "source parsed": 1,
        "ratings coded": 1,
        "fit part built": 3,
        "test part built": 3,
        "models fitted": 18,
        "pool read": 6,  # what was written, once a fold for the picks and once for the answers on the page
    }


@pytest.mark.slow
def test_what_is_there_is_read_back_as_arrays_and_joined_with_nothing(config, calls, tmp_path):
    parsed = parse_config({**config, "diagnosis": {"n": [1, 2, 4]}}, "run.toml")
    run(parsed, tmp_path / "out")
    calls.clear()
    run(parsed, tmp_path / "out")
    assert calls == {"source parsed": 1, "ratings coded": 1, "test part built": 3, "rewards read back": 18}


@pytest.mark.slow
def test_a_model_whose_rewards_are_gone_is_read_back_and_gives_the_same(config, calls, tmp_path):
    parsed = parse_config({**config, "diagnosis": {"n": [1, 2, 4]}}, "run.toml")
    run(parsed, tmp_path / "out")
    rewards = {path: path.read_bytes() for path in sorted((tmp_path / "out").rglob("rewards/*.parquet"))}
    assert len(rewards) == 18
    for path in rewards:
        path.unlink()
    calls.clear()
    run(parsed, tmp_path / "out")
    assert calls["model read back"] == 18
    assert "models fitted" not in calls
    assert {path: path.read_bytes() for path in rewards} == rewards
