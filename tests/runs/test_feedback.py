"""A whole run with textual feedback: the model whose verdicts are heard is fitted before the test candidates come."""

import json
import shutil

import pytest

from bestfor.data import schema
from bestfor.errors import BestforError, InputError
from bestfor.pool import CandidatePool
from bestfor.rewards import KINDS, load
from bestfor.runs.config import load_config, parse_config
from bestfor.runs.run import run
from bestfor.runs.stages import folds
from support.reader import kind_of, obedient
from support.servers import error

RUN = {
    "data": {"source": "world", "users": 3, "queries": 1},
    "split": {"min_fit": 0, "min_test": 2},
    "policy": {
        **{"kind": "feedback", "n": 6, "fit_n": 2, "fit_items": 2, "items": 1},
        "base": {"kind": "openai", "model": "m", "chunk": 2},
        "feedback": {"reward": "long", "width": 2},
    },
    "utility": {"metrics": ["rougeL"]},
    "reward": [{"kind": "length", "name": "long"}, {"kind": "pooled", "components": 0}],
    "diagnosis": {"n": [1, 2, 4]},
}


def changed(**policy):
    return {**RUN, "policy": {**RUN["policy"], **policy}}


def served(url, **policy):
    """The run with its server, which keeps its identity when it moves to another port."""
    base = {**RUN["policy"]["base"], "endpoint": {"base_url": url, "identity": "x", "retries": 0}}
    return parse_config(changed(base=base, **policy), "run.toml")


def kept(folder):
    paths = [
        *(folder / "pool").glob("part-*"),
        *(folder / "rewards").iterdir(),
        folder / "feedback" / "utilities.parquet",
    ]
    return {path.name: path.read_bytes() for path in paths}


@pytest.mark.slow
def test_a_run_revises_after_the_verdicts_of_its_own_model(scripted, tmp_path):
    server, told = scripted(obedient), []
    diagnosis = run(served(server.url), tmp_path / "run", tell=told.append).diagnosis
    candidates = CandidatePool(tmp_path / "run" / "pool").scan()
    queries = schema.read(tmp_path / "run" / "queries.parquet", schema.QUERIES).to_pylist()
    split = {row["query_id"]: row["split"] for row in queries}
    writers = {(split[row["query_id"]], row["policy"]) for row in candidates.to_pylist()}
    assert writers == {("fit", "m"), ("test", "m with feedback")}
    assert {kind_of(request) for request in server.requests} == {"draft", "critique", "advice", "revision"}
    assert diagnosis.models["long"].captured
    by_query = {}
    for row in candidates.to_pylist():
        by_query.setdefault(row["query_id"], []).append(len(row["text"]))
    for query, lengths in by_query.items():
        if split[query] == "test":
            assert max(lengths[:2]) < max(lengths[2:4]) < max(lengths[4:])
    assert load(tmp_path / "run" / "feedback" / "model").kind == "length"
    order = [line for line in told if line.startswith(("pool: ", "feedback: "))]
    assert [line.partition(" ")[0] for line in order] == ["pool:", "feedback:", "feedback:", "pool:"]
    assert any(line.startswith("policy: feedback: ") for line in told)
    count, before = len(server.requests), kept(tmp_path / "run")
    again = load_config(tmp_path / "run" / "run.toml")
    assert again == served(server.url)
    run(again, tmp_path / "run")
    assert len(server.requests) == count
    assert kept(tmp_path / "run") == before


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_with_the_same_bytes(scripted, tmp_path):
    whole = scripted(obedient)
    run(served(whole.url), tmp_path / "whole")
    state = {"left": 9}

    def failing(request):
        state["left"] -= 1
        return obedient(request) if state["left"] > 0 else error(401, "no more")

    with pytest.raises(BestforError, match="no more"):
        run(served(scripted(failing).url), tmp_path / "part")
    assert (tmp_path / "part" / "feedback" / "model").is_dir()
    run(served(scripted(obedient).url), tmp_path / "part")
    first, second = kept(tmp_path / "whole"), kept(tmp_path / "part")
    assert {name: first[name] == data for name, data in second.items()} == dict.fromkeys(first, True)


