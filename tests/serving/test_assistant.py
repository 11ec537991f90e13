"""The example of an assistant: two people, a thumb and an edit, other answers."""

import re
import runpy
import sys
from pathlib import Path

import pytest

from bestfor.__main__ import main

EXAMPLE = Path(__file__).resolve().parent.parent.parent / "examples" / "assistant.py"


@pytest.mark.slow
def test_the_next_answers_of_the_demo_change(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    run = str(tmp_path / "demo")
    monkeypatch.setattr(sys, "argv", ["bestfor", "demo", "--users", "12", "--n", "8", "--out", run])
    assert main() == 0
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["assistant.py", run, str(tmp_path / "feedback.db")])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    said = capsys.readouterr().out
    shown = dict(re.findall(r"(u\d+) is shown: (.*)", said))
    later = {
        user: (text, float(moved)) for user, text, moved in re.findall(r"(u\d+) is now shown: (.*) \(.*by (.*)\)", said)
    }
    assert set(shown) == set(later) == {"u0000", "u0001"}
    for user, (text, moved) in later.items():
        assert moved < 0
        assert text != shown[user]


def test_the_example_is_short():
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 45
