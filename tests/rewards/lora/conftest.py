import pytest

from support import lora as tools


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
