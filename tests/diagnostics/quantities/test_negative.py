"""The share of clearly negative correlations and its interval."""

import numpy as np
import pytest
from scipy import optimize

from bestfor.diagnostics.quantities.negative import design_effect, negative_share, tails


def pools(rho, size, *, seed=0, t=None):
    draw = np.random.default_rng(seed)
    a, e = draw.standard_normal((2, len(rho), size))
    b = rho[:, None] * a + np.sqrt(1 - rho[:, None] ** 2) * e
    if t is None:
        return a, b
    scale = np.sqrt(t / draw.chisquare(t, a.shape))
    return a * scale, b * scale


def share_of(reward, utility, **more):
    size = reward.shape[1]
    r = np.array([np.corrcoef(one, two)[0, 1] for one, two in zip(reward, utility, strict=True)])
    z = np.arctanh(r) - r / (2 * (size - 1))
    count = len(z)
    given = {"weight": np.ones(count), "user": np.arange(count), **more}
    return negative_share(z, np.full(count, size), tails(reward, utility), **given)


def tenth_harmful(count):
    return np.where(np.arange(count) < count // 10, -0.2, 0.3)


class TestInterval:
    @pytest.mark.parametrize("seed", range(4))
    def test_holds_the_truth_and_gives_no_all_clear_that_few_queries_cannot_carry(self, seed):
        found = share_of(*pools(tenth_harmful(120), 20, seed=seed))
        assert found.low <= 0.1 <= found.high
        assert found.low <= found.value <= found.high

    def test_finds_a_tenth_where_there_are_enough_queries(self):
        found = share_of(*pools(tenth_harmful(1000), 30))
        assert 0.005 < found.low < 0.1 < found.high < 0.25
        assert found.visible < 0.1

    def test_excludes_harm_where_there_is_none(self):
        found = share_of(*pools(np.full(1000, 0.3), 30))
        assert found.low == 0
        assert found.high < 0.05

    @pytest.mark.parametrize("rho", [0.0, 0.3])
    @pytest.mark.parametrize("seed", range(3))
    def test_heavy_tails_in_the_same_candidates_are_no_guilt(self, rho, seed):
        found = share_of(*pools(np.full(300, rho), 30, seed=seed, t=3))
        assert found.low < 1e-3
        assert found.heavy_tails > 1.5

    def test_noise_alone_is_no_guilt(self):
        found = share_of(*pools(np.zeros(300), 24))
        assert found.low < 1e-3
        assert found.high > 0.3

    def test_what_is_harmful_everywhere_is_said(self):
        found = share_of(*pools(np.full(200, -0.4), 30))
        assert found.low > 0.9
        assert found.high == 1

    def test_few_votes_are_like_normal_utilities(self):
        reward, utility = pools(tenth_harmful(400), 30, seed=1)
        found = share_of(reward, np.digitize(utility, [-0.6, 0.3]).astype(float))
        assert found.low <= 0.1 <= found.high


class TestInvariance:
    def test_order_of_queries_changes_nothing(self):
        reward, utility = pools(tenth_harmful(150), 20)
        order = np.random.default_rng(1).permutation(150)
        one, two = share_of(reward, utility), share_of(reward[order], utility[order])
        assert (one.low, one.high, one.value) == pytest.approx((two.low, two.high, two.value), abs=1e-6)

    def test_units_and_weights_scale_change_nothing(self):
        reward, utility = pools(tenth_harmful(150), 20)
        one = share_of(reward, utility)
        two = share_of(reward * 3 + 1, utility * 0.001, weight=np.full(150, 7.0))
        assert (one.low, one.high) == pytest.approx((two.low, two.high), abs=1e-6)

    def test_queries_of_one_user_carry_less(self):
        reward, utility = pools(tenth_harmful(400), 30)
        alone, together = share_of(reward, utility), share_of(reward, utility, user=np.arange(400) // 20)
        assert together.high >= alone.high
        assert together.visible > alone.visible


class TestDesignEffect:
    def test_equal_queries_of_a_user_count_once(self):
        value = np.repeat([0.0, 1.0, 0.0, 1.0], 5)
        assert design_effect(value, np.ones(20), np.repeat(np.arange(4), 5)) == pytest.approx(5)
        assert design_effect(value, np.ones(20), np.arange(20)) == 1

    def test_a_constant_has_none(self):
        assert design_effect(np.full(6, 0.25), np.ones(6), np.repeat([0, 1], 3)) == 1


class TestTails:
    def test_is_one_for_independent_values_and_nan_for_constant_ones(self):
        reward, utility = pools(np.zeros(4000), 40)
        assert tails(reward, utility).mean() == pytest.approx(1, abs=0.02)
        assert np.isnan(tails(np.ones((1, 5)), np.arange(5.0)[None]))[0]

    def test_brute_force(self):
        a, b = np.array([[1.0, 2, 4, 9]]), np.array([[3.0, 1, 0, 8]])
        x, y = (a - a.mean()) / a.std(), (b - b.mean()) / b.std()
        assert tails(a, b)[0] == pytest.approx(float((x**2 * y**2).mean()))


def test_the_profile_is_the_largest_likelihood():
    from bestfor.diagnostics.quantities.negative import _fixed_share

    draw = np.random.default_rng(3)
    density, negative = draw.uniform(0.05, 1, (30, 5)), np.array([True, True, False, False, False])
    weight = draw.uniform(0.5, 2, 30)

    def loss(x):
        p, q = np.exp(x[:2]) / np.exp(x[:2]).sum(), np.exp(x[2:]) / np.exp(x[2:]).sum()
        return -float(weight @ np.log(0.3 * density[:, :2] @ p + 0.7 * density[:, 2:] @ q))

    best = min(optimize.minimize(loss, start).fun for start in draw.standard_normal((5, 5)))
    assert _fixed_share(density, negative, weight, 0.3) == pytest.approx(-best, abs=0.05)
