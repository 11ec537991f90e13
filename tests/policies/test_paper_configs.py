"""The configurations of the paper's setting load, and run with a tiny random Qwen3 in place of Qwen3-4B."""

import json
import runpy
import tomllib
from pathlib import Path
from urllib.parse import unquote

import pytest
import tomli_w

from bestfor.policies.base import Prompt
from bestfor.policies.transformers import TransformersPolicy
from bestfor.rng import derive
from bestfor.runs.config import load_config, parse_config
from bestfor.runs.run import run
from support import later, tiny
from support.servers import sampling

adapters = later("bestfor.policies.adapters", "torch", "peft")
transformers = later("transformers")


FOLDER = Path(__file__).resolve().parent.parent.parent / "examples" / "paper"
FILES = sorted(FOLDER.glob("*.toml"))
WORDS = " ".join(tiny.SENTENCES).split()
USERS = ("ann", "bob/c d", "eve")
ITEMS = 8


def words(count, *names):
    return " ".join(derive(0, *names).choice(WORDS, count))


def lamp(folder, number):
    """LaMP's two files: one question a user."""
    field, asking = {
        4: ("text", "Generate a headline for the following article: "),
        5: ("abstract", "Generate a title for the following abstract of a paper: "),
    }[number]
    questions, golds = [], []
    for index, user in enumerate(USERS):
        profile = [
            {
                "id": f"{index}{item:02d}",
                field: words(9, user, item),
                "title": words(4, user, item, "t"),
                "date": f"2020-01-{item + 1:02d}",
            }
            for item in range(ITEMS)
        ]
        asked = asking + words(9, user, "asked")
        questions.append({"id": f"q{index}", "user_id": user, "input": asked, "profile": profile})
        golds.append({"id": f"q{index}", "output": words(4, user, "gold")})
    paths = folder / "questions.json", folder / "outputs.json"
    paths[0].write_text(json.dumps(questions))
    paths[1].write_text(json.dumps({"task": f"LaMP_{number}", "golds": golds}))
    return {"questions": str(paths[0]), "outputs": str(paths[1])}


REVIEW = (
    'Generate the review text written by a reviewer who has a given an overall rating of "5.0" for a product with '
    'description "{}". The summary of the review text is "{}".'
)


def question(task, user):
    return {
        "abstract_generation": f'Generate an abstract for the title "{words(3, user)}"',
        "topic_writing": f"Generate the content for a reddit post {words(5, user)}",
        "product_review": REVIEW.format(words(3, user), words(2, user, "s")),
    }[task]


def entry(task, user, i):
    short, long = words(3, user, i), words(9, user, i, "a")
    review = {"overall": "4.0", "description": short, "summary": words(2, user, i, "s"), "reviewText": long}
    kinds = {
        "abstract_generation": {"title": short, "abstract": long, "year": 2000 + i},
        "topic_writing": {"summary": short, "content": long, "author": user},
        "product_review": review,
    }
    return kinds[task] | {"id": f"{user}{i}"}


def longlamp(folder, task):
    """LongLaMP's rows: one a user."""
    name = {"abstract_generation": "name", "topic_writing": "author", "product_review": "reviewerId"}[task]
    path = folder / "test.jsonl"
    with path.open("w") as file:
        for user in USERS:
            row = {name: user, "input": question(task, user), "output": words(9, user, "gold")}
            file.write(json.dumps(row | {"profile": [entry(task, user, i) for i in range(ITEMS)]}) + "\n")
    return {"path": str(path)}


def data_of(raw, folder):
    folder.mkdir()
    if raw["source"] == "lamp":
        return raw | lamp(folder, int(raw["task"][-1]))
    return raw | longlamp(folder, raw["task"].removesuffix("_user")) | {"task": raw["task"].removesuffix("_user")}


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    """A random Qwen3 with room for whole prompts."""
    return tiny.save(tmp_path_factory.mktemp("qwen"), positions=8192)


@pytest.fixture(scope="module")
def qwen2(tmp_path_factory):
    """A random Qwen2."""
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = transformers.Qwen2Config(
        vocab_size=len(tiny.tokenizer()), intermediate_size=16, max_position_embeddings=8192, **shape
    )
    return tiny.save(tmp_path_factory.mktemp("qwen2"), config)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_configuration_holds_the_papers_setting(path):
    config = load_config(path)
    assert config.name == path.stem
    assert (config.policy.kind, config.policy.model, config.policy.n) == ("openai", "Qwen/Qwen3-4B", 30)
    assert config.policy.endpoint.user_model == "{user}"
    assert config.policy.fit_share < 1, "items that train adapters do not label"
    assert config.utility.primary == "rougeL"
    assert config.diagnosis.n[-1] == 30
    kinds = [reward.kind for reward in config.reward]
    assert {"point", "bradley_terry", "gaussian"} <= set(kinds)
    assert [reward.options["backbone"] for reward in config.reward if reward.kind == "lora"] == ["Qwen/Qwen2.5-1.5B"]


def test_all_five_tasks_are_there():
    longer = ["longlamp_abstract", "longlamp_product", "longlamp_topic"]
    assert [path.stem for path in FILES] == ["lamp4", "lamp5", *longer]


LONG = [pytest.param(path, marks=pytest.mark.slow, id=path.stem) for path in FILES[1:]]


@pytest.mark.slow
@pytest.mark.parametrize("path", [pytest.param(FILES[0], id="lamp4"), *LONG])
def test_a_configuration_runs_end_to_end(path, qwen, qwen2, scripted, tmp_path, capsys):
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    raw["data"] = data_of(raw["data"], tmp_path / "data")
    raw["policy"] |= {"model": str(qwen), "max_new_tokens": 12}
    (large,) = (reward for reward in raw["reward"] if reward["kind"] == "lora")
    large |= {"backbone": str(qwen2), "epochs": 1, "user_epochs": 1, "probe": 2}
    file = tmp_path / "run.toml"
    # The script reads a file, as a person has it: only names and lengths differ from the one that is shipped.
    file.write_text(tomli_w.dumps(raw))
    script = runpy.run_path(str(FOLDER / "adapters.py"))
    taught = script["main"](
        str(file), str(tmp_path / "adapters"), settings=adapters.LoraSettings(steps=2, rank=2, targets=("q_proj",))
    )
    assert taught == sorted(USERS)
    served = tmp_path / "adapters" / "served"
    assert "vllm serve" in capsys.readouterr().out
    own = TransformersPolicy(qwen, max_new_tokens=12, adapters=tmp_path / "adapters" / "trained")

    def serve(body):
        assert body["model"] == str(qwen) or (served / body["model"] / "adapter_config.json").is_file()
        user = "" if body["model"] == str(qwen) else unquote(body["model"])
        return Prompt("served", tuple(body["messages"]), user), own

    server = scripted(sampling(serve))
    raw["policy"]["endpoint"]["base_url"] = server.url
    result = run(parse_config(raw, "run.toml"), tmp_path / "run")
    assert result.diagnosis.queries == 3
    assert set(result.diagnosis.models) == {reward["kind"] for reward in raw["reward"]}
    assert {request.body["model"] for request in server.requests} == {"ann", "bob%2Fc%20d", "eve"}
    assert all(request.body["top_k"] == -1 for request in server.requests)
    usage = json.loads((tmp_path / "run" / "usage.json").read_text())["policy"]
    assert (usage["failed"], usage["estimated"]) == (0, 0)
    assert usage["requests"] == len(server.requests)
