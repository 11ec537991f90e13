import importlib.util
import sys
from pathlib import Path

import pytest

from bestfor import rewards
from servers import judging


def shared(name):
    """A module of these tests that several of them import."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tools, scoring, judges = shared("lora_tools"), shared("scoring_tools"), shared("judge_tools")


@pytest.fixture(scope="session")
def qwen2(tmp_path_factory):
    """The folder of a tiny random Qwen2."""
    return str(tools.save(tools.qwen(), tmp_path_factory.mktemp("qwen2")))


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A Qwen2 of one layer, for tests that fit often."""
    model = tools.qwen(hidden_size=8, intermediate_size=8, num_hidden_layers=1)
    return str(tools.save(model, tmp_path_factory.mktemp("small")))


@pytest.fixture(scope="session")
def qwen3(tmp_path_factory):
    """A tiny Qwen3."""
    return str(tools.save(tools.qwen(3), tmp_path_factory.mktemp("qwen3")))


@pytest.fixture(scope="session")
def bert(tmp_path_factory):
    """A tiny BERT."""
    return str(tools.save(tools.bert(), tmp_path_factory.mktemp("bert")))


@pytest.fixture(scope="session")
def backbones(tmp_path_factory):
    """Makes tiny random backbones by name, each once."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = scoring.made(name, tmp_path_factory.mktemp(name))
        return made[name]

    return get


@pytest.fixture
def judge(scripted):
    """Makes judges before a scripted server; gives both."""
    made = []

    def make(answer=None, *, cache=None, encoder=None, **options):
        running = scripted(answer or judging())
        given = {"model": "m", "endpoint": {"base_url": running.url, **judges.QUICK}, **options}
        made.append(rewards.build("judge", cache=cache, encoder=encoder, **given))
        return made[-1], running

    yield make
    for one in made:
        one.close()
