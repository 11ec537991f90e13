"""Hostile Parquet and JSON lines through `bestfor diagnose`: a clear answer or one clear line."""

import json
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

HEADER = "user,query,reward,utility\n"
USERS, QUERIES, SIZE = 3, 2, 6
ROWS = USERS * QUERIES * SIZE


def draws(seed):
    return np.random.default_rng(seed).normal(size=ROWS).round(3).tolist()


def columns(**changed):
    plain = {
        "user": [f"u{row // (QUERIES * SIZE)}" for row in range(ROWS)],
        "query": [f"q{row // SIZE}" for row in range(ROWS)],
        "reward": draws(1),
        "utility": draws(2),
    }
    return plain | changed


def csv_of(table):
    return HEADER + "".join(",".join(map(str, row)) + "\n" for row in zip(*table.values(), strict=True))


def jsonl_of(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def objects(**changed):
    table = columns(**changed)
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]


def each(values):
    """These values in every query."""
    return list(values) * (ROWS // len(values))


PLAIN = csv_of(columns())


def model(result):
    assert isinstance(result, dict), result
    return result["models"]["reward"]


def whole(values, kind):
    return pa.array(values, kind)


@pytest.mark.parametrize(
    ("changed", "users"),
    [
        ({"user": pa.array(columns()["user"]).dictionary_encode()}, USERS),
        ({"user": pa.array([row // 12 for row in range(ROWS)]).dictionary_encode()}, USERS),
        ({"user": pa.array(columns()["user"]).cast(pa.large_string())}, USERS),
        ({"user": pa.array(columns()["user"]).cast(pa.string_view())}, USERS),
        ({"user": whole([row // 12 for row in range(ROWS)], pa.int8())}, USERS),
        ({"user": whole([float(row // 12) for row in range(ROWS)], pa.float16())}, USERS),
        ({"user": whole([1e300 * (row // 12) for row in range(ROWS)], pa.float64())}, USERS),
        ({"user": whole([Decimal(row // 12) for row in range(ROWS)], pa.decimal128(9, 2))}, USERS),
        ({"user": whole([row // 12 for row in range(ROWS)], pa.timestamp("ms"))}, USERS),
        ({"user": whole([row < 18 for row in range(ROWS)], pa.bool_())}, 2),
        ({"user": whole([b"u%d" % (row // 12) for row in range(ROWS)], pa.binary())}, USERS),
        ({"reward": whole([Decimal(row % 5) / 4 for row in range(ROWS)], pa.decimal128(9, 3))}, USERS),
        ({"reward": whole([Decimal(row % 5) / 4 for row in range(ROWS)], pa.decimal256(50, 3))}, USERS),
        ({"reward": whole([row % 5 for row in range(ROWS)], pa.int8())}, USERS),
        ({"reward": whole([2**63 + row for row in range(ROWS)], pa.uint64())}, USERS),
        ({"reward": whole([row % 3 == 0 for row in range(ROWS)], pa.bool_())}, USERS),
        ({"reward": whole(draws(1), pa.float16())}, USERS),
        ({"reward": whole([str(row % 5) for row in range(ROWS)], pa.large_string())}, USERS),
        ({"reward": pa.array([str(row % 5) for row in range(ROWS)]).dictionary_encode()}, USERS),
        ({"utility": whole([row % 3 == 0 for row in range(ROWS)], pa.bool_())}, USERS),
        ({"extra": [[{"a": 1}]] * ROWS}, USERS),
    ],
    ids=lambda value: (
        "-".join(f"{name} {getattr(one, 'type', '')}" for name, one in value.items())
        if isinstance(value, dict)
        else None
    ),
)
def test_parquet_of_any_plain_type(ask, changed, users):
    result = ask("t.parquet", pa.table(columns(**changed)))
    assert model(result)["n"][-1] >= 2
    assert result["users"] == users


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"reward": [[1.0]] * ROWS}, "column 'reward': found values of type list"),
        ({"reward": [{"mean": 1.0}] * ROWS}, "column 'reward': found values of type struct"),
        ({"user": [["u"]] * ROWS}, "column 'user': found values of type list"),
        ({"user": [{"id": "u"}] * ROWS}, "column 'user': found values of type struct"),
        ({"user": [b"\xff\xfe"] * ROWS}, "column 'user': found values of type binary; expected texts in UTF-8"),
        ({"reward": whole(range(ROWS), pa.timestamp("ms"))}, "column 'reward': found values of type timestamp"),
        ({"reward": whole(range(ROWS), pa.date32())}, "column 'reward': found values of type date32"),
        ({"reward": pa.array(["x"] * ROWS).dictionary_encode()}, "row 1, column 'reward': found 'x'"),
        ({"reward": pa.nulls(ROWS)}, "no row with a finite utility"),
        ({"user": pa.nulls(ROWS)}, "row 1, column 'user': found an empty cell"),
    ],
)
def test_parquet_that_holds_no_plain_values(ask, changed, message):
    assert message in ask("t.parquet", pa.table(columns(**changed)))


def test_parquet_without_rows_or_with_two_columns_of_a_name(ask):
    assert "no rows" in ask("t.parquet", pa.table(columns()).slice(0, 0))
    table = columns()
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
def test_json_lines_that_differ_in_form_give_the_same_answer(ask, change):
    plain = model(ask("t.jsonl", objects()))
    assert plain["utility"] == model(ask("t.csv", PLAIN))["utility"]
    found = model(ask("t.jsonl", [change(row, place) for place, row in enumerate(objects())]))
    assert found["utility"] == pytest.approx(plain["utility"], rel=1e-12)
    assert found["captured_low"][1:] == pytest.approx(plain["captured_low"][1:])


def test_json_lines_without_a_key_in_some_rows(ask):
    for lacking in (0, 3):
        rows = objects()
        del rows[lacking]["reward"]
        assert ask("t.jsonl", rows)["dropped"]["not_finite"] == 1
    rows = objects()
    del rows[3]["query"]
    assert "row 4, column 'query': found an empty cell" in ask("t.jsonl", rows)
    assert "no column 'reward'" in ask("t.jsonl", [{"user": "u", "query": "q", "utility": 1}] * 3)


@pytest.mark.parametrize(
    ("extra", "not_finite"),
    [("NaN", 1), ("Infinity", 1), ("null", 1), ("1e999", 1), ("1" + "0" * 400, 1), ("true", 0), ("-0.0", 0)],
)
def test_numbers_that_only_json_can_spell(ask, extra, not_finite):
    line = '{"user": "u9", "query": "q9", "reward": 0, "utility": %s}\n'
    content = jsonl_of(objects()) + "".join(line % value for value in ("1", "2", "3", "4", "5", "6", extra))
    result = ask("t.jsonl", content)
    assert result["dropped"]["not_finite"] == not_finite
    assert result["candidates"] == ROWS + 7 - not_finite


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([row | {"reward": {"mean": 1}} for row in objects()], "row 1, column 'reward': found an object"),
        ([*objects()[:3], objects()[3] | {"reward": [1]}], "row 4, column 'reward': found a list; expected a number"),
        (
            [*objects()[:3], objects()[3] | {"reward": "high"}],
            "row 4, column 'reward': found 'high'; expected a number",
        ),
        ([*objects()[:3], objects()[3] | {"user": {"id": 1}}], "row 4, column 'user': found an object"),
        ([*objects()[:3], objects()[3] | {"user": "\ud83d"}], "row 4, column 'user': found half of a surrogate pair"),
        (json.dumps(objects()), "row 1: found a list; expected one JSON object a line"),
        (json.dumps(objects(), indent=1), "row 1: found an unreadable table"),
        (jsonl_of(objects())[:-20], f"row {ROWS}: found an unreadable table"),
        (jsonl_of(objects()) + '{"user": "u", "user": "v"}\n', "the key 'user' stands twice"),
        ("1\n2\n", "row 1: found a bare value"),
        ("null\n", "row 1: found null"),
        ("[" * 100_000 + "\n", "row 1: found an unreadable table"),
        ("\n\n", "no rows"),
    ],
)
def test_json_lines_that_are_none(ask, content, message):
    assert message in ask("t.jsonl", content)


def test_long_cells_and_blank_lines_in_json_lines(ask):
    content = jsonl_of(objects()).replace('"u0"', '"' + "x" * 1_100_000 + '"').replace("\n", "\n\n")
    assert ask("t.jsonl", "\ufeff\n" + content)["users"] == USERS
