import json

import pyarrow as pa
import pytest

from bestfor.data import schema
from bestfor.data.split import Dataset
from bestfor.errors import InputError
from bestfor.runs.adapters import training_examples
from bestfor.runs.config import parse_config
from bestfor.runs.prompts import Prompting, build_prompts, count_labelled, count_unlabelled
from bestfor.runs.run import run
from support import later

adapters = later("bestfor.policies.adapters", "torch", "peft")

# peft 0.21 reads a name that transformers 5 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

RAW = {
    "data": {"source": "world", "users": 3, "queries": 1, "task": "headline"},
    "split": {"min_fit": 2, "min_test": 2},
    "policy": {
        "n": 4,
        "fit_n": 2,
        "fit_items": 3,
        "fit_share": 0.5,
        "items": 1,
        "max_new_tokens": 8,
        "adapters": {"rank": 2, "steps": 2, "shared_steps": 1},
    },
    "utility": {"metrics": ["rougeL"], "primary": "rougeL"},
    "reward": [{"kind": "length"}],
    "diagnosis": {"n": [1, 2]},
}


class Unlimited:
    """Only asks; nothing is written here."""

    name, chunk, signature = "unlimited", 4, {}


def table(users):
    rows = [
        {
            "user_id": user,
            "item_id": f"i{k}",
            "input": f"{user} asks {k}",
            "output": f"{user} wrote {k}",
            "timestamp": k,
        }
        for user, count in users.items()
        for k in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=schema.HISTORIES)


def queries(users):
    rows = [
        {"query_id": f"q-{user}", "user_id": user, "input": text, "reference": "r", "split": "test", "timestamp": None}
        for user, text in users.items()
    ]
    return pa.Table.from_pylist(rows, schema=schema.QUERIES)


def texts(prompt):
    return " ".join(turn["content"] for turn in prompt)


@pytest.mark.slow
def test_items_that_train_never_label_and_see_nothing_later():
    # ann's item 1 is a test query: it neither trains nor labels nor shows
    data = Dataset("d", "s", table({"ann": 6, "bob": 3, "cat": 1}), queries({"ann": "ann asks 1", "bob": "new"}))
    prompting = Prompting("do", items=9, retriever="recency")
    taught = training_examples(Unlimited(), data, 0.5, prompting)
    asked = build_prompts(Unlimited(), data.histories, data.queries, 9, prompting, fit_share=0.5)
    fit = [row for row in asked.queries.to_pylist() if row["split"] == "fit"]
    assert {user: [one.output for one in found] for user, found in taught.items()} == {
        "ann": ["ann wrote 0", "ann wrote 2"],
        "bob": ["bob wrote 0"],
    }
    assert sorted(row["query_id"] for row in fit) == ["ann/i3", "ann/i4", "ann/i5", "bob/i1", "bob/i2", "cat/i0"]
    first, second = (texts(one.messages) for one in taught["ann"])
    assert first == "do ann asks 0"
    assert second == "do ann asks 0 ann wrote 0 ann asks 2"
    shown = dict(zip(asked.queries["query_id"].to_pylist(), asked.prompts, strict=True))
    assert "ann wrote 2" in texts(shown["ann/i3"].messages), "what trained may show"
    assert shown["ann/i3"].user_id == "ann"


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.99, 1.0])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 10, 11])
def test_every_item_trains_or_labels(count, share):
    assert count_unlabelled(count, share) + count_labelled(count, 99, share) == count
    assert count_labelled(count, 2, share) <= 2
    assert count_labelled(count, 99, share) >= min(1, count)
    assert count_unlabelled(10, 0.7) == 3, "not a hair less"


