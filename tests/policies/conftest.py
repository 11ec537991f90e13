from dataclasses import replace
from pathlib import Path

import pytest

from bestfor.endpoint import EndpointConfig
from bestfor.policies.openai import OpenAIPolicy


@pytest.fixture(scope="session")
def corpus():
    """Headlines of twelve people to fine-tune on."""
    from bestfor.data.world import INSTRUCTIONS, World, build
    from bestfor.policies.finetune.corpus import Corpus

    world = World(seed=99, users=12, items=(5, 6), queries=0)
    return Corpus(build(world).histories, INSTRUCTIONS["headline"])


@pytest.fixture(scope="session")
def settings():
    """A training of twelve steps."""
    from bestfor.policies.finetune.settings import Finetune, Size

    size = Size(vocabulary=500, hidden=32, layers=1, heads=2, kv_heads=1, intermediate=48, positions=600)
    return Finetune(Path("unused"), steps=12, tokens=1024, rate=1e-2, save_every=4, held_out=0.2, size=size)


@pytest.fixture(scope="session")
def trained(corpus, settings, tmp_path_factory):
    """The training, its folder among its settings, and its record."""
    from bestfor.policies.finetune import finetune

    config = replace(settings, out=tmp_path_factory.mktemp("trained"))
    return config, finetune(config, [corpus])


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
