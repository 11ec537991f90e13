import json
import math
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bestfor.diagnostics import Reward, Settings, best_of_n, diagnose_arrays
from bestfor.errors import InputError

MODEL_KEYS = {
    "scale", "n", "utility", "low", "high", "gain", "gain_low", "gain_high", "captured", "captured_low",
    "captured_high", "interval", "quantities", "law", "law_error", "ledger", "best_n", "findings", "per_user",
    "correlations", "suspects", "calibration", "rules", "notes", "users_needed", "three_draw", "soft", "extrapolation",
    "best_fixed_n", "per_user_n", "stopping", "needed", "law_intervals", "pair_accuracy", "pair_accuracy_low",
    "pair_accuracy_high",
}  # fmt: skip
TERMS = ("law", "growth", "alpha", "sigma", "covariance", "shape", "leakage")


def world(seed=0, users=30, queries=2, candidates=24, rho=0.5):
    rng = np.random.default_rng(seed)
    query = np.repeat(np.arange(users * queries), candidates)
    utility = rng.standard_normal(len(query))
    reward = rho * utility + np.sqrt(1 - rho**2) * rng.standard_normal(len(query))
    return query // queries, query, utility, reward


def test_the_whole_of_the_json():
    user, query, utility, reward = world()
    reward[user < 3] = 1.0
    other = np.random.default_rng(9).standard_normal(len(user))
    rewards = {"good": Reward(reward, "utility"), "random": other}
    found = diagnose_arrays(
        user, query, utility, rewards, Settings(n=[1, 2, 8, 24], name="world", signature={"seed": 3})
    ).to_dict()
    json.dumps(found, allow_nan=False)
    assert set(found) == {
        "signature", "name", "queries", "users", "candidates", "dropped", "pool_mean", "oracle", "models",
        "comparisons", "headline", "pools_used",
    }  # fmt: skip
    assert (found["name"], found["queries"], found["users"], found["candidates"]) == ("world", 60, 30, 1440)
    assert found["dropped"] == {"too_few_candidates": 0, "not_finite": 0}
    assert found["signature"]["seed"] == 3
    assert set(found["signature"]) >= {"version", "data", "rule", "averaging", "level"}
    assert list(found["models"]) == ["good", "random"]
    model = found["models"]["good"]
    assert set(model) == MODEL_KEYS
    assert model["captured"][0] is None
    assert model["interval"] == "users"
    assert model["quantities"]["alpha"] == pytest.approx(0.1)
    assert model["quantities"]["active_queries"] == 54
    assert [user["collapsed"] for user in model["per_user"][:4]] == [True, True, True, False]
    assert sum(model["correlations"]["counts"]) == 54
    assert len(model["correlations"]["edges"]) == 21
    assert model["ledger"]["n"] == 24
    assert sum(model["ledger"][term] for term in TERMS) == pytest.approx(model["ledger"]["observed"], abs=1e-10)
    assert model["ledger"]["observed"] == pytest.approx(model["gain"][-1], abs=1e-12)
    assert [one["price"] for one in model["best_n"]] == [0.02, 0.01, 0.05, 0.1]
    assert {one["n"] for one in found["comparisons"]} == {2, 8, 24}
    assert all(one["model"] == "good" and one["against"] == "random" for one in found["comparisons"])
    assert 0 < len(model["suspects"]) <= 12
    for suspect in model["suspects"]:
        assert suspect["pick_utility"] < suspect["mean_utility"] <= suspect["best_utility"]
    chances = [suspect["posterior"] for suspect in model["suspects"]]
    assert chances == sorted(chances, reverse=True)


