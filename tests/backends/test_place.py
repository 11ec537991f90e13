import json
import os
from pathlib import Path

import fsspec
import pytest

from bestfor.backends.place import Place, kept_in
from bestfor.errors import InputError
from bestfor.files import HOST

BUCKET = os.environ.get("BESTFOR_TEST_S3", "")
"""Such as s3://bucket, with AWS_ENDPOINT_URL and keys of a server and s3fs installed; test_place_s3.py sees to that."""


@pytest.fixture(params=["file", "memory", *(["s3"] if BUCKET else [])])
def url(request, tmp_path):
    if request.param == "file":
        yield f"file://{tmp_path}/shared/run"
        return
    if request.param == "s3":
        yield f"{BUCKET}/{tmp_path.name}"
        return
    files = fsspec.filesystem("memory")
    yield "memory://shared/run"
    files.rm("/shared", recursive=True)


def write(folder, **files):
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def texts(folder):
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "place.json")
    return {path.relative_to(folder).as_posix(): path.read_text() for path in found}


def test_what_one_machine_puts_another_fetches(url, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    write(first, pool__a="1", queries="q", **{f".steps__.x.{HOST}.1.partial": "torn"})
    assert Place(url, first).put() == 2
    assert Place(url, first).put() == 0
    write(second, pool__b="2")
    place = Place(url, second)
    assert place.fetch() == 2
    assert place.fetch() == 0
    assert place.put() == 1
    assert Place(url, first).fetch() == 1
    assert {**texts(first), "queries": "q"} == {**texts(second), f".steps/.x.{HOST}.1.partial": "torn"}
    assert texts(second) == {"pool/a": "1", "pool/b": "2", "queries": "q"}


def test_what_changed_there_is_fetched_again_and_what_changed_here_is_put(url, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    write(first, a="1", b="1")
    Place(url, first).put()
    Place(url, second).fetch()
    write(first, a="22")
    Place(url, first).put()
    write(second, b="333")
    assert Place(url, second).fetch() == 1
    assert texts(second) == {"a": "22", "b": "333"}
    assert Place(url, second).put() == 1
    (first / "a").unlink()
    Place(url, first).put()
    assert Place(url, tmp_path / "third").fetch() == 1
    assert texts(tmp_path / "third") == {"b": "333"}


def test_the_place_gets_what_was_done_before_an_error(url, tmp_path):
    def work():
        with kept_in(Place(url, folder)):
            write(folder, a="1")
            raise ZeroDivisionError

    folder = tmp_path / "run"
    with pytest.raises(ZeroDivisionError):
        work()
    assert Place(url, tmp_path / "other").fetch() == 1
    record = json.loads((folder / ".steps" / "place.json").read_text())
    assert (record["place"], list(record["files"])) == (url, ["a"])


def test_a_place_that_cannot_be_had_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"\[backend\] place: found 'nowhere://x"):
        Place("nowhere://x", tmp_path)
    (tmp_path / "file").touch()
    write(tmp_path / "run", a="1")
    with pytest.raises(InputError, match=r"which cannot be written .*; expected a place that answers"):
        Place(f"file://{tmp_path}/file/run", tmp_path / "run").put()
    assert Path(tmp_path / "run" / "a").read_text() == "1"
