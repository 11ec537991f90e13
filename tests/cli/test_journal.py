"""The verb ``journal``: what is in one, a person's records, forgetting, pruning."""

import json
import shutil
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy")

from bestfor.__main__ import main
from bestfor.serving.journal import Journal, Label, LoggedAnswer

BEFORE = Path(__file__).parent.parent / "fixtures" / "before" / "runs" / "ratings"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "feedback.db"
    with Journal(path) as journal:
        for number, (user, when) in enumerate((("u0", 1000.0), ("u1", 2000.0), ("u0", time.time()))):
            texts, chances = ("one", "two"), (1.0, 0.0)
            journal.add_answer(
                "", LoggedAnswer(f"a{number}", user, "p", texts, chances, None, chances, 0, "best", "m", "own", 3, when)
            )
        journal.add_labels("", [Label("k", "u1", "thumb", "a1", 1.0, texts=("one",), time=2000.0)])
    return path


@pytest.fixture
def call(monkeypatch, capsys):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["bestfor", "journal", *(str(word) for word in words)])
        code = main()
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_show_counts_what_there_is(call, path):
    code, out, _ = call("show", path, "--json")
    found = json.loads(out)
    assert (code, found["people"], found["answers"], found["labels"]) == (0, 2, 3, {"thumb": 1})
    code, out, _ = call("show", f"sqlite:///{path}")
    assert code == 0
    assert "labels, thumb  1" in out


def test_export_writes_json_lines(call, path):
    code, out, _ = call("export", path, "u0")
    assert code == 0
    assert [json.loads(line)["type"] for line in out.splitlines()] == ["person", "answer", "answer"]


def test_forget_removes_a_person_and_names_what_still_holds_them(call, path, tmp_path):
    run = shutil.copytree(BEFORE, tmp_path / "run")
    with Journal(path) as journal:
        journal.note_folder(run, run=True)
        journal.note_folder(run / "models" / "pooled")
    code, out, _ = call("forget", path, "u0", "--json")
    found = json.loads(out)
    assert (code, found["answers"], found["labels"], found["wiped"]) == (0, 2, 0, True)
    assert str(run) in found["still_held"]
    assert str(run / "models" / "hierarchical") in found["still_held"]
    code, out, _ = call("forget", path, "u0")
    assert out.startswith("removed 0 answers and 0 labels\nstill held by ")
    code, out, _ = call("forget", path, "nobody", "--json")
    assert json.loads(out)["still_held"] == []


def test_prune_keeps_what_is_young_or_spoken_of(call, path):
    code, out, _ = call("prune", path, "--older-than", "30d")
    assert (code, out) == (0, "removed 1 answers and 0 labels\n")
    code, out, _ = call("prune", path, "--older-than", "12h", "--labels", "--json")
    assert json.loads(out) == {"answers": 1, "labels": 1}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("show", "no/such.db"), "no/such.db"),
        (("show", "mysql://x/y"), "a database of kind 'mysql'"),
        (("prune", "PATH", "--older-than", "soon"), "--older-than: found 'soon'; expected an age"),
        (("export", "PATH", "a\x1fb"), "user: found the character U+001F"),
    ],
)
def test_bad_words_are_one_line_and_code_2(call, path, words, said):
    code, out, err = call(*(path if word == "PATH" else word for word in words))
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_looking_into_a_journal_makes_none(call, tmp_path):
    assert call("show", tmp_path / "none.db")[0] == 2
    assert list(tmp_path.iterdir()) == []


def test_labels_of_other_tools_are_read_and_everybodys_written(call, tmp_path):
    new, table = tmp_path / "new.db", tmp_path / "said.csv"
    table.write_text("user,text,score\nann,one,2\nann,two,5\n,three,1\n")
    code, _, err = call("import", new, table, "--from", "csv")
    assert code == 2
    assert err.strip().endswith(
        "--scale: found scores from 2 to 5; expected LOW:HIGH, the lowest and the highest number that people could give"
    )
    code, out, _ = call("import", new, table, "--from", "csv", "--scale", "1:5")
    assert (code, out) == (
        0,
        "new labels: 2 (2 rating)\nthere already: 0; changed: 0; new answers: 0\n"
        "left out, nobody knows of which user: 1\n",
    )
    code, out, _ = call("import", new, table, "--from", "csv", "--scale", "1:5", "--json")
    assert (code, json.loads(out)["same"]) == (0, 2)
    code, out, _ = call("export", new, "--to", "csv", "--out", tmp_path / "out.csv")
    assert (code, out) == (0, f"wrote 2 labels to {tmp_path / 'out.csv'}\n")
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("export", "--to", "csv"), "--out: found nothing"),
        (("export", "u0", "--to", "csv"), "--to: found 'csv' for one person"),
        (("import", "x.csv", "--from", "csv", "--scale", "5"), "--scale: found '5'; expected LOW:HIGH, as 1:5"),
        (("import", "x.csv", "--from", "csv", "--scale", "5:1"), "--scale: found 5:1; expected LOW:HIGH"),
        (("import", "x.csv", "--from", "csv", "--word", "good"), "--word: found 'good'; expected WORD=NUMBER"),
        (("import", "x.csv", "--from", "csv"), "x.csv: found what cannot be read (No such file or directory)"),
    ],
)
def test_what_cannot_be_moved_is_one_line(call, path, words, line):
    verb, *rest = words
    code, _, err = call(verb, path, *rest)
    assert code == 2
    assert line in err
    assert len(err.strip().splitlines()) == 1