def test_numbers_equal_their_definitions():
    user, query, utility, reward = world(1, users=12, queries=1, candidates=8)
    found = diagnose_arrays(user, query, utility, {"x": reward}, Settings(n=[1, 4, 8]))
    shape = (12, 8)
    size, n = np.full(12, 8), np.array([1, 4, 8])
    curve = best_of_n(reward.reshape(shape), utility.reshape(shape), size, n).mean(axis=0)
    oracle = best_of_n(utility.reshape(shape), utility.reshape(shape), size, n).mean(axis=0)
    model = found.models["x"]
    np.testing.assert_allclose(model.utility.value, curve, atol=1e-12)
    np.testing.assert_allclose(found.oracle.value, oracle, atol=1e-12)
    captured = (curve - utility.mean())[1:] / (oracle - utility.mean())[1:]
    np.testing.assert_allclose(model.captured.value[1:], captured, atol=1e-12)
    r = np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(reward.reshape(shape), utility.reshape(shape), strict=True)])
    q = model.quantities
    assert q.beta.value == pytest.approx((r < 0).mean())
    assert q.rho.value == pytest.approx(r.mean())
    assert q.rho_plus == pytest.approx(r[r >= 0].mean())
    np.testing.assert_allclose(model.per_user.headroom.mean(), oracle[-1] - utility.mean(), atol=1e-12)


@pytest.mark.parametrize("averaging", ["user", "query"])
def test_averaging_weighs_users_or_queries(averaging):
    user, query, utility = [0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 2, 2], [0.0, 1, 0, 1, 0, 4]
    found = diagnose_arrays(user, query, utility, {"x": utility}, Settings(n=[1, 2], averaging=averaging))
    expected = (0.5 + 2) / 2 if averaging == "user" else (0.5 + 0.5 + 2) / 3
    assert found.pool_mean.value == pytest.approx(expected)
    assert found.models["x"].captured.value[1] == pytest.approx(1)


@pytest.mark.parametrize("averaging", ["user", "query"])
def test_four_quantities_are_one_number(averaging):
    rng = np.random.default_rng(2)
    query = np.repeat(np.arange(50), rng.integers(3, 9, 50))
    utility, reward = rng.standard_normal((2, len(query)))
    q = (
        diagnose_arrays(query % 7, query, utility, {"x": reward}, Settings(n=[1, 3], averaging=averaging))
        .models["x"]
        .quantities
    )
    assert (1 - q.beta.value) * q.rho_plus - q.beta.value * abs(q.rho_minus) == pytest.approx(q.rho.value, abs=1e-12)


ragged = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(-2, 2), st.integers(-2, 2)), min_size=2, max_size=40
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(ragged, st.sampled_from(["user", "query"]), st.sampled_from(["utility", "arbitrary"]))
def test_any_table_gives_valid_json_and_a_ledger_that_adds_up(rows, averaging, scale):
    user, query, utility, reward = (np.array(column) for column in zip(*rows, strict=True))
    largest = np.unique(user * 10 + query, return_counts=True)[1].max()
    found = diagnose_arrays(
        user,
        query,
        utility,
        {"x": Reward(reward, scale)},
        Settings(n=[1, int(largest)], averaging=averaging),
        text=utility,
    )
    json.dumps(found.to_dict(), allow_nan=False)
    assert str(found)
    ledger = found.models["x"].ledger
    assert sum(getattr(ledger, term) for term in TERMS) == pytest.approx(ledger.observed, abs=1e-10)
    assert ledger.observed == pytest.approx(float(found.models["x"].gain.value[-1]), abs=1e-10)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([0.25, 3.0, 1e6]), st.floats(-5, 5))
def test_affine_rewards_change_nothing_on_an_arbitrary_scale(scale, shift):
    user, query, utility, reward = world(3, users=6, queries=1, candidates=6)
    one = diagnose_arrays(user, query, utility, {"x": reward}, Settings(n=[1, 2, 4, 6])).to_dict()["models"]["x"]
    two = diagnose_arrays(user, query, utility, {"x": scale * reward + shift}, Settings(n=[1, 2, 4, 6])).to_dict()[
        "models"
    ]["x"]
    np.testing.assert_allclose(one["utility"], two["utility"], atol=1e-12)
    np.testing.assert_allclose(one["law"]["reward"], two["law"]["reward"], atol=1e-8)
    np.testing.assert_allclose(one["captured"][1:], two["captured"][1:], atol=1e-12)
    assert one["quantities"]["rho"] == pytest.approx(two["quantities"]["rho"], abs=1e-8)


