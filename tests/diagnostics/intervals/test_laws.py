"""Intervals of laws: brute force over users left out, folds, and the law of pairs at the table."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from bestfor.diagnostics import Diagnosis, Reward, Settings, combine_folds, diagnose_arrays
from bestfor.diagnostics.quantities.laws import LAWS
from bestfor.diagnostics.quantities.pairs import copula_gain, group_sizes, pair_curve, pair_law


def table(users=12, queries=3, size=9, seed=0, rho=0.5):
    rng = np.random.default_rng(seed)
    user, query = np.repeat(np.arange(users), queries * size), np.repeat(np.arange(users * queries), size)
    utility = rng.standard_normal(len(user))
    reward = rho * utility + np.sqrt(1 - rho**2) * rng.standard_normal(len(user))
    keep = (query % 2 == 0) | (np.arange(len(user)) % size < size - 1)  # pools of two sizes
    return user[keep], query[keep], utility[keep], reward[keep]


@pytest.mark.parametrize("averaging", ["user", "query"])
def test_intervals_are_those_of_leaving_each_user_out(averaging):
    user, query, utility, reward = table()
    settings = Settings(n=[1, 2, 4, 8], averaging=averaging)
    found = []
    for left in [None, *range(12)]:
        keep = user != left
        rows = user[keep], query[keep], utility[keep], {"x": Reward(reward[keep], "utility")}
        found.append(diagnose_arrays(*rows, settings).models["x"])
    whole = found[0]
    for law in LAWS:
        values, others = whole.law[law][1:], np.array([one.law[law][1:] for one in found[1:]])
        half = stats.t.ppf(0.975, 11) * np.sqrt(11 / 12 * ((others - values) ** 2).sum(axis=0))
        low, high = whole.law_ends.law[law][:, 1:]
        np.testing.assert_allclose(low + high, 2 * values, rtol=1e-9)
        wider = (high - low) / (2 * half)  # the shape of the pools' utilities is taken as known in the law of pairs
        np.testing.assert_allclose(wider, 1.06 if law == "pairs" else 1, atol=0.08 if law == "pairs" else 1e-8)
    others = np.array([one.law_error["normal"] for one in found[1:]])[:, 1:]
    half = stats.t.ppf(0.975, 11) * np.sqrt(11 / 12 * ((others - whole.law_error["normal"][1:]) ** 2).sum(axis=0))
    value = whole.law_error["normal"][1:]
    np.testing.assert_allclose(whole.law_ends.error["normal"][:, 1:], [value - half, value + half])


def test_accuracy_is_the_mean_over_users_of_pairs_in_order():
    user, query, utility, reward = table(6)
    reward = np.round(reward, 1)
    each = []
    for one in range(6):
        right = total = 0.0
        for q in np.unique(query[user == one]):
            rows = np.flatnonzero(query == q)
            for i, j in combinations(rows, 2):
                total += utility[i] != utility[j]
                right += 0.5 if reward[i] == reward[j] else (reward[i] > reward[j]) == (utility[i] > utility[j])
        each.append(right / total)
    found = diagnose_arrays(user, query, utility, {"x": reward}).models["x"].pair_accuracy
    expected = stats.ttest_1samp(each, 0).confidence_interval(0.95)
    assert (found.value, found.low, found.high) == pytest.approx((np.mean(each), *expected))


def test_the_law_of_pairs_is_that_of_the_pools():
    user, query, utility, reward = table()
    n = np.array([1, 2, 4, 8])
    found = diagnose_arrays(user, query, utility, {"x": reward}, Settings(n=n, averaging="query"))
    profiles = {}
    for q in np.unique(query):
        values = np.sort(utility[query == q])
        profiles[len(values)] = profiles.get(len(values), 0) + (values - values.mean()) / 36
    oracle = dict(zip(n.tolist(), (found.oracle.value - found.pool_mean.value).tolist(), strict=True))
    law = pair_law(profiles, n, float(found.models["x"].gain.value[1]), oracle)
    np.testing.assert_allclose(found.models["x"].law["pairs"], law.ratio, rtol=2e-5, atol=1e-12)


def test_the_table_of_the_law_at_its_ends_and_without_spread():
    profiles = {5: np.array([-2.0, -1.0, 0.0, 1.0, 2.0])}
    curve = pair_curve(profiles, np.array([1, 2, 5]))
    np.testing.assert_allclose(curve.at(np.array([1.0, 0.0, np.nan]))[:, 1:], [[1, 1], [0, 0], [np.nan] * 2], atol=1e-9)
    worst = [copula_gain(profiles, k, -1.0) / copula_gain(profiles, k, 1.0) for k in (2, 5)]
    np.testing.assert_allclose(curve.at(np.array([-1.0]))[0, 1:], worst)
    assert np.isnan(pair_curve({5: np.zeros(5)}, np.array([1, 2])).shares[:, 1]).all()


def test_many_sizes_are_brought_together_and_keep_their_gain():
    rng = np.random.default_rng(0)
    profiles = {}
    for size in [*range(20, 120), 2000]:
        values = np.sort(rng.standard_normal(size))
        profiles[size] = (values - values.mean()) / 101
    fewer = group_sizes(profiles)
    assert len(fewer) <= 65
    assert max(fewer) <= 512
    assert sum(one.sum() for one in fewer.values()) == pytest.approx(0, abs=1e-12)
    for n in (2, 8):
        assert copula_gain(fewer, n, 0.5) == pytest.approx(copula_gain(profiles, n, 0.5), rel=0.01)


def test_folds_and_json():
    user, query, utility, reward = table()
    once = diagnose_arrays(user, query, utility, {"x": Reward(reward, "utility")})
    whole = combine_folds([once, once])
    for law in LAWS:
        np.testing.assert_allclose(whole.models["x"].law_ends.law[law], once.models["x"].law_ends.law[law])
        np.testing.assert_allclose(whole.models["x"].law_ends.error[law], once.models["x"].law_ends.error[law])
    told = once.to_dict()
    assert Diagnosis.from_dict(told).to_dict() == told
    told["models"]["x"].pop("law_intervals")
    assert Diagnosis.from_dict(told).models["x"].law_ends is None


def test_the_sentence_names_the_closest_term():
    rng = np.random.default_rng(4)
    user = np.repeat(np.arange(60), 32)
    utility = rng.standard_normal(len(user))
    found = diagnose_arrays(user, user, utility, {"x": 0.5 * utility + rng.standard_normal(len(user))})
    sentence = next(one for one in found.models["x"].findings if one.startswith("Of the growth terms"))
    errors = {law: abs(found.models["x"].law_error[law][-1]) for law in LAWS if law != "bound"}
    assert f"'{min(errors, key=errors.get)}' is closest at N = 32" in sentence
    assert "cannot be told from the curve" in sentence


@pytest.mark.slow
def test_intervals_hold_the_truth():
    """200 data sets of 40 users; truth is the law at 20,000 users."""
    settings = Settings(n=[1, 2, 8])
    rows = table(6000, seed=999)
    large = diagnose_arrays(*rows[:3], {"x": rows[3]}, settings).models["x"]
    held = dict.fromkeys(LAWS, 0)
    for seed in range(200):
        rows = table(40, seed=seed)
        found = diagnose_arrays(*rows[:3], {"x": rows[3]}, settings).models["x"]
        for law in LAWS:
            low, high = found.law_ends.law[law][:, -1]
            held[law] += low <= large.law[law][-1] <= high
    assert all(0.9 <= count / 200 <= 0.99 for count in held.values()), held


def test_shared_texts_widen_as_they_widen_the_gain():
    rng = np.random.default_rng(0)
    user, text = np.repeat(np.arange(12), 20), np.tile(np.arange(20), 12)
    worth = rng.standard_normal(20)[text]
    utility, reward = worth + rng.standard_normal(240), worth + rng.standard_normal(240)
    settings = Settings(n=[1, 2, 8])
    alone, shared = (
        diagnose_arrays(user, user, utility, {"x": reward}, settings, text=ids).models["x"]
        for ids in (None, [f"t{one}" for one in text])
    )
    assert shared.interval == "two-way users x texts"
    factor = (shared.gain.high - shared.gain.value)[1:] / (alone.gain.high - alone.gain.value)[1:]
    for law in LAWS:
        wider, errors = (
            np.diff(getattr(shared.law_ends, what)[law][:, 1:], axis=0)[0]
            / np.diff(getattr(alone.law_ends, what)[law][:, 1:], axis=0)[0]
            for what in ("law", "error")
        )
        assert (wider > 1.1).all()
        assert (wider <= factor * 1.0001).all()
        np.testing.assert_allclose(errors[-1], wider[-1])
    width, before = (one.pair_accuracy.high - one.pair_accuracy.value for one in (shared, alone))
    assert width > 1.1 * before
