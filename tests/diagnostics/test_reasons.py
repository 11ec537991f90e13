"""What cannot be had says why, and what was asked for besides stands there."""

import numpy as np
import pytest

from bestfor.diagnostics import Reward, Settings, diagnose_arrays, rule_curve
from bestfor.errors import InputError


def world(seed=0, users=30, queries=2, candidates=24, rho=0.5):
    rng = np.random.default_rng(seed)
    query = np.repeat(np.arange(users * queries), candidates)
    utility = rng.standard_normal(len(query))
    reward = rho * utility + np.sqrt(1 - rho**2) * rng.standard_normal(len(query))
    return query // queries, query, utility, reward


def test_one_candidate_a_query_is_no_collapse_and_said():
    found = diagnose_arrays([1, 2, 3], [1, 2, 3], [0.5, 1.5, 2.0], {"x": Reward(np.array([1.0, 2.0, 2.0]), "utility")})
    told = found.to_dict()["models"]["x"]
    assert not any(user["collapsed"] for user in told["per_user"])
    assert [user["kappa"] for user in told["per_user"]] == [None] * 3
    quantities = told["quantities"]
    nothing = ("alpha", "alpha_low", "alpha_other_scale", "beta", "beta_high", "beta_by_chance", "rho", "rho_low")
    assert [quantities[name] for name in nothing] == [None] * len(nothing)
    assert (quantities["rho_plus"], quantities["rho_minus"], quantities["corrected"]) == (None, None, None)
    for name in ("alpha", "alpha_other_scale", "beta", "rho", "rho_plus", "rho_minus", "beta_by_chance"):
        assert quantities["reasons"][name] == "every query has one candidate: within a query nothing can vary"
    assert quantities["leakage_gain"] == 0
    assert told["ledger"]["observed"] == 0


@pytest.mark.parametrize("scale", ["utility", "arbitrary"])
def test_only_users_with_two_candidates_are_judged(scale):
    user, query = [1, 2, 2, 2, 2, 3, 3], [1, 2, 2, 3, 3, 4, 4]
    utility, reward = [0.0, 0, 1, 0, 1, 0, 1], np.array([5.0, 0, 1, 0, 2, 7, 7])
    found = diagnose_arrays(user, query, utility, {"x": Reward(reward, scale)}, Settings(n=[1]))
    assert found.models["x"].quantities.alpha.value == 0.5
    assert found.models["x"].per_user.collapsed.tolist() == [False, False, True]
    assert found.models["x"].quantities.reasons["rho_minus"] == "no correlation is negative"
    alone = diagnose_arrays([1, 1, 1], [1, 1, 2], [0.0, 1, 5], {"x": Reward(np.array([0.0, 1, 5]), "utility")})
    assert alone.models["x"].per_user.kappa[0] == pytest.approx(1)  # the single candidate does not dilute the spread


def test_constant_rewards_say_why_there_is_no_correlation():
    user, query, utility, _ = world(5)
    found = diagnose_arrays(user, query, utility, {"x": np.zeros(len(user))}, Settings(n=[1, 2])).to_dict()
    quantities = found["models"]["x"]["quantities"]
    assert quantities["alpha"] == 1
    assert "no active query" in quantities["reasons"]["rho"]
    assert "alpha" not in quantities["reasons"]


@pytest.mark.parametrize("shared", [False, True])
def test_other_rules_stand_beside_the_highest_reward(shared):
    user, query, utility, reward = world(3, users=12, candidates=10)
    text = np.tile(np.arange(10), 24) if shared else None
    rules = ("rank:2", "top:3", "cap:0.5")
    settings = Settings(n=[1, 2, 10], rules=rules)
    found = diagnose_arrays(user, query, utility, {"a": reward, "b": -reward}, settings, text=text)
    shape, size = (24, 10), np.full(24, 10)
    for name, sign in (("a", 1), ("b", -1)):
        model = found.models[name]
        assert tuple(one.rule for one in model.rules) == rules
        for one in model.rules:
            expected = rule_curve(sign * reward.reshape(shape), utility.reshape(shape), one.rule, [1, 2, 10], size=size)
            np.testing.assert_allclose(one.utility.value, expected.utility.mean(axis=0), atol=1e-12)
            np.testing.assert_allclose(one.difference.value, one.utility.value - model.utility.value, atol=1e-12)
            assert one.difference.value[0] == one.difference.low[0] == 0
            assert one.utility.low[1] < one.utility.value[1] < one.utility.high[1]
        json_rules = found.to_dict()["models"][name]["rules"]
        assert [one["rule"] for one in json_rules] == list(rules)
        assert set(json_rules[0]) == {
            "rule", "n", "utility", "utility_low", "utility_high", "difference", "difference_low", "difference_high",
        }  # fmt: skip
    assert found.signature["rules"] == list(rules)
    assert str(found).count("over the highest reward") == 6
    plain = diagnose_arrays(user, query, utility, {"a": reward, "b": -reward}, Settings(n=[1, 2, 10]), text=text)
    np.testing.assert_array_equal(plain.models["a"].captured.low, found.models["a"].captured.low)


@pytest.mark.parametrize(
    ("rules", "message"),
    [(("soft:1",), "always told"), (("lower:1",), "mean - deviations"), (("top:2", "top:2"), "once")],
)
def test_rules_that_need_more_than_a_table_of_rewards_are_refused(rules, message):
    with pytest.raises(InputError, match=message):
        Settings(rules=rules)
