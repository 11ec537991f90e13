import pytest

from support.backbones import made as make


@pytest.fixture(scope="session")
def backbones(tmp_path_factory):
    """Makes tiny random backbones by name, each once."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = make(name, tmp_path_factory.mktemp(name))
        return made[name]

    return get
