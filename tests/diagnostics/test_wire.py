"""A diagnosis and its JSON: both ways by one table, for every shape that a diagnosis takes."""

import copy
import dataclasses
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bestfor.diagnostics import Diagnosis, Reward, Settings, combine_folds, diagnose_arrays
from bestfor.diagnostics.words import reworded
from bestfor.errors import InputError
from bestfor.types import Estimate

STORED = sorted((Path(__file__).resolve().parents[1] / "fixtures").rglob("diagnosis.json"))


def diagnose(
    users=6,
    queries=2,
    size=4,
    models=2,
    *,
    seed=0,
    std=True,
    scale="utility",
    flat=False,
    spread=1.0,
    text=False,
    **options,
):
    rng = np.random.default_rng(seed)
    rows = users * queries * size
    utility = spread * np.rint(rng.normal(size=rows) * 2) / 2
    rewards = {}
    for place in range(models):
        mean = utility * rng.uniform(-0.3, 1) + rng.normal(size=rows)
        mean = np.zeros(rows) if flat and place == 0 else mean
        own = rng.uniform(0.5, 1.5, rows) if std and scale == "utility" else None
        rewards[f"m{place}"] = Reward(mean, scale, own)
    return diagnose_arrays(
        [f"u{one}" for one in np.repeat(np.arange(users), queries * size)],
        [f"q{one}" for one in np.repeat(np.arange(users * queries), size)],
        utility,
        rewards,
        Settings(name="made up", **options),
        text=[f"t{one}" for one in rng.integers(0, 9, rows)] if text else None,
    ).with_notes({"m0": ("served by nobody",)})


SHAPES = {
    "plain": {},
    "text ids": {"users": 9, "text": True},
    "bootstrap": {"interval": "bootstrap", "resamples": 100, "seed": 3},
    "rules": {"rules": ("median", "top:2"), "averaging": "query", "level": 0.8},
    "one user": {"users": 1},
    "one candidate": {"size": 1},
    "one query each": {"users": 30, "queries": 1, "size": 9},
    "collapsed": {"flat": True},
    "no headroom": {"spread": 0.0},
    "no std": {"std": False, "models": 1},
    "arbitrary": {"scale": "arbitrary", "models": 3},
    "corrected": {"users": 12, "size": 24, "n": [1, 2, 4, 8]},
}


def assert_same(one, two, place="diagnosis"):
    """Fail unless values are equal, where NaN equals NaN and what JSON does not hold is not looked at."""
    if place.endswith((".drop", ".pool_mean")):
        assert one.value == pytest.approx(two.value, abs=1e-12), place
    elif isinstance(one, Estimate) and math.isnan(one.value):
        assert math.isnan(two.value), place
    elif isinstance(one, np.ndarray):
        assert one.dtype == two.dtype, place
        np.testing.assert_array_equal(one, two, place)
    elif isinstance(one, float):
        np.testing.assert_equal(one, two, place)
    elif not isinstance(one, Mapping | tuple) and not dataclasses.is_dataclass(one):
        assert one == two, place
    else:
        left, right = parts(one), parts(two)
        assert (type(one), list(left)) == (type(two), list(right)), place
        for key, value in left.items():
            assert_same(value, right[key], f"{place}.{key}")


def parts(value):
    """The fields of a record, or the elements of a mapping or tuple, by name or place."""
    if dataclasses.is_dataclass(value):
        return {one.name: getattr(value, one.name) for one in dataclasses.fields(value) if one.name != "evidence"}
    return dict(value) if isinstance(value, Mapping) else dict(enumerate(value))


def assert_round(found):
    told = json.dumps(found.to_dict(), allow_nan=False)
    back = Diagnosis.from_dict(json.loads(told))
    assert_same(found, back)
    assert json.dumps(back.to_dict(), allow_nan=False) == told
    again = reworded(back)
    assert again.headline == found.headline
    assert {name: one.findings for name, one in again.models.items()} == {
        name: one.findings for name, one in found.models.items()
    }
    assert str(back) == str(found)
    assert repr(back) == repr(found)
    assert back._repr_html_() == found._repr_html_()
    return back


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_comes_back(shape):
    assert_round(diagnose(**SHAPES[shape]))


def test_folds_come_back_but_cannot_be_combined_again():
    whole = combine_folds([diagnose(seed=one) for one in range(3)])
    back = assert_round(whole)
    assert [type(fold) for fold in back.folds] == [Diagnosis] * 3
    with pytest.raises(InputError, match=r"fold 1: .*read from JSON"):
        combine_folds(back.folds)


@settings(max_examples=20, deadline=None)
@given(
    users=st.integers(1, 7),
    queries=st.integers(1, 3),
    size=st.integers(1, 6),
    seed=st.integers(0, 1000),
    std=st.booleans(),
    flat=st.booleans(),
    scale=st.sampled_from(["utility", "arbitrary"]),
    averaging=st.sampled_from(["user", "query"]),
    level=st.floats(0.5, 0.99),
    rules=st.sampled_from([(), ("second",)]),
)
def test_any_diagnosis_comes_back(**options):
    assert_round(diagnose(**options))


