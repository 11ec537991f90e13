import json
import os
import signal
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bestfor.data.schema import CANDIDATES
from bestfor.errors import InputError
from bestfor.pool import CandidatePool, content_hash

DEAD = 2**22 + 7
"""Above the largest process id of Linux."""


def part(query, texts, logprob=-1.5):
    rows = [(query, i, f"id{i}", text, logprob, "stop", "p", 0) for i, text in enumerate(texts)]
    return pa.table(
        [pa.array(list(column), f.type) for column, f in zip(zip(*rows, strict=True), CANDIDATES, strict=True)],
        schema=CANDIDATES,
    )


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def pool(tmp_path):
    pool = CandidatePool(tmp_path / "pool")
    pool.plan(["00", "01", "02"])
    for key, query in (("01", "b"), ("00", "a"), ("02", "c")):
        pool.append(part(query, ["one", "zwei ä", ""]), key=key)
    return pool


def test_rows_come_back_sorted_and_whole(pool):
    table = pool.scan()
    assert table.schema == CANDIDATES
    assert table["query_id"].to_pylist() == [*"aaabbbccc"]
    assert table["candidate"].to_pylist() == [0, 1, 2] * 3
    assert table["text"].to_pylist() == ["one", "zwei ä", ""] * 3
    assert pool.missing() == []
    assert pool.verify() == []


def test_an_unfinished_pool_says_what_is_owed(pool):
    pool.path("01").unlink()
    assert pool.missing() == ["01"]
    assert pool.missing(["02", "03"]) == ["03"]
    with pytest.raises(InputError, match="2 of 3 parts"):
        pool.scan()
    assert pool.scan(partial=True)["query_id"].to_pylist() == [*"aaaccc"]
    with pytest.raises(InputError, match="no file"):
        _ = pool.digest


def tear(path):
    path.write_bytes(path.read_bytes()[:-40])


def empty(path):
    path.write_bytes(b"")


def edit(path):
    table = pq.read_table(path)
    column = pa.array(["better", *table["text"].to_pylist()[1:]])
    pq.write_table(table.set_column(3, CANDIDATES.field("text"), column), path)


def rewrite(path):
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)


def swap(path):
    path.write_bytes(path.with_name("part-02.parquet").read_bytes())


@pytest.mark.parametrize("harm", [tear, empty, edit, rewrite, swap])
def test_a_harmed_part_is_named_and_only_it_is_redone(pool, harm):
    before = contents(pool.folder)
    harm(pool.path("01"))
    assert [problem.path for problem in pool.verify()] == [pool.path("01")]
    assert pool.missing() == ["01"]
    with pytest.raises(InputError, match=r"part-01\.parquet"):
        pool.scan()
    pool.append(part("b", ["one", "zwei ä", ""]), key="01")
    assert contents(pool.folder) == before


@given(position=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_a_flipped_byte_never_yields_other_rows(tmp_path_factory, position, flip):
    folder = tmp_path_factory.mktemp("pool")
    pool, table = CandidatePool(folder), part("q", ["alpha", "beta"] * 20)
    path = pool.path(pool.append(table))
    data = bytearray(path.read_bytes())
    data[int(position * len(data))] ^= flip
    path.write_bytes(bytes(data))
    try:
        assert pool.scan().equals(table)
    except InputError:
        assert pool.verify()


def test_the_first_sound_part_stays(pool):
    before = contents(pool.folder)
    pool.append(part("b", ["another", "answer"]), key="01")
    assert contents(pool.folder) == before


def test_a_part_that_appears_meanwhile_stays(pool, monkeypatch):
    pool.path("01").unlink()
    link, rival = os.link, CandidatePool(pool.folder)

    def late(fresh, path):
        monkeypatch.setattr(os, "link", link)
        monkeypatch.setattr(os, "getpid", lambda: DEAD)
        rival.append(part("b", ["rival"]), key="01")
        link(fresh, path)

    monkeypatch.setattr(os, "link", late)
    pool.append(part("b", ["ours"]), key="01")
    assert pool.scan()["text"].to_pylist().count("rival") == 1
    assert not list(pool.folder.glob(".*"))


def test_without_hard_links_a_rename_serves(pool, monkeypatch):
    before = contents(pool.folder)
    pool.path("01").unlink()

    def refuse(*_):
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    pool.append(part("b", ["one", "zwei ä", ""]), key="01")
    assert contents(pool.folder) == before


WRITER = """
import os, sys
from pathlib import Path
import pyarrow as pa
from bestfor.data.schema import CANDIDATES
from bestfor.pool import CandidatePool
folder, mark = sys.argv[1:]
pool = CandidatePool(folder)
for index in range(40):
    rows = [(f"q{index}", i, "id", mark * 50, None, "stop", "p", 0) for i in range(30)]
    columns = [pa.array(list(c), f.type) for c, f in zip(zip(*rows), CANDIDATES)]
    pool.plan([f"{i:02d}" for i in range(40)])
    pool.append(pa.table(columns, schema=CANDIDATES), key=f"{index:02d}")
# All is written: on a crowded machine Arrow's threads have been seen to abort a process that was ending.
os._exit(0)
"""


def test_two_processes_writing_at_once_leave_every_part_whole(tmp_path):
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), mark]) for mark in "ab"]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    pool = CandidatePool(tmp_path)
    assert pool.verify() == []
    table = pool.scan()
    assert len(table) == 40 * 30
    assert len({*zip(table["query_id"].to_pylist(), table["text"].to_pylist(), strict=True)}) == 40, "no part is mixed"
    assert not list(tmp_path.glob(".*"))


