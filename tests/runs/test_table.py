"""A table read in blocks gives the diagnosis of the same table in memory."""

import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from bestfor.data.read.stream import QueryBlocks
from bestfor.data.read.tables import Batches, Columns
from bestfor.diagnostics import Settings
from bestfor.errors import InputError
from bestfor.runs import table as scores
from bestfor.runs.table import TableColumns, diagnose_stream, diagnose_table

COLUMNS = TableColumns(rewards=("good", "coarse"), text="text", candidate="candidate")


def table(seed=0, users=23, most=14):
    """Ragged pools, ties, shared texts, users of one to four queries, ids that sort unlike numbers, gaps."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in rng.permutation(users).tolist():
        for query in range(int(rng.integers(1, 5))):
            texts = rng.permutation(40)[: int(rng.integers(1, most))]
            for place, text in enumerate(texts.tolist()):
                utility = round(float(rng.normal() + text / 20), 1)
                rows.append(
                    {
                        "user": f"u{user}",
                        "query": f"q{query}",
                        "text": f"t{text}é",
                        "candidate": int(10 + place),
                        "utility": utility,
                        "good": float(utility + rng.normal()),
                        "coarse": float(rng.integers(0, 3)) if user else 1.0,
                    }
                )
    for row in rng.integers(0, len(rows), 12).tolist():
        rows[row]["good"] = None
    for row in rng.integers(0, len(rows), 5).tolist():
        rows[row]["utility"] = math.inf
    return rows


def assert_same(found, expected, path=""):
    """Equal to 1e-12, all the way down; what is rounding noise in one may be rounding noise in the other."""
    if isinstance(expected, dict):
        assert list(found) == list(expected), path
        for key, value in expected.items():
            assert_same(found[key], value, f"{path}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), path
        for place, value in enumerate(expected):
            assert_same(found[place], value, f"{path}[{place}]")
    elif isinstance(expected, float) and isinstance(found, float):
        assert found == pytest.approx(expected, rel=1e-10, abs=1e-12), path
    else:
        assert found == expected, path


def wanted(columns):
    numbers = {"utility": columns.utility} | {f"reward {name}": name for name in columns.rewards}
    if columns.candidate is not None:
        numbers["candidate"] = columns.candidate
    texts = {"user": columns.user, "query": columns.query}
    ids = frozenset({"user", "query"})
    return Columns(texts if columns.text is None else texts | {"text": columns.text}, numbers, ids=ids)


def streamed(path, columns=COLUMNS, n=None, rows=16, block=700):
    batches = Batches(path, wanted(columns), str(path), rows, block)
    name = path.stem if isinstance(path, Path) else "table"
    return diagnose_stream(batches, columns, scale="arbitrary", settings=Settings(n=n, name=name))


def same_as_in_memory(path, columns=COLUMNS, n=None):
    found, expected = (
        one.to_dict() for one in (streamed(path, columns, n), diagnose_table(path, columns, Settings(n=n)))
    )
    for one in (found, expected):
        del one["signature"]
    assert_same(found, expected)
    return found


def write(folder, kind, rows):
    path, whole = folder / f"t.{kind}", pa.Table.from_pylist(rows)
    if kind == "parquet":
        pq.write_table(whole, path, row_group_size=50)
    elif kind == "csv":
        pacsv.write_csv(whole, path)
    else:
        path.write_text("".join(as_line(row) for row in rows), encoding="utf-8")
    return path


def as_line(row):
    return json.dumps(row).replace("Infinity", '"inf"') + "\n"


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize("layout", ["grouped", "shuffled", "by candidate"])
def test_blocks_change_nothing(tmp_path, kind, layout):
    rows = table()
    if layout == "shuffled":
        rows = [rows[place] for place in np.random.default_rng(1).permutation(len(rows))]
    if layout == "by candidate":
        rows = sorted(rows, key=lambda row: row["candidate"])
    found = same_as_in_memory(write(tmp_path, kind, rows))
    assert found["dropped"]["not_finite"] == 16
    assert found["dropped"]["too_few_candidates"] > 0
    assert found["models"]["good"]["interval"] == "two-way users x texts"
    assert len(found["models"]["good"]["suspects"]) > 0


@pytest.mark.parametrize("n", [[1, 2, 4], [3], [1, 13], [1]])
def test_given_n(tmp_path, n):
    same_as_in_memory(write(tmp_path, "parquet", table(2)), n=n)


@pytest.mark.parametrize("columns", [replace(COLUMNS, text=None), replace(COLUMNS, candidate=None), TableColumns(
    rewards=("good",))])  # fmt: skip
@pytest.mark.parametrize("shuffled", [False, True])
def test_fewer_columns(tmp_path, columns, shuffled):
    rows = table(3)
    if shuffled:
        rows = [rows[place] for place in np.random.default_rng(2).permutation(len(rows))]
    same_as_in_memory(write(tmp_path, "parquet", rows), columns)


def test_texts_that_are_not_shared_do_not_count(tmp_path):
    rows = [row | {"text": row["user"] + row["text"]} for row in table(4)]
    assert same_as_in_memory(write(tmp_path, "parquet", rows))["models"]["good"]["interval"] == "users"


@pytest.mark.slow
def test_a_table_in_memory_and_large_ones_go_the_same_way(tmp_path, monkeypatch):
    whole = pa.Table.from_pylist(table(5))
    expected = diagnose_table(whole, COLUMNS).to_dict()
    same_as_in_memory(whole)
    monkeypatch.setattr(scores, "LARGE", 10)
    assert_same(diagnose_table(whole, COLUMNS).to_dict(), expected)
    path = tmp_path / "t.parquet"
    pq.write_table(whole, path)
    assert diagnose_table(path, COLUMNS).to_dict()["signature"]["data"].startswith("sha256:")


def test_one_query_longer_than_any_batch(tmp_path):
    rng = np.random.default_rng(6)
    sizes = [3, 200, 1, 40, 3]
    rows = [
        {"user": f"u{q}", "query": "q", "utility": float(rng.normal()), "reward": float(rng.normal())}
        for q, size in enumerate(sizes)
        for _ in range(size)
    ]
    found = same_as_in_memory(write(tmp_path, "csv", rows), TableColumns())
    assert found["candidates"] == sum(sizes) - 1


@pytest.mark.slow
def test_ids_and_numbers_of_any_form(tmp_path):
    rows = [row | {"user": int(row["user"][1:])} for row in table(7)]
    path = tmp_path / "t.jsonl"
    lines = [as_line(row | ({"user": str(row["user"])} if place % 7 == 3 else {})) for place, row in enumerate(rows)]
    path.write_text("\ufeff" + "\n".join(lines), encoding="utf-8")
    same_as_in_memory(path)
    floats = pa.Table.from_pylist([row | {"user": row["user"] + 0.5 * (row["user"] == 3)} for row in rows])
    same_as_in_memory(floats)


@pytest.mark.slow
def test_a_column_that_only_later_rows_have(tmp_path):
    rows = table(8)
    del rows[0]["good"]
    same_as_in_memory(write(tmp_path, "jsonl", rows))


def test_numbers_that_only_python_reads(tmp_path):
    path = write(tmp_path, "csv", table(9))
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[60] = lines[60].rsplit(",", 1)[0] + ", 1.5"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    same_as_in_memory(path)


BREAKS = {
    "a word": ({"good": "high"}, "row 61, column 'good': found 'high'"),
    "no user": ({"user": ""}, "row 61, column 'user': found an empty cell"),
    "half a candidate": ({"candidate": 0.5}, "row 61, column 'candidate': found 0.5; expected a whole number"),
    "too large": ({"utility": 1e308}, "row 61, column 'utility': found 1e+308"),
}


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("name", BREAKS)
@pytest.mark.parametrize("shuffled", [False, True])
def test_errors_name_the_row_of_the_whole_table(tmp_path, kind, name, shuffled):
    change, message = BREAKS[name]
    rows = table(10)
    if shuffled:
        rows = [rows[place] for place in np.random.default_rng(3).permutation(len(rows))]
    keys = list(rows[0])
    rows[60] = rows[60] | change
    path = tmp_path / f"t.{kind}"
    if kind == "csv":
        lines = [",".join("" if row[key] is None else str(row[key]) for key in keys) for row in rows]
        path.write_text("\n".join([",".join(keys), *lines]) + "\n", encoding="utf-8")
    else:
        path.write_text("".join(as_line(row) for row in rows), encoding="utf-8")
    for ask in (streamed, lambda path: diagnose_table(path, COLUMNS)):
        with pytest.raises(InputError, match=message.replace("+", r"\+")):
            ask(path)


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_candidate_that_stands_twice_is_named(tmp_path, shuffled):
    rows = table(11)
    row = next(place for place in range(60, len(rows)) if rows[place]["candidate"] == 11)
    rows[row] = rows[row] | {"candidate": 10}
    if shuffled:
        order = np.random.default_rng(4).permutation(len(rows)).tolist()
        pair = sorted((order.index(row - 1), order.index(row)))
        rows, row = [rows[place] for place in order], pair[1]
    with pytest.raises(InputError, match=f"candidate 10 twice in the query of row {row + 1};"):
        streamed(write(tmp_path, "parquet", rows))


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    rows = sorted(table(12), key=lambda row: row["candidate"])
    path = write(tmp_path, "parquet", rows)
    with QueryBlocks(Batches(path, wanted(COLUMNS), str(path), 16), part=40) as blocks:
        assert blocks.first_pass(lambda found: sum(len(block.start) for block in found)) == len(
            {(row["user"], row["query"]) for row in rows}
        )
        assert blocks.scattered
        assert len(list((tmp_path / "temporary").rglob("*.parquet"))) > 2
        assert sorted(number for block in blocks for number in block.number.tolist()) == list(range(1, len(rows) + 1))
    assert not any((tmp_path / "temporary").iterdir())
    with pytest.raises(InputError, match="at most"):
        streamed(path, n=[99])
    assert not any((tmp_path / "temporary").iterdir())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(InputError, match="room for a copy of the table"):
        streamed(path)


@pytest.mark.parametrize("shuffled", [False, True])
def test_averaged_ratings_are_those_in_memory(tmp_path, shuffled):
    rng = np.random.default_rng(4)
    rows = []
    for user in range(12):
        for query in range(2):
            for text in range(9):
                mu = float(rng.normal())
                reward = float(mu + rng.normal())
                rows += [
                    {"user": f"u{user}", "query": f"q{query}", "text": f"t{user}-{query}-{text}",
                     "utility": float(mu + rng.normal()), "good": reward, "coarse": float(text % 3)}
                    for _ in range(3)
                ]  # fmt: skip
    if shuffled:
        rows = [rows[place] for place in rng.permutation(len(rows))]
    path = write(tmp_path, "parquet", rows)
    found = same_as_in_memory(path, TableColumns(rewards=("good", "coarse"), text="text"))
    assert found["candidates"] == 12 * 2 * 9
    assert found["ceiling"]["source"] == "repeated ratings"
    assert 0.5 < found["ceiling"]["reliability"] < 0.95


@pytest.mark.parametrize("layout", ["together", "split", "scattered"])
def test_a_folder_of_parts_is_the_table_in_memory(tmp_path, monkeypatch, layout):
    rows = sorted(table(seed=3), key=lambda row: (row["user"], row["query"], row["candidate"]))
    whole = pa.Table.from_pylist(rows)
    expected = diagnose_table(whole, COLUMNS, Settings(name="table")).to_dict()
    starts = [place for place in range(1, len(rows)) if rows[place]["query"] != rows[place - 1]["query"]]
    cuts = starts[::12] if layout == "together" else [start + 1 for start in starts[::12]]
    if layout == "scattered":
        whole = whole.take(pa.array(np.random.default_rng(0).permutation(len(rows))))
    for place, (low, high) in enumerate(zip([0, *cuts], [*cuts, len(rows)], strict=True)):
        pq.write_table(whole.slice(low, high - low), tmp_path / f"part-{place:03}.parquet")
    in_memory = diagnose_table(tmp_path, COLUMNS, Settings(name="table")).to_dict()
    monkeypatch.setattr(scores, "LARGE", 50)
    streamed = diagnose_table(tmp_path, COLUMNS, Settings(name="table")).to_dict()
    assert in_memory["signature"]["data"] == streamed["signature"]["data"] != "in memory"
    for found in (in_memory, streamed):
        assert_same({**found, "signature": None}, {**expected, "signature": None})
