import numpy as np
import pytest

from bestfor.diagnostics import Reward, Settings, diagnose_arrays


def told(utility, reward, n, scale="arbitrary", users=None, queries=None):
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
    found = told(utility, utility + rng.standard_normal(utility.shape), [1, 2, 4, 8])
    assert "Nothing stands out" in sentences(found)
    assert found.headline.startswith("With N = 8 candidates, x gains 1.0")
    assert (
        "every doubling up to N = 8 pays where it costs 0.01; N = 24 is best where each candidate costs that"
        in found.headline
    )
    assert "95% interval" in found.headline
    assert "no user has collapsed" in found.headline


def test_collapse_is_counted_with_its_leak(rng):
    utility = rng.standard_normal((100, 24))
    reward = utility.copy()
    reward[:7] *= 1e-3
    found = told(utility, reward, [1, 8], "utility")
    assert "7 of 100 users have collapsed" in sentences(found)
    assert "7 of 100 users have collapsed" in found.headline
    assert found.models["x"].quantities.leakage_gain > 0.05
    assert "over-optim" not in sentences(found)


def test_noise_is_not_called_hacking(rng):
    utility = rng.standard_normal((400, 24))
    reward = 0.15 * utility + rng.standard_normal(utility.shape)
    assert "sampling noise makes most of that" in sentences(told(utility, reward, [1, 8]))


def test_hacking_is_called_hacking(rng):
    utility = rng.standard_normal((400, 24))
    sign = np.where(np.arange(400) < 100, -1.0, 1.0)[:, None]
    text = sentences(told(utility, sign * utility + rng.standard_normal(utility.shape), [1, 8]))
    assert "25% of queries show a negative correlation, and about 25% truly are below -0.05" in text


def test_a_falling_curve_and_its_ledger_term(rng):
    utility = rng.standard_normal((600, 32))
    reward = utility + 0.5 * rng.standard_normal(utility.shape)
    utility = np.where(reward > 1.6, -1.5, utility)
    text = sentences(told(utility, reward, [1, 2, 4, 8, 16, 32]))
    assert "the curve peaks at N = " in text
    assert "The term 'shape' (-" in text
    assert "over-optimisation" in text


def test_a_harmful_reward_is_refused(rng):
    utility = rng.standard_normal((100, 8))
    found = told(utility, -utility, [1, 8])
    assert "worse than taking a random candidate" in sentences(found)
    assert "loses" in found.headline
    assert "more than one candidate does not pay" in found.headline


def test_no_gain_and_few_users(rng):
    utility = rng.standard_normal((6, 8))
    text = sentences(told(utility, rng.standard_normal((6, 8)), [1, 8]))
    assert "No gain is shown" in text
    assert "from 6 users; +-0.1 would take about " in text
    assert "if every query had the mean rho = " in text
    one = told(rng.standard_normal((6, 8)), rng.standard_normal((6, 8)), [1, 8], users=1)
    assert (
        one.models["x"].findings[0].startswith("One user alone carries no interval and says nothing about other users")
    )
    assert "Nothing stands out" not in sentences(one)
    assert one.headline.startswith("One user alone carries no interval and says nothing about other users. With N = 8")
    assert one.headline.endswith(" that a perfect pick would gain.") or "loses" in one.headline


def test_an_end_beyond_one_is_capped_where_it_is_told(rng):
    utility = rng.standard_normal((4, 8))
    reward = utility.copy()
    reward[0] = rng.standard_normal(8)
    found = told(utility, reward, [1, 8])
    assert found.models["x"].captured.high[-1] > 1
    assert " to 100%, capped); no user" in found.headline
    assert "nothing captures more than 1" in str(found)


def test_what_was_left_out_is_told():
    user = [0, 0, 0, 1, 1, 1, 2, 2]
    found = diagnose_arrays(user, user, [1, 2, 3, 1, 2, np.nan, 5, 6], {"x": np.arange(8.0)}, Settings(n=[1, 3]))
    assert "Left out: 2 queries with fewer than 3 candidates and 1 rows" in sentences(found)


def test_disagreeing_rules_of_collapse_are_told(rng):
    utility = rng.standard_normal((60, 24))
    text = sentences(told(utility, 0.01 * utility, [1, 8], "utility"))
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
    text = sentences(told(utility, np.full((50, 10), 0.3), [1, 3, 10]))
    assert "No gain is shown: 0.000" in text
    assert "worse than" not in text
