import numpy as np
import pytest
from scipy import integrate, stats

from bestfor.diagnostics.quantities.mixture import (
    Mixture,
    below,
    correct,
    fisher,
    fit_mixture,
    moments_by_sign,
    posterior_below_zero,
    prior_by_moments,
)


def observed(rho, candidates, rng):
    """Sample correlations of pools of normal pairs with these true correlations."""
    utility = rng.standard_normal((len(rho), candidates))
    noise = rng.standard_normal((len(rho), candidates))
    reward = rho[:, None] * utility + np.sqrt(1 - rho[:, None] ** 2) * noise
    utility -= utility.mean(axis=1, keepdims=True)
    reward -= reward.mean(axis=1, keepdims=True)
    product = (utility * reward).sum(axis=1)
    return product / np.sqrt((utility**2).sum(axis=1) * (reward**2).sum(axis=1))


def worlds(rng, queries):
    normal, uniform = rng.standard_normal(queries), rng.random(queries)
    return {
        "all .1": np.full(queries, 0.1),
        "N(.15, .15)": np.clip(0.15 + 0.15 * normal, -0.95, 0.95),
        "N(.05, .3)": np.clip(0.05 + 0.3 * normal, -0.95, 0.95),
        ".8 at .3, .2 at -.2": np.where(uniform < 0.8, 0.3, -0.2),
        ".5 at .02, .5 at .5": np.where(uniform < 0.5, 0.02, 0.5),
    }


TRUTH = {  # beta, rho_plus, rho_minus, tolerance
    "all .1": (0.0, 0.1, None, 0.02),
    "N(.15, .15)": (0.158, 0.193, -0.079, 0.04),
    "N(.05, .3)": (0.433, 0.259, -0.222, 0.03),
    ".8 at .3, .2 at -.2": (0.2, 0.3, -0.2, 0.03),
}


NAIVE = {  # beta, rho_plus, rho_minus as observed with 2,000 pools of 30
    "all .1": (0.293, 0.190, -0.119),
    "N(.15, .15)": (0.260, 0.254, -0.147),
    "N(.05, .3)": (0.441, 0.297, -0.261),
    ".8 at .3, .2 at -.2": (0.210, 0.308, -0.211),
    ".5 at .02, .5 at .5": (0.228, 0.377, -0.141),
}


@pytest.mark.parametrize("world", list(NAIVE))
def test_naive_quantities_are_those_of_the_table(world):
    rng = np.random.default_rng(11)
    r = observed(worlds(rng, 2000)[world], 30, rng)
    beta, plus, minus = NAIVE[world]
    assert (r < 0).mean() == pytest.approx(beta, abs=0.025)
    assert r[r >= 0].mean() == pytest.approx(plus, abs=0.015)
    assert r[r < 0].mean() == pytest.approx(minus, abs=0.015)


@pytest.mark.parametrize("world", list(TRUTH))
def test_recovers_the_truth_from_pools_of_thirty(world):
    rng = np.random.default_rng(11)
    r = observed(worlds(rng, 2000)[world], 30, rng)
    fitted = correct(r, np.full(2000, 30), np.ones(2000))
    assert fitted is not None
    found, (beta, plus, minus, tolerance) = fitted[0], TRUTH[world]
    assert found.beta == pytest.approx(beta, abs=tolerance)
    assert found.rho_plus == pytest.approx(plus, abs=tolerance)
    if minus is not None:
        assert found.rho_minus == pytest.approx(minus, abs=tolerance)
    assert abs(found.beta - beta) < abs((r < 0).mean() - beta) + 1e-9
    assert found.beta_05 <= found.beta
    assert found.queries_used == 2000


def test_mass_near_zero_is_not_identifiable_but_no_worse_than_naive():
    rng = np.random.default_rng(12)
    r = observed(worlds(rng, 2000)[".5 at .02, .5 at .5"], 30, rng)
    fitted = correct(r, np.full(2000, 30), np.ones(2000))
    assert fitted is not None
    assert 0 <= fitted[0].beta < (r < 0).mean()
    assert -0.1 < fitted[0].rho_minus < 0
    assert fitted[0].beta_05 < 0.08


