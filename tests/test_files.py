import ast
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestfor import files
from bestfor.errors import InputError
from bestfor.files import (
    hash_bytes,
    hash_file,
    hash_json,
    hash_parts,
    hash_text,
    hash_tree,
    hold,
    labelled,
    link_first,
    locked,
    read_object,
    remove_unheld,
    sweep,
    write_bytes,
    write_json,
    write_text,
    writing,
    writing_folder,
)

SOURCE = Path(files.__file__).parent
DEAD = 2**22 + 7
"""Above the largest process id of Linux."""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_threads_write_one_file_at_the_same_time(tmp_path):
    both = threading.Barrier(2)

    def write(text):
        with writing(tmp_path / "file") as partial:
            partial.write_text(text)
            both.wait(timeout=60)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, ("one", "two")))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() in {"one", "two"}


@pytest.mark.parametrize("sync", [True, False])
def test_what_is_written_is_there_and_nothing_else(tmp_path, sync):
    folder = tmp_path / "a" / "b"
    write_bytes(folder / "bytes", b"\0\r\n", sync=sync)
    write_text(folder / "text", "ä\r\n", sync=sync)
    write_json(folder / "json", {"b": ["ä", 1.5], "a": None}, sync=sync)
    assert (folder / "bytes").read_bytes() == b"\0\r\n"
    assert (folder / "text").read_bytes() == "ä\r\n".encode()
    assert (folder / "json").read_text() == '{\n "b": [\n  "ä",\n  1.5\n ],\n "a": null\n}\n'
    assert names(folder) == ["bytes", "json", "text"]


def test_nan_is_no_json(tmp_path):
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "json", float("nan"))
    assert names(tmp_path) == []


def test_a_writer_that_fails_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "file"
    write_text(path, "before")

    def fail():
        with writing(path) as partial:
            partial.write_text("half")
            assert path.read_text() == "before"
            assert partial.parent == tmp_path
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert (path.read_text(), names(tmp_path)) == ("before", ["file"])
    with pytest.raises(FileNotFoundError), writing(path):
        pass  # nothing was written
    assert path.read_text() == "before"


