"""The house's own rules: names, sizes, and where what moved is still found."""

import ast
import importlib
import warnings
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

from bestfor import moved

SOURCE = Path(__file__).resolve().parent.parent / "src" / "bestfor"
FILES = sorted(SOURCE.rglob("*.py"))


@cache
def trees():
    """Every file's syntax tree, parsed when a test first asks."""
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def name_of(path):
    return str(path.relative_to(SOURCE))


def code_lines(function):
    """Lines of a function but for its docstring, and of a verb but for its options, which are its parameters."""
    lines = function.end_lineno - function.lineno + 1
    if len(function.args.args) > 12:
        lines -= function.body[0].lineno - function.lineno
    if ast.get_docstring(function):
        lines -= function.body[0].end_lineno - function.body[0].lineno + 1
    return lines


def test_files_are_at_most_600_lines():
    sizes = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: size for name, size in sizes.items() if size > 600} == {}


def test_functions_are_at_most_40_lines():
    functions = [(path, node) for path, tree in trees().items() for node in ast.walk(tree)]
    found = [(name_of(path), node.name) for path, node in functions if isinstance(node, ast.FunctionDef)]
    assert len(found) > 1000
    long = [
        (name_of(path), node.name)
        for path, node in functions
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and code_lines(node) > 40
    ]
    assert long == []


def test_no_class_name_is_used_twice():
    places = defaultdict(list)
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name != "Config":
                places[node.name].append(name_of(path))
    assert len(places) > 200
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_private_files_are_imported_within_their_package_only():
    strangers = []
    for path, tree in trees().items():
        here = ["bestfor", *path.relative_to(SOURCE).with_suffix("").parts][:-1]
        for node in ast.walk(tree):
            if not (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bestfor")):
                continue
            for full in [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]:
                parts = full.split(".")
                for depth, part in enumerate(parts):
                    private = part.startswith("_") and not part.startswith("__")
                    if private and (SOURCE / Path(*parts[1 : depth + 1])).with_suffix(".py").is_file():
                        strangers += [(name_of(path), full)] if parts[:depth] != here[:depth] else []
    assert strangers == []


@pytest.mark.parametrize("old", sorted(moved.MODULES))
def test_modules_at_their_old_path_are_found_and_warn(old, monkeypatch):
    new = importlib.import_module("bestfor." + moved.MODULES[old])
    for name in [name for name in list(importlib.sys.modules) if name.removeprefix("bestfor.") in moved.MODULES]:
        monkeypatch.delitem(importlib.sys.modules, name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module = importlib.import_module(f"bestfor.{old}")
    told = [str(one.message) for one in caught]
    assert any(f"bestfor.{old} is now bestfor.{moved.MODULES[old]}" in message for message in told)
    assert all(one.category is DeprecationWarning for one in caught)
    public = [name for name in vars(new) if not name.startswith("_")]
    assert public or new.__file__.endswith("__init__.py")
    assert all(getattr(module, name) is getattr(new, name) for name in public)


QUESTIONS = ("What ", "Where ", "Who ", "How ", "Whether ", "When ", "Which ")


def documented(path, tree):
    """Every module, class and function with a docstring, by its dotted name."""
    yield name_of(path), tree
    todo = [(name_of(path), tree)]
    while todo:
        name, node = todo.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{name}:{child.name}", child
                todo.append((f"{name}:{child.name}", child))
            else:
                todo.append((name, child))


def test_first_lines_say_what_a_thing_does():
    found = [(name, ast.get_docstring(node)) for path, tree in trees().items() for name, node in documented(path, tree)]
    first, rest = {}, {}
    for name, text in found:
        if text:
            first[name], _, rest[name] = text.partition("\n")
    assert len(first) > 1000
    assert {name: line for name, line in first.items() if not line[0].isupper() or line[-1] not in ".:"} == {}
    assert {name: line for name, line in first.items() if line.startswith(QUESTIONS)} == {}
    assert {name: line for name, line in first.items() if rest[name].lstrip(" ")[:1].strip()} == {}


def test_files_that_answer_the_twelve_questions_are_there():
    page = (SOURCE.parent.parent / "docs" / "finding.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("|")][2:]
    named = [answer.strip().strip("`") for _, answer in rows]
    assert len(named) == 12
    assert [name for name in named if not (SOURCE / name).is_file()] == []
