"""The same run by processes, by parts and by a real Ray cluster of two workers leaves the same bytes."""

import hashlib
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import tomli_w

from bestfor.backends.parts import WorkPart
from bestfor.errors import InputError
from bestfor.runs import in_parts
from bestfor.runs.config import parse_config
from bestfor.runs.in_parts import run_part
from bestfor.runs.run import run
from bestfor.runs.stages import folds
from bestfor.runs.turns import working

ENCODER = "static:all-MiniLM-L6-v2"


RAW = {
    "data": {"source": "world", "users": 4, "queries": 2},
    "split": {"min_fit": 0, "min_test": 2},
    "policy": {"n": 4, "fit_n": 2, "fit_items": 4, "chunk": 4, "max_new_tokens": 12},
    "utility": {"metrics": ["taste", "rougeL"], "primary": "taste"},
    "reward": [
        {"kind": "pooled", "encoder": ENCODER, "components": 4},
        {"kind": "hierarchical", "encoder": ENCODER, "components": 4},
    ],
}


def config(**backend):
    return parse_config(RAW | ({"backend": backend} if backend else {}), "test")


def tree(folder):
    """Hash every file but the cache of embeddings, whose shards hold the same vectors in other portions."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and "embeddings" not in path.parts]
    known = {path.relative_to(folder).as_posix(): path for path in paths if path.name != "place.json"}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in known.items()}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    run(config(), folder)
    found = tree(folder)
    assert {"diagnosis.json", "rewards/pooled.parquet", "utilities/taste.parquet", "run.toml"} <= found.keys()
    return found


def ignore(line):
    pass


def do_part(stage, folder, part=None, **backend):
    settings = config(**backend)
    with working(settings, folder, ignore, part):
        for stages in folds(settings, folder, ignore, part=part):
            stage(stages)


def fit(stages):
    for table in stages.own_models():
        stages.fit(table)


def predict(stages):
    for table in stages.own_models():
        stages.predict(table)


@pytest.mark.slow
def test_two_parts_and_a_call_for_all_leave_the_bytes_of_one_run(tmp_path, expected):
    # Machines without a folder in common: each works in its own and keeps it in one place.
    bucket = os.environ.get("BESTFOR_TEST_S3")
    place = f"{bucket}/parts" if bucket else f"file://{tmp_path}/shared"
    folders = [tmp_path / "0" / "run", tmp_path / "1" / "run"]
    stages = [lambda one: one.sample(), lambda one: one.measure_part(), "measure", lambda one: one.encode()]
    for stage in [*stages, fit, predict]:
        if stage == "measure":
            do_part(lambda one: one.measure(), tmp_path / "2" / "run", place=place)
            continue
        for index, folder in enumerate(folders):
            do_part(stage, folder, WorkPart(index, 2), place=place)
    told = []
    run(config(place=place), tmp_path / "2" / "run", tell=told.append)
    assert tree(tmp_path / "2" / "run") == expected
    if not bucket:
        assert tree(tmp_path / "shared") == expected
    for done in ("pool", "measure", "fit pooled", "fit hierarchical", "predict pooled"):
        assert f"{done}: already there" in told


@pytest.mark.slow
def test_parts_of_a_whole_run_wait_for_each_other_and_leave_the_bytes_of_one_run(tmp_path, expected, monkeypatch):
    monkeypatch.setattr(in_parts, "LOOK_EVERY", 0.1)
    folder, told = tmp_path / "run", []
    first = run_part(config(), folder, WorkPart(0, 2), tell=ignore)
    assert re.fullmatch(r"candidates: \d+ of \d+ parts of .*/pool are not there", first)
    with ThreadPoolExecutor(2) as pool:
        work = [pool.submit(run_part, config(), folder, WorkPart(i, 2), wait=300, tell=told.append) for i in (0, 1)]
        assert [one.result() for one in work] == ["", ""]
    assert any(re.fullmatch("part ./2 waits for .*", line) for line in told)
    run(config(), folder, tell=told.append)
    assert tree(folder) == expected
    for done in ("pool", "measure", "fit pooled", "fit hierarchical", "predict pooled"):
        assert f"{done}: already there" in told


def test_how_long_a_part_worked_does_not_make_it_wait_longer(tmp_path, monkeypatch):
    class Clock:
        now, slept = 0.0, ()

        def monotonic(self):
            return self.now

        def sleep(self, seconds):
            self.now, self.slept = self.now + seconds, (*self.slept, seconds)

    def passes(*seconds):
        clock, left = Clock(), list(seconds)

        def go(*_):
            clock.now += left.pop(0)
            return "" if not left else "others"

        monkeypatch.setattr(in_parts, "time", clock)
        monkeypatch.setattr(in_parts, "_as_far_as_it_goes", go)
        return run_part(config(), tmp_path, WorkPart(0, 2), wait=1000, tell=ignore), clock.slept

    assert passes(400, 1, 1, 0) == ("", (15, 15, 15))
    assert passes(1, 10, 300, 0) == ("", (15, 30, 30)), "a look that takes long is rarer, work is no look"
    assert passes(400, 100, 100, 1) == ("", (15, 300, 85)), "the last look is when the time is over"


@pytest.mark.slow
def test_a_part_of_fits_waits_for_what_is_measured(tmp_path):
    with pytest.raises(InputError, match="candidates that are not measured; expected bestfor measure"):
        do_part(fit, tmp_path / "run", WorkPart(0, 2))


def busy_worker(process, seconds):
    """Find a process that has worked so long for another one."""
    for child in process.children(recursive=True):
        try:
            line, used = " ".join(child.cmdline()), child.cpu_times().user
        except psutil.Error:
            continue
        if ("spawn_main" in line or "ray::_Holder" in line) and used > seconds:
            return child
    return None


def kill_one(stop, killed):
    """Kill a worker process that has worked for a while, once."""
    while not stop.is_set() and not killed:
        worker = busy_worker(psutil.Process(), 2.0)
        if worker is not None:
            worker.kill()
            killed.append(worker.pid)
        time.sleep(0.2)


@pytest.fixture(params=["local", "ray"])
def kind(request):
    if request.param == "ray":
        request.getfixturevalue("ray")
    return request.param


@pytest.mark.slow
def test_two_workers_leave_the_same_bytes_though_one_is_killed(kind, tmp_path, expected):
    stop, killed = threading.Event(), []
    killer = threading.Thread(target=kill_one, args=(stop, killed))
    killer.start()
    try:
        run(config(kind=kind, workers=2), tmp_path / "run")
    finally:
        stop.set()
        killer.join()
    assert tree(tmp_path / "run") == expected
    assert len(killed) == 1


def command(kind, file, folder, log):
    words = [sys.executable, "-m", "bestfor", "run", file, "--out", folder]
    words += ["--set", f"backend.kind={kind}", "--set", "backend.workers=2"]
    with log.open("w") as said:
        return psutil.Popen([str(word) for word in words], stdout=subprocess.DEVNULL, stderr=said)


def wait_for(found, process):
    while not found():
        assert process.is_running(), "it ended before"
        assert process.status() != psutil.STATUS_ZOMBIE, "it ended before"
        time.sleep(0.2)  # to look at all processes takes a while itself


@pytest.mark.slow
def test_a_command_killed_in_the_middle_leaves_no_process_and_one_that_waits_goes_on(kind, tmp_path, expected):
    file, folder = tmp_path / "run.toml", tmp_path / "run"
    file.write_text(tomli_w.dumps(RAW))
    first = command(kind, file, folder, tmp_path / "first.log")
    wait_for(lambda: busy_worker(first, 1.0), first)
    first.suspend()  # it stays in the middle until the second has said that it waits
    second = command(kind, file, folder, tmp_path / "second.log")
    wait_for(lambda: "another process works there" in (tmp_path / "second.log").read_text(), second)
    workers = first.children(recursive=True)
    left = tree(folder)
    first.kill()
    first.wait()
    assert second.wait() == 0, (tmp_path / "second.log").read_text()
    _, alive = psutil.wait_procs(workers, timeout=120)  # Ray's helpers look for their cluster for a while
    assert not alive
    assert tree(folder) == expected
    assert set(left) < set(expected), "it was in the middle"
