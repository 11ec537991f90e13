"""Fitting in blocks of users from the command line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bestfor.__main__ import main
from bestfor.data.blocks import LabelBlocks
from bestfor.data.candidates import Candidates
from bestfor.rewards import build
from bestfor.rewards import load as load_model
from bestfor.testing.rewards import taste_examples

OPTIONS = ["--set", "components=0"]


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    path = tmp_path_factory.mktemp("labels") / "labels.parquet"
    pq.write_table(taste_examples(12, 2, 5).to_arrow(), path)
    return path


@pytest.fixture(scope="module")
def dealt(labels):
    assert bestfor("deal", labels, "--out", labels.parent / "blocks", "--blocks", 4) == 0
    return labels.parent / "blocks"


def bestfor(*words):
    argv, sys.argv = sys.argv, ["bestfor", "blocks", *map(str, words)]
    try:
        return main()
    finally:
        sys.argv = argv


def test_a_model_in_blocks_is_the_model_of_one_fit(labels, dealt, tmp_path, capsys):
    capsys.readouterr()
    assert bestfor("fit", dealt, "--kind", "ridge", *OPTIONS, "--out", tmp_path / "model", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["blocks"]) == ("ridge", 4)
    rows = Candidates.of_rows(pq.read_table(labels))
    expected = build("ridge", components=0).fit(rows, rng=0).predict(rows)
    assert load_model(tmp_path / "model").predict(rows).mean == pytest.approx(expected.mean, rel=1e-8)


def test_a_file_of_a_run_says_the_model_its_options_and_its_seed(dealt, tmp_path, capsys):
    (tmp_path / "run.toml").write_text(
        """
seed = 3
[data]
source = "table"
path = "labels.parquet"
[[reward]]
kind = "pooled"
components = 0
[[reward]]
kind = "ridge"
components = 0
abstain = false
"""
    )
    run = ["fit", dealt, "--run", tmp_path / "run.toml", "--out", tmp_path / "model", "--json"]
    assert bestfor(*run) == 2
    assert "2 models; expected --reward with one of pooled, ridge" in capsys.readouterr().err
    assert bestfor(*run, "--reward", "ridge") == 0
    first = json.loads(capsys.readouterr().out)["digest"]
    options = ["--kind", "ridge", *OPTIONS, "--set", "abstain=false", "--seed", 3]
    assert bestfor("fit", dealt, *options, "--out", tmp_path / "same", "--json") == 0
    assert json.loads(capsys.readouterr().out)["digest"] == first


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit", "{blocks}"], "neither --kind nor --run; expected --kind KIND"),
        (["fit", "{blocks}", "--kind", "length"], "kind 'length'; expected one of 'pooled'"),
        (["fit", "{blocks}", "--kind", "ridge", "--set", "componets=1"], "componets"),
        (["fit", "{blocks}", "--kind", "ridge", "--backend", "lokal"], "local"),
        (["fit", "{blocks}/none", "--kind", "ridge"], "a folder of blocks of labels"),
        (["deal", "{labels}", "--blocks", "3"], "3; expected a power of two"),
        (["deal", "{labels}", "--column", "usr=person"], "role 'usr'; expected 'user'"),
        (["deal", "{labels}", "--column", "user=person"], "person"),
    ],
)
def test_what_cannot_be_is_one_line(labels, dealt, tmp_path, capsys, words, message):
    words = [word.format(blocks=dealt, labels=labels) for word in words]
    assert bestfor(*words, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_folder_of_something_else_is_not_replaced(labels, dealt, tmp_path, capsys):
    (tmp_path / "precious.txt").write_text("mine")
    assert bestfor("deal", labels, "--out", tmp_path) == 2
    assert "no folder of blocks" in capsys.readouterr().err
    assert (tmp_path / "precious.txt").read_text() == "mine"
    assert bestfor("deal", labels, "--out", dealt.parent / "again") == 0
    assert LabelBlocks.open(dealt.parent / "again").count == 1


@pytest.mark.slow
def test_a_killed_fit_goes_on_with_the_same_bytes(dealt, tmp_path, capsys):
    """Killed by kill -9 as soon as something is kept, in the middle of several processes."""
    words = ["--kind", "hierarchical", "--set", "components=0", "--workers", "2", "--json"]
    command = [sys.executable, "-m", "bestfor", "blocks", "fit", str(dealt), "--out", str(tmp_path / "killed"), *words]
    for least in (2, 5, 9):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        while child.poll() is None and len(list((tmp_path / "killed").rglob("block-*.safetensors"))) < least:
            time.sleep(0.005)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    assert list((tmp_path / "killed").rglob("block-*.safetensors"))
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert bestfor("fit", dealt, "--out", tmp_path / "whole", *words[:-3]) == 0
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == names
    assert all((tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes() for name in names)


@pytest.mark.slow
def test_an_encoder_that_is_found_by_name_is_found_in_other_processes(dealt, tmp_path, capsys):
    words = ["fit", dealt, "--kind", "ridge", "--set", "encoder=static:all-MiniLM-L6-v2", "--set", "components=2"]
    digests = []
    for number in ("1", "2"):
        assert bestfor(*words, "--out", tmp_path / number, "--workers", number, "--json") == 0
        digests.append(json.loads(capsys.readouterr().out)["digest"])
    assert digests[0] == digests[1]


@pytest.mark.slow
def test_the_commands_of_the_page_work(labels, tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "shards.md").read_text()
    commands = [line for line in page.splitlines() if line.startswith("bestfor blocks ")]
    assert [command.split()[2] for command in commands] == ["deal", "fit"]
    monkeypatch.chdir(labels.parent)
    for command in commands:
        assert bestfor(*command.split()[2:]) == 0
    assert build("ridge").kind == json.loads((labels.parent / "model" / "config.json").read_text())["model"]["kind"]
