"""Hostile Parquet and JSON lines through `bestfor diagnose`: a clear answer or one clear line."""

import json
from decimal import Decimal

import pyarrow as pa
import pytest


@pytest.mark.parametrize(
    ("column", "values", "users"),
    [
        ("user", lambda plain: pa.array(plain.columns()["user"]).dictionary_encode(), 3),
        ("user", lambda plain: pa.array(plain.whole(lambda row: row // 12)).dictionary_encode(), 3),
        ("user", lambda plain: pa.array(plain.columns()["user"]).cast(pa.large_string()), 3),
        ("user", lambda plain: pa.array(plain.columns()["user"]).cast(pa.string_view()), 3),
        ("user", lambda plain: pa.array(plain.whole(lambda row: row // 12), pa.int8()), 3),
        ("user", lambda plain: pa.array(plain.whole(lambda row: float(row // 12)), pa.float16()), 3),
        ("user", lambda plain: pa.array(plain.whole(lambda row: 1e300 * (row // 12)), pa.float64()), 3),
        ("user", lambda plain: pa.array(plain.whole(lambda row: Decimal(row // 12)), pa.decimal128(9, 2)), 3),
        ("user", lambda plain: pa.array(plain.whole(lambda row: row // 12), pa.timestamp("ms")), 3),
        ("user", lambda plain: pa.array(plain.whole(lambda row: row < 18), pa.bool_()), 2),
        ("user", lambda plain: pa.array(plain.whole(lambda row: b"u%d" % (row // 12)), pa.binary()), 3),
        ("reward", lambda plain: pa.array(plain.whole(lambda row: Decimal(row % 5) / 4), pa.decimal128(9, 3)), 3),
        ("reward", lambda plain: pa.array(plain.whole(lambda row: Decimal(row % 5) / 4), pa.decimal256(50, 3)), 3),
        ("reward", lambda plain: pa.array(plain.whole(lambda row: row % 5), pa.int8()), 3),
        ("reward", lambda plain: pa.array(plain.whole(lambda row: 2**63 + row), pa.uint64()), 3),
        ("reward", lambda plain: pa.array(plain.whole(lambda row: row % 3 == 0), pa.bool_()), 3),
        ("reward", lambda plain: pa.array(plain.draws(1), pa.float16()), 3),
        ("reward", lambda plain: pa.array(plain.whole(lambda row: str(row % 5)), pa.large_string()), 3),
        ("reward", lambda plain: pa.array(plain.whole(lambda row: str(row % 5))).dictionary_encode(), 3),
        ("utility", lambda plain: pa.array(plain.whole(lambda row: row % 3 == 0), pa.bool_()), 3),
        ("extra", lambda plain: [[{"a": 1}]] * plain.rows, 3),
    ],
)
def test_parquet_of_any_plain_type(ask, plain, model, column, values, users):
    result = ask("t.parquet", plain.table(**{column: values(plain)}))
    assert model(result)["n"][-1] >= 2
    assert result["users"] == users


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("reward", lambda plain: [[1.0]] * plain.rows, "column 'reward': found values of type list"),
        ("reward", lambda plain: [{"mean": 1.0}] * plain.rows, "column 'reward': found values of type struct"),
        ("user", lambda plain: [["u"]] * plain.rows, "column 'user': found values of type list"),
        ("user", lambda plain: [{"id": "u"}] * plain.rows, "column 'user': found values of type struct"),
        ("user", lambda plain: [b"\xff\xfe"] * plain.rows, "found values of type binary; expected texts in UTF-8"),
        (
            "reward",
            lambda plain: pa.array(range(plain.rows), pa.timestamp("ms")),
            "column 'reward': found values of type timestamp",
        ),
        (
            "reward",
            lambda plain: pa.array(range(plain.rows), pa.date32()),
            "column 'reward': found values of type date32",
        ),
        ("reward", lambda plain: pa.array(["x"] * plain.rows).dictionary_encode(), "row 1, column 'reward': found 'x'"),
        ("reward", lambda plain: ["good", "bad"] * (plain.rows // 2), "row 1, column 'reward': found 'good'"),
        ("reward", lambda plain: pa.nulls(plain.rows), "no row with a finite utility"),
        ("user", lambda plain: pa.nulls(plain.rows), "row 1, column 'user': found an empty cell"),
    ],
)
def test_parquet_that_holds_no_plain_values(ask, plain, column, values, message):
    assert message in ask("t.parquet", plain.table(**{column: values(plain)}))


def test_parquet_without_rows_or_with_two_columns_of_a_name(ask, plain):
    assert "no rows" in ask("t.parquet", plain.table().slice(0, 0))
    table = plain.columns()
    twice = pa.Table.from_arrays([pa.array(table[name]) for name in ("user", "query", "reward", "reward", "utility")],
                                 names=["user", "query", "reward", "reward", "utility"])  # fmt: skip
    assert "2 columns 'reward'" in ask("t.parquet", twice)


@pytest.mark.parametrize(
    "change",
    [
        lambda row, place: dict(reversed(row.items())) if place % 2 else row,
        lambda row, place: row | {"extra": [{"a": [1, {"b": None}]}, "x", 1][place % 3]},
        lambda row, place: row | {"reward": str(row["reward"])},
        lambda row, place: row | {"reward": str(row["reward"]) if place == 3 else row["reward"]},
        lambda row, place: row | {"user": int(row["user"][1:])},
        lambda row, place: row | {"user": int(row["user"][1:]) if place >= 12 else row["user"]},
        lambda row, place: row | {"user": f"2026-01-0{row['user'][1:]} 00:00:00"},
    ],
    ids=["key order", "other nested keys", "numbers as text", "one number as text", "whole ids", "mixed ids", "dates"],
)
def test_json_lines_that_differ_in_form_give_the_same_answer(ask, plain, model, change):
    before = model(ask("t.jsonl", plain.objects()))
    assert before["utility"] == model(ask("t.csv", plain.csv()))["utility"]
    found = model(ask("t.jsonl", [change(row, place) for place, row in enumerate(plain.objects())]))
    assert found["utility"] == pytest.approx(before["utility"], rel=1e-12)
    assert found["captured_low"][1:] == pytest.approx(before["captured_low"][1:])


def test_json_lines_without_a_key_in_some_rows(ask, plain):
    for lacking in (0, 3):
        rows = plain.objects()
        del rows[lacking]["reward"]
        assert ask("t.jsonl", rows)["dropped"]["not_finite"] == 1
    rows = plain.objects()
    del rows[3]["query"]
    assert "row 4, column 'query': found an empty cell" in ask("t.jsonl", rows)
    assert "no column 'reward'" in ask("t.jsonl", [{"user": "u", "query": "q", "utility": 1}] * 3)


@pytest.mark.parametrize(
    ("extra", "not_finite"),
    [("NaN", 1), ("Infinity", 1), ("null", 1), ("1e999", 1), ("1" + "0" * 400, 1), ("true", 0), ("-0.0", 0)],
)
def test_numbers_that_only_json_can_spell(ask, plain, extra, not_finite):
    line = '{"user": "u9", "query": "q9", "reward": 0, "utility": %s}\n'
    content = plain.jsonl() + "".join(line % value for value in ("1", "2", "3", "4", "5", "6", extra))
    result = ask("t.jsonl", content)
    assert result["dropped"]["not_finite"] == not_finite
    assert result["candidates"] == plain.rows + 7 - not_finite


def changed(**cells):
    """The plain rows with other cells in the fourth."""
    return lambda plain: [*plain.objects()[:3], plain.objects()[3] | cells]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            lambda plain: [row | {"reward": {"mean": 1}} for row in plain.objects()],
            "row 1, column 'reward': found an object",
        ),
        (changed(reward=[1]), "row 4, column 'reward': found a list; expected a number"),
        (changed(reward="high"), "row 4, column 'reward': found 'high'; expected a number"),
        (changed(user={"id": 1}), "row 4, column 'user': found an object"),
        (changed(user="\ud83d"), "row 4, column 'user': found half of a surrogate pair"),
        (lambda plain: json.dumps(plain.objects()), "row 1: found a list; expected one JSON object a line"),
        (lambda plain: json.dumps(plain.objects(), indent=1), "row 1: found the beginning of a JSON array; expected"),
        (lambda plain: plain.jsonl()[:-20], "row 36: found an unreadable table"),
        (lambda plain: plain.jsonl() + '{"user": "u", "user": "v"}\n', "the key 'user' stands twice"),
        ("1\n2\n", "row 1: found a bare value"),
        ("null\n", "row 1: found null"),
        ("[" * 100_000 + "\n", "row 1: found an unreadable table"),
        ("\n\n", "no rows"),
    ],
)
def test_json_lines_that_are_none(ask, content, message):
    assert message in ask("t.jsonl", content)


def test_long_cells_and_blank_lines_in_json_lines(ask, plain):
    content = plain.jsonl().replace('"u0"', '"' + "x" * 1_100_000 + '"').replace("\n", "\n\n")
    assert ask("t.jsonl", "\ufeff\n" + content)["users"] == plain.users
