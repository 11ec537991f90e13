import numpy as np
import pytest
from scipy import integrate, stats

from bestfor.diagnostics.curves.best_of_n import best_of_n
from bestfor.diagnostics.quantities.laws import (
    LawInputs,
    bound_growths,
    free_bound,
    gain_from_l_moments,
    l_moments,
    laws,
    ledger,
    normal_growth,
    normal_growths,
    sum_inputs,
)
from bestfor.diagnostics.quantities.queries import collapse, query_weights, within_queries
from bestfor.diagnostics.table.pools import Reward, pools_from_rows

GOLDEN = {
    2: 0.564190, 3: 0.846284, 4: 1.029375, 5: 1.162964, 8: 1.423600, 16: 1.765991, 30: 2.042761, 32: 2.069669,
    100: 2.507594, 1000: 3.241436,
}  # fmt: skip
TERMS = ("growth", "alpha", "sigma", "covariance", "shape", "leakage")


def test_normal_growth_is_the_expected_maximum():
    assert normal_growth(1) == 0.0
    for n, expected in GOLDEN.items():
        assert normal_growth(n) == pytest.approx(expected, abs=6e-7)
    assert normal_growth(2) == pytest.approx(1 / np.sqrt(np.pi), rel=1e-13)
    assert normal_growth(3) == pytest.approx(1.5 / np.sqrt(np.pi), rel=1e-13)


@pytest.mark.parametrize("n", [7, 50, 5000, 1_000_000])
def test_normal_growth_agrees_with_quadrature(n):
    def density(x):
        return x * n * stats.norm.pdf(x) * np.exp((n - 1) * stats.norm.logcdf(x))

    expected, _ = integrate.quad(density, -10, 12, points=[0, 2, 5], limit=500, epsabs=1e-12)
    assert normal_growth(n) == pytest.approx(expected, rel=1e-10)


def test_bounds_lie_above_the_value():
    n = np.array([2, 3, 8, 30, 1000])
    assert np.all(bound_growths(n) > normal_growths(n))
    assert np.all(free_bound(1.0, n) > normal_growths(n))
    np.testing.assert_allclose(free_bound(2.0, np.array([1, 2])), [0, 2 / np.sqrt(3)])


def test_growth_below_one_candidate_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        normal_growth(0)


def test_free_bound_holds_for_its_extreme_distribution():
    n = 6
    grid = (np.arange(200_000) + 0.5) / 200_000
    extreme = grid ** (n - 1)
    sigma = extreme.std()
    gain = (n * grid ** (n - 1) * extreme).mean() - extreme.mean()
    assert gain == pytest.approx(free_bound(sigma, np.array([n]))[0], rel=1e-6)


def test_l_moments_golden_and_identity():
    reward, utility = np.arange(1.0, 6), np.array([30.0, 10, 40, 20, 50])
    moments = l_moments(reward, utility, 4)
    np.testing.assert_allclose(moments[1:], [5, 5, 0, 40], atol=1e-10)
    np.testing.assert_allclose([gain_from_l_moments(moments, n) for n in range(1, 6)], [0, 5, 10, 14, 20], atol=1e-10)


@pytest.mark.parametrize("ties", [False, True])
def test_l_moments_give_the_exact_curve(ties):
    rng = np.random.default_rng(1)
    reward = rng.integers(0, 3, 10).astype(float) if ties else rng.standard_normal(10)
    utility = rng.exponential(size=10)
    exact = best_of_n(reward[None], utility[None], np.array([10]), np.arange(1, 11))[0] - utility.mean()
    moments = l_moments(reward, utility, 9)
    np.testing.assert_allclose([gain_from_l_moments(moments, n) for n in range(1, 11)], exact, atol=1e-9)


def inputs_of(pools, averaging, n):
    within = within_queries(pools, "x")
    users = len(pools.user_ids)
    fallen = collapse(within, pools.user, users, pools.scales["x"]).collapsed
    reward, mask = pools.rewards["x"], pools.mask
    mean = np.where(mask, pools.utility, 0).sum(axis=1) / pools.size
    reward_mean = np.where(mask, reward, 0).sum(axis=1) / pools.size
    sd = np.where(within.reward_sd > 0, within.reward_sd, 1.0)
    return LawInputs(
        n=n,
        weight=query_weights(pools.user, users, averaging),
        active=np.isfinite(within.correlation) & ~fallen[pools.user],
        alpha=float(fallen.mean()),
        correlation=within.correlation,
        sigma=within.utility_sd,
        growth=(best_of_n(reward, reward, pools.size, n) - reward_mean[:, None]) / sd[:, None],
        gain=best_of_n(reward, pools.utility, pools.size, n) - mean[:, None],
        oracle_gain=best_of_n(pools.utility, pools.utility, pools.size, n) - mean[:, None],
    )


