import json

import numpy as np
import pytest

from bestfor.diagnostics import Reward, Settings, combine_folds, diagnose_arrays
from bestfor.errors import InputError


def fold(number, users=25, texts=14, models=("x", "y"), **options):
    rng = np.random.default_rng(number)
    user, text = np.repeat(np.arange(users), texts), np.tile(np.arange(texts), users)
    common = rng.standard_normal(texts)
    utility = common[text] + rng.standard_normal(len(user))
    rewards = {name: Reward(common[text] + rng.standard_normal(len(user)), "utility") for name in models}
    keep = user != number
    ids = np.array([f"u{one:02}" for one in user])
    return diagnose_arrays(
        ids[keep],
        ids[keep],
        utility[keep],
        {name: Reward(one.mean[keep], one.scale) for name, one in rewards.items()},
        Settings(**({"n": [1, 2, 4, 8], "name": "world"} | options)),
        text=[f"{number}-{one}" for one in text[keep]],
    )


@pytest.fixture(scope="module")
def folds():
    return [fold(number) for number in range(3)]


def test_the_whole_is_the_mean_of_the_folds(folds):
    whole = combine_folds(folds)
    for name in ("x", "y"):
        model, parts = whole.models[name], [one.models[name] for one in folds]
        for curve in ("utility", "gain", "captured"):
            mean = np.mean([getattr(part, curve).value for part in parts], axis=0)
            np.testing.assert_allclose(getattr(model, curve).value, mean, atol=1e-12)
        for law in ("bound", "normal", "reward", "pool"):
            np.testing.assert_allclose(model.law[law], np.mean([part.law[law] for part in parts], axis=0))
        total = sum(
            getattr(model.ledger, term) for term in model.ledger.__dataclass_fields__ if term not in ("observed", "n")
        )
        assert total == pytest.approx(model.ledger.observed, abs=1e-10)
        assert model.ledger.observed == pytest.approx(model.gain.value[-1], abs=1e-10)
        assert model.quantities.rho.value == pytest.approx(np.mean([part.quantities.rho.value for part in parts]))
        assert model.interval == "two-way users x texts"
    assert whole.users == 25
    assert whole.queries == 72
    assert whole.candidates == sum(one.candidates for one in folds)


def test_three_folds_know_more_than_one(folds):
    whole = combine_folds(folds).models["x"].captured
    widths = [one.models["x"].captured.high[-1] - one.models["x"].captured.low[-1] for one in folds]
    assert whole.high[-1] - whole.low[-1] < np.mean(widths)


def test_json_of_the_whole_holds_the_folds(folds):
    found = combine_folds(folds, name="all", signature={"data": "abc"}).to_dict()
    json.dumps(found, allow_nan=False)
    assert found["name"] == "all"
    assert found["signature"]["data"] == "abc"
    assert found["signature"]["averaging"] == "user"
    assert [one["name"] for one in found["folds"]] == ["world"] * 3
    assert found["folds"][1] == folds[1].to_dict()
    assert "mean of 3 folds" in str(combine_folds(folds))


def test_signatures_keep_what_folds_agree_on(folds):
    signature = combine_folds(folds).signature
    assert signature["folds"] == [one.signature["data"] for one in folds]
    assert "data" not in signature


def test_users_are_pooled_over_the_folds_they_stand_in(folds):
    table = combine_folds(folds).models["x"].per_user
    assert len(table.user) == 25
    assert table.queries[:4].tolist() == [2, 2, 2, 3]
    here = [one.models["x"].per_user for one in folds]
    place = [list(one.user).index("u07") for one in here]
    gain = np.mean([one.gain[at] for one, at in zip(here, place, strict=True)])
    headroom = np.mean([one.headroom[at] for one, at in zip(here, place, strict=True)])
    assert table.gain[7] == pytest.approx(gain)
    assert table.captured[7] == pytest.approx(gain / headroom)


def test_comparisons_are_paired_over_the_folds(folds):
    whole = combine_folds(folds)
    assert {one.n for one in whole.comparisons} == {2, 4, 8}
    last = whole.comparisons[-1]
    captured = {name: float(model.captured.value[-1]) for name, model in whole.models.items()}
    assert last.difference.value == pytest.approx(captured[last.model] - captured[last.against])
    assert last.difference.value > 0
    assert last.difference.low is not None


def test_the_same_fold_twice_teaches_nothing(folds):
    twice = combine_folds([folds[0], folds[0]]).models["x"].captured
    alone = folds[0].models["x"].captured
    np.testing.assert_allclose(twice.value, alone.value)
    assert np.all((twice.high - twice.low)[1:] >= (alone.high - alone.low)[1:] - 1e-12)


def test_notes_are_joined_without_repeats(folds):
    noted = [one.with_notes({"x": ("slow",)}) for one in folds]
    assert combine_folds(noted).models["x"].notes == ("slow",)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"n": [1, 2]}, r"fold 2: found N \[1, 2\]; expected \[1, 2, 4, 8\]"),
        ({"models": ("x",)}, "fold 2: found models"),
        ({"averaging": "query"}, "fold 2: found averaging query"),
        ({"level": 0.9}, "fold 2: found level 0.9"),
    ],
)
def test_folds_that_differ_are_refused(folds, other, message):
    with pytest.raises(InputError, match=message):
        combine_folds([folds[0], fold(1, **other)])


def test_no_folds_are_refused():
    with pytest.raises(InputError, match="at least one diagnosis"):
        combine_folds([])
