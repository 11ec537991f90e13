"""A folder diagnosed by tasks of its parts gives the diagnosis of one process."""

import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bestfor.__main__ import main
from bestfor.backends import Local
from bestfor.data.read import tables
from bestfor.diagnostics import Settings
from bestfor.errors import InputError
from bestfor.runs import table as scores
from bestfor.runs.table import TableColumns, diagnose_table
from bestfor.runs.table_parts import PartTasks

PARTS = 4
COLUMNS = TableColumns(rewards=("good", "coarse"))


class Counting(Local):
    """Knows which tasks it did."""

    def __init__(self):
        super().__init__()
        object.__setattr__(self, "done", [])

    def run(self, plan):
        for task, value in super().run(plan):
            self.done.append((plan.name, task.key))
            yield task, value


def rows(seed=0, users=24, queries=3, size=9):
    """Ragged pools with ties, gaps and repeated rows; users in the order of their ids."""
    draw = np.random.default_rng(seed)
    count = users * queries * size
    user, query = np.arange(count) // (queries * size), np.arange(count) // size
    utility = (5 + draw.normal(size=count)).round(1)
    good, coarse = utility + draw.normal(size=count), draw.integers(0, 3, count).astype(float)
    good[draw.integers(0, count, 9)] = np.nan
    named = {"user": [f"u{code:03}" for code in user], "query": [f"q{code}" for code in query]}
    table = pa.table({**named, "good": good, "coarse": coarse, "utility": utility})
    return table.filter(pa.array(draw.random(count) < 0.9))


def write(folder, table, cuts):
    folder.mkdir()
    for number, (low, high) in enumerate(zip([0, *cuts], [*cuts, table.num_rows], strict=True)):
        pq.write_table(table.slice(low, high - low), folder / f"part-{number}.parquet")
    return folder