def without_prices(told):
    """Leave out what older files say in another way: their prices, the N that pays at these, words about a std."""
    told = json.loads(json.dumps(told))
    for model in (one for whole in (told, *told.get("folds", [])) for one in whole["models"].values()):
        for one in model["best_n"]:
            assert one["n"] >= 1
        if model["calibration"]:
            del model["calibration"]["verdict"]
        model["best_n"] = [one["n"] for one in model["best_n"]]
        model["best_fixed_n"] = [one["n"] for one in model.get("best_fixed_n", [])]
    return told


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.parent.name)
def test_stored_diagnoses_are_read_and_written_with_the_same_bytes(path):
    told = json.loads(path.read_text(encoding="utf-8"))
    for source in (path, path.parent, str(path)):
        found = Diagnosis.read(source)
        assert json.dumps(without_prices(found.to_dict())) == json.dumps(without_prices(told))
    again = reworded(found)
    for one in told["models"].values():
        one["findings"] = []
    assert_same(again, reworded(Diagnosis.from_dict({**told, "headline": ""})))
    assert again.headline
    assert all(one.findings for one in again.models.values())


def places(value, place=()):
    """Every key of an object, of lists the first element alone."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*place, key)
            yield from places(inner, (*place, key))
    elif isinstance(value, list) and value:
        yield (*place, 0)
        yield from places(value[0], (*place, 0))


def changed(told, place, value):
    """A copy with one value replaced, or left out where the value is ``...``."""
    told = copy.deepcopy(told)
    inner = told
    for key in place[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return told


def read_or_refusal(told):
    """The diagnosis, or the message that refuses it."""
    try:
        return Diagnosis.from_dict(told)
    except InputError as error:
        return str(error)


def small():
    return json.loads(json.dumps(diagnose(3, 2, 3, models=1, rules=("second",)).to_dict()))


@pytest.mark.slow
@pytest.mark.parametrize(
    "value", [None, ..., 7, -1.5, "x", True, [], ["x"], {}, {"x": 1}, math.nan, math.inf], ids=repr
)
def test_whatever_stands_anywhere_is_read_or_refused_in_one_line(value):
    told = small()
    read = 0
    for place in dict.fromkeys(places(told)):
        found = read_or_refusal(changed(told, place, value))
        if isinstance(found, str):
            assert "\n" not in found
            continue
        read += 1
        json.dumps(found.to_dict(), allow_nan=False)
        again = reworded(found)
        said = " ".join([again.headline, *(line for model in again.models.values() for line in model.findings)])
        assert not re.search(r"\bnan\b", said), (place, said)
    assert read > 5


@pytest.mark.parametrize("missing", [None, ...])
def test_what_an_older_diagnosis_lacks_is_unknown(missing):
    told = small()
    needed = {("oracle",), ("oracle", "n"), ("models",), ("models", "m0"), ("models", "m0", "n")}
    refused = set()
    for place in dict.fromkeys(places(told)):
        if 0 in place:
            continue
        if isinstance(read_or_refusal(changed(told, place, missing)), str):
            refused.add(place)
    assert refused == (needed if missing is None else needed - {("models", "m0")})


def test_an_unknown_fall_keeps_its_sentence():
    found = diagnose()
    model = dataclasses.replace(
        found.models["m0"],
        peak=2,
        drop=Estimate(-0.2, None, None),
        findings=("More candidates make it worse: so.", "Old."),
    )
    again = reworded(dataclasses.replace(found, models={"m0": model}))
    assert "More candidates make it worse: so." in again.models["m0"].findings
    assert "Old." not in again.models["m0"].findings
    known = dataclasses.replace(model, drop=Estimate(-0.2, -0.3, -0.1))
    again = reworded(dataclasses.replace(found, models={"m0": known}))
    assert any(
        one.startswith("More candidates make it worse: the curve peaks at N = 2") for one in again.models["m0"].findings
    )


def test_gains_follow_from_utilities_where_only_these_were_written():
    told = small()
    model = told["models"]["m0"]
    gain, _, _ = (model.pop(key) for key in ("gain", "gain_low", "gain_high"))
    found = Diagnosis.from_dict(told).models["m0"]
    np.testing.assert_allclose(found.gain.value, gain)
    assert np.isnan(found.gain.low).all()


def test_a_baseline_says_so_in_json_only_where_it_is_one():
    told = small()
    assert "baseline" not in told["models"]["m0"]
    told["models"]["m0"]["baseline"] = True
    assert Diagnosis.from_dict(told).models["m0"].baseline
    assert Diagnosis.from_dict(told).to_dict() == told


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "no file"), ("{", "not JSON"), ("[]", "without 'models'"), ('{"models": {}}', "no 'oracle'")],
)
def test_a_file_that_holds_none_is_refused_in_one_line(tmp_path, text, said):
    if text is not None:
        (tmp_path / "diagnosis.json").write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        Diagnosis.read(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_line_and_a_table_say_what_matters_and_escape_names():
    found = diagnose(users=9, size=8)
    share = found.models[found.best].captured.at(8)
    assert repr(found).startswith(f"<Diagnosis 'made up': 9 users, 18 queries, 144 candidates; {found.best} captures ")
    assert f"{100 * share.value:.0f}% at N=8 (95% interval" in repr(found)
    assert "\n" not in repr(found)
    named = dataclasses.replace(found, name="<b>", models={"<i>&": found.models["m0"]})
    table = named._repr_html_()
    assert table.count("<tr>") == 2
    assert "&lt;i&gt;&amp;" in table
    assert "<b>" not in table
    assert "<i>" not in table
    assert "no models" in repr(dataclasses.replace(found, models={}))
