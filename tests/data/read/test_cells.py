"""Cells are read alike in every format: ids, numbers, and what stands for a missing value."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestfor.data.read.cells import NOBODY, NULLS, identifiers, parsed_numbers
from bestfor.data.read.tables import Batches, Columns, read_table
from bestfor.errors import InputError

COLUMNS = Columns({"user": "user"}, {"value": "value"}, ids=frozenset({"user"}))
FORMATS = ["csv", "tsv", "jsonl", "parquet"]


def ids(cells, **options):
    return identifiers(pa.chunked_array([pa.array(cells, pa.string())]), "t.csv, column 'u'", "user", **options)


def save(folder, frame, kind):
    path = folder / f"t.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path)
    elif kind == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False, sep="\t" if kind == "tsv" else ",")
    return path


def both(path):
    """The table at once, and in batches of a few bytes."""
    batches = [table for _, table in Batches(path, COLUMNS, str(path), rows=2, block=64)]
    return read_table(path, COLUMNS), pa.concat_tables(batches)


@given(st.lists(st.integers(-(10**14), 10**14), min_size=1))
def test_whole_floats_are_the_ids_they_were(numbers):
    assert ids([f"{one}.0" for one in numbers if one]).to_pylist() == [str(one) for one in numbers if one]
    assert ids([str(one) for one in numbers]).to_pylist() == [str(one) for one in numbers]


@pytest.mark.parametrize("text", ["1.50", "v1.0", "1.0.0", "007.0", "1e5", "NA", "no", "1,0", "0.00"])
def test_other_ids_stay_as_they_are(text):
    assert ids([text]).to_pylist() == [text]


def test_ids_have_one_spelling():
    assert ids(["  ann", "ann\u00a0", "\ufeffann", "ann\u200b ", "e\u0301va", "\u00e9va\r\n"]).to_pylist() == [
        "ann",
        "ann",
        "ann",
        "ann",
        "\u00e9va",
        "\u00e9va",
    ]


@pytest.mark.parametrize("cell", [*sorted(NOBODY), None, "  ", "\u00a0"])
def test_nobody_is_no_id(cell):
    with pytest.raises(InputError, match=r"t\.csv, row 6, column 'u': found .*; expected a user's id"):
        ids(["ann", cell], rows=5)
    with pytest.raises(InputError, match="row 40, column"):
        ids(["ann", cell], rows=np.array([2, 40]))


@pytest.mark.parametrize("kind", FORMATS)
def test_ids_that_a_gap_made_floats_are_alike_in_every_format(tmp_path, kind):
    whole = pd.DataFrame({"user": [0, 1, 2], "value": [1.0, 2.0, 3.0]})
    gap = pd.DataFrame({"user": [0.0, 1.0, 2.0], "value": [1.0, 2.0, 3.0]})
    for frame in (whole, gap):
        for table in both(save(tmp_path, frame, kind)):
            assert table["user"].to_pylist() == ["0", "1", "2"]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_person_without_a_name_is_an_error_in_every_format(tmp_path, kind):
    for missing in (None, "", np.nan):
        frame = pd.DataFrame({"user": pd.Series(["a", "b", missing, "a"], dtype=object), "value": [1.0, 2.0, 3.0, 4.0]})
        if kind == "parquet" and missing is np.nan:
            frame["user"] = frame["user"].astype("string")
        path = save(tmp_path, frame, kind)
        for read in (lambda path: read_table(path, COLUMNS), both):
            with pytest.raises(InputError, match="row 3, column 'user': found an empty cell"):
                read(path)


@pytest.mark.parametrize("kind", FORMATS)
def test_truth_is_one_in_every_format(tmp_path, kind):
    frame = pd.DataFrame({"user": list("abcd"), "value": [True, False, True, True]})
    for table in both(save(tmp_path, frame, kind)):
        assert table["value"].to_pylist() == [1.0, 0.0, 1.0, 1.0]
    gap = frame.astype({"value": object})
    gap.loc[1, "value"] = None
    for table in both(save(tmp_path, gap, kind)):
        assert table["value"].to_pylist() == [1.0, None, 1.0, 1.0]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["true", "FALSE", "True"], [1, 0, 1]),
        (["yes", "No", ""], [1, 0, np.nan]),
        (["t", "f", "\\N"], [1, 0, np.nan]),
        (["Y", "n", "1", "0"], [1, 0, 1, 0]),
        (["up", "Down", "None"], [1, 0, np.nan]),
        (["WAHR", "FALSCH"], [1, 0]),
        (["accepted", "rejected", "👍"], [1, 0, 1]),
        (["true", "5", " 0.5 "], [1, 5, 0.5]),
        (["None", "<NA>", "NaT", "NaN", "null", "1e3"], [np.nan] * 5 + [1000]),
        (["passed", "Failed", "1"], [1, 0, 1]),
        (["won", "lost", ""], [1, 0, np.nan]),
        (["undefined", "(null)", "N/A", "nil", "\u22121.5"], [np.nan] * 4 + [-1.5]),
    ],
)
def test_words_are_numbers(cells, expected):
    np.testing.assert_array_equal(parsed_numbers(cells, "t, column 'r'", 1), expected)


@pytest.mark.parametrize(
    ("cells", "row", "bad"),
    [
        (["5", "yes"], 2, "yes"),
        (["4", "f", "2"], 2, "f"),
        (["y", "x"], 1, "y"),
        (["up", "sideways"], 1, "up"),
        (["1_000"], 1, "1_000"),
        (["truth"], 1, "truth"),
    ],
)
def test_words_beside_other_numbers_are_errors(cells, row, bad):
    with pytest.raises(InputError, match=f"t, row {row}, column 'r': found '{bad}'; expected a number"):
        parsed_numbers(cells, "t, column 'r'", 1)


@pytest.mark.parametrize("cell", sorted(NULLS))
def test_missing_numbers_are_missing_whichever_way_a_table_is_read(tmp_path, cell):
    path = tmp_path / "t.csv"
    path.write_text(f"user,value\na,1\nb,{cell}\n", encoding="utf-8")
    for table in both(path):
        assert table["value"].to_pylist() == [1.0, None]
    path.write_text(f"user,value\na,true\nb,{cell}\n", encoding="utf-8")
    for table in both(path):
        assert table["value"].to_pylist() == [1.0, None]


def test_numbers_as_texts_in_json_lines(tmp_path):
    path = tmp_path / "t.jsonl"
    rows = [{"user": 1.0, "value": "True"}, {"user": "2", "value": 0.5}, {"user": 3, "value": None}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for table in both(path):
        assert table["user"].to_pylist() == ["1", "2", "3"]
        assert table["value"].to_pylist() == [1.0, 0.5, None]
