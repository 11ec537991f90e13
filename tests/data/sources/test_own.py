import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bestfor.data.sources.own import load_histories
from bestfor.errors import InputError

HISTORIES = [
    {"user_id": "ann", "item_id": "a1", "input": "ask", "output": "Änswer", "timestamp": "2020-01-01"},
    {"user_id": "bob", "item_id": "b1", "input": "ask", "output": "no", "timestamp": "2020-01-01"},
    {"user_id": "ann", "item_id": "a2", "input": "", "output": "unasked", "timestamp": "2020-01-02 12:00:00"},
    {"user_id": "zoe", "item_id": "z1", "input": "ask", "output": "nobody asks zoe", "timestamp": "2020-01-02"},
]
QUERIES = [
    {"query_id": "q1", "user_id": "ann", "input": "now?", "reference": "yes", "split": "test"},
    {"query_id": "q2", "user_id": "bob", "input": "then?", "reference": "was", "split": "fit"},
    {"query_id": "q3", "user_id": "new", "input": "who?", "reference": None, "split": None},
]


def write(path, rows):
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    else:
        lines = [list(rows[0]), *([str(value) if value is not None else "" for value in row.values()] for row in rows)]
        path.write_text("".join(",".join(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("ending", [".jsonl", ".parquet", ".csv"])
def test_two_tables_of_any_kind(tmp_path, ending):
    data = load_histories(write(tmp_path / f"h{ending}", HISTORIES), write(tmp_path / f"q{ending}", QUERIES))
    assert data.histories.select(["user_id", "item_id", "input", "output"]).to_pylist() == [
        {"user_id": "ann", "item_id": "a1", "input": "ask", "output": "Änswer"},
        {"user_id": "bob", "item_id": "b1", "input": "ask", "output": "no"},
        {"user_id": "ann", "item_id": "a2", "input": "", "output": "unasked"},
    ]
    assert data.histories["timestamp"].to_pylist() == [1577836800, 1577836800, 1577966400]
    assert data.queries["split"].to_pylist() == ["test", "fit", "test"]
    assert data.queries["reference"].to_pylist()[:2] == ["yes", "was"]
    assert data.notes == ("1 users have no history",)


def test_other_names_and_what_may_be_absent(tmp_path):
    rows = [{"who": 7, "wrote": "x"}, {"who": 7, "wrote": "x"}, {"who": 7, "wrote": "y"}]
    asked = [{"query_id": 1, "who": 7, "input": "?"}]
    columns = {"user_id": "who", "output": "wrote"}
    paths = write(tmp_path / "h.jsonl", rows), write(tmp_path / "q.jsonl", asked)
    data = load_histories(*paths, columns=columns)
    assert data.histories.select(["user_id", "item_id", "input", "output", "timestamp"]).to_pylist() == [
        {"user_id": "7", "item_id": "1", "input": "", "output": "x", "timestamp": None},
        {"user_id": "7", "item_id": "3", "input": "", "output": "y", "timestamp": None},
    ]
    assert data.queries["reference"].to_pylist() == [None]


def test_only_some_users(tmp_path):
    paths = write(tmp_path / "h.jsonl", HISTORIES), write(tmp_path / "q.jsonl", QUERIES)
    data = load_histories(*paths, users=1)
    assert data.queries["query_id"].to_pylist() == ["q1"]
    assert set(data.histories["user_id"].to_pylist()) == {"ann"}
    assert data.signature != load_histories(*paths).signature


@pytest.mark.parametrize(
    ("table", "row", "change", "message"),
    [
        ("h", 1, {"output": None}, "h.jsonl, row 2, column 'output': found an empty cell"),
        ("h", 0, {"timestamp": "soon"}, "h.jsonl, row 1, column 'timestamp': found 'soon'"),
        ("h", 3, {"user_id": ""}, "h.jsonl, row 4, column 'user_id': found an empty cell; expected an id"),
        ("q", 1, {"query_id": "q1"}, "q.jsonl, row 2, field 'id': found query 'q1' twice"),
        ("q", 0, {"split": "dev"}, "q.jsonl, row 1, column 'split': found 'dev'; expected fit or test"),
        ("q", 2, {"input": None}, "q.jsonl, row 3, column 'input': found an empty cell"),
    ],
)
def test_errors_name_file_row_and_column(tmp_path, table, row, change, message):
    tables = {"h": [dict(one) for one in HISTORIES], "q": [dict(one) for one in QUERIES]}
    tables[table][row] |= change
    with pytest.raises(InputError) as caught:
        load_histories(write(tmp_path / "h.jsonl", tables["h"]), write(tmp_path / "q.jsonl", tables["q"]))
    assert message in str(caught.value)


def test_missing_columns_and_unknown_roles_are_named(tmp_path):
    paths = write(tmp_path / "h.jsonl", [{"user": "a"}]), write(tmp_path / "q.jsonl", QUERIES)
    with pytest.raises(InputError, match="no column 'user_id'"):
        load_histories(*paths)
    with pytest.raises(InputError, match=r"columns: found unknown role 'usr_id'; expected 'user_id' \(did you mean it"):
        load_histories(*paths, columns={"usr_id": "user"})
    fit = write(tmp_path / "fit.jsonl", [{**QUERIES[1]}])
    with pytest.raises(InputError, match="found no questions"):
        load_histories(write(tmp_path / "h2.jsonl", HISTORIES), fit)
