"""The same run by processes, by parts and by a real Ray cluster of two workers leaves the same bytes."""

import hashlib
import os
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from bestfor.backends.parts import WorkPart
from bestfor.errors import InputError
from bestfor.runs import in_parts
from bestfor.runs.config import parse_config
from bestfor.runs.in_parts import run_part
from bestfor.runs.run import run
from bestfor.runs.stages import folds
from bestfor.runs.turns import working

ENCODER = "static:all-MiniLM-L6-v2"


def config(**backend):
    raw = {
        "data": {"source": "world", "users": 4, "queries": 2},
        "split": {"min_fit": 0, "min_test": 2},
        "policy": {"n": 4, "fit_n": 2, "fit_items": 4, "chunk": 4, "max_new_tokens": 12},
        "utility": {"metrics": ["taste", "rougeL"], "primary": "taste"},
        "reward": [
            {"kind": "pooled", "encoder": ENCODER, "components": 4},
            {"kind": "hierarchical", "encoder": ENCODER, "components": 4},
        ],
    }
    return parse_config(raw | ({"backend": backend} if backend else {}), "test")


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


@pytest.mark.slow
def test_a_part_of_fits_waits_for_what_is_measured(tmp_path):
    with pytest.raises(InputError, match="candidates that are not measured; expected bestfor measure"):
        do_part(fit, tmp_path / "run", WorkPart(0, 2))


def kill_one(stop, killed):
    """Kill a worker process that has worked for a while, once."""
    while not stop.is_set() and not killed:
        for child in psutil.Process().children(recursive=True):
            if is_worker(child) and child.cpu_times().user > 2.0:
                os.kill(child.pid, signal.SIGKILL)
                killed.append(child.pid)
                return
        time.sleep(0.05)


def is_worker(process):
    try:
        line = " ".join(process.cmdline())
    except psutil.Error:
        return False
    return "spawn_main" in line or "ray::_Holder" in line


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["local", "ray"])
def test_two_workers_leave_the_same_bytes_though_one_is_killed(kind, tmp_path, expected, request):
    if kind == "ray":
        request.getfixturevalue("ray")
    stop, killed = threading.Event(), []
    killer = threading.Thread(target=kill_one, args=(stop, killed))
    killer.start()
    settings = config(kind=kind, workers=2)
    try:
        run(settings, tmp_path / "run")
    finally:
        stop.set()
        killer.join()
    assert tree(tmp_path / "run") == expected
    assert len(killed) == 1
