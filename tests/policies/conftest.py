import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bestfor.endpoint import EndpointConfig
from bestfor.policies.feedback import FeedbackPolicy
from bestfor.policies.openai import OpenAIPolicy

pytest.importorskip("torch")


def shared(name):
    """A module of these tests that several of them import."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tiny = shared("tiny")
shared("answers")
shared("gguf_of")
reader = shared("reader")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """The folder of a random Qwen3 of 30,000 weights."""
    return tiny.save(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def policy(scripted):
    """Makes policies of scripted servers, and closes them."""
    made = []

    def make(answer, *, server=None, **options):
        running = scripted(answer)
        config = replace(server or EndpointConfig(), base_url=running.url, backoff=0.001)
        made.append(OpenAIPolicy("m", server=config, **options))
        return made[-1], running

    yield make
    for one in made:
        one.close()


@pytest.fixture
def feedback(policy):
    """Makes policies with feedback of scripted servers."""

    def make(answer=reader.obedient, score=reader.marks, *, context=None, server=None, **options):
        inner, running = policy(answer, context=context, server=server)
        return FeedbackPolicy(inner, score, "a test's", **{"width": 3, "critique_tokens": 20, **options}), running

    return make
