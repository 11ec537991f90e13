"""Bootstrap intervals over users: against SciPy, as an option of a diagnosis, and their simulated coverage."""

import json

import numpy as np
import pytest
from scipy import stats

from bestfor.diagnostics import Panel, Resampling, Reward, Settings, combine_folds, diagnose_arrays, pools_from_rows
from bestfor.diagnostics.evidence import evidence_of_pools
from bestfor.diagnostics.intervals import clustered as module
from bestfor.diagnostics.intervals.clustered import resampled_means
from bestfor.diagnostics.intervals.influence import user_influences
from bestfor.diagnostics.intervals.means import POOL, CurveMean, QuantityMean
from bestfor.errors import InputError

ALL = CurveMean("one")
ONE = {ALL: 1.0}
RATIO = {("x", 0): 1.0}, {("below", 0): 1.0}


def influences(above, below):
    users = np.arange(len(above))
    columns = {ALL: np.ones(len(above)), ("x", 0): above, ("below", 0): below}
    names = tuple(f"u{i:04}" for i in users)
    return user_influences(columns, np.full(len(above), 1 / len(above)), users, names)


@pytest.mark.parametrize("skewed", [False, True])
def test_agrees_with_scipys_bca(skewed):
    rng = np.random.default_rng(6)
    below = rng.uniform(1, 2, 400)
    above = 0.4 * below + (rng.exponential(0.5, 400) if skewed else rng.normal(0, 0.3, 400))
    found = Panel([influences(above, below)], resampling=Resampling(20_000)).interval(*RATIO)
    expected = stats.bootstrap(
        (above, below), lambda a, b, axis=-1: a.sum(axis=axis) / b.sum(axis=axis), paired=True, vectorized=True,
        n_resamples=20_000, method="BCa", rng=np.random.default_rng(2),
    ).confidence_interval  # fmt: skip
    half = (expected.high - expected.low) / 2
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.08 * half)


def test_resamples_are_seeded_and_parts_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    shares = rng.standard_normal((50, 3))
    whole = [(shares, np.arange(50))]
    one = resampled_means(whole, 50, Resampling(300, 1))
    monkeypatch.setattr(module, "CELLS", 777)
    np.testing.assert_allclose(resampled_means(whole, 50, Resampling(300, 1))[0], one[0], atol=1e-12)
    assert not np.allclose(resampled_means(whole, 50, Resampling(300, 2))[0], one[0])
    np.testing.assert_allclose(one[0].std(axis=0), shares.std(axis=0) * 50**0.5, rtol=0.15)


def test_a_share_that_never_varies_keeps_wilsons_interval():
    panel = Panel([influences(np.zeros(20), np.ones(20))], resampling=Resampling())
    found, plain = panel.share(*RATIO), Panel([influences(np.zeros(20), np.ones(20))]).share(*RATIO)
    assert (found.low, found.high) == (plain.low, plain.high)
    assert found.high > 0.1
    some = Panel([influences(np.r_[np.ones(2), np.zeros(18)], np.ones(20))], resampling=Resampling()).share(*RATIO)
    assert 0 <= some.low < 0.1 < some.high < 0.5
    alone = Panel([influences(np.ones(1), np.ones(1))], resampling=Resampling())
    assert alone.interval(*RATIO).low is None