def test_affine_utility_scales_gains_and_leaves_captured():
    user, query, utility, reward = world(4)
    one = diagnose_arrays(user, query, utility, {"x": reward}, Settings(n=[1, 8])).models["x"]
    two = diagnose_arrays(user, query, 3 * utility - 7, {"x": reward}, Settings(n=[1, 8])).models["x"]
    np.testing.assert_allclose(two.gain.value, 3 * one.gain.value, atol=1e-10)
    np.testing.assert_allclose(two.captured.low[1], one.captured.low[1], atol=1e-10)
    assert two.ledger.shape == pytest.approx(3 * one.ledger.shape, abs=1e-10)


def test_a_constant_reward_gains_exactly_nothing():
    user, query, utility, _ = world(5)
    found = diagnose_arrays(user, query, utility, {"x": np.zeros(len(user))}, Settings(n=[1, 2, 16]))
    model = found.models["x"]
    np.testing.assert_allclose(model.utility.value, utility.mean(), atol=1e-12)
    assert model.quantities.alpha.value == 1
    assert math.isnan(model.quantities.rho.value)
    assert found.to_dict()["models"]["x"]["quantities"]["beta"] is None
    assert all(one.n == 1 for one in model.best_n)


def test_the_gain_of_one_candidate_is_exactly_zero():
    user, query, utility, reward = world(6)
    gain = diagnose_arrays(
        user, query, utility, {"x": reward}, Settings(n=[1, 2]), text=query * 0 + np.arange(len(query)) % 24
    )
    curve = gain.models["x"].gain
    assert (curve.value[0], curve.low[0], curve.high[0]) == (0, 0, 0)


def test_shared_texts_widen_the_interval():
    rng = np.random.default_rng(7)
    users, texts = 60, 20
    user, text = np.repeat(np.arange(users), texts), np.tile(np.arange(texts), users)
    common = rng.standard_normal(texts)
    utility = common[text] + rng.standard_normal(len(user))
    reward = (common + rng.standard_normal(texts))[text] + 0.1 * rng.standard_normal(len(user))
    one = diagnose_arrays(user, user, utility, {"x": reward}, Settings(n=[1, 8]))
    two = diagnose_arrays(user, user, utility, {"x": reward}, Settings(n=[1, 8]), text=text)
    assert one.models["x"].interval == "users"
    assert two.models["x"].interval == "two-way users x texts"
    assert two.models["x"].captured.value[1] == one.models["x"].captured.value[1]
    width = [found.models["x"].captured.high[1] - found.models["x"].captured.low[1] for found in (one, two)]
    assert width[1] > 2 * width[0]


def test_one_user_has_no_intervals():
    found = diagnose_arrays(
        [1] * 8, [1] * 4 + [2] * 4, np.arange(8.0), {"x": np.arange(8.0)}, Settings(n=[1, 4])
    ).to_dict()
    model = found["models"]["x"]
    assert model["captured"] == [None, pytest.approx(1)]
    assert model["captured_low"] == [None, None]
    assert model["low"] == [None, None]
    assert model["quantities"]["alpha_low"] is None
    assert model["quantities"]["corrected"] is None
    assert found["oracle"]["high"] == [None, None]


def test_no_headroom_is_null_and_said():
    found = diagnose_arrays(
        [1, 1, 2, 2], [1, 1, 2, 2], [1.0, 1, 1, 1], {"x": [1.0, 2, 3, 4], "y": [0.0, 1, 0, 1]}, Settings(n=[1, 2])
    )
    assert found.to_dict()["models"]["x"]["captured"] == [None, None]
    assert found.comparisons == ()
    assert "nothing to win" in found.models["x"].findings[0]
    assert "same utility" in found.headline


