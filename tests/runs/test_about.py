"""What a run measured and when, in words."""

import os

import pytest

from bestfor.runs.about import data_in_words, day_of

POLIS = "votes (1 agree, 0 pass, \N{MINUS SIGN}1 disagree) of the Polis conversation town"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ('source = "polis"\npath = "../data/town"', POLIS),
        ('source = "table"\npath = "likes.csv"', "ratings of likes.csv"),
        ('source = "world"', "made-up people whose taste is known"),
        ('source = "longlamp"\npath = "all"\ntask = "email"', "LongLaMP, all, task email"),
        ('source = "lamp"\nquestions = "d/q.json"', "LaMP, q.json"),
        ('source = "unheard"', ""),
    ],
)
def test_data_are_named_as_the_run_names_them(tmp_path, data, said):
    (tmp_path / "run.toml").write_text(f"[data]\n{data}\n", encoding="utf-8")
    assert data_in_words(tmp_path) == said
    (tmp_path / "fold-0").mkdir()
    assert data_in_words(tmp_path / "fold-0") == said


def test_a_torn_file_names_nothing(tmp_path):
    assert data_in_words(tmp_path) == ""
    (tmp_path / "run.toml").write_text("[data", encoding="utf-8")
    assert data_in_words(tmp_path) == ""


def test_the_day_is_that_of_the_file_or_of_the_environment(tmp_path, monkeypatch):
    path = tmp_path / "diagnosis.json"
    assert day_of(path) == ""
    path.write_text("{}")
    os.utime(path, (0, 86_400 * 31))
    assert day_of(path) == "1 February 1970"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert day_of(path) == "1 January 1970"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "9" * 40)
    assert day_of(path) == ""
