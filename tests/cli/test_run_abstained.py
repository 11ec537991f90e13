"""A run says on every face who is served without a part of their own."""

import json
import sys

import numpy as np
import pytest

import bestfor as bf
from bestfor.__main__ import main

RUN = """
name = "village"
[data]
source = "polis"
path = "{path}"
[split]
fold = 0
min_fit = 10
min_test = 4
[[reward]]
kind = "ridge"
components = 0
slope = 0.3
abstain = true
[[reward]]
kind = "pooled"
components = 0
[diagnosis]
n = [1, 2, 4]
"""
TOPICS = ("buses", "parks", "schools", "roads", "taxes", "trees", "noise", "shops", "rents", "jobs")


@pytest.fixture
def village(tmp_path):
    """A small Polis export of 20 people who want the same, with much luck in every vote."""
    draw = np.random.default_rng(0)
    texts = [f"We need {'more' if i % 2 else 'fewer'} {TOPICS[i % 10]}, and soon: point {i}" for i in range(40)]
    comments = ["timestamp,datetime,comment-id,author-id,agrees,disagrees,moderated,comment-body"]
    comments += [f'{i},x,{i},900,0,0,1,"{text}"' for i, text in enumerate(texts)]
    votes = ["participant,group-id,n-comments,n-votes,n-agree,n-disagree," + ",".join(str(i) for i in range(40))]
    wanted = np.where(np.arange(40) % 2, 1.0, -1.0)
    votes += [
        f"{user},0,0,40,0,0," + ",".join(str(int(np.sign(vote))) for vote in wanted + draw.normal(scale=1.5, size=40))
        for user in range(20)
    ]
    (tmp_path / "comments.csv").write_text("\n".join(comments) + "\n", encoding="utf-8")
    (tmp_path / "participants-votes.csv").write_text("\n".join(votes) + "\n", encoding="utf-8")
    return tmp_path


def test_artifact_diagnosis_page_and_terminal_name_how_many_abstain(monkeypatch, capfd, village):
    (village / "run.toml").write_text(RUN.format(path=village))
    monkeypatch.setattr(
        sys, "argv", ["bestfor", "run", str(village / "run.toml"), "--out", str(village / "o"), "--verbose"]
    )
    assert main() == 0
    terminal = " ".join("".join(capfd.readouterr()).split())
    model = bf.load_model(village / "o" / "models" / "ridge")
    assert model.abstained
    said = f"{len(model.abstained)} of 20 users were served without a part of their own"
    notes = json.loads((village / "o" / "diagnosis.json").read_text())["models"]["ridge"]["notes"]
    assert any(said in note for note in model.notes)
    assert any(said in note for note in notes)
    assert said in " ".join((village / "o" / "report.html").read_text().split())
    assert said in terminal