def shaped(shape, rng, size):
    draws = {
        "normal": lambda: rng.standard_normal(size),
        "uniform": lambda: rng.random(size),
        "exponential": lambda: rng.exponential(size=size),
        "binary": lambda: rng.integers(0, 2, size).astype(float),
        "three values": lambda: rng.integers(-1, 2, size).astype(float),
        "ties": lambda: np.round(rng.standard_normal(size), 1),
        "heavy tails": lambda: rng.standard_t(1.5, size),
        "cliff": lambda: rng.standard_normal(size),
    }
    return draws[shape]()


SHAPES = ("normal", "uniform", "exponential", "binary", "three values", "ties", "heavy tails", "cliff")


@pytest.mark.parametrize("averaging", ["user", "query"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_ledger_adds_up_on_every_shape(shape, averaging):
    rng = np.random.default_rng(len(shape))
    for scale in ("utility", "arbitrary"):
        query = np.repeat(np.arange(40), rng.integers(2, 12, 40))
        user = query % 9
        utility = shaped(shape, rng, len(query))
        reward = 0.5 * utility + shaped("ties" if shape == "ties" else "normal", rng, len(query))
        if shape == "cliff":
            reward[reward > 1.0] *= -1
        reward[user < 2] *= 1e-3
        reward[user == 3] = 0.25
        utility[query == 7] = 1.0
        pools = pools_from_rows(user, query, utility, {"x": Reward(reward, scale)})
        inputs = inputs_of(pools, averaging, np.array([1, 2]))
        assert 0 < inputs.alpha < 1
        for column in (0, 1):
            one = ledger(sum_inputs(inputs), column)
            total = one.law + sum(getattr(one, term) for term in TERMS)
            assert total == pytest.approx(one.observed, abs=1e-10)
        assert one.law == pytest.approx(laws(sum_inputs(inputs))["normal"][1], abs=1e-14)


def test_the_ledger_is_empty_without_active_queries():
    pools = pools_from_rows([1, 1, 2, 2], [1, 1, 2, 2], [0.0, 1, 2, 3], {"x": [5.0, 5, 5, 5]})
    one = ledger(sum_inputs(inputs_of(pools, "user", np.array([1, 2]))))
    assert (one.law, one.growth, one.alpha, one.sigma, one.covariance, one.shape) == (0, 0, 0, 0, 0, 0)
    assert one.observed == pytest.approx(0, abs=1e-15)


def test_the_reward_law_is_exact_where_utility_is_linear_in_reward():
    rng = np.random.default_rng(5)
    reward = rng.exponential(size=(200, 12))
    utility = 3 * reward - 1
    query = np.repeat(np.arange(200), 12)
    pools = pools_from_rows(query, query, utility.ravel(), {"x": reward.ravel()})
    inputs = inputs_of(pools, "user", np.array([1, 2, 5, 12]))
    observed = inputs.weight @ inputs.gain
    np.testing.assert_allclose(laws(sum_inputs(inputs))["reward"], observed, atol=1e-12)
    np.testing.assert_allclose(laws(sum_inputs(inputs))["pool"], observed, atol=1e-12)


def test_a_cliff_in_the_tail_breaks_the_law_and_not_the_curve():
    rng = np.random.default_rng(6)
    reward = rng.standard_normal((2000, 30))
    utility = np.where(reward > 1.5, -2.0, reward) + rng.standard_normal(reward.shape)
    query = np.repeat(np.arange(2000), 30)
    pools = pools_from_rows(query, query, utility.ravel(), {"x": reward.ravel()})
    one = ledger(sum_inputs(inputs_of(pools, "user", np.array([1, 30]))))
    assert one.law > 0.2
    assert one.observed < -0.2
    assert one.shape < -0.4