@pytest.mark.slow
def test_another_model_never_continues_the_pool(scripted, tmp_path):
    server = scripted(obedient)
    run(served(server.url), tmp_path / "run")
    plan = json.loads((tmp_path / "run" / "pool" / "plan.json").read_text())
    run(served(server.url, feedback={"reward": "pooled", "width": 2}), tmp_path / "run")
    other = json.loads((tmp_path / "run" / "pool" / "plan.json").read_text())
    fit, test = ([key for key in plan["parts"] if key.startswith(split)] for split in ("fit", "test"))
    assert set(fit) <= set(other["parts"])
    assert not set(test) & set(other["parts"])


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"base": None}, r"\[policy\]: found no table \[policy.base\]; expected it, for kind 'feedback'"),
        ({"feedback": None}, r"\[policy\]: found no table \[policy.feedback\]"),
        ({"model": "m"}, r"\[policy\]: found key 'model'; expected it in \[policy.base\]"),
        (
            {"base": {"kind": "openai", "model": "m", "n": 3}},
            r"\[policy.base\]: found key 'n'; expected it in \[policy\]",
        ),
        ({"base": {"kind": "opena"}}, r"\[policy.base\]: found kind 'opena'; expected 'openai'"),
        (
            {"base": {"kind": "replay", "endpoint": {}}},
            r"\[policy.base.endpoint\]: found a server of a policy of kind 'rep",
        ),
        ({"base": {"kind": "feedback"}}, r"\[policy.base\]: found no table \[policy.base.base\]"),
        ({"base": {"kinds": "openai"}}, r"\[policy.base\]: found unknown key 'kinds'; expected 'kind'"),
        ({"feedback": {"reward": "lon"}}, r"\[policy.feedback\] reward: found 'lon'; expected 'long'"),
        (
            {"feedback": {"reward": "long", "with": 3}},
            r"\[policy.feedback\]: found unknown key 'with'; expected 'width'",
        ),
        ({"feedback": {"width": 3}}, r"\[policy.feedback\]: found no 'reward'"),
        ({"kind": "transformers"}, r"\[policy.base\]: found a policy of kind 'transformers'; expected kind 'feedback'"),
        (
            {"endpoint": {}},
            r"\[policy.endpoint\]: found a server of a policy of kind 'feedback'; expected kind 'openai'",
        ),
    ],
)
def test_tables_are_checked(policy, message):
    tables = {name: value for name, value in changed(**policy)["policy"].items() if value is not None}
    with pytest.raises(InputError, match=message):
        parse_config({**RUN, "policy": tables}, "run.toml")


def test_a_model_that_compares_candidates_gives_no_verdicts():
    rewards = [{"kind": "mbr", "name": "long"}]
    with pytest.raises(InputError, match="'long', which compares candidates with each other"):
        parse_config({**RUN, "reward": rewards}, "run.toml")


def test_what_a_run_without_feedback_says_of_itself_is_unchanged():
    plain = parse_config({**RUN, "policy": {"n": 4}}, "run.toml").policy.model_dump()
    assert not {"options", "base", "feedback"} & set(plain)
    assert list(plain)[:3] == ["kind", "model", "n"]


def fits(monkeypatch):
    """Count the fits of a kind, each with its number of labels."""
    counted, real = [], KINDS["length"].fit
    monkeypatch.setattr(
        KINDS["length"], "fit", lambda self, rows, **how: counted.append(len(rows)) or real(self, rows, **how)
    )
    return counted


@pytest.mark.slow
def test_the_model_whose_verdicts_are_heard_is_fitted_once(scripted, tmp_path, monkeypatch):
    counted = fits(monkeypatch)
    run(served(scripted(obedient).url), tmp_path / "run")
    assert len(counted) == 1
    heard, own = (tmp_path / "run" / place for place in ("feedback/model", "models/long"))
    files = {path.name: path.read_bytes() for path in heard.iterdir()}
    assert {path.name: path.read_bytes() for path in own.iterdir()} == files
    fresh = KINDS["length"]().fit(next(folds(served("http://127.0.0.1:1"), tmp_path / "run", print)).parts().fit, rng=0)
    assert fresh.save(tmp_path / "fresh")
    assert {path.name: path.read_bytes() for path in (tmp_path / "fresh").iterdir()} == files


@pytest.mark.slow
@pytest.mark.parametrize("what", ["seed of the fit", "labels"])
def test_a_model_of_other_inputs_is_fitted_anew(scripted, tmp_path, monkeypatch, what):
    config, counted = served(scripted(obedient).url), fits(monkeypatch)
    run(config, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "models" / "long")
    if what == "labels":
        path = tmp_path / "run" / "feedback" / "utilities.parquet"
        schema.write(schema.read(path, schema.UTILITIES).slice(1), path)
    else:
        stamp = tmp_path / "run" / ".steps" / "feedback: fit long.json"
        stamp.write_text(stamp.read_text().replace("sha256:", "sha256:0"))
    next(folds(config, tmp_path / "run", lambda line: None)).fit(config.reward[0])
    assert len(counted) == 2
