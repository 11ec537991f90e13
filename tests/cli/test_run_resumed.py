"""A run on the embedded world that is killed in the middle of sampling ends with the bytes of one that is not."""

import hashlib
import os
import select
import signal
import sys
import time

import pytest

from bestfor.__main__ import main

RUN = """
name = "tiny"
[data]
source = "world"
users = 4
queries = 2
[split]
min_fit = 0
min_test = 2
[policy]
model = "embedded"
n = 4
fit_n = 3
fit_items = 4
chunk = 2
max_new_tokens = 12
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


MAIN = "import sys; from bestfor.__main__ import main; sys.exit(main())"


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def kill_after(forks, command, out, parts):
    """Start the run and kill -9 it as soon as so many parts of the pool are there."""
    started = time.monotonic()
    child = forks.start(MAIN, *command)
    while len(list(out.glob("pool/part-*.parquet"))) < parts:
        assert time.monotonic() - started < DEADLINE
        select.select([], [], [], 0.002)
    os.kill(child, signal.SIGKILL)
    code, said = forks.finish()
    assert code == -signal.SIGKILL, said


@pytest.mark.slow
def test_killed_while_sampling_ends_with_the_same_bytes(forks, tmp_path):
    (tmp_path / "run.toml").write_text(RUN)
    whole, broken = (("run", tmp_path / "run.toml", "--out", tmp_path / name) for name in ("whole", "broken"))
    code, said = forks.run(MAIN, *whole)
    assert code == 0, said
    kill_after(forks, broken, broken[-1], parts=3)
    assert not (broken[-1] / "diagnosis.json").exists()
    code, said = forks.run(MAIN, *broken)
    assert code == 0, said
    assert contents(broken[-1]) == contents(whole[-1])


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
