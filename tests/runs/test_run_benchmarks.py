"""Every benchmark's task from its files through the histories door to measured candidates."""

import json

import pytest

from bestfor.errors import InputError
from bestfor.policies.replay import ReplayPolicy
from bestfor.runs.config import parse_config
from bestfor.runs.folder import describe_utilities
from bestfor.runs.stages import folds

CITATION = (
    'For an author who has written the paper with the title "T{0}", which reference is related? Just answer with [1] '
    'or [2] without explanation. [1]: "A" [2]: "B"'
)
TASKS = {
    "LaMP_1": (CITATION, "[1]", {"title": "T", "abstract": "a"}, ["[1]", "[2]"], "exact", 0.5),
    "LaMP_2": (
        "Which tag does this movie relate to among the following tags? Just answer with the tag name without further "
        "explanation. tags: [comedy, classic] description: film {0}",
        "comedy",
        {"tag": "comedy", "description": "film"},
        ["comedy", "classic"],
        "exact",
        0.5,
    ),
    "LaMP_3": (
        "What is the score of the following review on a scale of 1 to 5? just answer with 1, 2, 3, 4, or 5 without "
        "further explanation. review: cup {0}",
        "4",
        {"text": "cup", "score": "4"},
        ["4", "2"],
        "absolute_error",
        -1.0,
    ),
    "LaMP_4": (
        "Generate a headline for the following article: fair {0}",
        "the fair",
        {"text": "fair", "title": "the fair"},
        ["the fair", "x"],
        "rougeL",
        0.5,
    ),
    "LaMP_7": (
        "Paraphrase the following tweet without any explanation before or after it: tired {0}",
        "so tired",
        {"text": "no coffee"},
        ["so tired", "x"],
        "rougeL",
        0.5,
    ),
}


@pytest.fixture
def replayed(tmp_path, monkeypatch):
    """The stages of a run whose policy answers every query with the same texts."""

    def stages(data, texts, **split):
        candidates = tmp_path / "candidates.jsonl"
        candidates.write_text(json.dumps({"query_id": "any", "text": texts[0]}) + "\n")
        monkeypatch.setattr(
            ReplayPolicy, "_by_query", property(lambda self: _Anything([(text, i) for i, text in enumerate(texts)]))
        )
        raw = {
            "data": data,
            "split": {"min_fit": 2, "min_test": 2, **split},
            "policy": {"kind": "replay", "model": str(candidates), "n": 2, "fit_n": 2, "chunk": 8},
            "reward": [{"kind": "length"}],
            "diagnosis": {"n": [1, 2]},
        }
        return next(folds(parse_config(raw, "the test"), tmp_path / "run", lambda line: None))

    return stages


class _Anything(dict):
    """The same candidates for every query."""

    def __init__(self, texts):
        from bestfor.policies.base import Sampled

        self._texts = [Sampled(text, 1, -1.0 - i, "stop") for text, i in texts]

    def get(self, key, default=None):
        return self._texts


@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_kind_of_lamp_task_is_measured(replayed, tmp_path, task):
    asked, gold, item, texts, metric, mean = TASKS[task]
    files = {}
    for name in ("train", "dev"):
        texts_of = {key for key in item if key in ("text", "abstract", "title", "description")}
        rows = [
            {
                "id": str(at),
                "input": asked.format(f"{name}{at}"),
                # Equal profiles would be one user's.
                "profile": [{key: f"{text} old {name}{at}" if key in texts_of else text for key, text in item.items()}],
            }
            for at in range(3)
        ]
        files[name] = tmp_path / f"{name}_questions.json", tmp_path / f"{name}_outputs.json"
        files[name][0].write_text(json.dumps(rows))
        golds = [{"id": row["id"], "output": gold} for row in rows]
        files[name][1].write_text(json.dumps({"task": task, "golds": golds}))
    data = {"source": "lamp", "questions": str(files["dev"][0]), "outputs": str(files["dev"][1])}
    data |= {"fit_questions": str(files["train"][0]), "fit_outputs": str(files["train"][1])}
    unlabelled = task in ("LaMP_1", "LaMP_7")
    if unlabelled:
        with pytest.raises(InputError, match="no user with enough history"):
            replayed(data, texts)
    stages = replayed(data, texts, min_fit=0 if unlabelled else 2)
    stages.sample()
    assert stages.measure()
    found = describe_utilities(stages.folder, [metric])[metric]
    assert found["test"] == {"candidates": 6, "mean": pytest.approx(mean)}
    assert found["fit"]["candidates"] == (6 if unlabelled else 6 + 2 * 2 * 3)
    stages.predict(stages.config.reward[0])


def test_longlamp_and_tables_of_ones_own_run_too(replayed, tmp_path):
    rows = [
        {
            "author": f"a{user}",
            "input": f"Generate the content for a reddit post dog {user}",
            "output": "my dog ran",
            "profile": [
                {"content": f"long ago {at}", "summary": f"cat {at}", "id": str(at), "author": "a"} for at in range(2)
            ],
        }
        for user in range(3)
    ]
    path = tmp_path / "test.json"
    path.write_text(json.dumps(rows))
    stages = replayed({"source": "longlamp", "path": str(path)}, ["my dog ran", "x"])
    stages.sample()
    assert stages.measure()
    assert describe_utilities(stages.folder, ["rougeL"])["rougeL"]["test"] == {
        "candidates": 6,
        "mean": pytest.approx(0.5),
    }
    assert stages.data.task == "topic_writing"


def test_tables_of_ones_own_run_too(replayed, tmp_path):
    tables = tmp_path / "h.csv", tmp_path / "q.csv"
    tables[0].write_text("user_id,item_id,input,output\n" + "".join(f"u,{at},ask {at},wrote {at}\n" for at in range(3)))
    tables[1].write_text("query_id,user_id,input,reference\nq,u,now,wrote now\n")
    stages = replayed(
        {"source": "histories", "histories": str(tables[0]), "queries": str(tables[1])}, ["wrote now", "x"]
    )
    stages.sample()
    assert stages.measure()
    found = describe_utilities(stages.folder, ["rougeL"])["rougeL"]
    assert (found["fit"]["candidates"], found["test"]["candidates"]) == (6, 2)
