"""The verbs do the same under ``python -O``: no work hides in an assertion."""

import ast
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bestfor

SOURCE = Path(bestfor.__file__).parent
BEFORE = Path(__file__).parent / "fixtures" / "before"
VERBS = {
    "demo": [("demo", "--users", "4", "--n", "4", "--out", "out")],
    "run": [("run", "ratings.toml", "--out", "out")],
    "measure": [("generate", "histories.toml", "--out", "out"), ("measure", "histories.toml", "--out", "out")],
}


def narrows(test):
    """Whether an asserted expression only tells a type checker what is known, and calls nothing of the project."""
    if isinstance(test, ast.Call):
        name, *_ = [test.func, *test.args]
        return isinstance(name, ast.Name) and name.id == "isinstance" and isinstance(test.args[0], ast.Name)
    known = isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.IsNot)
    return known and isinstance(test.left, ast.Name | ast.Attribute)


@pytest.mark.slow
def test_assertions_narrow_types_and_do_nothing_else():
    files = [path for path in SOURCE.rglob("*.py") if path.parent.name != "testing"]
    found = [(path, node) for path in files for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    asserted = [(path.name, node) for path, node in found if isinstance(node, ast.Assert)]
    assert [(name, ast.unparse(node)) for name, node in asserted if not narrows(node.test)] == []


def left(folder, commands, *options):
    """The files that some verbs leave in a folder of their own, by the hash of their contents."""
    folder.mkdir()
    for name in ("ratings.csv", "ratings.toml", "histories.toml"):
        shutil.copy(BEFORE / name, folder / name)
    for command in commands:
        done = subprocess.run(
            [sys.executable, *options, "-m", "bestfor", *command], cwd=folder, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    files = (path for path in sorted((folder / "out").rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.slow
@pytest.mark.parametrize("verb", sorted(VERBS))
def test_a_verb_leaves_the_same_files_under_optimization(tmp_path, verb):
    plain, optimized = left(tmp_path / "plain", VERBS[verb]), left(tmp_path / "optimized", VERBS[verb], "-O")
    assert len(plain) > 5
    assert optimized == plain
