import json
import os
import subprocess
import sys
import tempfile

import pytest

from bestfor.data.schema import HISTORIES
from bestfor.data.sources import histories
from bestfor.data.sources.histories import Collector, Entry
from bestfor.errors import InputError


def entries(count, size=10):
    return [Entry(str(at), f"asked {at} " + "x" * size, f"wrote {at}", at) for at in range(count)]


@pytest.mark.parametrize("most", [0, 3_000, 1 << 30])
def test_what_is_spilled_is_what_came(monkeypatch, tmp_path, most):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(histories, "_BATCH", 1_000)
    collector = Collector(most)
    for user in ("b", "a"):
        collector.add(user, entries(100))
        collector.forget(user)
    table = collector.table()
    assert table.schema == HISTORIES
    assert table["user_id"].to_pylist() == ["b"] * 100 + ["a"] * 100
    assert table["input"].to_pylist() == [entry.input for entry in entries(100)] * 2
    assert table["timestamp"].to_pylist() == [*range(100)] * 2
    assert not list(tmp_path.iterdir()), "the temporary file is gone while its rows are in use"


def test_no_items_are_a_table_too():
    assert Collector().table().equals(HISTORIES.empty_table())


def test_no_room_for_temporary_files_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(histories, "_BATCH", 100)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(
        InputError, match=r"temporary files in .*none: found No such file.*TMPDIR chooses another place"
    ):
        Collector(most=0).add("a", entries(50))


LIMITED = """
import resource, sys
from bestfor.data.sources import histories
from bestfor.data.sources.lamp import load_lamp

small, large, room, batch, most = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
# Whatever libraries keep for themselves, their threads above all, is there before the limit is set.
histories.MOST_IN_MEMORY = 0
load_lamp(small)
used = next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (used + room, used + room))
histories._BATCH, histories.MOST_IN_MEMORY = batch, most
data = load_lamp(large)
print(data.histories.num_rows, data.histories.nbytes)
"""


def grow(path, users, items, size):
    text = " ".join(["wörds"] * (size // 6))
    with path.open("w", encoding="utf-8") as handle:
        for user in range(users):
            profile = [{"id": str(at), "text": f"{user} {at} {text}", "title": f"t{at}"} for at in range(items)]
            asked = f"Generate a headline for the following article: {user}"
            row = json.dumps({"id": str(user), "input": asked, "profile": profile}, ensure_ascii=False)
            handle.write(("[" if user == 0 else ", ") + row)
        handle.write("]")
    return path


def load_within(folder, room, shape, batch, most):
    """Load a generated file in a process that may allocate so many bytes; returns rows, bytes and the file's size."""
    small, large = grow(folder / "small.json", 2, 3, 600), grow(folder / "large.json", *shape)
    environment = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}
    command = [sys.executable, "-c", LIMITED, str(small), str(large), *map(str, (room, batch, most))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows, held = map(int, done.stdout.split())
    return rows, held, large.stat().st_size


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit counts a process's own memory on Linux only")
def test_a_file_larger_than_the_memory_it_may_use_is_read(tmp_path):
    rows, held, size = load_within(tmp_path, 14 << 20, (300, 60, 1_800), 1 << 19, 1 << 20)
    assert rows == 300 * 60
    assert held > 2 * (14 << 20)
    assert size > 2 * (14 << 20)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit counts a process's own memory on Linux only")
def test_a_gigabyte_is_read_in_a_quarter_of_it(tmp_path):
    rows, held, size = load_within(tmp_path, 1 << 28, (100, 10_000, 1_000), histories._BATCH, 1 << 26)
    assert rows == 1_000_000
    assert min(held, size) > 1 << 30
