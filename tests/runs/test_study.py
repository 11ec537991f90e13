"""What a user types in Python: load, generate, measure, fit, diagnose."""

import json
from dataclasses import dataclass

import numpy as np
import pytest

import bestfor as bf
from bestfor.errors import InputError
from bestfor.policies.base import Sampled
from bestfor.rewards import KINDS
from bestfor.runs.prompts import Prompting
from bestfor.runs.sampling import SamplingSettings


@dataclass(frozen=True)
class Parrot:
    """Writes the question's words, more of them for later candidates."""

    name: str = "parrot"
    chunk: int = 4

    @property
    def signature(self):
        return {"kind": "parrot"}

    def sample(self, prompts, n, *, seed):
        said = [prompt.messages[-1]["content"].split() for prompt in prompts]
        return [[Sampled(" ".join(words[: i + 1]), i + 1, -1.0 - i, "stop") for i in range(n)] for words in said]


@pytest.fixture
def lamp(tmp_path):
    rows, golds = [], []
    for user in range(5):
        profile = [{"id": str(at), "text": f"the old town {at} {user}", "title": f"old town {at}"} for at in range(4)]
        asked = f"Generate a headline for the following article: the new town {user}"
        rows.append({"id": f"q{user}", "user_id": f"u{user}", "input": asked, "profile": profile})
        golds.append({"id": f"q{user}", "output": f"the new town {user}"})
    (tmp_path / "q.json").write_text(json.dumps(rows))
    (tmp_path / "o.json").write_text(json.dumps({"task": "LaMP_4", "golds": golds}))
    return {"questions": tmp_path / "q.json", "outputs": tmp_path / "o.json"}


def test_from_files_to_a_diagnosis(lamp, tmp_path):
    data = bf.load("lamp", **lamp)
    made = bf.generate(Parrot(), data, n=4, out=tmp_path / "run", sampling=SamplingSettings(fit_n=2, fit_items=3))
    assert made.pool.scan().num_rows == 5 * 4 + 15 * 2
    assert made.pool.prompts["queries"] == 20
    means = bf.measure(made)
    assert set(means) == {"rougeL"}
    assert 0 < means["rougeL"]["fit"] < 1
    assert set(bf.measure(made, ["rougeL", "rouge1"])) == {"rougeL", "rouge1"}
    fit = made.examples(metric="rougeL")
    assert len(fit) == 30
    models = {name: KINDS[name]().fit(fit, rng=0) for name in ("length", "logprob")}
    found = made.diagnose(models, n=[1, 2, 4], metric="rougeL").to_dict()
    assert found["models"]["length"]["n"] == [1, 2, 4]
    assert found["models"]["length"]["utility"][-1] > found["models"]["length"]["utility"][0]
    alone = made.diagnose(models["length"], n=[1, 2, 4], metric="rougeL").to_dict()["models"]
    assert [model["utility"] for model in alone.values()] == [found["models"]["length"]["utility"]]


class Choosy:
    """A metric that has nothing to say about texts of one word."""

    name, partial, signature = "choosy", True, {"metric": "choosy"}

    def measure(self, query, texts):
        return np.array([len(text) if " " in text else np.nan for text in texts])


def test_what_has_no_utility_is_not_fitted_on_and_counted_in_the_diagnosis(lamp, tmp_path):
    data = bf.load("lamp", **lamp)
    made = bf.generate(Parrot(), data, n=4, out=tmp_path / "run", sampling=SamplingSettings(fit_n=2, fit_items=3))
    assert set(bf.measure(made, Choosy())["choosy"]) == {"fit", "test"}
    fit = made.examples()
    assert len(fit) == 15, "one of each query's two texts has two words"
    assert np.isfinite(fit.utility).all()
    assert np.isnan(made.examples("test").utility).sum() == 5
    found = made.diagnose(KINDS["length"]().fit(fit, rng=0), n=[1, 2]).to_dict()
    assert found["dropped"]["not_finite"] == 5
    assert found["candidates"] == 15


def test_the_instruction_is_that_of_the_task_unless_given(lamp, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        Parrot,
        "sample",
        lambda self, prompts, n, *, seed: (
            seen.extend(prompts) or [[Sampled("x", 1, None, "stop")] * n for _ in prompts]
        ),
    )
    data = bf.load("lamp", **lamp)
    bf.generate(Parrot(), data, n=1, out=tmp_path / "own")
    assert seen[0].messages[0]["content"].startswith("You give articles their headlines.")
    del seen[:]
    told = SamplingSettings(prompting=Prompting("Shout.", items=1))
    bf.generate(Parrot(), data, n=1, out=tmp_path / "told", sampling=told)
    assert seen[0].messages[0] == {"role": "system", "content": "Shout."}
    del seen[:]
    bf.generate(
        Parrot(), data, n=1, out=tmp_path / "lamp", sampling=SamplingSettings(prompting=Prompting(published="LaMP_4"))
    )
    last = next(prompt for prompt in seen if prompt.query_id == "q0").messages
    assert len(last) == 1
    assert last[0]["content"].endswith(". Generate a headline for the following article: the new town 0")


def test_other_data_do_not_share_a_folder(lamp, tmp_path):
    bf.generate(Parrot(), bf.load("lamp", **lamp), n=1, out=tmp_path / "run")
    with pytest.raises(InputError, match="the results of other data"):
        bf.generate(Parrot(), bf.load("lamp", users=2, **lamp), n=1, out=tmp_path / "run")


def test_what_is_not_measured_is_named(lamp, tmp_path):
    made = bf.generate(Parrot(), bf.load("lamp", **lamp), n=2, out=tmp_path / "run")
    with pytest.raises(InputError, match="found nothing measured"):
        made.examples()
    bf.measure(made, ["rougeL", "rouge1"])
    with pytest.raises(InputError, match="found several metrics"):
        made.examples()
    with pytest.raises(InputError, match="found metric 'rouge9'"):
        made.examples(metric="rouge9")


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("lmap", {}, "load: found source 'lmap'; expected 'lamp' (did you mean it?)"),
        ("lamp", {}, "load('lamp'): found no 'questions'"),
        ("lamp", {"questions": "q", "output": "o"}, "found unknown option 'output'; expected 'outputs' (did you mean"),
        ("lamp", {"questions": "q", "users": 0}, "load('lamp'): found users = 0"),
        ("lamp", {"questions": "/no/q.json"}, "/no/q.json: found no file"),
    ],
)
def test_bad_sources_are_one_line(source, options, message):
    with pytest.raises(InputError) as caught:
        bf.load(source, **options)
    assert message in str(caught.value)


def test_ratings_and_the_world_are_loaded_too(tmp_path):
    table = tmp_path / "r.csv"
    table.write_text("user,text,rating\na,x,1\na,y,2\n")
    assert bf.load("table", table).users == ("a",)
    assert bf.load("world", users=2).queries.num_rows > 0
