"""Adapters for metrics: what they are trained on, how they are mixed, and that a run which was stopped goes on."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bestfor.data import schema
from bestfor.errors import InputError
from bestfor.files import hash_tree
from bestfor.lm.location import fingerprint, locate
from bestfor.pool import CandidatePool
from bestfor.runs.config import load_config, parse_config
from bestfor.runs.foreseen import foresee
from bestfor.runs.rewarded import best_candidates
from bestfor.runs.run import run
from support import later

adapter_files = later("bestfor.lm.adapter_files", "torch")
adapters = later("bestfor.policies.adapters", "torch", "peft")

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

RAW = {
    "data": {"source": "world", "users": 3, "queries": 1, "task": "headline"},
    "split": {"min_fit": 2, "min_test": 2},
    "policy": {
        **{"n": 3, "fit_n": 2, "fit_items": 2, "fit_share": 0.5, "items": 0, "max_new_tokens": 8},
        "adapters": {
            **{"rank": 2, "steps": 2, "rate": 0.01},
            "rewarded": {"metrics": ["rougeL", "rouge1"], "n": 3, "grid": 2, "held_out_n": 2},
        },
    },
    "utility": {"metrics": ["rougeL", "rouge1"], "primary": "rougeL"},
    "reward": [{"kind": "length"}],
    "diagnosis": {"n": [1, 2]},
}


def config(**rewarded):
    own = {**RAW["policy"]["adapters"], "rewarded": {**RAW["policy"]["adapters"]["rewarded"], **rewarded}}
    return parse_config({**RAW, "policy": {**RAW["policy"], "adapters": own}}, "run.toml")


@settings(max_examples=50)
@given(st.dictionaries(st.tuples(st.sampled_from("abc"), st.integers(0, 4)), st.integers(0, 2)), st.integers(1, 3))
def test_the_best_of_each_query_are_chosen(utilities, keep):
    expected = []
    for query in "abc":
        rows = [(number, value) for (name, number), value in utilities.items() if name == query]
        if len({value for _, value in rows}) > 1:
            ranked = sorted(rows, key=lambda row: (-row[1], row[0]))
            expected += [(query, number) for number, _ in ranked[:keep]]
    assert best_candidates(utilities, keep) == sorted(expected)


def dense(folder, user):
    base = fingerprint(locate("embedded"))
    return {
        layer: (up @ down).numpy() for layer, (down, up) in adapter_files.AdapterFolder(folder, base).of(user).items()
    }


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A run, what it told, and what its adapters were trained on."""
    folder, told, taught = tmp_path_factory.mktemp("rewarded"), [], {}
    with pytest.MonkeyPatch.context() as patch:
        train = adapters.train_adapters
        patch.setattr(
            adapters, "train_adapters", lambda base, found, *rest: taught.update(found) or train(base, found, *rest)
        )
        run(config(), folder, tell=told.append)
    return folder, told, taught


@pytest.mark.slow
def test_adapters_learn_the_best_of_items_that_do_not_label(done):
    folder, told, taught = done
    assert set(taught) == {"rougeL", "rouge1"}
    labels = schema.read(folder / "queries.parquet", schema.QUERIES).to_pylist()
    asked = {row["input"] for row in labels}
    choice = json.loads((folder / "rewarded" / "choice.json").read_text())
    pool = CandidatePool(folder / "rewarded" / "pool")
    rows = [row for path in pool.folder.glob("part-*") for row in pool.read(path.stem[5:]).to_pylist()]
    wrote = {row["text"] for row in rows}
    for name, examples in taught.items():
        assert examples
        assert choice["examples"][name] == len(examples)
        assert {one.output for one in examples} <= wrote, "the policy's own candidates, not what users wrote"
        assert not {one.messages[-1]["content"] for one in examples} & asked, "no item that labels or is tested"
    assert choice["held_out_items"] >= 3
    assert [one["weights"] for one in choice["tried"]] == [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    best = max(one["utility"]["rougeL"] for one in choice["tried"])
    assert next(one for one in choice["tried"] if one["weights"] == choice["weights"])["utility"]["rougeL"] == best
    assert any(line.startswith("rewarded: adapters are mixed as ") for line in told)
    assert not (folder / "rewarded" / "trial").exists()


@pytest.mark.slow
def test_every_user_has_the_weighted_sum(done):
    folder, _, _ = done
    weights = json.loads((folder / "rewarded" / "choice.json").read_text())["weights"]
    apart = [dense(folder / "rewarded" / "adapters", name) for name in ("rougeL", "rouge1")]
    users = set(schema.read(folder / "queries.parquet", schema.QUERIES)["user_id"].to_pylist())
    for user in users:
        mixed = dense(folder / "rewarded" / "soup", user)
        for layer, update in mixed.items():
            parts = [weight * one[layer] for weight, one in zip(weights, apart, strict=True)]
            np.testing.assert_allclose(update, sum(parts), atol=1e-6)


@pytest.mark.slow
def test_nothing_is_done_twice_and_given_weights_are_taken(done, tmp_path, monkeypatch):
    folder, _, _ = done
    again, told = load_config(folder / "run.toml"), []
    assert again.policy.adapters.rewarded == config().policy.adapters.rewarded
    assert not [one.name for one in foresee(again, folder)[0].steps if one.owed]
    before = hash_tree([folder])
    run(again, folder, tell=told.append)
    assert "rewarded: already there" in told
    assert hash_tree([folder]) == before
    owed = {one.name: one.why for one in foresee(config(grid=3), folder)[0].steps if one.owed}
    assert owed["rewarded"] == "rewarded.grid changed"
    assert owed["sample"].endswith("after rewarded")
    train, count = adapters.train_adapters, []

    def stopping(*given):
        count.append(1)
        if len(count) == 1:
            raise KeyboardInterrupt
        return train(*given)

    monkeypatch.setattr(adapters, "train_adapters", stopping)
    given = config(weights=[0.25, 0.75])
    with pytest.raises(KeyboardInterrupt):
        run(given, tmp_path / "stopped")
    parts = {path: path.stat().st_mtime_ns for path in (tmp_path / "stopped" / "rewarded" / "pool").glob("part-*")}
    assert parts
    run(given, tmp_path / "stopped")
    assert parts.items() <= {path: path.stat().st_mtime_ns for path in (parts)}.items(), "what was sampled is kept"
    choice = json.loads((tmp_path / "stopped" / "rewarded" / "choice.json").read_text())
    assert choice["weights"] == [0.25, 0.75]
    assert "tried" not in choice


@pytest.mark.slow
def test_a_metric_that_is_not_measured_is_named(tmp_path):
    with pytest.raises(InputError, match="'meteor'; expected among the metrics"):
        run(config(metrics=["rougeL", "meteor"]), tmp_path)
