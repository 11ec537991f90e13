"""A journal as tables that it can be read from again, and as examples of Vowpal Wabbit."""

import csv
import json

import pyarrow.parquet as pq
import pytest

pytest.importorskip("sqlalchemy")

from bestfor.errors import InputError
from bestfor.labels.records import Label, LoggedAnswer
from bestfor.serving.export_tables import export_file
from bestfor.serving.imports import import_files
from bestfor.serving.journal import Journal

KINDS = ("rating", "thumb", "preference", "edit", "kept", "dismissed", "comment")


def answer(id, user, chosen=1, prompt="a title: please"):
    texts, mean, chances = ("one | two", "three", "four"), (0.5, 1.0, None), (0.25, 0.5, 0.25)
    return LoggedAnswer(id, user, prompt, texts, mean, None, chances, chosen, "soft:1", "m", "own", 3, 100.0)


@pytest.fixture
def full(tmp_path):
    with Journal(tmp_path / "full.db") as journal:
        for user in ("ann", "ben"):
            journal.add_answer("", answer(f"a-{user}", user))
            labels = [
                Label(f"{user}1", user, "rating", None, 4.0, 1.0, 5.0, ('x, "y"\nz',), "p", 1.0, 7.0),
                Label(f"{user}2", user, "thumb", f"a-{user}", 1.0, texts=("three",), weight=0.5, time=8.0),
                Label(f"{user}3", user, "preference", texts=("b", "c", "d"), prompt="q", time=9.0),
                Label(f"{user}4", user, "edit", f"a-{user}", texts=("three, better",), time=10.0),
                Label(f"{user}5", user, "kept", None, 1.0, texts=("x",), weight=0.1, time=11.0),
                Label(f"{user}6", user, "dismissed", None, 1.0, texts=("w",), weight=0.1, time=12.0),
                Label(f"{user}7", user, "comment", texts=("fine", "x"), weight=0.0, time=13.0),
            ]
            journal.add_labels("", labels)
        journal.withdraw("", "ben5")
        yield journal


@pytest.mark.parametrize("to", ["csv", "jsonl", "parquet"])
def test_a_table_is_read_into_an_equal_journal(full, tmp_path, to):
    out = tmp_path / f"labels.{to}"
    assert export_file(full, out, to) == 14
    with Journal(tmp_path / "again.db") as again:
        done = import_files(again, [out], "bestfor")
        assert done.labels == {kind: 2 - (kind == "kept") for kind in sorted(KINDS)}
        assert done.answers == 2
        for user in ("ann", "ben"):
            before = {label.key: label for label, _ in full.labels_of("", user) if label.withdrawn is None}
            after = {label.key: label for label, _ in again.labels_of("", user)}
            assert sorted(before) == sorted(after)
            for key, label in before.items():
                other = after[key]
                assert (label.kind, label.value, label.low, label.high) == (
                    *(other.kind, other.value, other.low, other.high),
                )
                assert (label.texts, label.weight, label.time) == (other.texts, other.weight, other.time)
            assert after[f"{user}2"].prompt == "a title: please"
            (edited,) = again.answers_of("", user)
            assert (edited.shown, set(edited.texts)) == ("three", {"one | two", "three", "four"})
        assert import_files(again, [out], "bestfor").same == 13
    assert import_files(full, [out], "bestfor").labels == {}


def test_columns_and_cells(full, tmp_path):
    export_file(full, tmp_path / "labels.csv", "csv")
    with (tmp_path / "labels.csv").open(newline="") as handle:
        first, second, *_ = csv.DictReader(handle)
    assert (first["user"], first["kind"], first["value"], first["text"]) == ("ann", "rating", "4.0", 'x, "y"\nz')
    assert json.loads(second["candidates"]) == ["one | two", "three", "four"]
    export_file(full, tmp_path / "labels.parquet", "parquet")
    table = pq.read_table(tmp_path / "labels.parquet")
    assert table.num_rows == 14
    assert table["texts"][2].as_py() == ["b", "c", "d"]


def test_examples_of_vowpal_wabbit(full, tmp_path):
    full.add_answer("", answer("silent", "cem"))
    assert export_file(full, tmp_path / "log.vw", "vw") == 2
    examples = (tmp_path / "log.vw").read_text().split("\n\n")
    shared, *candidates = examples[0].splitlines()
    assert shared.startswith("shared |u user_")
    assert shared.endswith(" |p a title please")
    assert "ann" not in shared
    assert candidates[0] == "|a one two |r reward:0.5"
    assert candidates[2] == "|a four"
    cost, chance = candidates[1].split(" ")[0].split(":")[1:]
    assert candidates[1].endswith("|a three |r reward:1")
    assert 0 <= float(cost) <= 1
    assert chance == "0.5"
    assert len(examples) == 3
    assert examples[2] == ""


def test_an_unknown_format_writes_nothing(full, tmp_path):
    with pytest.raises(InputError, match="--to: found 'xls'"):
        export_file(full, tmp_path / "x", "xls")
    assert not (tmp_path / "x").exists()
