"""Columns are recognised by what people call them, once and aloud, and texts reach the page."""

import csv
import json
import random
import re
import sys

import pytest

from bestfor.cli.app import main
from bestfor.errors import InputError
from bestfor.runs.recognised import ShownColumns, recognise, recognise_shown
from bestfor.runs.responses import looks_like_ids
from bestfor.runs.table import TableColumns


def test_names_of_people_are_recognised():
    names = ["user_id", "Prompt-ID", "prompt", "response", "score", "rating"]
    found, said = recognise("t.csv", names, TableColumns())
    assert (found.user, found.query, found.rewards, found.utility) == ("user_id", "Prompt-ID", ("score",), "rating")
    assert said[0] == "column 'user_id' is read as the user (--user names another)"
    assert len(said) == 4


def test_what_is_there_or_was_named_is_not_guessed():
    names = ["user", "user_id", "query", "score", "judge", "utility"]
    found, said = recognise("t.csv", names, TableColumns(rewards=("judge",)))
    assert (found.user, found.rewards, said) == ("user", ("judge",), ())
    assert recognise("t.csv", ["a", "b"], TableColumns()) == (TableColumns(), ())


def test_two_that_fit_are_an_error_and_one_column_has_one_role():
    with pytest.raises(InputError, match=r"columns 'user_id' and 'uid', which both may be meant; expected --user NAME"):
        recognise("t.csv", ["user_id", "uid", "query", "reward", "utility"], TableColumns())
    found, _ = recognise("t.csv", ["user", "prompt", "reward", "utility"], TableColumns())
    assert found.query == "prompt"


def table(path, shared):
    draw = random.Random(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["user_id", "query_id", "prompt", "response", "score", "utility"])
        for user in range(8):
            for query in range(2):
                for place in range(4):
                    utility = draw.gauss(0, 1)
                    name = f"q{query}" if shared else f"q{user}-{query}"
                    said = f"<b>{name} says {place} to {user}</b>"
                    rows.writerow([f"u{user}", name, f"Ask {query}", said, utility + draw.gauss(0, 1), utility])
    return path


@pytest.mark.parametrize("shared", [True, False])
def test_candidates_speak_on_the_page(tmp_path, capsys, monkeypatch, shared):
    path, out = table(tmp_path / "t.csv", shared), tmp_path / "t.html"
    monkeypatch.setattr(sys, "argv", ["bestfor", "diagnose", str(path), "--out", str(out)])
    assert main() == 0
    said = " ".join(capsys.readouterr().err.split())
    for name, role in (("user_id", "user"), ("query_id", "query"), ("score", "reward")):
        assert f"column '{name}' is read as the {role}" in said
    page = out.read_text(encoding="utf-8")
    assert "Who gets what, and why?" in page
    assert "by reward, " in page
    assert "&lt;b&gt;q" in page
    assert "<b>q" not in page
    assert ("for different people on the same request" in page) == shared
    assert "Ask 1" in page
    assert re.search(r"<li>t\.csv</li>.*<li>file of \d{1,2} [A-Z][a-z]+ \d{4}</li>", page)
    for name, what in (("response", "what candidates say"), ("prompt", "what was asked")):
        assert f"column '{name}' is read as {what} (--{name} names another)" in said
    assert "its text was not given" not in page


def test_a_column_that_has_a_role_is_not_shown_as_another():
    columns = TableColumns(user="user", query="prompt", text="text")
    found = recognise_shown("t.csv", ["user", "prompt", "text", "reward", "utility"], columns, (None, None))
    assert found == ShownColumns(None, None)
    names = ["user", "query", "reward", "utility", "text", "answer", "input"]
    with pytest.raises(InputError, match="columns 'text' and 'answer', which both may be meant"):
        recognise_shown("t.csv", names, TableColumns(), (None, None))
    found = recognise_shown("t.csv", names, TableColumns(), ("text", None))
    assert (found.response, found.prompt) == ("text", "input")
    assert found.said == ("column 'input' is read as what was asked (--prompt names another)",)


@pytest.mark.parametrize(
    ("values", "ids"),
    [
        (["t1", "t2", "t3"], True),
        (["9f0c" * 16], True),
        (["101", "7"], True),
        (["yes", "no"], False),
        (["A city of 4 roads", "t1"], False),
        (["x1" * 40], False),
        (["", ""], False),
    ],
)
def test_ids_are_told_from_texts(tmp_path, values, ids):
    path = tmp_path / "t.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["other", "said"], *([str(place), value] for place, value in enumerate(values))])
    assert looks_like_ids(path, "said") == ids


def test_ids_behind_text_are_refused_with_the_option_that_means_them(tmp_path, capsys, monkeypatch):
    path = tmp_path / "t.csv"
    rows = [
        [f"u{user}", f"q{user}", f"t{place}", f"It says {place}", place % 3 + user / 9, place % 2]
        for user in range(6)
        for place in range(8)
    ]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["user", "query", "text", "says", "reward", "utility"], *rows])

    def diagnosed(*options: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["bestfor", "diagnose", str(path), *options])
        code = main()
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    code, _, error = diagnosed("--text", "text")
    assert code == 2
    assert "expected --text-id text for ids of texts that users share, or --response text to show them" in error
    assert diagnosed("--text", "says", "--response", "says")[0] == 2
    shared = json.loads(diagnosed("--text-id", "text", "--text", "says", "--json")[1])
    plain = json.loads(diagnosed("--text", "says", "--json")[1])
    assert shared["models"]["reward"]["interval"] != plain["models"]["reward"]["interval"] == "users"
    assert shared["models"]["reward"]["utility"] == plain["models"]["reward"]["utility"]
    code, _, error = diagnosed("--text-id", "none")
    assert code == 2
    assert "--text-id NAME" in error
    assert diagnosed("--response", "text", "--out", str(tmp_path / "t.html"))[0] == 0
    assert ">t" in (tmp_path / "t.html").read_text(encoding="utf-8")
