"""Clients of other projects in an environment of their own: LangChain, LiteLLM, and schemathesis."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from support import other_clients

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def bin_folder(tmp_path_factory):
    """Programs of a new environment with the extra ``clients``."""
    known = os.environ.get("BESTFOR_TEST_CLIENTS")
    if known:
        return Path(known) / "bin"
    folder = tmp_path_factory.mktemp("clients")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["clients"]
    done = subprocess.run([str(folder / "bin" / "pip"), "install", "-q", *wanted], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"clients cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    return folder / "bin"


def environment():
    """No path of the project, and nothing fetched while it runs."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**kept, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


def test_langchain_and_litellm_read_our_answers(serve, bin_folder):
    words = [str(bin_folder / "python"), other_clients.__file__, f"{serve().url}/v1"]
    done = subprocess.run(words, capture_output=True, text=True, env=environment())
    assert done.stdout.endswith("fine\n"), done.stderr[-3000:]


def test_no_request_that_openapi_describes_is_a_server_error(serve, bin_folder, tmp_path):
    # A deadline of next to nothing passes, and 504 says so: that is what was asked for.
    expected = '[checks.not_a_server_error]\nexpected-statuses = ["2xx", "3xx", "4xx", 504]\n'
    (tmp_path / "schemathesis.toml").write_text(expected)
    words = [str(bin_folder / "schemathesis"), "run", f"{serve().url}/openapi.json", "--checks", "not_a_server_error"]
    words += ["--max-examples", "25", "--phases", "coverage,fuzzing", "--suppress-health-check", "all"]
    done = subprocess.run(words, capture_output=True, text=True, env=environment(), cwd=tmp_path)
    assert "Failures:" not in done.stdout, done.stdout[-4000:]
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
