"""Keys of a run's file that are set from outside it."""

import string
import tomllib

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from bestfor.errors import InputError
from bestfor.runs.changes import changed
from bestfor.runs.config import load_config

RAW = {
    "seed": 0,
    "data": {"source": "world", "users": 4},
    "policy": {"n": 4, "stop": ["a", "b"]},
    "reward": [{"kind": "pooled"}, {"kind": "tastes", "name": "mine", "tastes": 4}, {"kind": "own.module:Class"}],
}
names = st.text(string.ascii_lowercase, min_size=1, max_size=5)
values = st.one_of(st.integers(-99, 99), st.booleans(), st.text(max_size=9), st.floats(-9, 9), st.lists(st.integers()))


@pytest.mark.parametrize(
    ("change", "path", "value"),
    [
        ("seed=3", ["seed"], 3),
        ("policy.temperature=0.5", ["policy", "temperature"], 0.5),
        ("policy.endpoint.base_url=http://127.0.0.1:1/v1", ["policy", "endpoint", "base_url"], "http://127.0.0.1:1/v1"),
        ("reward.1.tastes=8", ["reward", 1, "tastes"], 8),
        ("reward.mine.tastes = 8", ["reward", 1, "tastes"], 8),
        ("reward.pooled.components=2", ["reward", 0, "components"], 2),
        ("reward.Class.x=yes", ["reward", 2, "x"], "yes"),
        ("reward.3.kind=length", ["reward", 3, "kind"], "length"),
        ("policy.stop.1=c", ["policy", "stop", 1], "c"),
        ("policy.stop.2=c", ["policy", "stop", 2], "c"),
        ('policy.stop=["x"]', ["policy", "stop"], ["x"]),
        ("name=a = b", ["name"], "a = b"),
        ('data.columns."a.b"=x', ["data", "columns", "a.b"], "x"),
    ],
)
def test_a_key_is_set_and_nothing_else(change, path, value):
    before = tomli_w.dumps(RAW)
    made = changed(RAW, [change])
    assert tomli_w.dumps(RAW) == before
    held = made
    for step in path:
        held = held[step]
    assert held == value


@given(st.dictionaries(names, values), names, values)
def test_what_toml_can_write_can_be_set(raw, key, value):
    text = tomli_w.dumps({key: value}).strip()
    assert changed(raw, [text]) == {**raw, **tomllib.loads(text)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("seed", "no key and value"),
        ("=3", "no key and value"),
        ("a b=3", "a key that cannot be read"),
        ("seed.x=1", "a key below 'seed', which is 0"),
        ("reward.5.kind=x", "entry 5 of 'reward', which has 3; expected 0 to 2, or 3 to add one"),
        ("reward.poled.kind=x", "'poled', which no entry of 'reward' is; expected 'pooled'"),
        ("policy.stop.0.x=1", "a key below 'stop.0', which is no table"),
    ],
)
def test_a_change_that_fits_nowhere_is_one_line(change, said):
    with pytest.raises(InputError) as caught:
        changed(RAW, [change])
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"--set {change}: ")


def test_two_entries_of_one_name_need_their_number():
    with pytest.raises(InputError, match="entries 0 and 1 of 'reward' are; expected the entry's number"):
        changed({"reward": [{"kind": "point"}, {"kind": "point"}]}, ["reward.point.x=1"])


def test_a_changed_run_is_checked_as_its_file_is(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('[data]\nsource = "world"\n[[reward]]\nkind = "pooled"\n')
    assert load_config(path, ["reward.0.components=3", "seed=2"]).reward[0].options == {"components": 3}
    with pytest.raises(InputError, match=r"reward\]\] 1: found unknown key 'component'; expected 'components'"):
        load_config(path, ["reward.0.component=3"])
