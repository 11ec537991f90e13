"""A run that is killed at any moment, by kill -9, ends with the bytes of one that is not."""

import hashlib
import json
import os
import subprocess
import sys

import pytest

KILLER = """
import json, os, random, select, signal, sys, time, traceback
from pathlib import Path
import bestfor.runs.sources, bestfor.policies.replay, bestfor.metrics.overlap, rouge_score.rouge_scorer
from bestfor.runs.config import load_config
from bestfor.runs.run import run

file, base, rounds, seed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
config = load_config(file)

def work(out, patience=None):
    # The child runs with all modules loaded, so that moments fall into its work; the pipe closes when it ends.
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            run(config, out)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(write)
    select.select([read], [], [], patience)
    os.kill(child, signal.SIGKILL if patience is not None else 0)
    os.close(read)
    return os.waitpid(child, 0)[1]

started = time.monotonic()
assert work(base / "whole") == 0
took = time.monotonic() - started
draw = random.Random(seed)
for number in range(rounds):
    out = base / f"killed{number}"
    status = work(out, draw.uniform(0.0, took))
    print(json.dumps({"killed": os.WIFSIGNALED(status), "left": len(list(out.rglob("*"))) if out.is_dir() else 0}))
    assert work(out) == 0
"""


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def kill(headlines, base, rounds):
    command = [sys.executable, "-c", KILLER, str(headlines), str(base), str(rounds), "7"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    whole = contents(base / "whole")
    assert "report.html" in whole
    for number in range(rounds):
        assert contents(base / f"killed{number}") == whole
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert sum(one["killed"] for one in said) >= rounds // 2, "too few were killed before their end"
    return said


@pytest.mark.slow
def test_killed_at_five_moments(headlines, tmp_path):
    assert len(kill(headlines, tmp_path / "runs", 5)) == 5


@pytest.mark.slow
def test_killed_at_fifty_moments(headlines, tmp_path):
    said = kill(headlines, tmp_path / "runs", 50)
    assert len({one["left"] for one in said}) > 10, "the moments fall into different stages"
