import importlib.util
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
spec = importlib.util.spec_from_file_location("tiny", Path(__file__).with_name("tiny.py"))
tiny = sys.modules["tiny"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """The folder of a random Qwen3 of 30,000 weights."""
    return tiny.save(tmp_path_factory.mktemp("checkpoint"))
