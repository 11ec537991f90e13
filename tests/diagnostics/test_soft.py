from itertools import combinations

import numpy as np
import pytest

from bestfor.diagnostics import best_of_n, soft_best_of_n


def brute(reward, utility, temperature):
    curve = []
    for n in range(1, len(reward) + 1):
        values = []
        for subset in combinations(range(len(reward)), n):
            chosen = list(subset)
            share = np.exp((reward[chosen] - reward[chosen].max()) / temperature)
            values.append(share @ utility[chosen] / share.sum())
        curve.append(np.mean(values))
    return np.array(curve)


def test_golden():
    found = soft_best_of_n(
        np.array([[3.0, 1, 2, 5, 4]]), np.array([[10.0, 20, 30, 40, 50]]), np.array([5]), np.arange(1, 6), 1.0
    )
    expected = [30, 34.7596295565, 37.5115376037, 38.9261742156, 39.2073864124]
    np.testing.assert_allclose(found[0], expected, atol=1e-9)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 3.0, 100.0])
def test_equals_every_subset_in_ragged_pools(temperature):
    rng = np.random.default_rng(0)
    size = np.array([7, 3, 1, 7])
    reward, utility = rng.standard_normal((2, 4, 7))
    found = soft_best_of_n(reward, utility, size, np.arange(1, 8), temperature)
    for q, m in enumerate(size):
        np.testing.assert_allclose(found[q, :m], brute(reward[q, :m], utility[q, :m], temperature), atol=1e-10)
        assert np.isnan(found[q, m:]).all()


def test_limits_are_best_of_n_and_the_pool_mean():
    rng = np.random.default_rng(1)
    reward = np.stack([rng.permutation(12) for _ in range(5)]).astype(float)
    utility = rng.standard_normal((5, 12))
    size, n = np.full(5, 12), np.array([1, 4, 12])
    cold = soft_best_of_n(reward, utility, size, n, 0.03)
    np.testing.assert_allclose(cold, best_of_n(reward, utility, size, n), atol=1e-10)
    hot = soft_best_of_n(reward, utility, size, n, 1e9)
    np.testing.assert_allclose(hot, np.repeat(utility.mean(axis=1, keepdims=True), 3, axis=1), atol=1e-8)


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(ValueError, match="above 0"):
        soft_best_of_n(np.ones((1, 2)), np.ones((1, 2)), np.array([2]), np.array([1]), 0.0)
