"""Every policy conforms; those from outside are found by dotted paths; what is wrong with one is one line."""

import sys
from types import SimpleNamespace

import pytest

from bestfor.data.schema import HISTORIES, QUERIES
from bestfor.errors import InputError
from bestfor.policies import POLICIES, Prompt, Sampled, make_policy
from bestfor.policies.check import check_policy, check_written
from bestfor.policies.feedback import FeedbackPolicy
from bestfor.policies.replay import ReplayPolicy
from bestfor.pool import CandidatePool
from bestfor.runs.config import parse_config
from bestfor.runs.run import run
from bestfor.runs.sampling import SamplingSettings, generate
from bestfor.testing.policies import PolicyTests
from support import reader
from support.answers import prompts


class TestReplay(PolicyTests):
    @pytest.fixture
    def made(self, tmp_path):
        rows = [f"{query},text {number} of {query}" for query in self.queries for number in range(4)]
        (tmp_path / "texts.csv").write_text("query_id,text\n" + "\n".join(rows) + "\n")
        return ReplayPolicy(tmp_path / "texts.csv")


class TestOpenAI(PolicyTests):
    repeats = False

    @pytest.fixture
    def made(self, policy):
        return policy(reader.obedient)[0]


class TestFeedback(PolicyTests):
    @pytest.fixture
    def made(self, policy):
        return FeedbackPolicy(policy(reader.obedient)[0], reader.marks, "a test's", width=2, critique_tokens=20)


class TestTransformers(PolicyTests):
    @pytest.fixture
    def made(self, checkpoint):
        from bestfor.policies.transformers import TransformersPolicy

        return TransformersPolicy(checkpoint, max_new_tokens=6)


OWN = """
from bestfor.policies import Sampled
class Echo:
    chunk = 4
    name = "echo"
    def __init__(self, word, temperature=1.0):
        self.word, self.temperature = word, temperature
    @property
    def signature(self):
        return {"kind": "echo", "word": self.word, "temperature": self.temperature}
    def sample(self, prompts, n, *, seed):
        said = self.word
        return [[Sampled(f"{said} {i} {prompt.query_id}", 3, None, "stop") for i in range(n)] for prompt in prompts]
"""
RUN = {
    "data": {"source": "world", "users": 3, "queries": 1},
    "split": {"min_fit": 0, "min_test": 2},
    "utility": {"metrics": ["theirs_policy:Shortness", "rougeL"], "primary": "theirs_policy:Shortness"},
    "reward": [{"kind": "length"}, {"kind": "theirs_policy:Words", "times": 2.0}],
    "diagnosis": {"n": [1, 2]},
}
OTHERS = """
import numpy as np
from pydantic import BaseModel
from bestfor.rewards import ArrayModel
class Shortness:
    name = "shortness"
    signature = {"metric": "shortness"}
    def measure(self, query, texts):
        return np.array([-float(len(text)) for text in texts])
class Words(ArrayModel):
    class Config(BaseModel):
        times: float = 1.0
    def fit_rows(self, rows, utility, rng):
        return {"mean": utility.mean()}
    def predict_rows(self, learned, rows):
        return learned["mean"] + self.config.times * np.array([float(len(text.split())) for text in rows.text])
"""


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    (tmp_path / "theirs_policy.py").write_text(OWN + OTHERS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))


def test_the_kinds_of_policies():
    assert list(POLICIES) == ["feedback", "openai", "replay", "transformers"]
    assert all(POLICIES[kind].kind == kind for kind in POLICIES)


def test_a_run_of_nothing_but_classes_from_outside(theirs, tmp_path):
    policy = {"kind": "theirs_policy:Echo", "n": 4, "fit_n": 2, "fit_items": 2, "options": {"word": "hum"}}
    config = parse_config({**RUN, "policy": policy}, "run.toml")
    made = make_policy(config.policy)
    assert made.signature == {"kind": "echo", "word": "hum", "temperature": 1.0}
    run(config, tmp_path / "run")
    assert {row["policy"] for row in CandidatePool(tmp_path / "run" / "pool").scan().to_pylist()} == {"echo"}
    assert sorted(path.name for path in (tmp_path / "run" / "models").iterdir()) == ["Words", "length"]
    assert sorted(path.stem for path in (tmp_path / "run" / "utilities").glob("*")) == ["rougeL", "shortness"]
    told = []
    run(config, tmp_path / "run", tell=told.append)
    assert all("already there" in line for line in told if line.startswith(("pool", "measure", "fit", "predict")))


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (
            {"kind": "theirs_policy:Echo"},
            r"\[policy.options\]: found no 'word'; expected it to be given: 'Echo'",
        ),
        (
            {"kind": "theirs_policy:Echo", "options": {"wort": 1}},
            r"found unknown key 'wort' for 'Echo'",
        ),
        ({"kind": "theirs_policy:Words"}, "policy 'Words': found no 'name'"),
    ],
)
def test_options_of_a_class_from_outside_are_checked(theirs, policy, message):
    config = parse_config({**RUN, "policy": {"n": 4, **policy}}, "run.toml")
    with pytest.raises(InputError, match=message):
        make_policy(config.policy)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("transformer", r"\[policy\]: found kind 'transformer'; expected 'transformers' .did you mean it"),
        (
            "theirs_policy:Ech",
            r"\[policy\]: found kind 'theirs_policy:Ech': no class 'Ech' in 'theirs_policy'",
        ),
        ("no_such_module_here:A", r"no module 'no_such_module_here'; expected a module that can be imported in"),
    ],
)
def test_unknown_kinds(theirs, kind, message):
    with pytest.raises(InputError, match=message):
        parse_config({**RUN, "policy": {"kind": kind, "n": 4}}, "run.toml")


def test_what_a_policy_lacks_is_named():
    whole = {"name": "x", "chunk": 1, "signature": {}, "sample": lambda: None}
    check_policy(SimpleNamespace(**whole))
    for name in whole:
        with pytest.raises(InputError, match=f"policy 'SimpleNamespace': found no '{name}'"):
            check_policy(SimpleNamespace(**{key: value for key, value in whole.items() if key != name}))
    with pytest.raises(InputError, match="found chunk 0; expected how many queries"):
        check_policy(SimpleNamespace(**{**whole, "chunk": 0}))
    with pytest.raises(InputError, match="found no 'name'"):
        generate(object(), HISTORIES.empty_table(), QUERIES.empty_table(), None, SamplingSettings())


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (None, "policy 'object': found NoneType from sample; expected 2 lists, one for each prompt"),
        ([[]], "found 1 from sample; expected 2 lists"),
        ([[Sampled("a", 1, None, "stop")], []], "query 'b': found 0 candidates; expected 1"),
        ([3, 4], "query 'a': found int candidates; expected 1"),
        ([["a"], ["b"]], r"query 'a': found a candidate of type str; expected Sampled\(text, tokens, logprob"),
        ([[Sampled(None, 1, None, "stop")], []], r"found Sampled\(text=None"),
        ([[Sampled("a", 1, float("nan"), "stop")], []], "found logprob nan; expected a finite number, or None"),
    ],
)
def test_what_a_policy_writes_is_checked(written, message):
    with pytest.raises(InputError, match=message):
        check_written(object(), prompts("a", "b"), 1, written)
    assert isinstance(prompts("a")[0], Prompt)
