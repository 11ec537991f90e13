"""Runs whose predictions may look at other people's ratings of the test texts."""

import numpy as np
import pandas as pd
import pytest

import bestfor as bf
from bestfor.data.schema import REWARDS, read
from bestfor.errors import InputError
from bestfor.runs.config import parse_config
from bestfor.runs.run import run


def config_of(folder, **split):
    draw = np.random.default_rng(0)
    liked = draw.normal(size=24)
    rows = [
        {"user": f"p{user}", "text": "point " + "x" * (at + 1), "rating": liked[at] + 0.3 * draw.normal()}
        for user in range(12)
        for at in range(24)
    ]
    pd.DataFrame(rows).to_csv(folder / "ratings.csv", index=False)
    told = {
        "name": "told",
        "data": {"source": "table", "path": str(folder / "ratings.csv")},
        "split": {"by": "rating", "min_fit": 4, "min_test": 4, **split},
        "reward": [{"kind": "length"}, {"kind": "pooled", "components": 0}],
        "diagnosis": {"n": [1, 4]},
    }
    return parse_config(told, "told")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("told")
    run(config_of(place, others=4), place / "out")
    run(config_of(place, others=0), place / "nobody")
    return place


@pytest.mark.slow
def test_others_lie_beside_the_pool_and_lift_what_hears_them(folder):
    table = pd.read_parquet(folder / "out" / "others.parquet")
    assert table.groupby(["query_id", "candidate"]).size().eq(4).all()
    assert all(query.split("/")[0] != user for query, user in zip(table.query_id, table.user_id, strict=True))
    told, nobody = (bf.load_run(folder / name).diagnosis.to_dict()["models"] for name in ("out", "nobody"))
    assert told["pooled"]["captured"][-1] > nobody["pooled"]["captured"][-1] + 0.3
    assert told["length"]["captured"] == nobody["length"]["captured"]
    notes = " ".join(bf.load_run(folder / "out").notes()["length"])
    assert "kind 'length' does not learn from it" in notes


@pytest.mark.slow
def test_a_run_that_is_opened_again_predicts_the_same(folder):
    opened = bf.load_run(folder / "out")
    test = opened.candidates()
    stored = read(folder / "out" / "rewards" / "pooled.parquet", REWARDS)["mean"].to_numpy()
    np.testing.assert_allclose(opened.models()["pooled"].predict(test).mean, stored, rtol=1e-8)
    assert test.others is not None
    assert opened.candidates("fit").others is None


def test_how_many_others_goes_with_a_split_by_rating(tmp_path):
    with pytest.raises(InputError, match='goes with by = "rating"'):
        config_of(tmp_path, by="text", others=3)
