"""Hostile tables through `bestfor diagnose`: a clear answer or one clear line, never a traceback, warning or NaN.

Warnings are errors here (pyproject.toml), so a warning anywhere on the way is a failure.
"""

import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pytest

from bestfor.errors import InputError
from bestfor.runs.table import TableColumns, diagnose_table

HEADER = "user,query,reward,utility\n"


@pytest.mark.parametrize("value", [1.5, 0.1, -0.0])
@pytest.mark.parametrize("scale", ["utility", "arbitrary"])
def test_constant_utilities_leave_nothing_to_win(ask, plain, model, value, scale):
    found = model(ask("t.csv", plain.csv(utility=[value] * plain.rows), "--scale", scale))
    assert found["captured"] == [None] * len(found["n"])
    assert found["gain"] == pytest.approx([0.0] * len(found["n"]), abs=1e-12)
    assert found["quantities"]["beta"] is None
    assert "nothing to win" in found["findings"][0]


@pytest.mark.parametrize("rewards", [[2.0], [-0.0, 0.0]])
@pytest.mark.parametrize("scale", ["utility", "arbitrary"])
def test_constant_rewards_are_collapse_and_pick_at_random(ask, plain, model, rewards, scale):
    result = ask("t.csv", plain.csv(reward=plain.each(rewards)), "--scale", scale)
    found = model(result)
    assert found["quantities"]["alpha"] == 1.0
    assert found["quantities"]["beta"] is None
    assert found["utility"] == pytest.approx([result["pool_mean"]] * len(found["n"]), abs=1e-12)


def test_one_user_and_one_query_have_no_intervals_and_say_so(ask, plain, model):
    one = ["u"] * plain.rows
    for queries in (plain.columns()["query"], ["q"] * plain.rows):
        result = ask("t.csv", plain.csv(user=one, query=queries))
        found = model(result)
        assert result["headline"].endswith("; one user alone says nothing about others.")
        assert "of other users before deciding anything" in found["findings"][0]
        assert found["gain_low"] == [None] * len(found["n"])
        assert found["captured"][-1] is not None
    lonely = model(ask("t.csv", HEADER + "u,q,1,2\n"))
    assert (lonely["n"], lonely["utility"], lonely["captured"]) == ([1], [2.0], [None])


def test_one_query_of_many_users_is_one_pool_each(ask, plain, model):
    result = ask("t.csv", plain.csv(query=["q"] * plain.rows))
    assert (result["queries"], result["users"]) == (plain.users, plain.users)
    assert model(result)["gain"][-1] is not None


def test_duplicate_rows_count_unless_candidates_are_numbered(ask, plain, tmp_path):
    doubled = plain.objects(candidate=plain.each(range(plain.size)))
    doubled[8] = dict(doubled[7])
    result = ask("t.jsonl", doubled)
    assert result["candidates"] == plain.rows, "without candidate numbers every row is a candidate"
    with pytest.raises(InputError, match=r"candidate 1 twice in the query of row 9; expected each candidate"):
        diagnose_table(tmp_path / "t.jsonl", TableColumns(candidate="candidate"))
    doubled[8]["candidate"] = 1.5
    ask("t.jsonl", doubled)
    with pytest.raises(InputError, match=r"row 9, column 'candidate': found 1\.5; expected a whole number"):
        diagnose_table(tmp_path / "t.jsonl", TableColumns(candidate="candidate"))


def test_candidate_numbers_name_the_suspects(plain, tmp_path):
    numbers = plain.each(range(10, 10 + plain.size))
    path = tmp_path / "t.jsonl"
    path.write_text(plain.jsonl(plain.objects(candidate=numbers)), encoding="utf-8")
    suspects = diagnose_table(path, TableColumns(candidate="candidate")).models["reward"].suspects
    assert suspects
    assert all(10 <= suspect.pick < 10 + plain.size for suspect in suspects)


@pytest.mark.parametrize("column", ["reward", "utility"])
@pytest.mark.parametrize(
    ("values", "row", "found"),
    [
        ([1e308, -1e308, 1e307, 3, 1.7e308, 0], 5, "1.7e+308"),
        ([0, 1, 2, -1e200, 4, 5], 4, "-1e+200"),
        ([0, 5e-324, 1e-323, 0, 0, 5e-324], 3, "9.88131e-324"),
        ([1e-200, 3e-200, 2e-200, 0, -1e-200, 0], 2, "3e-200"),
    ],
)
def test_sizes_that_cannot_be_squared_are_named(ask, plain, column, values, row, found):
    line = ask("t.csv", plain.csv(**{column: plain.each(values)}))
    assert f"t.csv, row {row}, column '{column}': found {found}; expected numbers" in line
    assert "rescale" in line


