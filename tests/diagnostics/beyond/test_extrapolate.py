import numpy as np
import pytest

from bestfor.diagnostics import best_of_n, normal_growth, pools_from_rows
from bestfor.diagnostics.beyond.extrapolate import (
    concomitant_map,
    divergence,
    divergence_map,
    extrapolate,
    hermite_order_statistic,
)

Q, M = 400, 30


def pools_of(utility_of, seed=0, candidates=M):
    reward = np.random.default_rng(seed).standard_normal((Q, candidates))
    utility = utility_of(reward) + np.random.default_rng(seed + 1).standard_normal(reward.shape)
    query = np.repeat(np.arange(Q), candidates)
    return pools_from_rows(query, query, utility.ravel(), {"x": reward.ravel()})


def test_hermite_order_statistics_golden():
    np.testing.assert_allclose(hermite_order_statistic(30, 30, 3)[1:], [2.042761, 3.41871, 3.969047], atol=1e-6)
    np.testing.assert_allclose(hermite_order_statistic(1000, 1000, 3)[1:], [3.241436, 9.630361, 25.567785], atol=1e-5)


@pytest.mark.parametrize("m", [2, 9, 64])
def test_hermite_order_statistics_average_to_the_whole_sample(m):
    table = np.stack([hermite_order_statistic(m, k, 3) for k in range(1, m + 1)])
    np.testing.assert_allclose(table.mean(axis=0), [1, 0, 0, 0], atol=1e-10)
    assert table[-1, 1] == pytest.approx(normal_growth(m), abs=1e-9)
    np.testing.assert_allclose(table, table[::-1] * [1, -1, 1, -1], atol=1e-10)


def test_maps_return_what_they_were_made_from():
    n = np.array([40, 80])
    table = np.stack([hermite_order_statistic(30, 30 - j, 2) for j in range(30)])
    utility = table @ np.array([7.0, 0.5, -0.1])
    expected = [hermite_order_statistic(one, one, 2)[1:] @ [0.5, -0.1] for one in (40, 80)]
    np.testing.assert_allclose(utility @ concomitant_map(30, n), expected, atol=1e-10)
    drawn = np.arange(2, 31)
    d, far = divergence(drawn), divergence(n)
    np.testing.assert_allclose((d * (0.4 - 0.1 * d)) @ divergence_map(drawn, n), far * (0.4 - 0.1 * far), atol=1e-10)


def test_a_linear_reward_extrapolates_to_the_truth():
    near, far, beyond = extrapolate(pools_of(lambda z: 0.3 * z), "x", np.array([30, 90, 91]))
    assert far.trusted
    assert far.verdict == "extrapolable"
    assert far.concomitants.low < 0.3 * normal_growth(90) < far.concomitants.high
    assert far.divergence.value == pytest.approx(0.3 * normal_growth(90), rel=0.1)
    assert near.concomitants.value < far.concomitants.value
    assert not beyond.trusted
    assert "more than 3 times" in beyond.verdict


def test_a_bend_within_the_pool_is_followed():
    def bent(z):
        return 0.3 * z - 0.06 * (z**2 - 1)

    found = extrapolate(pools_of(bent), "x", np.array([60]))[0]
    truth = 0.3 * normal_growth(60) - 0.06 * hermite_order_statistic(60, 60, 2)[2]
    assert found.concomitants.low < truth < found.concomitants.high


def test_a_cliff_is_not_extrapolable():
    found = extrapolate(pools_of(lambda z: np.where(z > 1.8, -2.0, 0.3 * z)), "x", np.array([60]))[0]
    assert not found.trusted
    assert "disagree" in found.verdict


def test_predictions_at_the_pool_agree_with_the_exact_curve():
    pools = pools_of(lambda z: 0.3 * z, seed=5)
    exact = best_of_n(pools.rewards["x"], pools.utility, pools.size, np.array([M])).mean() - pools.utility.mean()
    found = extrapolate(pools, "x", np.array([M]))[0]
    assert found.concomitants.value == pytest.approx(exact, abs=0.06)
    assert found.divergence.value == pytest.approx(exact, abs=0.06)


def test_small_pools_are_refused():
    with pytest.raises(ValueError, match="7 candidates"):
        extrapolate(pools_of(lambda z: z, candidates=7), "x", np.array([10]))
