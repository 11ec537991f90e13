"""Fits in blocks of users are fits in one process, to the digits that docs/shards.md states."""

import numpy as np
import pytest

from bestfor import artifacts
from bestfor.data.blocks import LabelBlocks, write_blocks
from bestfor.errors import InputError
from bestfor.rewards import kind_class, load
from bestfor.rewards.blocks import fit_blocks
from bestfor.testing.rewards import LetterEncoder, taste_examples

OPTIONS = {
    "pooled": {"components": 4},
    "ridge": {"components": 4, "abstain": True},
    "hierarchical": {"components": 4, "text_effects": False},
}


def build(kind, **options):
    return kind_class(kind)(None, encoder=LetterEncoder(), **{**OPTIONS[kind], **options})


@pytest.fixture(scope="module", params=[False, True], ids=["own texts", "shared texts"])
def labels(request, tmp_path_factory):
    examples = taste_examples(40, 3, 5, shared=request.param)
    folder = tmp_path_factory.mktemp("labels")
    return examples, write_blocks(examples.to_arrow(), folder / "blocks", 4)


@pytest.fixture(scope="module", params=sorted(OPTIONS))
def both(request, labels, tmp_path_factory):
    """One kind fitted in one process and in blocks, each as stored and as loaded."""
    examples, blocks = labels
    folder = tmp_path_factory.mktemp(request.param)
    build(request.param).fit(examples, rng=0).save(folder / "one")
    fit_blocks(build(request.param), blocks, folder / "many", rng=0)
    return request.param, examples, folder


def test_users_lie_in_their_blocks(labels):
    examples, blocks = labels
    assert LabelBlocks.open(blocks.folder) == blocks
    parts = [blocks.read(number) for number in range(blocks.count)]
    assert sorted(user for part in parts for user in part.users) == sorted(examples.users)
    assert sum(map(len, parts)) == len(examples)


def test_everything_stored_is_equal(both):
    kind, _, folder = both
    one, many = (artifacts.read(folder / name) for name in ("one", "many"))
    assert many.config["notes"] == one.config["notes"]
    assert set(many.arrays) == set(one.arrays)
    if kind != "pooled":
        assert many.users == one.users
    for name, values in one.arrays.items():
        if name == "user.rows":
            assert_same_labels(many.arrays, one.arrays)
            continue
        limit = 1e-6 if name.startswith("user.labels") else 1e-10
        scale = np.abs(values[np.isfinite(values)]).max(initial=0.0)
        np.testing.assert_allclose(many.arrays[name], values, rtol=limit, atol=limit * scale, err_msg=name)
        assert many.arrays[name].dtype == values.dtype
    assert_same_values(many.config["state"], one.config["state"])


def assert_same_labels(found, expected):
    """Features and utilities; queries are told apart in the same way, by other numbers."""
    np.testing.assert_allclose(found["user.rows"][:, :-1], expected["user.rows"][:, :-1], rtol=1e-6, atol=1e-6)
    for low, high in zip(expected["user.rows.ends"][:-1], expected["user.rows.ends"][1:], strict=True):
        numbers = [np.unique(arrays["user.rows"][low:high, -1], return_inverse=True)[1] for arrays in (found, expected)]
        np.testing.assert_array_equal(*numbers)


def assert_same_values(found, expected):
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for name, value in expected.items():
            assert_same_values(found[name], value)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-10)
    else:
        assert found == expected


def test_predictions_are_equal(both):
    _, examples, folder = both
    one, many = (load(folder / name, encoder=LetterEncoder()).predict(examples) for name in ("one", "many"))
    np.testing.assert_allclose(many.mean, one.mean, rtol=1e-6)
    if one.std is not None:
        np.testing.assert_allclose(many.std, one.std, rtol=1e-6)


def test_the_number_of_blocks_changes_nothing_but_where_users_lie(labels, tmp_path):
    examples, _ = labels
    found = []
    for count in (1, 8):
        blocks = write_blocks(examples.to_arrow(), tmp_path / f"{count}", count)
        fit_blocks(build("ridge"), blocks, tmp_path / f"model-{count}", rng=0)
        found.append(load(tmp_path / f"model-{count}", encoder=LetterEncoder()).predict(examples).mean)
    np.testing.assert_allclose(*found, rtol=1e-8)


def test_other_kinds_and_options_are_refused(labels, tmp_path):
    _, blocks = labels
    with pytest.raises(InputError, match="kind 'length'; expected one of 'pooled', 'ridge', 'hierarchical', 'tastes'"):
        fit_blocks(kind_class("length")(), blocks, tmp_path, rng=0)
    with pytest.raises(InputError, match="temper = True"):
        fit_blocks(build("hierarchical", temper=True), blocks, tmp_path, rng=0)


def test_a_label_without_a_utility_names_its_block(labels, tmp_path):
    examples, _ = labels
    table = examples.to_arrow()
    holes = [None if place == 7 else value for place, value in enumerate(table["utility"].to_pylist())]
    table = table.set_column(table.schema.get_field_index("utility"), "utility", [holes])
    with pytest.raises(InputError, match=r"block . of .*no utility"):
        fit_blocks(build("pooled"), write_blocks(table, tmp_path / "blocks", 2), tmp_path / "model", rng=0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ridge", "hierarchical"])
def test_other_processes_write_the_same_bytes(labels, tmp_path, kind):
    from bestfor.backends import Local

    _, blocks = labels
    found = [fit_blocks(build(kind), blocks, tmp_path / "one", rng=0)]
    found.append(fit_blocks(build(kind), blocks, tmp_path / "two", rng=0, backend=Local(workers=2)))
    assert found[0] == found[1]