def same(found, before):
    """Equal numbers, and unknown where they were unknown."""
    assert [one is None for one in found] == [one is None for one in before]
    known = [one for one in found if one is not None]
    assert known == pytest.approx([one for one in before if one is not None], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("factor", [1e-59, 1e58])
@pytest.mark.parametrize("scale", ["utility", "arbitrary"])
def test_large_and_small_units_change_nothing(ask, plain, model, factor, scale):
    before = model(ask("t.csv", plain.csv(), "--scale", scale))
    table = plain.columns()
    scaled = {name: [value * factor for value in table[name]] for name in ("reward", "utility")}
    found = model(ask("t.csv", plain.csv(**scaled), "--scale", scale))
    for name in ("captured", "captured_low", "captured_high"):
        same(found[name][1:], before[name][1:])
    for name in ("alpha", "beta", "rho", "rho_high", "rho_plus"):
        same([found["quantities"][name]], [before["quantities"][name]])


def test_infinite_missing_and_too_large_literals_are_left_out_and_counted(ask, plain):
    rewards = plain.draws(1)
    rewards[:6] = ["inf", "-inf", "nan", "", "NA", "1e400"]
    result = ask("t.csv", plain.csv(reward=rewards))
    assert result["dropped"]["not_finite"] == 6
    assert result["candidates"] == plain.rows - 6
    assert "no row with a finite utility" in ask("t.csv", plain.csv(reward=[""] * plain.rows))


@pytest.mark.parametrize(
    "name", ["ü日本\u202e🙂", '"a, ""b"""', '"two\nlines"', '"two\r\nlines"', "x" * 1_100_000, "NA", "007", "[red]<b>"]
)
def test_ids_may_be_anything_that_can_be_read(ask, plain, model, name):
    users = [name if user == "u0" else user for user in plain.columns()["user"]]
    result = ask("t.csv", plain.csv(user=users))
    assert result["users"] == plain.users
    expected = json.loads(json.dumps(name)).strip('"').replace('""', '"') if name.startswith('"') else name
    assert expected.rstrip('"') in {row["user"].rstrip('"') for row in model(result)["per_user"]}


@pytest.mark.parametrize("column", ["user", "query"])
def test_an_empty_id_is_named(ask, plain, column):
    rest = plain.rows - 10
    for name, content in (
        ("t.csv", plain.csv(**{column: ["a"] * 9 + [""] + ["b"] * rest})),
        ("t.parquet", plain.table(**{column: ["a"] * 9 + [None] + ["b"] * rest})),
        ("t.parquet", plain.table(**{column: [1.0] * 9 + [float("nan")] + [2.0] * rest})),
        ("t.jsonl", [row if place != 9 else row | {column: None} for place, row in enumerate(plain.objects())]),
    ):
        assert f"row 10, column '{column}': found an empty cell" in ask(name, content)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\r"),
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.replace("\n", "\r\n").encode("utf-8-sig"),
        lambda text: text.replace("\n", "\n\n"),
        lambda text: text.rstrip("\n"),
        lambda text: (
            text.replace(",", " , ")
            .replace(" , ", ",", 3)
            .replace("u0 ", "u0")
            .replace(" q", "q")
            .replace("user ", "user")
        ),
    ],
    ids=["windows", "old mac", "bom", "windows with bom", "blank lines", "no last line end", "spaces"],
)
def test_line_ends_marks_and_blank_lines_change_nothing(ask, plain, model, change):
    before = ask("t.csv", plain.csv())
    assert model(ask("t.csv", change(plain.csv())))["utility"] == model(before)["utility"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", HEADER + "u,q,1,1\nu,q,x,2\nu,q,3,3\n", "row 2, column 'reward': found 'x'; expected a number"),
        ("t.csv", HEADER + "u,q,NA,1\nu,q,1_0,1\n", "row 2, column 'reward': found '1_0'; expected a number"),
        ("t.csv", HEADER + "u,q,a,1\nu,q,b,1\n", "row 1, column 'reward': found 'a'; expected a number"),
        (
            "t.csv",
            lambda plain: plain.csv(reward=["good", "bad"] * (plain.rows // 2)),
            "row 1, column 'reward': found 'good'; expected a number",
        ),
        (
            "t.csv",
            lambda plain: plain.csv(utility=["2", "yes"] * (plain.rows // 2)),
            "row 2, column 'utility': found 'yes'; expected a number",
        ),
        ("t.csv", HEADER + 'u,q,"1,5",1\n', "row 1, column 'reward': found '1,5'; expected a number"),
        ("t.csv", HEADER + "u,q,truth,1\n", "row 1, column 'reward': found 'truth'; expected a number"),
        ("t.csv", HEADER + "nan,q,1,1\n", "row 1, column 'user': found 'nan', which stands for a missing value"),
        ("t.csv", HEADER + "u,q,1,1\nu,q,2\n", "Row #3: Expected 4 columns, got 3"),
        ("t.csv", HEADER + 'u,q,"1,2\nu,q,2,3\n', "an unreadable table"),
        ("t.csv", HEADER, "no rows"),
        ("t.csv", HEADER.strip(), "no rows"),
        ("t.csv", "\n\n", "an empty file"),
        (
            "t.csv",
            lambda plain: plain.csv().replace(",", ";"),
            "found columns separated by ';'; expected ',' in a .csv file",
        ),
        (
            "t.csv",
            lambda plain: plain.csv().replace(",", "\t"),
            r"found columns separated by '\t'; expected ',' in a .csv file",
        ),
        ("t.tsv", lambda plain: plain.csv(), r"found columns separated by ','; expected '\t' in a .tsv file"),
        (
            "t.csv",
            lambda plain: plain.csv().replace(",query", ", query", 1),
            "no column 'query'; expected ' query' (did you mean it?) (say which with --query NAME)",
        ),
        (
            "t.csv",
            "user,query,reward,reward,utility\nu,q,1,2,3\n",
            "2 columns 'reward'; expected each column name once",
        ),
        ("t.csv", lambda plain: plain.csv().encode("utf-16"), "a whole csv file in UTF-8"),
        ("t.csv", lambda plain: plain.csv().replace("u0", "é").encode("latin-1"), "a whole csv file in UTF-8"),
        ("t.csv", lambda plain: gzip.compress(plain.csv().encode()), "an unreadable table"),
        ("t.csv.gz", lambda plain: gzip.compress(plain.csv().encode()), "a file ending in '.gz'; expected one of .csv"),
        ("t", lambda plain: plain.csv(), "found a file ending in ''; expected one of .csv"),
        ("t.parquet", lambda plain: plain.csv(), "a whole parquet file"),
        ("gone.csv", None, "no file"),
        ("x" * 300 + ".csv", None, "what cannot be read (File name too long)"),
    ],
)
def test_what_cannot_be_read_is_one_line_with_the_place(ask, tmp_path, name, content, message):
    line = ask(name, content)
    assert isinstance(line, str), line
    assert message in line
    assert str(tmp_path / name) in line


def test_a_long_list_of_columns_is_cut(ask):
    names = ",".join(f"c{column}" for column in range(3000))
    line = ask("t.csv", names + "\n" + names + "\n")
    assert "no column 'user'; expected one of c0, c1" in line
    assert len(line) < 600


def test_folders_and_unreadable_files(ask, plain, monkeypatch, tmp_path):
    (tmp_path / "folder.csv").mkdir()
    assert "found a folder" in ask("folder.csv", None)
    assert "found a folder" in ask("", None)
    (tmp_path / "t.csv").write_text(plain.csv(), encoding="utf-8")

    def refuse(path, *_words, **_options):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    assert "Permission denied" in ask("t.csv", None)
    monkeypatch.setattr(Path, "is_file", refuse)
    assert "what cannot be read (Permission denied)" in ask("t.csv", None)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.jsonl"])
def test_forbidden_files(ask, plain, tmp_path, name):
    (tmp_path / name).write_text(plain.csv(), encoding="utf-8")
    (tmp_path / name).chmod(0)
    assert "ermission" in ask(name, None)


@pytest.mark.parametrize("n", ["²", "0", "-1", "1.5", "1e3", "9" * 30, "1,,2", "٣"])
def test_an_odd_n_is_one_line(ask, plain, n):
    assert "positive whole numbers" in ask("t.csv", plain.csv(), "--n", n)


class Refusing:
    """A frame with a column that Arrow has no type for."""

    def __arrow_c_stream__(self, requested_schema=None):
        raise pa.ArrowInvalid("Could not convert 'x' with type str: tried to convert to double")


def test_frames_that_arrow_cannot_read(plain):
    with pytest.raises(InputError, match="found what Arrow cannot read"):
        diagnose_table(Refusing())
    names = ["user", "query", "reward", "reward", "utility"]
    table = plain.columns()
    twice = pa.Table.from_arrays([pa.array(table[name]) for name in names], names=names)
    with pytest.raises(InputError, match="2 columns 'reward'"):
        diagnose_table(twice)
    with pytest.raises(InputError, match="found none; expected each of them once"):
        diagnose_table(pa.table(table), TableColumns(rewards=()))