def world(seed, users=30, queries=2, candidates=20, text=False):
    rng = np.random.default_rng(seed)
    query = np.repeat(np.arange(users * queries), candidates)
    utility = rng.standard_normal(len(query))
    reward = 0.2 * utility + rng.standard_normal(len(query))
    reward[query < 3] = 1.0
    text = np.tile(np.arange(candidates), users * queries) if text else None
    return (query // queries, query, utility, {"x": Reward(reward, "utility")}), text


@pytest.mark.slow
def test_a_diagnosis_takes_it_as_an_option():
    table, text = world(1, text=True)
    boot, again, other, plain = (
        diagnose_arrays(*table, settings, text=text)
        for settings in (
            Settings(n=[1, 8], interval="bootstrap"),
            Settings(n=[1, 8], interval="bootstrap"),
            Settings(n=[1, 8], interval="bootstrap", seed=1),
            Settings(n=[1, 8]),
        )
    )
    found = boot.to_dict()
    assert json.dumps(found) == json.dumps(again.to_dict()) != json.dumps(other.to_dict())
    model, expected = boot.models["x"], plain.models["x"]
    assert (model.interval, expected.interval) == ("users, bootstrap", "two-way users x texts")
    assert found["signature"]["interval"] == "bootstrap"
    assert (found["signature"]["resamples"], found["signature"]["bootstrap_seed"]) == (2000, 0)
    np.testing.assert_array_equal(model.utility.value, expected.utility.value)
    users = diagnose_arrays(*table, Settings(n=[1, 8])).models["x"]
    assert model.captured.low[1] == pytest.approx(users.captured.low[1], abs=0.05)
    for name in ("rho", "beta", "alpha"):
        one, two = getattr(model.quantities, name), getattr(users.quantities, name)
        assert one.low <= one.value <= one.high
        assert (one.low, one.high) != (two.low, two.high)
        assert (one.low, one.high) == pytest.approx((two.low, two.high), abs=0.06)
    assert model.outlook.best_fixed_n[0].net.low != users.outlook.best_fixed_n[0].net.low
    whole = combine_folds([boot, diagnose_arrays(*world(2)[0], Settings(n=[1, 8], interval="bootstrap"))])
    assert whole.models["x"].interval == "users, bootstrap"
    assert whole.models["x"].gain.low[1] < whole.models["x"].gain.value[1]
    with pytest.raises(InputError, match="fold 2: found interval"):
        combine_folds([boot, plain])


@pytest.mark.parametrize(
    ("change", "message"), [({"interval": "wilson"}, "'t' or 'bootstrap'"), ({"resamples": 9}, "100")]
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(InputError, match=message):
        Settings(**change)


def pools_of_users(rng, users, queries):
    """Users with their own correlation; every tenth has collapsed on the utility's scale."""
    rho = np.clip(0.2 + 0.15 * rng.standard_normal(users), -0.9, 0.9).repeat(queries)[:, None]
    spread = rng.gamma(4, 0.25, users).repeat(queries)[:, None]
    utility = spread * rng.standard_normal((users * queries, 12))
    reward = rho * utility + spread * np.sqrt(1 - rho**2) * rng.standard_normal(utility.shape)
    asleep = (rng.random(users) < 0.25).repeat(queries)
    reward[asleep] *= 0.01
    query = np.repeat(np.arange(users * queries), 12)
    return pools_from_rows(query // queries, query, utility.ravel(), {"x": Reward(reward.ravel(), "utility")})


FORMS = {
    "gain": ("curves", {CurveMean("pick", 8, "x"): 1.0, POOL: -1.0}, ONE),
    "captured": ("curves", {CurveMean("pick", 8, "x"): 1.0, POOL: -1.0}, {CurveMean("oracle", 8): 1.0, POOL: -1.0}),
    "rho": (
        "quantities",
        {QuantityMean("plus", "x"): 1.0, QuantityMean("minus", "x"): 1.0},
        {QuantityMean("active", "x"): 1.0},
    ),
    "beta": ("quantities", {QuantityMean("negative", "x"): 1.0}, {QuantityMean("active", "x"): 1.0}),
    "alpha": ("quantities", {QuantityMean("collapsed", "x"): 1.0}, {QuantityMean("judged", "x"): 1.0}),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("users", "repetitions", "tolerance"),
    [(60, 120, 0.05), pytest.param(100, 1500, 0.02, marks=pytest.mark.slow)],
)
def test_the_bootstrap_covers(users, repetitions, tolerance):
    values = {name: [] for name in FORMS}
    found = {name: [] for name in FORMS}
    for seed in range(repetitions):
        pools = pools_of_users(np.random.default_rng([81, seed]), users, 2)
        evidence = evidence_of_pools(pools, np.array([1, 8]), "user")
        panels = {
            name: Panel([getattr(evidence, name)], resampling=Resampling(600, seed))
            for name in ("curves", "quantities")
        }
        for name, (panel, above, below) in FORMS.items():
            share = name in ("beta", "alpha")
            one = panels[panel].share(above, below) if share else panels[panel].interval(above, below)
            values[name].append(one.value)
            found[name].append(one)
    for name, intervals in found.items():
        truth = np.mean(values[name])
        assert np.mean([one.low <= truth <= one.high for one in intervals]) == pytest.approx(0.95, abs=tolerance), name
