import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bestfor.data.read.tables import Columns, read_table
from bestfor.data.sources.own import load_ratings
from bestfor.errors import InputError

ROWS = [
    {"user": "1", "text": "a, b", "rating": 1.0},
    {"user": "1", "text": 'say "hi"\nagain', "rating": 0.5},
    {"user": "2", "text": "a, b", "rating": None},
]


def write_all(folder):
    paths = {}
    for kind, mark in (("csv", ","), ("tsv", "\t")):
        lines = [mark.join(("user", "text", "rating"))]
        for row in ROWS:
            quoted = '"' + row["text"].replace('"', '""') + '"'
            lines.append(mark.join((row["user"], quoted, "" if row["rating"] is None else str(row["rating"]))))
        paths[kind] = folder / f"t.{kind}"
        paths[kind].write_text("\n".join(lines) + "\n", encoding="utf-8")
    paths["jsonl"] = folder / "t.jsonl"
    paths["jsonl"].write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    paths["parquet"] = folder / "t.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), paths["parquet"])
    return paths


def test_every_format_gives_the_same_ratings(tmp_path):
    loaded = [load_ratings(path) for path in write_all(tmp_path).values()]
    for ratings in loaded:
        assert ratings.texts == loaded[0].texts
        assert ratings.rating.tolist() == [1.0, 0.5]
        assert set(ratings.texts) == {"a, b", 'say "hi"\nagain'}
        assert ratings.notes == ("1 rows without a rating were left out",)


def test_columns_may_have_other_names(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("who,score,what\n7,1,x\n8,2,y\n", encoding="utf-8")
    ratings = load_ratings(path, {"user": "who", "rating": "score", "text": "what"})
    assert ratings.users == ("7", "8")
    with pytest.raises(InputError, match="'rating'"):
        load_ratings(path, {"ratng": "score"})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "user,text,rating\nu,a,1\nu,b,good\n", "row 2, column 'rating': found 'good'; expected a number"),
        ("t.csv", "user,text\nu,a\n", "no column 'rating'"),
        ("t.csv", "", "an empty file"),
        ("t.csv", "user,text,rating\nu,a,inf\n", "row 1, column 'rating': found an infinite rating"),
        ("t.csv", "user,text,rating\nu,a,\n", "no rated text"),
        ("t.txt", "x", "a file ending in '.txt'"),
        ("t.jsonl", '{"user": "u", "text": "a", "rating": 1}\n{"user": \n', "an unreadable table"),
        ("t.parquet", "PAR1 torn", "an unreadable table"),
    ],
)
def test_errors_name_file_row_and_column(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_ratings(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.csv: found no file"):
        load_ratings(tmp_path / "gone.csv")


def test_numbers_serve_as_identifiers(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"user": [1, 2], "q": [1.0, 2.0], "u": [0.5, 1]}), path)
    table = read_table(path, Columns(text={"user": "user", "query": "q"}, number={"utility": "u"}))
    assert table["user"].to_pylist() == ["1", "2"]
    assert table["query"].to_pylist() == ["1", "2"]
    assert table["utility"].to_pylist() == [0.5, 1.0]
