"""Rows of users in shards: where a user lies, what is read of one, and what damage says."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestfor import artifacts, shards
from bestfor.errors import InputError
from bestfor.shards import ShardEntry, entries_of, shard_count, shard_of, table_of

COUNT = 8
USERS = tuple(sorted(["ada", "b/o b", "émile", "李", *(f"u{code:03}" for code in range(200))]))


def arrays_of(users, seed=0):
    draw = np.random.default_rng(seed)
    ends = np.cumsum([0, *draw.integers(0, 4, len(users))])
    return {
        "shared": draw.normal(size=(3, 3)),
        "user.flat": draw.normal(size=(len(users), 2)),
        "user.ragged": draw.normal(size=(int(ends[-1]), 3)).astype(np.float32),
        "user.ragged.ends": ends,
        "user.abstained": draw.integers(0, 2, len(users)).astype(np.uint8),
    }


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """One model in one file, and in shards."""
    folder = tmp_path_factory.mktemp("models")
    artifacts.write(folder / "one", {"n": 1}, arrays_of(USERS), USERS)
    artifacts.write_sharded(folder / "many", {"n": 1}, arrays_of(USERS), USERS, COUNT)
    return folder


def test_where_a_user_lies_never_changes():
    assert [shard_of(user, 1024) for user in ("ada", "b/o b", "émile", "李", "")] == [86, 722, 792, 225, 914]


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])), st.integers(0, 20))
def test_twice_as_many_shards_divide_each_one(user, bits):
    assert shard_of(user, 2 << bits) >> 1 == shard_of(user, 1 << bits)


@pytest.mark.parametrize("users", [0, 1, 2048, 2049, 5000, 1_000_000, 1_048_576, 1_048_577])
def test_shards_hold_one_to_two_thousand_users(users):
    count = shard_count(users)
    assert count & (count - 1) == 0
    assert users / count <= 2048
    assert count == 1 or users / count >= 1000


def test_users_spread_evenly():
    counts = np.bincount([shard_of(f"user-{code}", 16) for code in range(16_000)], minlength=16)
    assert 850 < counts.min() <= counts.max() < 1150


@pytest.mark.parametrize("wanted", [None, (), ("ada",), ("u007", "nobody", "李", "", "u123"), USERS])
def test_shards_give_what_one_file_gives(both, wanted):
    one, many = (artifacts.read(both / name, users=wanted) for name in ("one", "many"))
    assert many.config == one.config
    assert many.users == one.users
    assert set(many.arrays) == set(one.arrays)
    for name, values in one.arrays.items():
        np.testing.assert_array_equal(many.arrays[name], values)
        assert many.arrays[name].dtype == values.dtype, name


def test_an_opened_model_reads_rows_when_they_are_asked_for(both):
    found = artifacts.read(both / "many", opened=True)
    assert (found.users, found.shards.users, found.arrays["user.flat"].shape) == ((), len(USERS), (0, 2))
    rows, ids = found.shards.rows(["u100", "ada"])
    assert ids == ("ada", "u100")
    places = [USERS.index(user) for user in ids]
    np.testing.assert_array_equal(rows["user.flat"], arrays_of(USERS)["user.flat"][places])
    assert artifacts.read(both / "one", opened=True).users == USERS


def test_the_hash_follows_the_rows(both, tmp_path):
    digest = artifacts.read(both / "many").digest
    assert artifacts.write_sharded(tmp_path, {"n": 1}, arrays_of(USERS), USERS, COUNT) == digest
    other = arrays_of(USERS)
    other["user.flat"][17] += 1
    assert artifacts.write_sharded(tmp_path, {"n": 1}, other, USERS, COUNT) != digest
    files = sorted(path.name for path in tmp_path.glob("users-*"))
    assert len(files) == COUNT
    assert artifacts.write(tmp_path, {"n": 1}, arrays_of(USERS), USERS)
    assert not list(tmp_path.glob("users-*"))


def test_a_shard_without_users_has_no_file(tmp_path):
    users = ("ada",)
    artifacts.write_sharded(tmp_path, {}, arrays_of(users), users, COUNT)
    assert len(list(tmp_path.glob("users-*"))) == 1
    assert artifacts.read(tmp_path, users=["bob", "ada"]).users == users
    assert artifacts.read(tmp_path).users == users


def test_another_process_may_have_written_the_shards(tmp_path):
    entries = [shards.write_shard(tmp_path, rows, ids) for _, rows, ids in split()]
    artifacts.finish_shards(tmp_path, {}, {"shared": np.zeros(2)}, entries)
    assert artifacts.read(tmp_path).users == USERS
    next(tmp_path.glob("users-*")).unlink()
    with pytest.raises(InputError, match="no shard"):
        artifacts.finish_shards(tmp_path, {}, {"shared": np.zeros(2)}, entries)


def split():
    rows = {name: values for name, values in arrays_of(USERS).items() if name.startswith("user.")}
    return shards.split_rows(rows, USERS, COUNT)


def shard_file(folder, user):
    found = artifacts.read(folder, opened=True).shards
    return folder / shards.file_of(found.entries[shard_of(user, COUNT)].digest)


def flip(path, name, place):
    payload = bytearray(path.read_bytes())
    header = int.from_bytes(payload[:8], "little")
    payload[json.loads(payload[8 : 8 + header])[name]["data_offsets"][0] + 8 + header + place] ^= 1
    path.write_bytes(bytes(payload))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "no file; expected shard"),
        (lambda path: path.write_bytes(b""), "unreadable shard"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "unreadable shard"),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "unreadable shard"),
        (lambda path: flip(path, "index.names", 0), "another index"),
        (lambda path: flip(path, "index.ends", 9), "another index"),
        (lambda path: flip(path, "user.flat", 3), "damaged rows"),
    ],
)
def test_a_damaged_shard_is_one_clear_line_and_harms_nobody_else(tmp_path, damage, message):
    artifacts.write_sharded(tmp_path, {}, arrays_of(USERS), USERS, COUNT)
    lost = shard_file(tmp_path, "ada")
    mine = [user for user in USERS if shard_of(user, COUNT) == shard_of("ada", COUNT)]
    damage(lost)
    with pytest.raises(InputError, match=message) as caught:
        artifacts.read(tmp_path, users=mine)
    assert "\n" not in str(caught.value)
    assert str(lost) in str(caught.value)
    others = [user for user in USERS if user not in mine]
    assert artifacts.read(tmp_path, users=others).users == tuple(others)
    with pytest.raises(InputError, match=r"damaged or foreign|no file"):
        artifacts.read(tmp_path)


def test_a_shard_of_another_model_is_refused(tmp_path):
    artifacts.write_sharded(tmp_path / "a", {}, arrays_of(USERS), USERS, COUNT)
    artifacts.write_sharded(tmp_path / "b", {}, arrays_of(USERS, seed=1), USERS, COUNT)
    shard_file(tmp_path / "a", "ada").write_bytes(shard_file(tmp_path / "b", "ada").read_bytes())
    with pytest.raises(InputError, match="another index"):
        artifacts.read(tmp_path / "a", users=["ada"])


def test_a_table_of_shards_is_checked(tmp_path):
    entries = (ShardEntry(), ShardEntry("ab" * 32, 7, 3))
    assert list(entries_of(table_of(entries))) == list(entries)
    with pytest.raises(ValueError, match="a table of shards"):
        entries_of(table_of([*entries, ShardEntry()]))
    artifacts.write_sharded(tmp_path, {}, arrays_of(USERS), USERS, COUNT)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["version"] == 3
    flip(tmp_path / config["weights"]["file"], "shards.digest", 0)
    with pytest.raises(InputError, match=r"damaged tensor .shards\.digest."):
        artifacts.read(tmp_path, users=["ada"])