def test_default_n_is_powers_of_two_up_to_the_common_size():
    user, query, utility, reward = world(8, candidates=30)
    assert diagnose_arrays(user, query, utility, {"x": reward}).n.tolist() == [1, 2, 4, 8, 16, 30]
    keep = ~((query == 0) & (np.arange(len(query)) > 3))
    found = diagnose_arrays(user[keep], query[keep], utility[keep], {"x": reward[keep]})
    assert found.n.tolist() == [1, 2, 4, 8, 16, 30]
    assert found.dropped.too_few_candidates == 1
    assert found.queries == 59


def test_n_is_sorted_and_single_candidates_are_allowed():
    user, query, utility, reward = world(8, users=4)
    assert diagnose_arrays(user, query, utility, {"x": reward}, Settings(n=[8, 1, 8])).n.tolist() == [1, 8]
    alone = diagnose_arrays([1, 2], [1, 2], [0.5, 1.5], {"x": [1.0, 2.0]})
    assert alone.n.tolist() == [1]
    assert "nothing to choose" in alone.headline
    json.dumps(alone.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": [1, 25]}, "n: found N = 25; expected at most 24"),
        ({"n": [0, 2]}, "each at least 1"),
        ({"n": [1.5]}, "whole numbers"),
        ({"n": []}, "whole numbers"),
        ({"level": 95}, "level: found 95"),
        ({"averaging": "users"}, "averaging: found 'users'"),
    ],
)
def test_bad_arguments_are_named(change, message):
    user, query, utility, reward = world(0, users=3)
    with pytest.raises(InputError, match=message):
        diagnose_arrays(user, query, utility, {"x": reward}, Settings(**change))


def test_the_signature_follows_the_data_and_not_the_order_of_rows():
    user, query, utility, reward = world(0, users=4)
    candidate = np.tile(np.arange(24), 8)
    order = np.random.default_rng(1).permutation(len(user))
    one = diagnose_arrays(user, query, utility, {"x": reward}, candidate=candidate)
    two = diagnose_arrays(user[order], query[order], utility[order], {"x": reward[order]}, candidate=candidate[order])
    assert one.to_dict() == two.to_dict()
    utility[0] += 1e-9
    three = diagnose_arrays(user, query, utility, {"x": reward}, candidate=candidate)
    assert three.signature["data"] != one.signature["data"]


def test_best_n_stops_where_doubling_no_longer_pays():
    query = np.repeat(np.arange(40), 16)
    utility = np.tile(np.r_[np.ones(4), np.zeros(12)], 40) + np.repeat(np.linspace(0, 1e-3, 40), 16)
    found = diagnose_arrays(query, query, utility, {"x": utility}, Settings(n=[1, 16])).models["x"]
    curve = [1 - comb(12, n) / comb(16, n) for n in (1, 2, 4, 8, 16)]
    steps = np.diff(curve)
    assert steps[2] > 0.05 > steps[3] > 0.02
    headroom = curve[-1] - curve[0]
    assert {one.price: one.n for one in found.best_n} == {0.02: 16, 0.01: 16, 0.05: 16, 0.1: 8}
    assert [one.cost_in_utility_units for one in found.best_n] == pytest.approx(
        [x * headroom for x in (0.02, 0.01, 0.05, 0.1)]
    )


def test_intervals_of_several_comparisons_hold_together():
    rng = np.random.default_rng(7)
    query = np.repeat(np.arange(60), 12)
    utility = rng.standard_normal(720)
    rewards = {f"m{k}": 0.5 * utility + rng.standard_normal(720) for k in range(6)}
    pair = {name: rewards[name] for name in ("m0", "m1")}
    alone = diagnose_arrays(query, query, utility, pair, Settings(n=[1, 12])).comparisons[0].difference
    every = diagnose_arrays(query, query, utility, rewards, Settings(n=[1, 12])).comparisons
    assert len(every) == 15
    one = next(one.difference for one in every if {one.model, one.against} == {"m0", "m1"})
    assert abs(one.value) == pytest.approx(abs(alone.value))
    wider = stats.t.ppf(0.5 + 0.95 ** (1 / 15) / 2, 59) / stats.t.ppf(0.975, 59)
    assert one.high - one.low == pytest.approx((alone.high - alone.low) * wider)
    assert one.level == alone.level == 0.95
