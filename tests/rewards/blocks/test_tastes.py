"""Tastes fitted in blocks of users are those of one process, and rounds add up to what a process does with users."""

import numpy as np
import pyarrow as pa
import pytest

from bestfor import artifacts, rng
from bestfor.data.blocks import write_blocks
from bestfor.data.candidates import Candidates
from bestfor.errors import InputError
from bestfor.rewards import kind_class, load
from bestfor.rewards.blocks import fit_blocks
from bestfor.testing.rewards import LetterEncoder

WAYS = {
    "exact": {"tastes": 3, "rounds": 3},
    "by landmarks": {"tastes": 3, "rounds": 3, "landmarks": 10},
    "none": {"tastes": 0, "rounds": 2, "abstain": False},
}


def votes_on_texts(users, texts, each):
    """Ratings of shared texts in queries of four, where users differ in two directions."""
    draw = rng.derive(0, "votes on texts")
    words = ["".join(draw.choice(list("abcdefgh"), 7)) for _ in range(texts)]
    taste, what = draw.normal(size=(users, 2)), draw.normal(size=(texts, 2))
    user = np.repeat(np.arange(users), each)
    text = np.concatenate([draw.permutation(texts)[:each] for _ in range(users)])
    utility = np.sum(taste[user] * what[text], axis=1) + what[text, 0] + 0.5 * draw.normal(size=len(user))
    query = [f"u{code} q{place % each // 4}" for place, code in enumerate(user.tolist())]
    named = {"user": [f"u{code}" for code in user.tolist()], "query": query}
    return pa.table({**named, "text": [words[code] for code in text.tolist()], "utility": utility})


def build(**options):
    return kind_class("tastes")(None, encoder=LetterEncoder(), **options)


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    table = votes_on_texts(30, 24, 12)
    return table, write_blocks(table, tmp_path_factory.mktemp("labels") / "blocks", 4)


@pytest.fixture(scope="module", params=WAYS)
def both(request, labels, tmp_path_factory):
    """One fit in one process and one in blocks, as stored."""
    table, blocks = labels
    folder = tmp_path_factory.mktemp("tastes")
    build(**WAYS[request.param]).fit(Candidates.of_rows(table), rng=0).save(folder / "one")
    fit_blocks(build(**WAYS[request.param]), blocks, folder / "many", rng=0)
    return Candidates.of_rows(table), folder


def test_everything_stored_is_equal_to_ten_digits(both):
    one, many = (artifacts.read(both[1] / name) for name in ("one", "many"))
    assert many.users == one.users
    assert set(many.arrays) == set(one.arrays)
    assert many.config["notes"] == one.config["notes"]
    found, expected = many.config["state"], one.config["state"]
    assert found["items"] == expected["items"]
    for name in ("centre", "unit", "noise", "level_scale"):
        assert found[name] == pytest.approx(expected[name], rel=1e-10)
    for name, values in one.arrays.items():
        limit = 1e-10 * np.abs(values).max(initial=0.0)
        if name == "user.query":
            assert_told_apart(many.arrays[name], values, one.arrays[f"{name}.ends"])
            continue
        # a taste may have the other sign, users' with it
        sign = np.sign(np.sum(many.arrays[name] * values, axis=0)) if name == "item" else 1.0
        np.testing.assert_allclose(many.arrays[name] * sign, values, rtol=1e-10, atol=limit, err_msg=name)
        assert many.arrays[name].dtype == values.dtype


def assert_told_apart(found, expected, ends):
    for low, high in zip(ends[:-1], ends[1:], strict=True):  # noqa: RUF007 - arrays
        same = [codes[low:high, None] == codes[None, low:high] for codes in (found, expected)]
        np.testing.assert_array_equal(*same)


def test_predictions_are_equal(both):
    candidates, folder = both
    one, many = (load(folder / name, encoder=LetterEncoder()).predict(candidates) for name in ("one", "many"))
    np.testing.assert_allclose(many.mean, one.mean, rtol=1e-8)
    np.testing.assert_allclose(many.std, one.std, rtol=1e-8)


def test_more_texts_than_the_model_takes_are_refused(labels, tmp_path):
    with pytest.raises(InputError, match="distinct texts; expected at most 20"):
        fit_blocks(build(max_items=20), labels[1], tmp_path, rng=0)


@pytest.mark.slow
def test_other_processes_write_the_same_bytes(labels, tmp_path):
    from bestfor.backends import Local

    how = {"one": None, "two": Local(workers=2)}
    found = {fit_blocks(build(**WAYS["exact"]), labels[1], tmp_path / name, rng=0, backend=how[name]) for name in how}
    assert len(found) == 1
