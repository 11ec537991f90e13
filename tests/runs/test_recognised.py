"""Columns are recognised by what people call them, once and aloud, and texts reach the page."""

import csv
import random
import re
import sys

import pytest

from bestfor.cli.app import main
from bestfor.errors import InputError
from bestfor.runs.recognised import recognise
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
    assert re.search(r"t\.csv of \d{1,2} [A-Z][a-z]+ \d{4}</p>", page)
    assert "its text was not given" not in page
