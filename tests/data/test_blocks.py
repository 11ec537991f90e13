"""Labels dealt out to blocks of users: everything arrives, and what is damaged is one line."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bestfor.data import blocks as module
from bestfor.data.blocks import LabelBlocks, name_of, write_blocks
from bestfor.errors import InputError
from bestfor.shards import shard_of

COUNT = 4


def labels(users=30, each=5):
    draw = np.random.default_rng(0)
    row = draw.permutation(users * each)
    return pa.table(
        {
            "person": [f"u{code}" for code in (row // each).tolist()],
            "query": [f"q{code}" for code in row.tolist()],
            "text": [f"text {code}" for code in row.tolist()],
            "utility": draw.normal(size=len(row)),
        }
    )


@pytest.fixture
def dealt(tmp_path):
    return write_blocks(labels(), tmp_path / "blocks", COUNT, {"user": "person"})


def rows_of(found):
    names = (found.users, found.queries, found.texts)
    codes = (found.user, found.query, found.text)
    texts = [[name[code] for code in each.tolist()] for name, each in zip(names, codes, strict=True)]
    return list(zip(*texts, found.utility.tolist(), strict=True))


def test_every_row_is_in_the_block_of_its_user(dealt):
    parts = [dealt.read(number) for number in range(COUNT)]
    for number, part in enumerate(parts):
        assert {shard_of(user, COUNT) for user in part.users} == {number}
    expected = sorted(zip(*labels().to_pydict().values(), strict=True))
    assert sorted(row for part in parts for row in rows_of(part)) == expected
    assert LabelBlocks.open(dealt.folder) == dealt


def test_portions_and_sources_change_nothing(dealt, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "HELD", 16)
    table = labels()
    for place in range(3):
        pq.write_table(table.slice(50 * place, 50), tmp_path / f"part-{place}.parquet")
    (tmp_path / "blocks").rename(tmp_path / "_before")
    other = write_blocks(tmp_path, tmp_path / "_other", COUNT, {"user": "person"})
    before = LabelBlocks(tmp_path / "_before", COUNT)
    for number in range(COUNT):
        assert rows_of(other.read(number)) == rows_of(before.read(number))


def test_a_block_without_users_is_none(tmp_path):
    found = write_blocks(labels(users=1), tmp_path / "blocks", 8, {"user": "person"})
    assert [found.read(number) is not None for number in range(8)] == [
        number == shard_of("u0", 8) for number in range(8)
    ]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "no file; expected block 1 of 4"),
        (lambda path: path.write_bytes(path.read_bytes()[:-20]), "an unreadable table"),
        (lambda path: path.write_bytes((path.parent / name_of(2)).read_bytes()), "expected users of block 1 of 4"),
    ],
)
def test_a_damaged_block_is_one_line(dealt, damage, message):
    path = dealt.folder / name_of(1)
    damage(path)
    with pytest.raises(InputError, match=message) as caught:
        dealt.read(1)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert dealt.read(0) is not None


def test_bad_tables_leave_what_was_there(dealt, tmp_path):
    spoiled = labels().set_column(3, "utility", pa.array(["much"] * 150))
    with pytest.raises(InputError, match="row 1, column 'utility'"):
        write_blocks(spoiled, dealt.folder, COUNT, {"user": "person"})
    with pytest.raises(InputError, match="no column 'user'"):
        write_blocks(labels(), dealt.folder, COUNT)
    with pytest.raises(InputError, match="no rows"):
        write_blocks(labels().slice(0, 0), dealt.folder, COUNT, {"user": "person"})
    with pytest.raises(InputError, match="a power of two"):
        write_blocks(labels(), dealt.folder, 3, {"user": "person"})
    assert sum(len(dealt.read(number)) for number in range(COUNT)) == 150
    assert [path.name for path in tmp_path.iterdir()] == ["blocks"]


def test_a_folder_that_is_none_is_one_line(tmp_path):
    with pytest.raises(InputError, match="a folder of blocks of labels"):
        LabelBlocks.open(tmp_path)
    (tmp_path / "blocks.json").write_text(json.dumps({"blocks": 3}))
    with pytest.raises(InputError, match="a power of two"):
        LabelBlocks.open(tmp_path)
