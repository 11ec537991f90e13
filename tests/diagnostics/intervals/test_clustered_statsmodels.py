"""Intervals against statsmodels: regression on a constant is a mean, and a weighted one is a ratio."""

import numpy as np
import pytest
from scipy import stats

from bestfor.diagnostics import Reward, Settings, best_of_n, diagnose_arrays
from support import later

proportion = later("statsmodels.stats.proportion")
sm = later("statsmodels.api")


M, N = 8, np.array([1, 4])


def world(users=40):
    """Users of one to five queries; every tenth has collapsed."""
    rng = np.random.default_rng(3)
    user = np.repeat(np.arange(users), rng.integers(1, 6, users))
    spread = rng.gamma(4, 0.25, users)[user][:, None]
    utility = spread * rng.standard_normal((len(user), M))
    reward = rng.uniform(-0.2, 1, users)[user][:, None] * utility + spread * rng.standard_normal(utility.shape)
    reward[user % 10 == 0] *= 1e-3
    size = np.full(len(user), M)
    mean = utility.mean(axis=1)
    gain, headroom = (best_of_n(one, utility, size, N)[:, 1] - mean for one in (reward, utility))
    return user, utility, reward, gain, headroom


def diagnosed(averaging):
    user, utility, reward, *_ = world()
    rows, query = np.repeat(user, M), np.repeat(np.arange(len(user)), M)
    scores = {"x": Reward(reward.ravel(), "utility")}
    return diagnose_arrays(rows, query, utility.ravel(), scores, Settings(n=N, averaging=averaging)).models["x"]


def by_user(values, averaging):
    user = world()[0]
    sums = np.bincount(user, values)
    return sums / np.bincount(user) if averaging == "user" else sums


def test_the_gain_per_user_is_ordinary_least_squares_on_user_means():
    gain = by_user(world()[3], "user")
    low, high = sm.OLS(gain, np.ones(len(gain))).fit().conf_int()[0]
    found = diagnosed("user").gain
    assert (found.value[1], found.low[1], found.high[1]) == pytest.approx((gain.mean(), low, high), abs=1e-12)


def ratio(above, below):
    """Weighted least squares of above / below on a constant: its HC3 variance is the sum of squared jackknife moves."""
    fit = sm.WLS(above / below, np.ones(len(above)), weights=below).fit(cov_type="HC3")
    users = len(above)
    half = stats.t.ppf(0.975, users - 1) * float(fit.bse[0]) * ((users - 1) / users) ** 0.5
    return float(fit.params[0]), float(fit.params[0]) - half, float(fit.params[0]) + half


@pytest.mark.parametrize("averaging", ["user", "query"])
def test_captured_is_weighted_least_squares_with_hc3(averaging):
    _, _, _, gain, headroom = world()
    expected = ratio(by_user(gain, averaging), by_user(headroom, averaging))
    found = diagnosed(averaging).captured
    assert (found.value[1], found.low[1], found.high[1]) == pytest.approx(expected, abs=1e-12)


def test_the_gain_per_query_is_weighted_least_squares_and_near_the_clustered_sandwich():
    user, _, _, gain, _ = world()
    expected = ratio(by_user(gain, "query"), np.bincount(user).astype(float))
    found = diagnosed("query").gain
    assert (found.value[1], found.low[1], found.high[1]) == pytest.approx(expected, abs=1e-12)
    clustered = sm.OLS(gain, np.ones(len(gain))).fit(cov_type="cluster", cov_kwds={"groups": user}, use_t=True)
    low, high = clustered.conf_int()[0]
    assert (found.high[1] - found.low[1]) == pytest.approx(high - low, rel=0.05)


def test_alpha_has_the_wilson_interval_of_statsmodels():
    low, high = proportion.proportion_confint(4, 40, method="wilson")
    found = diagnosed("user").quantities.alpha
    assert (found.value, found.low, found.high) == pytest.approx((0.1, low, high), abs=1e-9)


def test_rho_is_least_squares_on_user_means_where_all_are_awake():
    user, utility, reward, *_ = world()
    r = np.array([stats.pearsonr(a, b)[0] for a, b in zip(reward, utility, strict=True)])
    awake = user % 10 != 0
    weight = 1 / np.bincount(user)[user]
    above, below = (np.bincount(user[awake], weight[awake] * one[awake]) for one in (r, np.ones(len(user))))
    kept = below > 0
    value, low, high = ratio(above[kept], below[kept])
    found = diagnosed("user").quantities.rho
    assert (found.value, found.low, found.high) == pytest.approx((value, low, high), abs=1e-12)
