"""Folders of Parquet files are one table."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bestfor.data.read.folders import has_parts, parts_of
from bestfor.data.read.tables import Batches, Columns, columns_of, file_signature, read_table
from bestfor.errors import InputError

ROLES = Columns(text={"user": "user"}, number={"utility": "utility"}, ids=frozenset({"user"}))


def write(folder, parts):
    for name, (users, utilities) in parts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"user": users, "utility": utilities}), path)
    return folder


@pytest.fixture
def folder(tmp_path):
    parts = {"b.parquet": (["u", "v"], [2.0, 3.0]), "a/0.pq": (["u"], [1.0]), "c.parquet": (["w"], [4.0])}
    return write(tmp_path / "table", parts | {"_temporary/d.parquet": (["x"], [9.0]), ".e.parquet": (["x"], [9.0])})


def test_parts_are_one_table_in_the_order_of_their_names(folder):
    assert [str(path.relative_to(folder)) for path in parts_of(folder)] == ["a/0.pq", "b.parquet", "c.parquet"]
    table = read_table(folder, ROLES)
    assert table.to_pydict() == {"user": ["u", "u", "v", "w"], "utility": [1.0, 2.0, 3.0, 4.0]}
    batches = Batches(folder, ROLES, str(folder), rows=1)
    assert [(first, part["utility"][0].as_py()) for first, part in batches] == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert batches.weight() == 4
    assert columns_of(folder) == ["user", "utility"]


def test_the_signature_follows_names_and_bytes_of_the_parts(folder):
    before = file_signature(folder)
    (folder / "notes.txt").write_text("no part")
    assert file_signature(folder) == before
    write(folder, {"c.parquet": (["w"], [5.0])})
    changed = file_signature(folder)
    assert changed != before
    (folder / "c.parquet").rename(folder / "d.parquet")
    assert file_signature(folder) not in (before, changed)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "an unreadable table"),
        (lambda path: path.write_bytes(b""), "an empty file"),
        (lambda path: pq.write_table(pa.table({"user": ["u"]}), path), "no column 'utility'"),
        (lambda path: pq.write_table(pa.table({"user": ["u"], "utility": ["x"]}), path), "row 1, column 'utility'"),
    ],
)
def test_errors_name_the_part(folder, spoil, message):
    spoil(folder / "b.parquet")
    with pytest.raises(InputError, match=message) as caught:
        read_table(folder, ROLES)
    assert str(folder / "b.parquet") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_without_parts_is_no_table(tmp_path):
    assert not has_parts(tmp_path)
    with pytest.raises(InputError, match="without Parquet files"):
        parts_of(tmp_path)