@pytest.mark.slow
def test_a_run_trains_its_adapters_once_and_samples_with_them(tmp_path, monkeypatch):
    told, taught = [], {}
    train = adapters.train_adapters
    monkeypatch.setattr(
        adapters,
        "train_adapters",
        lambda base, examples, *rest: taught.update(examples) or train(base, examples, *rest),
    )
    config = parse_config(RAW, "test")
    first = run(config, tmp_path / "run", tell=told.append)
    assert "adapters" in told
    files = {path.name for path in (tmp_path / "run" / "adapters").iterdir()}
    assert "adapters.json" in files
    assert len(files) == 5, "three users, one for all, the index"
    fit = schema.read(tmp_path / "run" / "queries.parquet", schema.QUERIES)
    assert set(fit["split"].to_pylist()) == {"fit", "test"}
    labels = [row for row in fit.to_pylist() if row["split"] == "fit"]
    for user, examples in taught.items():
        own = {(row["input"], row["reference"]) for row in labels if row["user_id"] == user}
        trained = {(one.messages[-1]["content"], one.output) for one in examples}
        assert own
        assert trained
        assert not own & trained, "what trains a user's adapter labels nothing for the reward model"
    assert set(taught) == {row["user_id"] for row in labels}
    told.clear()
    again = run(config, tmp_path / "run", tell=told.append)
    assert "adapters: already there" in told
    assert again.diagnosis.to_dict() == first.diagnosis.to_dict()
    plain = {**RAW, "policy": {**RAW["policy"], "adapters": None}}
    other = run(parse_config(plain, "test"), tmp_path / "plain")
    assert other.diagnosis.to_dict()["pool_mean"] != first.diagnosis.to_dict()["pool_mean"]


@pytest.mark.slow
def test_a_run_mixes_the_adapters_of_users_who_write_alike(tmp_path):
    mixing = {"rank": 2, "steps": 1, "shared_steps": 1, "groups": 2, "soup": 2}
    config = parse_config({**RAW, "policy": {**RAW["policy"], "adapters": mixing}}, "test")
    told = []
    run(config, tmp_path, tell=told.append)
    assert told.index("adapters") < told.index("soups")
    groups, soups = (
        json.loads((tmp_path / name / "adapters.json").read_text(encoding="utf-8")) for name in ("adapters", "soups")
    )
    assert len(set(groups["groups"].values())) == 2
    assert all(len(one["mixed"]) == 2 and user in one["mixed"] for user, one in soups["users"].items())
    pool = sum(len(list((tmp_path / name).glob("*.safetensors"))) for name in ("adapters", "soups"))
    assert pool == 2 * len(soups["users"])
    written = (tmp_path / "run.toml").read_text(encoding="utf-8")
    assert "groups = 2" in written
    assert "soup = 2" in written


@pytest.mark.parametrize("table", [{"steps": 0}, {"steps": 0, "shared_steps": 2, "soup": 2}])
def test_users_without_steps_need_a_common_adapter_and_no_soup(table):
    with pytest.raises(InputError, match="steps above 0, or shared_steps above 0 and no soup"):
        parse_config({**RAW, "policy": {**RAW["policy"], "adapters": table}}, "test")


def test_a_run_without_mixing_is_written_as_before():
    written = parse_config(RAW, "test").model_dump(mode="json")["policy"]["adapters"]
    assert "groups" not in written
    assert "soup" not in written
    assert "rewarded" not in written


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fit_share": 1.0}, r"fit_share: found 1\.0, which leaves adapters no items"),
        ({"kind": "replay", "model": "x"}, "a policy of kind 'replay'; expected kind 'transformers'"),
        ({"adapters": {"rnak": 3}}, "unknown key 'rnak'; expected 'rank'"),
        ({"adapters": {"rank": 0}}, "rank"),
        ({"adapters": {"rank": 2, "groups": 2}}, "shared_steps above 0"),
        ({"adapters": {"soup": 2, "rewarded": {"metrics": ["rougeL"]}}}, "rewarded, or groups, soup"),
        ({"adapters": {"rewarded": {"metrics": ["rougeL", "rougeL"]}}}, "distinct metrics"),
        ({"adapters": {"rewarded": {"metrics": ["rougeL"], "keep": 8}}}, "keep below n, not 8 of 8"),
        ({"adapters": {"rewarded": {"metrics": ["rougeL"], "weights": [0.5]}}}, "for each metric, which sum to 1"),
        ({"adapters": {"rewarded": {"metrics": []}}}, "metrics"),
    ],
)
def test_what_makes_no_sense_is_named(change, message):
    with pytest.raises(InputError, match=message):
        parse_config({**RAW, "policy": {**RAW["policy"], **change}}, "test")


def test_users_qualify_by_the_items_that_are_left_to_label(tmp_path):
    few = {**RAW, "split": {"min_fit": 6, "min_test": 2}, "policy": {**RAW["policy"], "fit_share": 0.01}}
    with pytest.raises(InputError, match="no user with enough history"):
        run(parse_config(few, "test"), tmp_path)
