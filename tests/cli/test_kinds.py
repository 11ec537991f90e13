"""``bestfor kinds`` knows every kind, its options and their defaults; help shows the choices of an option."""

import json
import re
import sys

import pytest

from bestfor.__main__ import main
from bestfor.cli.kinds import described
from bestfor.metrics import METRICS
from bestfor.policies import POLICIES
from bestfor.policies.retrieval import METHODS, Retriever
from bestfor.rewards import KINDS, build


@pytest.fixture
def bestfor(monkeypatch, capfd):
    def call(*words):
        monkeypatch.setattr(sys, "argv", ["bestfor", *words])
        monkeypatch.setenv("COLUMNS", "200")
        code = main()
        out, err = capfd.readouterr()
        return code, out, err

    return call


def test_every_kind_is_listed_with_its_options(bestfor):
    code, out, _ = bestfor("kinds", "--json")
    found = json.loads(out)
    assert code == 0
    names = {family: [one["kind"] for one in listed] for family, listed in found.items()}
    assert names["reward models"] == list(KINDS)
    assert names["metrics"] == list(METRICS)
    assert names["policies"] == list(POLICIES)
    assert names["retrievers"] == list(METHODS)
    assert "all-MiniLM-L6-v2" in names["encoders"]
    for family, listed in found.items():
        for one in listed:
            assert one["description"], (family, one["kind"])
            assert set(one["extras"]) <= {"models", "metrics", "endpoint", "onnx", "demo", "static", "ray"}
    options = {one["kind"]: {option["name"]: option for option in one["options"]} for one in found["reward models"]}
    assert options["gaussian"]["loss"]["choices"] == ["nll", "beta_nll", "natural"]
    assert options["gaussian"]["hidden"]["default"] == 32
    assert options["judge"]["model"]["required"]
    assert "endpoint.base_url" in options["judge"]
    policies = {one["kind"]: {option["name"] for option in one["options"]} for one in found["policies"]}
    assert "endpoint.base_url" in policies["openai"]
    assert "endpoint.base_url" not in policies["transformers"]
    assert {"model", "chunk", "n"} <= policies["replay"]
    assert "temperature" not in policies["replay"]


def test_defaults_are_those_of_the_kinds(bestfor):
    found = json.loads(bestfor("kinds", "--json")[1])
    for one in found["reward models"]:
        model = build(one["kind"], **({"model": "m"} if one["kind"] == "judge" else {}))
        config = model.config.model_dump(mode="json")
        for option in one["options"]:
            if "." not in option["name"] and not option["required"]:
                name = option["name"]  # what a model without it does not store is still an option
                found_default = config[name] if name in config else getattr(model.config, name)
                assert option["default"] == found_default, (one["kind"], name)


def test_every_option_of_a_reward_model_is_described(bestfor):
    found = json.loads(bestfor("kinds", "--json")[1])
    bare = [
        (one["kind"], option["name"])
        for one in found["reward models"]
        for option in one["options"]
        if not option["description"] and "." not in option["name"]
    ]
    assert bare == []


def test_one_kind_is_shown_in_full(bestfor):
    code, out, _ = bestfor("kinds", "hierarchical")
    assert code == 0
    assert "hierarchical (reward model)" in out
    assert re.search(r"components +whole number >= 0", out)
    assert "pip install 'bestfor[models]'" in out
    _, out, _ = bestfor("kinds", "judge")
    assert "judge (reward model)" in out
    assert "judge (metric)" in out
    _, out, _ = bestfor("kinds", "feedback")
    assert "feedback.reward" in out
    code, out, err = bestfor("kinds", "hierarchic")
    assert (code, out) == (2, "")
    assert err == "bestfor: kinds: found 'hierarchic'; expected 'hierarchical' (did you mean it?)\n"


def test_all_kinds_are_shown_to_people(bestfor):
    code, out, _ = bestfor("kinds")
    assert code == 0
    for name in (*KINDS, *METRICS, *POLICIES, *METHODS):
        assert re.search(rf"^{name} ", out, re.MULTILINE), name


def test_a_broken_plug_in_is_told_not_a_failure(bestfor, monkeypatch):
    from importlib import metadata

    point = metadata.EntryPoint("broken", "no_such_module_here:Model", "bestfor.rewards")
    monkeypatch.setitem(KINDS.__dict__, "installed", {"broken": point})
    code, out, _ = bestfor("kinds")
    assert code == 0
    assert re.search("^broken +Cannot be imported: .*no module 'no_such_module_here'", out, re.MULTILINE)


def test_help_shows_choices(bestfor):
    code, out, _ = bestfor("diagnose", "--help")
    assert code == 0
    for choices in ("utility|arbitrary", "user|query", "t|bootstrap"):
        assert choices in out
    code, _, err = bestfor("diagnose", "x.csv", "--interval", "bootstraps")
    assert (code, err) == (2, "bestfor: --interval: found 'bootstraps'; expected 'bootstrap' (did you mean it?)\n")
    code, _, err = bestfor("diagnose", "x.csv", "--averaging", "both")
    assert (code, err) == (2, "bestfor: --averaging: found 'both'; expected one of user, query\n")


def test_docstrings_are_read():
    class Base:
        """Base.

        Attributes:
            one: what it
                is.
            two: another.
        """

    class Child(Base):
        """Child.

        Args:
            two: its own.

        Raises:
            three: no option.
        """

    assert described(Child) == {"two": "its own.", "one": "what it is."}
    assert Retriever([], "none").best("x", 1) == []
