"""A run on the embedded world that is killed in the middle of sampling ends with the bytes of one that is not."""

import hashlib
import os
import signal
import subprocess
import sys
import time

import pytest

from bestfor.__main__ import main

RUN = """
name = "tiny"
[data]
source = "world"
users = 5
queries = 2
[split]
min_fit = 0
min_test = 2
[policy]
model = "embedded"
n = 6
fit_n = 3
fit_items = 4
chunk = 2
max_new_tokens = 24
[utility]
metrics = ["taste", "rougeL"]
primary = "taste"
[[reward]]
kind = "length"
[[reward]]
kind = "logprob"
[[reward]]
kind = "pooled"
components = 4
[diagnosis]
n = [1, 2, 4]
"""
DEADLINE = 120.0


def command(folder, out):
    (folder / "run.toml").write_text(RUN)
    return [sys.executable, "-m", "bestfor", "run", str(folder / "run.toml"), "--out", str(out)]


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def kill_after(folder, out, parts):
    """Start the run and kill -9 it as soon as so many parts of the pool are there."""
    started = time.monotonic()
    process = subprocess.Popen(command(folder, out), env=environment(), stderr=subprocess.DEVNULL)
    while len(list(out.glob("pool/part-*.parquet"))) < parts:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() - started < DEADLINE
        os.sched_yield()
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_killed_while_sampling_ends_with_the_same_bytes(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    done = subprocess.run(command(tmp_path, whole), env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kill_after(tmp_path, broken, parts=3)
    assert not (broken / "diagnosis.json").exists()
    done = subprocess.run(command(tmp_path, broken), env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert contents(broken) == contents(whole)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('model = "embedded"', 'model = "/no/such/checkpoint"', "/no/such/checkpoint"),
        ('model = "embedded"', 'model = "nobody/nothing-4B"', "nobody/nothing-4B"),
        ('primary = "taste"', 'primary = "rouge7"', "rouge7"),
        ('metrics = ["taste", "rougeL"]', 'metrics = ["taste", "rougL"]', "'rougeL' (did you mean it?)"),
        ("n = [1, 2, 4]", "n = [1, 400]", "400"),
    ],
)
def test_what_cannot_be_had_is_one_line(monkeypatch, capfd, tmp_path, old, new, message):
    assert old in RUN
    (tmp_path / "run.toml").write_text(RUN.replace(old, new, 1))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(sys, "argv", ["bestfor", "run", str(tmp_path / "run.toml"), "--out", str(tmp_path / "o")])
    assert main() == 2
    err = capfd.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("bestfor: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in err
