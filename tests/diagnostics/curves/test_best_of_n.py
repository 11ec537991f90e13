from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestfor.diagnostics.curves.best_of_n import best_of_n, subset_variance, weights


def one(reward, utility, n=None):
    n = np.arange(1, len(reward) + 1) if n is None else n
    return best_of_n(np.array([reward], float), np.array([utility], float), np.array([len(reward)]), n)[0]


def brute(reward, utility):
    """Every subset, ties broken at random: mean and variance of the pick's utility at every N."""
    mean, variance = [], []
    for n in range(1, len(reward) + 1):
        first, second = [], []
        for subset in combinations(range(len(reward)), n):
            top = max(reward[i] for i in subset)
            best = [utility[i] for i in subset if reward[i] == top]
            first.append(np.mean(best))
            second.append(np.mean(np.square(best)))
        mean.append(np.mean(first))
        variance.append(np.mean(second) - np.mean(first) ** 2)
    return np.array(mean), np.array(variance)


@pytest.mark.parametrize(
    ("reward", "utility", "expected", "oracle"),
    [
        ([3, 1, 2, 5, 4], [10, 20, 30, 40, 50], [30, 36, 40, 42, 40], [30, 40, 45, 48, 50]),
        ([1, 1, 2, 2, 3], [0, 6, 3, 9, 4], [22 / 5, 49 / 10, 24 / 5, 22 / 5, 4], [22 / 5, 13 / 2, 38 / 5, 42 / 5, 9]),
        ([0, 0, 0, 0], [1, 2, 3, 6], [3, 3, 3, 3], [3, 13 / 3, 21 / 4, 6]),
        ([4, 3, 2, 1], [1, 2, 3, 4], [5 / 2, 5 / 3, 5 / 4, 1], [5 / 2, 10 / 3, 15 / 4, 4]),
    ],
)
def test_golden_curves(reward, utility, expected, oracle):
    np.testing.assert_allclose(one(reward, utility), expected, rtol=1e-14)
    np.testing.assert_allclose(one(utility, utility), oracle, rtol=1e-14)


def test_golden_weights_and_variance():
    np.testing.assert_allclose(weights(5, np.array([3]))[:, 0], [0.6, 0.3, 0.1, 0, 0], atol=1e-15)
    variance = subset_variance(
        np.array([[3.0, 1, 2, 5, 4]]), np.array([[10.0, 20, 30, 40, 50]]), np.array([5]), np.arange(1, 6)
    )
    np.testing.assert_allclose(variance[0], [200, 204, 120, 16, 0], atol=1e-11)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-3, 3)), min_size=1, max_size=7))
def test_equals_every_subset(rows):
    reward, utility = [float(r) for r, _ in rows], [float(u) for _, u in rows]
    mean, variance = brute(reward, utility)
    np.testing.assert_allclose(one(reward, utility), mean, atol=1e-12)
    size = np.array([len(rows)])
    found = subset_variance(np.array([reward]), np.array([utility]), size, np.arange(1, len(rows) + 1))
    np.testing.assert_allclose(found[0], np.maximum(variance, 0), atol=1e-11)


def test_eight_candidates_equal_every_subset():
    rng = np.random.default_rng(3)
    reward, utility = rng.integers(0, 5, 8).astype(float), rng.standard_normal(8)
    np.testing.assert_allclose(one(reward, utility), brute(reward, utility)[0], atol=1e-12)


@pytest.mark.parametrize(("m", "correct"), [(10, 0), (10, 1), (10, 4), (200, 3), (64, 64)])
def test_binary_oracle_is_pass_at_k(m, correct):
    utility = np.r_[np.ones(correct), np.zeros(m - correct)]
    expected = [1 - comb(m - correct, k) / comb(m, k) for k in range(1, m + 1)]
    np.testing.assert_allclose(one(utility, utility), expected, atol=1e-12)


def test_weights_of_large_pools_are_exact():
    m, n = 1000, np.array([1, 2, 30, 500, 999, 1000])
    table = weights(m, n)
    for column, drawn in enumerate(n.tolist()):
        exact = [comb(m - 1 - j, drawn - 1) / comb(m, drawn) for j in range(m)]
        np.testing.assert_allclose(table[:, column], exact, rtol=1e-12)


def test_larger_n_than_the_pool_is_nan_and_repeated_n_is_allowed():
    found = one([1, 2, 3], [4, 5, 6], np.array([4, 2, 2, 3]))
    assert np.isnan(found[0])
    np.testing.assert_allclose(found[1:], [17 / 3, 17 / 3, 6])


def test_ragged_pools_equal_each_pool_alone():
    rng = np.random.default_rng(0)
    size = rng.integers(1, 9, 60)
    reward, utility = rng.integers(0, 4, (60, 8)).astype(float), rng.standard_normal((60, 8))
    n = np.arange(1, 9)
    together = best_of_n(reward, utility, size, n)
    for q, m in enumerate(size):
        alone = np.r_[one(reward[q, :m], utility[q, :m]), np.full(8 - m, np.nan)]
        np.testing.assert_allclose(together[q], alone, atol=1e-13)


pools = st.integers(2, 12).flatmap(
    lambda m: st.tuples(
        st.lists(st.integers(-1000, 1000), min_size=m, max_size=m),
        st.lists(st.floats(-100, 100), min_size=m, max_size=m),
    )
)


@given(pools, st.sampled_from([0.5, 2.0, 1024.0]), st.integers(-500, 500))
def test_only_the_order_of_rewards_counts(pool, scale, shift):
    reward, utility = np.array(pool[0], float), np.array(pool[1])
    np.testing.assert_allclose(one(reward, utility), one(scale * reward + shift, utility), atol=1e-9)
    np.testing.assert_allclose(one(reward, utility), one(np.cbrt(reward), utility), atol=1e-9)


@given(pools)
def test_bounds_and_monotone_oracle(pool):
    reward, utility = np.array(pool[0], float), np.array(pool[1])
    curve, oracle = one(reward, utility), one(utility, utility)
    assert np.all(curve <= oracle + 1e-9)
    assert np.all(np.diff(oracle) >= -1e-9)
    np.testing.assert_allclose(curve[0], utility.mean(), atol=1e-9)
    np.testing.assert_allclose(one(np.zeros_like(utility), utility), utility.mean(), atol=1e-9)
    worst = -one(-utility, -utility)
    assert np.all(curve >= one(-utility, utility) - 1e-9)
    assert np.all(worst >= utility.min() - 1e-9)


@given(pools)
def test_the_gain_is_a_covariance_with_the_rank_weights(pool):
    reward, utility = np.array(pool[0], float), np.array(pool[1])
    m = len(reward)
    noise = np.arange(m) / (10.0 * m)
    order = np.argsort(-(reward + noise))
    n = np.arange(1, m + 1)
    gain = one(reward + noise, utility) - utility.mean()
    covariance = [np.cov(utility[order], m * weights(m, n)[:, k], ddof=0)[0, 1] for k in range(m)]
    np.testing.assert_allclose(gain, covariance, atol=1e-9)