KILLED = """
import os, sys
import pyarrow as pa
from bestfor.data.schema import CANDIDATES
from bestfor.pool import CandidatePool

def wait_for_the_end(*_):
    print("ready", flush=True)
    sys.stdin.read()

os.link = wait_for_the_end
CandidatePool(sys.argv[1]).append(CANDIDATES.empty_table(), key="01")
"""


def test_a_writer_that_is_killed_leaves_nothing_that_counts(pool):
    before = contents(pool.folder)
    pool.path("01").unlink()
    command = [sys.executable, "-c", KILLED, str(pool.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert len(list(pool.folder.glob(".part-01*"))) == 1
    assert (pool.missing(), pool.verify()) == (["01"], [])
    pool.append(part("b", ["one", "zwei ä", ""]), key="01")
    pool.sweep()
    assert contents(pool.folder) == before


def test_leftovers_of_killed_writers_are_swept_and_those_of_living_ones_kept(pool):
    dead = [pool.folder / f".part-07.{DEAD}", pool.folder / f"..part-07.{DEAD}.{DEAD}.partial"]
    alive = pool.folder / f".part-08.{os.getpid()}"
    for path in (*dead, alive):
        path.write_bytes(b"half")
    pool.sweep()
    assert [path.exists() for path in (*dead, alive)] == [False, False, True]
    assert pool.missing() == []


def test_parts_outside_the_plan_are_kept_and_not_read(pool):
    pool.plan(["00", "02"])
    assert pool.scan()["query_id"].to_pylist() == [*"aaaccc"]
    assert pool.path("01").is_file()


def test_without_a_plan_every_part_counts_and_parts_are_named_by_their_rows(tmp_path):
    pool = CandidatePool(tmp_path)
    with pytest.raises(InputError, match="no candidates"):
        pool.scan()
    first, second = part("b", ["x"]), part("a", ["y"], logprob=None)
    assert pool.append(first) == content_hash(first)[:16]
    pool.append(second)
    pool.append(first)
    assert pool.scan().equals(pa.concat_tables([second, first]))
    pool.append(part("a", ["z"]))
    with pytest.raises(InputError, match="candidate 0 of query 'a' twice"):
        pool.scan()


def test_the_digest_follows_the_rows(pool, tmp_path):
    other = CandidatePool(tmp_path / "other")
    other.plan(["00", "01", "02"])
    for key, query in (("00", "a"), ("01", "b"), ("02", "c")):
        other.append(part(query, ["one", "zwei ä", ""]), key=key)
    assert other.digest == pool.digest
    other.path("02").unlink()
    other.append(part("c", ["one", "zwei", ""]), key="02")
    assert other.digest != pool.digest


def test_what_is_no_pool_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="found a file"):
        CandidatePool(tmp_path / "file")
    pool = CandidatePool(tmp_path)
    with pytest.raises(InputError, match="key of a part"):
        pool.append(part("a", ["x"]), key="../up")
    with pytest.raises(InputError, match="another schema"):
        pool.append(pa.table({"query_id": ["a"]}))
    with pytest.raises(InputError, match="planned twice"):
        pool.plan(["a", "a"])
    (tmp_path / "plan.json").write_text(json.dumps({"no": 1}))
    with pytest.raises(InputError, match="an unreadable plan"):
        pool.scan()
