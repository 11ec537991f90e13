"""The law from pairs: against simulation, closed forms, and on pools of a true copula."""

import numpy as np
import pytest
from scipy import stats

from bestfor.diagnostics import best_of_n, normal_growth
from bestfor.diagnostics.quantities.pairs import copula_gain, copula_weights, pair_law


def profiles_of(utility):
    return {utility.shape[1]: (np.sort(utility, axis=1) - utility.mean(axis=1, keepdims=True)).mean(axis=0)}


def pools(r, queries, size, *, seed=0, cut=None):
    draw = np.random.default_rng(seed)
    reward, e = draw.standard_normal((2, queries, size))
    utility = r * reward + np.sqrt(1 - r**2) * e
    return reward, utility if cut is None else np.digitize(utility, cut).astype(float)


class TestWeights:
    @pytest.mark.parametrize("r", [-0.6, 0.0, 0.4, 0.95, 1.0])
    @pytest.mark.parametrize("n", [1, 2, 8])
    def test_against_simulation(self, r, n):
        draw = np.random.default_rng(3)
        z = draw.standard_normal((200_000, n)).max(axis=1)
        level = stats.norm.cdf(r * z + np.sqrt(max(1 - r**2, 0)) * draw.standard_normal(200_000))
        found = np.bincount(np.minimum((level * 6).astype(int), 5), minlength=6) / 200_000
        assert copula_weights(6, n, r) == pytest.approx(found, abs=0.005)

    def test_one_draw_is_uniform_and_no_correlation_too(self):
        assert copula_weights(5, 1, 0.7) == pytest.approx(np.full(5, 0.2))
        assert copula_weights(5, 9, 0.0) == pytest.approx(np.full(5, 0.2))

    def test_full_correlation_is_drawing_with_replacement(self):
        assert copula_weights(4, 3, 1.0) == pytest.approx(np.diff((np.arange(5) / 4) ** 3))

    def test_many_normal_values_give_the_normal_law(self):
        values = stats.norm.ppf((np.arange(4000) + 0.5) / 4000)
        assert copula_gain({4000: values}, 8, 0.5) == pytest.approx(0.5 * normal_growth(8), rel=2e-3)


class TestLaw:
    @pytest.mark.parametrize(("size", "cut"), [(6, None), (16, (-0.6, 0.3)), (30, None)])
    @pytest.mark.parametrize("r", [0.3, 0.6])
    def test_is_near_the_curve_under_a_true_copula(self, size, cut, r):
        reward, utility = pools(r, 3000, size, cut=cut)
        n = np.array([1, 2, 4, size])
        sizes = np.full(3000, size)
        curve = best_of_n(reward, utility, sizes, n).mean(axis=0) - utility.mean()
        oracle = best_of_n(utility, utility, sizes, n).mean(axis=0) - utility.mean()
        law = pair_law(profiles_of(utility), n, float(curve[1]), dict(zip(n.tolist(), oracle.tolist(), strict=True)))
        assert law.plain[1] == pytest.approx(curve[1])
        assert law.ratio[1] == pytest.approx(curve[1])
        assert law.ratio[2:] == pytest.approx(curve[2:], rel=0.14)
        assert law.plain[2:] == pytest.approx(curve[2:], rel=0.14)
        assert (law.plain[0], law.ratio[0]) == (pytest.approx(0, abs=1e-9), 0)

    def test_the_best_possible_reward_has_no_plain_root_and_ratio_one(self):
        _, utility = pools(0.5, 400, 6)
        n = np.array([2, 6])
        oracle = best_of_n(utility, utility, np.full(400, 6), n).mean(axis=0) - utility.mean()
        law = pair_law(profiles_of(utility), n, float(oracle[0]), {2: oracle[0], 6: oracle[1]})
        assert np.isnan(law.plain_r)
        assert np.isnan(law.plain).all()
        assert law.ratio_r == pytest.approx(1, abs=1e-6)
        assert law.ratio == pytest.approx(oracle)

    def test_a_reward_that_points_away_has_a_negative_correlation(self):
        reward, utility = pools(-0.4, 2000, 8)
        n = np.array([2, 8])
        sizes = np.full(2000, 8)
        curve = best_of_n(reward, utility, sizes, n).mean(axis=0) - utility.mean()
        oracle = best_of_n(utility, utility, sizes, n).mean(axis=0) - utility.mean()
        law = pair_law(profiles_of(utility), n, float(curve[0]), {2: oracle[0], 8: oracle[1]})
        assert law.ratio_r == pytest.approx(-0.4, abs=0.05)
        assert law.ratio[1] == pytest.approx(curve[1], rel=0.14)

    def test_constant_utilities_have_no_law(self):
        law = pair_law({4: np.zeros(4)}, np.array([2, 4]), 0.0, {2: 0.0, 4: 0.0})
        assert np.isnan(law.ratio).all()
