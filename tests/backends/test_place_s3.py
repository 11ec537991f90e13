"""A bucket of S3 as the place of runs: the tests of places and of parts once more, by a Python that has s3fs."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.slow
def test_a_bucket_holds_runs_as_a_folder_does(s3):
    python, given = s3
    tests = ["tests/backends/test_place.py", "tests/runs/test_backends.py"]
    words = [str(python), "-m", "pytest", "-q", "-m", "", "-k", "s3 or two_parts", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(words, capture_output=True, text=True, env=given, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "4 passed" in done.stdout, done.stdout[-1000:]
    assert "skipped" not in done.stdout