def whole_queries(table, parts):
    """Places at which parts of whole queries end."""
    query = table["query"].to_pylist()
    starts = [place for place in range(1, len(query)) if query[place] != query[place - 1]]
    return [starts[len(starts) * part // parts] for part in range(1, parts)]


@pytest.fixture
def blocks_for_all(monkeypatch):
    monkeypatch.setattr(scores, "LARGE", 10)
    monkeypatch.setattr(tables.Batches, "rows", 50)
    monkeypatch.setattr(tables, "ROWS", 50)


@pytest.fixture
def folder(tmp_path, blocks_for_all):
    table = rows()
    return write(tmp_path / "parts", table, whole_queries(table, PARTS))


def told(folder, backend=None, **how):
    settings = Settings(rules=("second",), **how)
    return diagnose_table(folder, COLUMNS, settings, backend=backend)


@pytest.mark.parametrize("how", [{}, {"averaging": "query", "n": [1, 2, 5]}, {"interval": "bootstrap"}], ids=str)
def test_tasks_of_parts_give_the_same_diagnosis(folder, how):
    backend = Counting()
    assert told(folder, backend, **how).to_dict() == told(folder, **how).to_dict()
    assert {key for name, key in backend.done if name == "measure"} == {f"part-{part}.parquet" for part in range(PARTS)}
    assert len(backend.done) >= 3 * PARTS


def test_queries_that_lie_in_two_parts_are_left_to_one_process(tmp_path, blocks_for_all):
    table = rows()
    cut = write(tmp_path / "cut", table, [place + 1 for place in whole_queries(table, PARTS)])
    backend = Counting()
    found = told(cut, backend)
    assert {name for name, _ in backend.done} == {"count"}
    assert found.to_dict() == told(cut).to_dict()


def test_rows_that_lie_apart_are_left_to_one_process(tmp_path, blocks_for_all):
    table = rows()
    mixed = table.take(pa.array(np.random.default_rng(1).permutation(table.num_rows)))
    folder = write(tmp_path / "mixed", mixed, [100, 200])
    assert told(folder, Counting()).to_dict() == told(folder).to_dict()


def test_a_part_without_rows_does_no_harm(tmp_path, blocks_for_all):
    table = rows()
    cuts = whole_queries(table, 2)
    folder = write(tmp_path / "parts", table, [cuts[0], cuts[0]])
    assert told(folder, Counting()).to_dict() == told(folder).to_dict()


@pytest.mark.parametrize("value", ["large", "none"])
def test_what_is_wrong_is_the_same_line(tmp_path, blocks_for_all, value):
    table = rows()
    utility = table["utility"].to_numpy().copy()
    utility[-3] = 1e200
    if value == "none":
        utility[:] = np.nan
    table = table.set_column(4, "utility", pa.array(utility))
    folder = write(tmp_path / "parts", table, whole_queries(table, PARTS))
    lines = []
    for backend in (None, Counting()):
        with pytest.raises(InputError) as caught:
            told(folder, backend)
        lines.append(str(caught.value))
    assert lines[0] == lines[1]


def test_texts_that_users_may_share_are_left_to_one_process(folder):
    assert scores.PartTables.of(scores.Batches(folder, None, "x"), TableColumns(text="text"), "arbitrary") is None
    assert scores.PartTables.of(scores.Batches(folder / "part-0.parquet", None, "x"), COLUMNS, "arbitrary") is None


def test_a_pass_here_has_the_blocks_of_the_tasks(folder):
    wanted = scores._wanted(COLUMNS, is_file=True)
    parts = scores.PartTables.of(scores.Batches(folder, wanted, str(folder)), COLUMNS, "arbitrary")
    tasks = PartTasks(parts, Local())
    there = [size for _, size in tasks.each(len_of, None)]
    assert there == [len(pools) for pools in tasks.here()]
    assert len(there) > PARTS


def len_of(held, key, pools):
    return len(pools)


@pytest.mark.slow
def test_processes_give_the_same_bytes(tmp_path, capsys):
    table = pa.concat_tables([rows(seed) for seed in range(3)])
    user = [f"u{row // 60:05}" for row in range(table.num_rows)]
    table = table.set_column(0, "user", pa.array(user))
    large = pa.concat_tables([table] * 320)
    user = np.char.add(np.repeat([f"{copy}-" for copy in range(320)], table.num_rows), np.tile(user, 320))
    large = large.set_column(0, "user", pa.array(user)).combine_chunks()
    assert large.num_rows > scores.LARGE
    folder = write(tmp_path / "parts", large, [table.num_rows * copies for copies in (80, 160, 240)])
    lines = []
    for more in ([], ["--workers", "3"]):
        sys.argv = ["bestfor", "diagnose", str(folder), "--reward", "good", "--json", *more]
        assert main() == 0
        lines.append(json.loads(capsys.readouterr().out))
    assert lines[0] == lines[1]


def command(monkeypatch, capfd, folder, *words):
    monkeypatch.setattr(
        sys, "argv", ["bestfor", "diagnose", str(folder), *["--reward", "good", "--reward", "coarse"], *words]
    )
    code = main()
    said, told = capfd.readouterr()
    return code, said, told


def test_commands_of_two_parts_and_one_that_joins_print_the_whole(folder, monkeypatch, capfd):
    def run(*words):
        return command(monkeypatch, capfd, folder, "--rule", "second", *words)

    expected = run("--json")
    assert expected[0] == 0
    assert run("--part", "0/2", "--json")[1:] == (
        "",
        "  part 0/2 awaits the parts 1/2; then the same command goes on\n",
    )
    assert run("--part", "1/2")[2] == run("--part", "1/2")[2] == "  part 1/2 is done\n"
    assert run("--part", "0/2")[2] == "  part 0/2 is done\n"
    (sums,) = folder.glob(".sums-*")
    assert len(list(sums.iterdir())) == 2 * PARTS
    torn = sorted(sums.iterdir())[-1]
    whole = torn.read_bytes()
    torn.write_bytes(whole[:100])
    code, _, told = run("--json")
    assert (code, told.count("\n")) == (2, 1)
    assert "found sums that are damaged, and removed now; expected the same command again" in told
    assert run("--json") == expected
    assert not list(folder.glob(".sums-*"))


def test_what_has_no_parts_says_so(folder, tmp_path, monkeypatch, capfd):
    other = write(tmp_path / "scattered", rows(), [100, 200])
    for place in (other, folder / "part-0.parquet"):
        code, said, told = command(monkeypatch, capfd, place, "--part", "0/1")
        assert (code, said) == (2, "")
        assert "--part: found" in told
    assert "--part: found '5/3'" in command(monkeypatch, capfd, folder, "--part", "5/3")[2]
