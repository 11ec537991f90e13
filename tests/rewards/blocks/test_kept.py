"""A fit in blocks that was stopped goes on where it was, and makes the same bytes."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bestfor.backends import Local
from bestfor.data.blocks import write_blocks
from bestfor.rewards import kind_class
from bestfor.rewards.blocks import fit_blocks
from bestfor.rewards.blocks.kept import HIDDEN, read_value, write_value
from bestfor.shards import ShardEntry
from bestfor.testing.rewards import LetterEncoder, taste_examples


class Stopped(Exception):
    pass


@dataclass(frozen=True)
class Counting(Local):
    """Does so many tasks, then stops."""

    most: int = 10**9

    def __post_init__(self):
        object.__setattr__(self, "done", [])

    def run(self, plan):
        for task, value in super().run(plan):
            if len(self.done) >= self.most:
                raise Stopped
            self.done.append((plan.name, task.key))
            yield task, value


OPTIONS = {
    "ridge": {"components": 4, "abstain": True},
    "hierarchical": {"components": 4, "text_effects": False},
    "tastes": {"tastes": 2, "rounds": 2},
}


def fit(kind, blocks, folder, backend=None, **options):
    model = kind_class(kind)(None, encoder=LetterEncoder(), **{**OPTIONS[kind], **options})
    return fit_blocks(model, blocks, folder, rng=0, backend=backend)


@pytest.fixture(scope="module")
def blocks(tmp_path_factory):
    labels = taste_examples(16, 2, 4, shared=True).to_arrow()
    return write_blocks(labels, tmp_path_factory.mktemp("labels") / "blocks", 2)


@pytest.fixture(scope="module", params=OPTIONS)
def whole(request, blocks, tmp_path_factory):
    """A fit without a stop: its kind, folder, hash and tasks."""
    folder, backend = tmp_path_factory.mktemp(request.param), Counting()
    return request.param, folder, fit(request.param, blocks, folder, backend), backend.done


def test_a_stopped_fit_goes_on_with_the_same_bytes(whole, blocks, tmp_path):
    kind, folder, digest, tasks = whole
    done, stops, found = [], 0, None
    for _ in range(len(tasks)):
        backend = Counting(most=3)
        try:
            found = fit(kind, blocks, tmp_path, backend)
        except Stopped:
            stops += 1
            done += backend.done
            continue
        break
    assert found == digest
    assert stops > 1
    kept = [task for task in done if not task[0].startswith("tastes,")]
    assert len(set(kept)) == len(kept)
    names = [sorted(path.name for path in place.iterdir()) for place in (tmp_path, folder)]
    assert names[0] == names[1]
    assert HIDDEN not in names[0]
    assert all((tmp_path / name).read_bytes() == (folder / name).read_bytes() for name in names[0])


def test_a_fit_that_is_done_is_not_done_again(whole, blocks):
    kind, folder, digest, _ = whole
    backend = Counting(most=0)
    assert fit(kind, blocks, folder, backend) == digest
    assert backend.done == []


def test_another_fit_in_the_same_folder_begins_anew(blocks, tmp_path):
    with pytest.raises(Stopped):
        fit("ridge", blocks, tmp_path, Counting(most=5))
    backend = Counting()
    fit("ridge", blocks, tmp_path, backend, components=3)
    assert backend.done[0] == ("labels", "block 0")


def test_what_was_damaged_or_lost_is_made_again(blocks, tmp_path):
    digest = fit("ridge", blocks, tmp_path / "whole")
    with pytest.raises(Stopped):
        fit("ridge", blocks, tmp_path / "torn", Counting(most=9))
    for path in (tmp_path / "torn" / HIDDEN).rglob("block-000000.safetensors"):
        path.write_bytes(path.read_bytes()[:-3])
    for path in (tmp_path / "torn").glob("users-*"):
        path.unlink()
    assert fit("ridge", blocks, tmp_path / "torn") == digest


def test_a_model_of_which_a_shard_is_lost_is_made_again(blocks, tmp_path):
    digest = fit("ridge", blocks, tmp_path)
    next(tmp_path.glob("users-*")).unlink()
    assert fit("ridge", blocks, tmp_path) == digest
    assert len(list(tmp_path.glob("users-*"))) == 2


def makes_entries():
    """Stand for a function whose module has the dataclass that it makes."""


JSON = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text()


@settings(max_examples=20)
@given(
    st.recursive(JSON, lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.integers(), inner))
)
def test_values_come_back_as_they_were(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("values") / "one.safetensors"
    arrays = (np.arange(6, dtype=np.uint64).reshape(2, 3), np.zeros((0, 4)), np.array([True, False]))
    write_value(path, (value, *arrays, ShardEntry("ab", 1, 2)))
    found = read_value(path, makes_entries)
    assert found[0] == value
    assert type(found[0]) is type(value)
    assert found[4] == ShardEntry("ab", 1, 2)
    for array, expected in zip(found[1:4], arrays, strict=True):
        np.testing.assert_array_equal(array, expected)
        assert (array.dtype, array.shape) == (expected.dtype, expected.shape)


def test_only_dataclasses_of_the_module_are_made(tmp_path):
    write_value(tmp_path / "one.safetensors", ShardEntry("ab", 1, 2))
    with pytest.raises(ValueError, match="ShardEntry"):
        read_value(tmp_path / "one.safetensors", kind_class)