@pytest.mark.slow
@pytest.mark.parametrize("world", list(TRUTH))
def test_the_recovery_is_unbiased_over_repetitions(world):
    estimates = []
    for seed in range(25):
        rng = np.random.default_rng(100 + seed)
        fitted = correct(observed(worlds(rng, 2000)[world], 30, rng), np.full(2000, 30), np.ones(2000))
        assert fitted is not None
        estimates.append((fitted[0].beta, fitted[0].rho_plus))
    beta, plus = np.mean(estimates, axis=0)
    assert beta == pytest.approx(TRUTH[world][0], abs=0.015)
    assert plus == pytest.approx(TRUTH[world][1], abs=0.012)


def test_small_pools_and_few_queries_are_refused():
    rng = np.random.default_rng(0)
    r = rng.uniform(-0.5, 0.8, 100)
    assert correct(r, np.full(100, 19), np.ones(100)) is None
    assert correct(r, np.r_[np.full(19, 30), np.full(81, 10)], np.ones(100)) is None
    used = correct(r, np.r_[np.full(40, 30), np.full(60, 10)], np.ones(100))
    assert used is not None
    assert used[0].queries_used == 40


def test_many_queries_give_nearly_the_same_as_their_gathered_half():
    rng = np.random.default_rng(2)
    z, v = 0.3 + 0.3 * rng.standard_normal(240), np.full(240, 1 / 27)
    few = fit_mixture(z, v, np.ones(240))
    many = fit_mixture(np.tile(z, 2), np.tile(v, 2), np.full(480, 0.5))
    assert below(few, 0.0) == pytest.approx(below(many, 0.0), abs=0.01)


def test_weights_count_like_repetitions():
    rng = np.random.default_rng(3)
    z = np.r_[0.5 + 0.2 * rng.standard_normal(100), -0.5 + 0.2 * rng.standard_normal(100)]
    v = np.full(200, 1 / 27)
    heavy = fit_mixture(z, v, np.r_[np.full(100, 3.0), np.ones(100)])
    assert below(heavy, 0.0) == pytest.approx(0.25, abs=0.01)


def test_fisher_is_nearly_unbiased_and_finite_at_one():
    rng = np.random.default_rng(4)
    z, v = fisher(observed(np.full(40_000, 0.4), 20, rng), np.full(40_000, 20))
    assert z.mean() == pytest.approx(np.arctanh(0.4), abs=0.004)
    assert z.var() == pytest.approx(v[0], rel=0.06)
    z, _ = fisher(np.array([1.0, -1.0]), np.array([20, 20]))
    assert np.isfinite(z).all()


MIXTURE = Mixture(np.array([0.3, 0.7]), np.array([-0.2, 0.4]), np.array([0.1, 0.25]))


def test_moments_by_sign_equal_quadrature():
    def density(x):
        return float(MIXTURE.share @ stats.norm.pdf(x, MIXTURE.mean, MIXTURE.sd))

    mass = integrate.quad(density, -4, 0, epsabs=1e-12)[0]
    low = integrate.quad(lambda x: density(x) * np.tanh(x), -4, 0, epsabs=1e-12)[0] / mass
    high = integrate.quad(lambda x: density(x) * np.tanh(x), 0, 4, epsabs=1e-12)[0] / (1 - mass)
    assert below(MIXTURE, 0.0) == pytest.approx(mass, abs=1e-10)
    np.testing.assert_allclose(moments_by_sign(MIXTURE), (low, high), atol=1e-9)


def test_posterior_equals_bayes_by_quadrature():
    z, v = np.array([-0.5, 0.05, 0.6]), np.array([1 / 27, 1 / 17, 1 / 7])
    found = posterior_below_zero(MIXTURE, z, v)
    for one, noise, probability in zip(z, v, found, strict=True):

        def joint(x, one=one, noise=noise):
            prior = float(MIXTURE.share @ stats.norm.pdf(x, MIXTURE.mean, MIXTURE.sd))
            return prior * stats.norm.pdf(one, x, np.sqrt(noise))

        below_zero, above = (integrate.quad(joint, *side, epsabs=1e-13)[0] for side in ((-4, 0), (0, 4)))
        assert probability == pytest.approx(below_zero / (below_zero + above), abs=1e-9)


def test_prior_by_moments():
    rng = np.random.default_rng(5)
    v = np.full(5000, 0.1)
    z = 0.3 + np.sqrt(0.04 + 0.1) * rng.standard_normal(5000)
    prior = prior_by_moments(z, v)
    assert prior.mean[0] == pytest.approx(0.3, abs=0.02)
    assert prior.sd[0] == pytest.approx(0.2, abs=0.02)
    assert prior_by_moments(np.array([0.2]), np.array([0.1])).sd[0] == 0.02