def test_bytes_are_on_the_disk_before_the_file_has_its_name(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(os, "fsync", lambda handle: order.append("sync"))
    with writing(tmp_path / "file", place=lambda partial, path: order.append("place")) as partial:
        partial.write_text("x")
    assert order == ["sync", "place"]
    write_text(tmp_path / "file", "x", sync=False)
    assert order == ["sync", "place"]


KILLED = """
import os, signal, sys
from pathlib import Path
from bestfor.files import writing, writing_folder
path = Path(sys.argv[1])
if sys.argv[2] == "file":
    with writing(path) as partial:
        partial.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
with writing_folder(path) as partial:
    (partial / "a").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_writer_that_is_killed_leaves_what_was_there_and_something_to_sweep(tmp_path, kind):
    path = tmp_path / "place"
    if kind == "file":
        path.write_text("before")
    else:
        path.mkdir()
        (path / "a").write_text("before")
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), kind], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 2
    sweep(tmp_path)
    assert names(tmp_path) == ["place"]
    assert (path if kind == "file" else path / "a").read_text() == "before"


def test_folders_are_placed_whole(tmp_path):
    path = tmp_path / "x" / "folder"
    with writing_folder(path) as partial:
        (partial / "a").write_text("1")
        assert not path.exists()
    with writing_folder(path) as partial:
        (partial / "b").write_text("2")
        assert names(path) == ["a"]
    assert names(path) == ["b"]

    def fail():
        with writing_folder(path) as partial:
            (partial / "c").write_text("3")
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (names(path), names(path.parent)) == (["b"], ["folder"])


def test_the_first_of_several_writers_wins_where_files_can_be_linked(tmp_path, monkeypatch):
    path = tmp_path / "file"
    placed = []
    for text in ("first", "second"):
        with writing(path, place=lambda partial, path: placed.append(link_first(partial, path))) as partial:
            partial.write_text(text)
    assert (path.read_text(), placed, names(tmp_path)) == ("first", [True, False], ["file"])

    def refuse(*_):
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    with writing(path, place=link_first) as partial:
        partial.write_text("third")
    assert (path.read_text(), names(tmp_path)) == ("third", ["file"])


def test_names_of_older_versions_are_swept_too(tmp_path):
    inner = tmp_path / "models" / "m"
    inner.mkdir(parents=True)
    dead = [
        inner / f".weights.{DEAD}.partial",
        inner / f"..weights.{DEAD}.partial",
        inner / f".chart.{DEAD}.partial.png",
        tmp_path / f".part-07.{DEAD}",
        tmp_path / f".part-plan.{DEAD}",
        tmp_path / f"..part-07.{DEAD}.{DEAD}.partial",
        tmp_path / f".part-07.parquet.{DEAD}.partial",
        tmp_path / ".0123456789abcdef01234567.safetensors.partial",
        tmp_path / ".adapters.json.partial",
    ]
    alive = os.getpid()
    kept = [
        tmp_path / f".run.toml.{alive}.partial",
        tmp_path / f".part-08.{alive}",
        tmp_path / ".rougeL.partial",
        tmp_path / f"x.{DEAD}.partial",
        tmp_path / f"part-09.{DEAD}",
        tmp_path / "party",
    ]
    for path in (*dead, *kept):
        path.write_text("half")
    for folder in (tmp_path / "resume.partial", tmp_path / f".resume.{DEAD}.partial"):
        folder.mkdir()
        (folder / "state.json").write_text("{}")
    sweep(tmp_path)
    assert [path.name for path in dead if path.exists()] == []
    assert not (tmp_path / "resume.partial").exists()
    assert names(tmp_path) == sorted([*(path.name for path in kept), "models"])


def test_held_folders_stay(tmp_path):
    folder = tmp_path / "held"
    folder.mkdir()
    first, second = hold(folder), hold(folder)
    assert first is not None
    assert second is not None
    assert hold(folder, alone=True) is None
    os.close(first)
    assert not remove_unheld(folder)
    os.close(second)
    with locked(folder):
        assert hold(folder) is None
        assert not remove_unheld(folder)
    assert remove_unheld(folder)
    assert not folder.exists()
    assert remove_unheld(folder)
    with pytest.raises(FileNotFoundError):
        hold(folder)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(JSON)
def test_hashes_of_json_are_those_of_the_formulas_before(value):
    def sha(text):
        return hashlib.sha256(text.encode()).hexdigest()

    assert hash_json(value) == sha(json.dumps(value, sort_keys=True))
    compact = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    try:
        expected = sha(compact)
    except UnicodeEncodeError:
        with pytest.raises(UnicodeEncodeError):
            hash_json(value, separators=(",", ":"), ensure_ascii=False, default=str)
    else:
        assert hash_json(value, separators=(",", ":"), ensure_ascii=False, default=str) == expected


@given(st.lists(st.binary(max_size=20), max_size=5))
def test_parts_are_hashed_as_one(parts):
    assert hash_parts(parts) == hash_bytes(b"".join(parts)) == hashlib.sha256(b"".join(parts)).hexdigest()


def test_hashes_of_texts_files_and_trees(tmp_path):
    write_text(tmp_path / "m" / "a", "ä")
    write_text(tmp_path / "m" / "in" / "b", "")
    one, two = hash_file(tmp_path / "m" / "a"), hash_file(tmp_path / "m" / "in" / "b")
    assert one == hash_text("ä") == hashlib.sha256("ä".encode()).hexdigest()
    whole = hashlib.sha256(b"m/a\0" + bytes.fromhex(one) + b"m/in/b\0" + bytes.fromhex(two)).hexdigest()
    assert hash_tree([tmp_path / "m"]) == whole
    assert labelled(whole) == f"sha256:{whole}"
    (tmp_path / "empty").mkdir()
    assert hash_tree([tmp_path / "m", tmp_path / "gone"]) == hash_tree([tmp_path / "empty"]) == labelled("") == ""


def test_nobody_else_replaces_files_or_computes_sha256():
    strangers = []
    for path in SOURCE.rglob("*.py"):
        if path.name in ("files.py", "rng.py") and path.parent == SOURCE:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in ("fsync", "sha256", "file_digest"):
                own = ast.unparse(node.value)
                strangers += [(path.name, ast.unparse(node))] if own in ("os", "hashlib") else []
    assert strangers == []


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "no file"), ("{", "what is not JSON"), ("[]", "JSON without 'models'"), ('{"n": 1}', "without 'models'")],
)
def test_a_json_object_is_read_or_refused_in_one_line(tmp_path, text, said):
    path = tmp_path / "diagnosis.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=said):
        read_object(path, "models", "a diagnosis", "a finished run")
    path.write_text('{"models": {}}')
    assert read_object(path, "models", "a diagnosis", "a finished run") == {"models": {}}
