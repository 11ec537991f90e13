"""What the diagnosis says: findings with causes, and reasons for what cannot be had."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from bestfor.diagnostics import Reward, Settings, diagnose_arrays, rule_curve, words_level
from bestfor.diagnostics.compare import shrunk_winner
from bestfor.diagnostics.result import PerUser
from bestfor.diagnostics.words import actions
from bestfor.errors import InputError

EACH = PerUser(
    tuple(map(str, range(200))),
    np.ones(200, dtype=np.int64),
    *(np.ones(200) for _ in range(4)),
    np.zeros(200, dtype=np.bool_),
)


def diagnosed(utility, reward, n, scale="arbitrary", users=None, queries=None):
    rows, candidates = utility.shape
    query = np.repeat(np.arange(rows), candidates)
    user = query if users is None else query % users
    return diagnose_arrays(user, query, utility.ravel(), {"x": Reward(reward.ravel(), scale)}, Settings(n=n))


def sentences(diagnosis):
    return " ".join(diagnosis.models["x"].findings)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_a_healthy_model_is_told_so(rng):
    utility = rng.standard_normal((300, 24))
    found = diagnosed(utility, utility + rng.standard_normal(utility.shape), [1, 2, 4, 8])
    assert "Nothing stands out" in sentences(found)
    assert re.fullmatch(r"Best-of-8 with `x` pays: \+1\.0\d of 1\.4\d \(0\.9\d to 1\.\d\d\)\.", found.headline)
    assert len(found.headline.split()) <= 20


def test_collapse_is_counted_with_its_leak(rng):
    utility = rng.standard_normal((100, 24))
    reward = utility + 0.1 * rng.standard_normal(utility.shape)
    reward[:7] = 1e-3 * rng.standard_normal((7, 24))
    found = diagnosed(utility, reward, [1, 8], "utility")
    assert "7 of 100 users have collapsed" in sentences(found)
    assert found.models["x"].quantities.leakage_gain == pytest.approx(found.models["x"].ledger.leakage)
    assert "over-optim" not in sentences(found)


def test_noise_is_not_called_hacking(rng):
    utility = rng.standard_normal((400, 24))
    reward = 0.15 * utility + rng.standard_normal(utility.shape)
    text = sentences(diagnosed(utility, reward, [1, 8]))
    assert "Whether any are truly below -0.05 cannot be told" in text
    assert "With 400 queries of about 24 candidates a share below " in text
    assert "no sign of hacking" not in text


def test_an_all_clear_has_its_bound(rng):
    utility = rng.standard_normal((1500, 32))
    reward = 0.35 * utility + rng.standard_normal(utility.shape)
    found = diagnosed(utility, reward, [1, 8])
    corrected = found.models["x"].quantities.corrected
    assert corrected.beta_05_low == 0
    assert corrected.beta_05_high < 0.05
    text = sentences(found)
    assert "truly below" not in text or "no sign of hacking beyond that" in text


def test_hacking_is_called_hacking(rng):
    utility = rng.standard_normal((400, 24))
    sign = np.where(np.arange(400) < 100, -1.0, 1.0)[:, None]
    text = sentences(diagnosed(utility, sign * utility + rng.standard_normal(utility.shape), [1, 8]))
    assert re.search(
        r"25% of queries show a negative correlation, and 2[0-4]% to (2[6-9]|3[0-2])% truly are below -0\.05", text
    )


def test_a_falling_curve_and_its_ledger_term(rng):
    utility = rng.standard_normal((600, 32))
    reward = utility + 0.5 * rng.standard_normal(utility.shape)
    utility = np.where(reward > 1.6, -1.5, utility)
    text = sentences(diagnosed(utility, reward, [1, 2, 4, 8, 16, 32]))
    assert "the curve peaks at N = " in text
    assert "The term 'shape' (-" in text
    assert "over-optimisation" in text


def test_a_harmful_reward_is_refused(rng):
    utility = rng.standard_normal((100, 8))
    found = diagnosed(utility, -utility, [1, 8])
    assert "worse than taking a random candidate" in sentences(found)
    assert found.headline.startswith("Do not pick by `x`: Best-of-8 is worse than a random answer, -1.4")


def test_no_gain_and_few_users(rng):
    utility = rng.standard_normal((6, 8))
    text = sentences(diagnosed(utility, rng.standard_normal((6, 8)), [1, 8]))
    assert "No gain is shown" in text
    assert "from 6 users; +-0.1 would take about " in text
    assert "if every query had the mean rho = " in text
    one = diagnosed(rng.standard_normal((6, 8)), rng.standard_normal((6, 8)), [1, 8], users=1)
    assert (
        one.models["x"].findings[0].startswith("One user alone carries no interval and says nothing about other users")
    )
    assert "Nothing stands out" not in sentences(one)
    assert one.headline.endswith("; one user alone says nothing about others.")


def test_an_end_beyond_one_is_capped_where_it_is_told(rng):
    utility = rng.standard_normal((6, 8))
    reward = utility.copy()
    reward[:2] = rng.standard_normal((2, 8))
    found = diagnosed(utility, reward, [1, 8])
    assert found.models["x"].captured.high[-1] > 1
    assert "nothing captures more than 1" in str(found)


def test_what_was_left_out_is_told():
    user = [0, 0, 0, 1, 1, 1, 2, 2]
    found = diagnose_arrays(user, user, [1, 2, 3, 1, 2, np.nan, 5, 6], {"x": np.arange(8.0)}, Settings(n=[1, 3]))
    assert "Left out: 2 queries with fewer than 3 candidates and 1 rows" in sentences(found)


def test_disagreeing_rules_of_collapse_are_told(rng):
    utility = rng.standard_normal((60, 24))
    text = sentences(diagnosed(utility, 0.01 * utility, [1, 8], "utility"))
    assert "The two rules of collapse disagree: 100% of users" in text


def test_notes_are_kept():
    found = diagnose_arrays([0, 0], [0, 0], [1.0, 2.0], {"x": [1.0, 2.0]}).with_notes({"x": ("served by pooled",)})
    assert found.to_dict()["models"]["x"]["notes"] == ["served by pooled"]


def test_the_summary_fits_a_terminal(rng):
    utility = rng.standard_normal((50, 24))
    rewards = {"x": utility.ravel(), "a name that is longer than a column": rng.standard_normal(1200)}
    query = np.repeat(np.arange(50), 24)
    text = str(diagnose_arrays(query, query, utility.ravel(), rewards, Settings(name="world")))
    assert text.startswith("world: 50 users, 50 queries, 1200 candidates\n")
    assert max(len(line) for line in text.splitlines()) <= 110
    assert "captured at N=24: 1.000 [1.000, 1.000]" in text
    assert "oracle" in text


def test_a_constant_reward_is_no_gain_and_no_loss(rng):
    utility = 0.1 + rng.random((50, 10))
    text = sentences(diagnosed(utility, np.full((50, 10), 0.3), [1, 3, 10]))
    assert "No gain is shown: 0.000" in text
    assert "worse than" not in text


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


def independent(seed, gain=None, users=40, size=24):
    """Rewards that are no better than chance in correlation; where ``gain`` is given, the top pick gains so much."""
    rng = np.random.default_rng(seed)
    utility, reward = rng.standard_normal((2, users * 3, size))
    if gain is not None:
        rows = np.arange(len(utility))
        utility[rows, reward.argmax(axis=1)] += gain
        utility[rows, reward.argmin(axis=1)] += gain  # so that the correlation stays 0
    return diagnosed(utility, reward, [1, 2, 4, 8, 16, size], users=users)


def test_a_reward_that_says_nothing_is_told_so_in_the_headline_and_explained_by_no_law():
    for seed in range(6):
        found = independent(seed)
        text = sentences(found)
        assert "The reward says nothing about the utility" in text
        assert found.headline.startswith("`x` says nothing about the utility, its correlations are as chance gives: ")
        assert len(found.headline.split()) <= 20
        assert "The law says" not in text
        assert "growth term" not in text


def test_a_reward_that_knows_the_best_candidate_alone_is_not_said_to_know_nothing():
    found = independent(0, gain=3.0)
    assert found.models["x"].quantities.rho.low < 0 < found.models["x"].quantities.rho.high
    assert " pays: " in found.headline
    assert "says nothing" not in sentences(found)
    assert "No growth term fits at N = 24" in sentences(found)


def test_utilities_that_do_not_vary_are_the_one_reason():
    utility, reward = np.repeat(0.1 * np.arange(60.0)[:, None], 24, axis=1), np.random.default_rng(0).random((60, 24))
    found = diagnosed(utility, reward, [1, 2, 24]).to_dict()["models"]["x"]
    reasons = found["quantities"]["reasons"]
    assert {reasons[what] for what in ("beta", "rho", "rho_plus", "rho_minus", "corrected")} == {
        "utilities do not vary within queries"
    }
    assert found["extrapolation"]["verdict"] == "not extrapolable: utilities do not vary within queries"


def six_equal(seed, users=40, models=6):
    rng = np.random.default_rng(seed)
    utility = rng.standard_normal((users, 16))
    query = np.repeat(np.arange(users), 16)
    noise = rng.standard_normal((models, users, 16))
    rewards = {f"m{k}": (0.5 * utility + 0.87 * noise[k]).ravel() for k in range(models)}
    return diagnose_arrays(query, query, utility.ravel(), rewards, Settings(n=[1, 16]))


def test_the_largest_of_equal_figures_is_shrunk_by_its_noise():
    largest, shrunk = [], []
    for seed in range(10):
        found = six_equal(seed)
        largest.append(max(float(one.captured.value[-1]) for one in found.models.values()))
        text = " ".join(found.models[found.best].findings)
        said = re.search(r"captured (\d+)%.*; shrunk by its noise it is (\d+)%", text)
        shrunk.append(float(said[2]) / 100 if said else largest[-1])
        assert said is None or said[1] != said[2]
    truth = 0.5  # captured is about the correlation
    assert np.mean(largest) > truth + 0.02
    assert abs(np.mean(shrunk) - truth) < 0.02


def test_level_models_are_named_in_one_sentence_and_the_shrunk_figure_is_no_action():
    found = six_equal(0)
    best, others = found.best, [name for name in found.models if name != found.best]
    asked = actions(found.models[best].findings)
    level = next(one for one in asked if "level here" in one)
    assert level.startswith(f"`{best}`, ")
    assert level.endswith(": take the cheapest of them; costs are not measured.")
    assert all(f"`{name}`" in level for name in others)
    assert not any("hrunk" in one for one in asked)
    assert not any("level here" in one for name in others for one in found.models[name].findings)


def test_a_figure_that_shrinks_to_the_same_digits_is_not_spoken_of(monkeypatch):
    found = six_equal(0)
    model = found.models[found.best]
    share = float(model.captured.value[-1])
    for judged, spoken in ((share, False), (share - 0.03, True)):
        monkeypatch.setattr(words_level, "shrunk_winner", lambda *given, judged=judged: judged)
        assert (words_level.shrunk_share(found, model) is not None) is spoken


def test_models_without_a_sure_gain_are_not_recommended_as_level(rng):
    utility = rng.standard_normal((60, 16))
    query = np.repeat(np.arange(60), 16)
    rewards = {name: rng.standard_normal(960) for name in ("a", "b", "c")}
    found = diagnose_arrays(query, query, utility.ravel(), rewards, Settings(n=[1, 16]))
    assert not any("level here" in one for model in found.models.values() for one in model.findings)


def test_what_explains_is_no_action():
    explaining = (
        "The law says 0.3 at N = 30 and the exact curve 0.2.",
        "Of the growth terms 'pool' is closest at N = 30, +1% off: bounded.",
        "No growth term fits at N = 30: the closest, 'pool', is +40% off.",
        "At N = 30 it captures 70% of what an oracle gains.",
        "Nothing stands out: the curve grows as the law says.",
        "The noise of small pools could not be taken out of the correlations.",
    )
    asked = "No gain is shown: 0 at N = 30. Collect labels for more users."
    assert actions((*explaining, asked)) == (asked,)


def test_a_figure_that_stands_out_is_hardly_shrunk():
    rng = np.random.default_rng(0)
    gain = 0.5 + 0.01 * rng.standard_normal((3, 200)) + np.array([[0.3], [0.0], [0.1]])
    tables = [replace(EACH, gain=one) for one in gain]
    assert shrunk_winner(tables, "user") == pytest.approx(gain[0].mean(), abs=1e-3)
    weights = replace(EACH, queries=np.arange(1, 201)).queries / np.arange(1, 201).sum()
    by_query = [replace(EACH, gain=one, queries=np.arange(1, 201)) for one in gain]
    assert shrunk_winner(by_query, "query") == pytest.approx(float(gain[0] @ weights), abs=1e-3)
    assert math.isnan(shrunk_winner([tables[0], replace(tables[1], user=("x",) * 200)], "user"))
    assert math.isnan(shrunk_winner([replace(one, headroom=np.zeros(200)) for one in tables], "user"))
