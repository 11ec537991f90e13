import numpy as np
import pytest
from scipy import stats

from bestfor.diagnostics.quantities.queries import QueryStatistics, collapse, query_weights, within_queries
from bestfor.diagnostics.table.pools import Reward, pools_from_rows


def test_correlations_and_spreads_equal_scipy():
    rng = np.random.default_rng(0)
    query = np.repeat(np.arange(30), rng.integers(2, 15, 30))
    utility, reward = rng.standard_normal(len(query)), rng.standard_normal(len(query))
    within = within_queries(pools_from_rows(query, query, utility, {"x": reward}), "x")
    for q in range(30):
        here = query == q
        assert within.correlation[q] == pytest.approx(stats.pearsonr(reward[here], utility[here])[0], abs=1e-12)
        assert within.reward_sd[q] == pytest.approx(reward[here].std(ddof=1))
        assert within.utility_sd[q] == pytest.approx(utility[here].std(ddof=1))


def test_constants_are_exactly_constant():
    query = np.repeat([0, 1, 2], 3)
    reward = np.r_[0.1, 0.1, 0.1, 1.0, 2.0, 3.0, 1.0, 2.0, 4.0]
    utility = np.r_[1.0, 2.0, 3.0, 0.3, 0.3, 0.3, 1.0, 2.0, 4.0]
    within = within_queries(pools_from_rows(query, query, utility, {"x": reward}), "x")
    assert within.reward_sd[0] == 0
    assert within.utility_sd[1] == 0
    assert np.isnan(within.correlation[:2]).all()
    assert within.correlation[2] == pytest.approx(1)


@pytest.mark.parametrize("size", [1e-160, 1.0, 1e160])
def test_extreme_scales_neither_vanish_nor_overflow(size):
    reward = size * np.array([1.0, 2.0, 4.0, 3.0])
    within = within_queries(pools_from_rows([0] * 4, [0] * 4, [1.0, 2, 3, 4], {"x": reward}), "x")
    assert within.correlation[0] == pytest.approx(0.8)
    assert within.reward_sd[0] / size == pytest.approx(np.std([1, 2, 4, 3], ddof=1))


def test_collapse_on_the_utilitys_scale():
    within = QueryStatistics(
        np.zeros(5), np.array([0.049, 0.049, 0.051, 0.0, 0.2]), np.array([1.0, 1.0, 1.0, 0.0, 0.0])
    )
    found = collapse(within, np.array([0, 0, 1, 2, 3]), 4, "utility")
    assert found.collapsed.tolist() == [True, False, True, False]
    np.testing.assert_allclose(found.ratio, [0.049, 0.051, np.nan, np.nan])


def test_a_users_spread_is_the_root_mean_square_over_queries():
    within = QueryStatistics(np.zeros(2), np.array([0.0, 0.3]), np.array([3.0, 4.0]))
    found = collapse(within, np.array([0, 0]), 1, "utility")
    assert found.ratio[0] == pytest.approx(0.3 / 5)


def test_collapse_on_an_arbitrary_scale_survives_when_most_users_have_collapsed():
    spread = np.r_[np.zeros(13), 0.1, 4.0, 4.0, 4.0, 5.0, 5.0, 5.0]
    within = QueryStatistics(np.zeros(20), spread, np.ones(20))
    found = collapse(within, np.arange(20), 20, "arbitrary")
    assert np.percentile(spread, 75) == 4.0
    assert found.collapsed.tolist() == [True] * 14 + [False] * 6


def test_all_constant_is_all_collapsed_on_any_scale():
    within = QueryStatistics(np.full(3, np.nan), np.zeros(3), np.ones(3))
    for scale in ("utility", "arbitrary"):
        assert collapse(within, np.arange(3), 3, scale).collapsed.all()


def test_weights_of_users_and_queries():
    user = np.array([0, 0, 0, 1])
    np.testing.assert_allclose(query_weights(user, 2, "user"), [1 / 6, 1 / 6, 1 / 6, 1 / 2])
    np.testing.assert_allclose(query_weights(user, 2, "query"), 0.25)


def test_rewards_of_any_scale_enter_as_given():
    pools = pools_from_rows([0, 0], [0, 0], [1.0, 2.0], {"x": Reward(np.array([1.0, 1.0 + 1e-15]), "utility")})
    assert within_queries(pools, "x").reward_sd[0] > 0
