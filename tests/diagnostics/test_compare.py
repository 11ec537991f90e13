"""Paired differences of quantities: against a paired t-test, brute force, and the truth in simulation."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from bestfor.diagnostics import Reward, Settings, combine_folds, diagnose_arrays
from bestfor.diagnostics.compare import QuantityPanels, corrected_difference
from bestfor.diagnostics.quantities.mixture import Corrected

QUANTITIES = ("alpha", "beta", "rho", "rho_plus", "rho_minus")


def table(users=30, queries=2, size=8, seed=0, rho=(0.1, 0.3), collapsed=(0.0, 0.0)):
    rng = np.random.default_rng(seed)
    user, query = np.repeat(np.arange(users), queries * size), np.repeat(np.arange(users * queries), size)
    utility = rng.standard_normal(len(user))
    common = rng.standard_normal(len(user))
    rewards = {}
    for name, r, share in zip("ab", rho, collapsed, strict=True):
        noise = 0.6 * common + 0.8 * rng.standard_normal(len(user))
        scale = np.where(rng.random(users) < share, 0.001, 1.0)[user]
        rewards[name] = Reward(scale * (r * utility + np.sqrt(1 - r**2) * noise), "utility")
    return user, query, utility, rewards


def pair(diagnosis):
    return next(one for one in diagnosis.comparisons if one.n == int(diagnosis.n[-1]))


def signed(diagnosis, quantity):
    """b minus a."""
    found = pair(diagnosis)
    estimate = getattr(found, quantity)
    if found.model == "b":
        return estimate.value, estimate.low, estimate.high
    return -estimate.value, -estimate.high, -estimate.low


def test_one_query_a_user_is_a_paired_t_test():
    user, query, utility, rewards = table(queries=1)
    correlations = {
        name: np.array([np.corrcoef(utility[query == q], one.mean[query == q])[0, 1] for q in range(30)])
        for name, one in rewards.items()
    }
    found = diagnose_arrays(user, query, utility, rewards)
    rho = correlations["b"] - correlations["a"]
    value, low, high = signed(found, "rho")
    expected = stats.ttest_1samp(rho, 0).confidence_interval(0.95)
    assert (value, low, high) == pytest.approx((rho.mean(), *expected))
    beta = (correlations["b"] < 0).astype(float) - (correlations["a"] < 0)
    value, low, high = signed(found, "beta")
    assert (value, low, high) == pytest.approx((beta.mean(), *stats.ttest_1samp(beta, 0).confidence_interval(0.95)))


@pytest.mark.slow
@pytest.mark.parametrize("quantity", ["beta", "rho", "rho_plus", "rho_minus"])
def test_intervals_are_those_of_leaving_each_user_out(quantity):
    user, query, utility, rewards = table(12)
    values = []
    for left in [None, *range(12)]:
        keep = user != left
        part = {name: Reward(one.mean[keep], "utility") for name, one in rewards.items()}
        found = diagnose_arrays(user[keep], query[keep], utility[keep], part)
        a, b = (found.models[name].quantities for name in "ab")
        of = (lambda q: q.value) if quantity in ("beta", "rho") else float
        values.append(of(getattr(b, quantity)) - of(getattr(a, quantity)))
    whole, *others = values
    moves = np.array(others) - whole
    users = int((np.abs(moves) > 1e-12).sum())  # those without a negative correlation do not move rho_minus
    error = np.sqrt((users - 1) / users * (moves**2).sum())
    value, low, high = signed(diagnose_arrays(user, query, utility, rewards), quantity)
    half = stats.t.ppf(0.975, users - 1) * error
    assert (value, low, high) == pytest.approx((whole, whole - half, whole + half))


def test_folds_of_the_same_data_give_its_differences():
    columns = table(20)
    once = diagnose_arrays(*columns)
    whole = combine_folds([once, once])
    for quantity in QUANTITIES:
        assert signed(whole, quantity) == pytest.approx(signed(once, quantity))


def test_models_without_a_difference_have_an_interval_all_the_same():
    found = pair(diagnose_arrays(*table(20)))
    assert (found.alpha.value, found.alpha.low < 0 < found.alpha.high) == (0, True)
    assert found.alpha.high == pytest.approx(stats.t.ppf(0.975, 19) * np.sqrt(2) / 22)


def test_texts_and_the_bootstrap_count_in_differences():
    user, query, utility, rewards = table(20)
    text = [f"t{place % 40}" for place in range(len(user))]
    two_way = diagnose_arrays(user, query, utility, rewards, text=text)
    plain = diagnose_arrays(user, query, utility, rewards)
    low, high = signed(two_way, "rho")[1:]
    assert high - low > signed(plain, "rho")[2] - signed(plain, "rho")[1]
    drawn = diagnose_arrays(user, query, utility, rewards, Settings(interval="bootstrap"))
    assert signed(drawn, "rho")[1:] == pytest.approx(signed(plain, "rho")[1:], abs=0.04)


def test_corrected_shares_are_put_together():
    one = Corrected(0.1, 0.2, 0.3, -0.1, 100, beta_05_low=0.1, beta_05_high=0.4)
    other = Corrected(0.1, 0.05, 0.3, -0.1, 100, beta_05_low=0.0, beta_05_high=0.1)
    found = corrected_difference(one, other, 0.95)
    assert (found.value, found.low, found.high) == pytest.approx(
        (0.15, 0.15 - np.hypot(0.1, 0.05), 0.15 + np.hypot(0.2, 0.05))
    )
    joined = corrected_difference(
        one, other, 0.95, 0.5
    )  # the lower end is an edge of the other share, nothing goes off
    assert joined.high == pytest.approx(found.high)
    assert joined.low == pytest.approx(0.15 - np.sqrt(0.1**2 + 0.05**2 - 0.1 * 0.05))
    inner = replace(other, beta_05_low=0.02)
    apart, paired = (corrected_difference(one, inner, 0.95, together) for together in (0.0, 0.9))
    assert apart.low < paired.low < paired.value < paired.high < apart.high
    assert np.isnan(corrected_difference(one, None, 0.95).value)
    assert np.isnan(corrected_difference(one, Corrected(0.1, 0.2, 0.3, -0.1, 100), 0.95).value)


@pytest.mark.slow
def test_intervals_hold_the_truth():
    """200 data sets of 40 users; alpha of 0.1 and 0.3, and rho of 0.1 and 0.3 (with the bias of small pools)."""
    truth = {"alpha": 0.2, "rho": None, "beta": None}
    found = {name: [] for name in truth}
    for seed in range(200):
        diagnosis = diagnose_arrays(*table(40, seed=seed, collapsed=(0.1, 0.3)), Settings(n=[1, 8]))
        for name in truth:
            found[name].append(signed(diagnosis, name))
    for name, value in truth.items():
        rows = np.array(found[name])
        centre = rows[:, 0].mean() if value is None else value
        held = ((rows[:, 1] <= centre) & (centre <= rows[:, 2])).mean()
        assert 0.91 <= held <= 0.995, (name, held)


def harmful(seed, common, users=400, size=30):
    """Two models with the same third of harmful queries; the noise of their rewards is shared in part."""
    rng = np.random.default_rng(seed)
    rho = np.where(np.arange(users) < users // 3, -0.2, 0.3)[:, None]
    utility, shared = rng.standard_normal((2, users, size))
    query = np.repeat(np.arange(users), size)
    rewards = {}
    for name in "ab":
        noise = common**0.5 * shared + (1 - common) ** 0.5 * rng.standard_normal(utility.shape)
        rewards[name] = (rho * utility + np.sqrt(1 - rho**2) * noise).ravel()
    return diagnose_arrays(query, query, utility.ravel(), rewards, Settings(n=[1, 2]))


@pytest.mark.slow
def test_the_difference_of_corrected_shares_is_paired():
    found = harmful(0, 0.9)
    told = pair(found).beta_05
    corrected = [found.models[name].quantities.corrected for name in (pair(found).model, pair(found).against)]
    alone = corrected_difference(*corrected, 0.95)
    assert told.low <= 0 <= told.high
    assert told.high - told.low < 0.8 * (alone.high - alone.low)
    panels = QuantityPanels(None, None, [one.resampled for one in found.evidence])
    assert panels.together("a", "b") > 0.4
    assert panels.together("a", "a") == pytest.approx(1)
    assert panels.together("a", "nobody") == 0


def test_one_model_alone_draws_no_users_again():
    user, query, utility, rewards = table(size=24)
    found = diagnose_arrays(user, query, utility, {"a": rewards["a"]}, Settings(n=[1, 2]))
    assert not len(found.evidence[0].resampled["a"])
