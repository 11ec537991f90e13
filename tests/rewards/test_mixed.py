"""The hierarchical posterior against golden values, a brute-force Gaussian process, refits, and its own likelihood."""

import numpy as np
import pytest
from scipy import stats

from bestfor import rng
from bestfor.rewards._linear import Rows, build_blocks, condition
from bestfor.rewards._mixed import (
    INTERCEPT_VARIANCE,
    Learning,
    Prior,
    first_guess,
    improve,
    learn,
    log_normal_variance,
    posterior,
)
from bestfor.rewards._noise import fit_head, left_out


def small_rows(users=3, queries=2, size=4, p=3, seed=0):
    draw = rng.derive(seed, "mixed")
    n = users * queries * size
    z = np.column_stack([draw.normal(size=(n, p - 1)), np.ones(n)])
    query = np.repeat(np.arange(users * queries), size)
    return Rows(z, draw.normal(size=n), query // queries, query)


def small_prior(p=3, ratio=0.7):
    root = rng.derive(1, "prior").normal(size=(p, p)) / 2
    return Prior(root @ root.T + 0.2 * np.eye(p), slope=0.6, noise=0.4, ratio=ratio)


def brute(rows, prior, size):
    """Joint normal of labels: covariance of the shared part, of the personal part, and of noise with query effects."""
    same_user = rows.user[:, None] == rows.user[None, :]
    same_query = rows.query[:, None] == rows.query[None, :]
    shared = np.diag([prior.slope] * (rows.z.shape[1] - 1) + [INTERCEPT_VARIANCE])
    personal = rows.z @ prior.deviation @ rows.z.T * same_user
    noise = prior.noise * (np.diag(size) + prior.ratio * same_query)
    return rows.z @ shared @ rows.z.T, personal, noise, shared


@pytest.mark.parametrize("ratio", [0.0, 0.7])
@pytest.mark.parametrize("weighted", [False, True])
def test_posterior_is_the_gaussian_process(ratio, weighted):
    rows, prior = small_rows(), small_prior(ratio=ratio)
    size = rng.derive(2, "size").uniform(0.5, 2, size=len(rows.y)) if weighted else np.ones(len(rows.y))
    common, personal, noise, shared = brute(rows, prior, size)
    whole = common + personal + noise
    result = posterior(build_blocks(rows, size), prior)
    reached = stats.multivariate_normal(np.zeros(len(rows.y)), whole).logpdf(rows.y)
    assert result.evidence == pytest.approx(reached, abs=1e-8)
    for user in range(3):
        mine = np.where(rows.user == user, 1.0, 0.0)
        cross = (shared @ rows.z.T) + prior.deviation @ (rows.z * mine[:, None]).T
        mean = cross @ np.linalg.solve(whole, rows.y)
        covariance = shared + prior.deviation - cross @ np.linalg.solve(whole, cross.T)
        np.testing.assert_allclose(result.shared + result.deviations[user], mean, atol=1e-8)
        np.testing.assert_allclose(result.covariance[user], covariance, atol=1e-7)


def golden_rows(size):
    rows = Rows(np.array([[1.0], [2.0], [3.0]]), np.array([1.0, 2.0, 2.0]), np.zeros(3, int), np.zeros(3, int))
    return condition(build_blocks(rows, np.array(size, dtype=float)), 0.0)


@pytest.mark.parametrize(("size", "mean", "variance"), [((1, 1, 1), 23 / 30, 1 / 15), ((1, 1, 4), 28 / 33, 4 / 33)])
def test_golden_posterior_of_one_weight(size, mean, variance):
    normal = golden_rows(size)
    spread = 1 / (1 + normal.gram[0, 0, 0])
    deviation = spread * (normal.moment[0, 0] - normal.gram[0, 0, 0] * 0.5)
    assert 0.5 + deviation == pytest.approx(mean, abs=1e-12)
    assert spread == pytest.approx(variance, abs=1e-12)


@pytest.mark.parametrize("ratio", [0.0, 0.7])
def test_left_out_errors_are_those_of_refits(ratio):
    rows, prior = small_rows(users=2), small_prior(ratio=ratio)
    size = rng.derive(3, "size").uniform(0.5, 2, size=len(rows.y))
    blocks = build_blocks(rows, size)
    result = posterior(blocks, prior)
    found = left_out(
        rows, blocks, result.shared + result.deviations, result.conditional, (prior.noise, prior.ratio, size)
    )
    _, personal, noise, _ = brute(rows, prior, size)
    whole, rest = personal + noise, rows.y - rows.z @ result.shared
    for row in range(len(rows.y)):
        others = np.arange(len(rows.y)) != row
        weights = np.linalg.solve(whole[np.ix_(others, others)], whole[others, row])
        assert found.error[row] == pytest.approx(rest[row] - weights @ rest[others], abs=1e-8)
        assert found.variance[row] == pytest.approx(whole[row, row] - weights @ whole[others, row], abs=1e-8)


@pytest.mark.parametrize("covariance", ["isotropic", "low_rank", "full"])
def test_learning_climbs(covariance):
    rows = small_rows(users=12, queries=2, size=6, seed=5)
    blocks, prior = build_blocks(rows), first_guess(3)
    learning = Learning(covariance, rank=1, shrinkage=0.0)
    levels = []
    for _ in range(15):
        result = posterior(blocks, prior)
        levels.append(result.evidence)
        prior = improve(blocks, prior, result, learning)
    assert np.all(np.diff(levels) > -0.05)
    assert levels[-1] > levels[0]


def test_learning_finds_the_variances_of_a_simulation():
    draw = rng.derive(6, "simulation")
    users, size, p = 300, 30, 3
    truth = np.array([[0.5, 0.3, 0.0], [0.3, 0.4, 0.0], [0.0, 0.0, 0.2]])
    z = np.column_stack([draw.normal(size=(users * size, p - 1)), np.ones(users * size)])
    user, query = np.repeat(np.arange(users), size), np.repeat(np.arange(users * 3), size // 3)
    theta = draw.multivariate_normal([0.3, -0.2, 0.1], truth, size=users)
    level = draw.normal(size=users * 3) * np.sqrt(0.5)
    y = np.sum(z * theta[user], axis=1) + level[query] + draw.normal(size=len(user)) * np.sqrt(0.3)
    prior, result = learn(
        build_blocks(Rows(z, y, user, query)), first_guess(p), Learning("full", shrinkage=0.0, rounds=100)
    )
    assert prior.noise == pytest.approx(0.3, rel=0.05)
    assert prior.noise * prior.ratio == pytest.approx(0.5, rel=0.15)
    np.testing.assert_allclose(prior.deviation[:2, :2], truth[:2, :2], atol=0.1)
    np.testing.assert_allclose(result.shared, [0.3, -0.2, 0.1], atol=0.15)


def test_log_normal_variance_is_the_maximum():
    grid = np.exp(np.linspace(-6, 3, 20001))
    for squares, count, centre in [(3.0, 5, 1.0), (0.0, 4, 0.1), (100.0, 2, 0.01)]:
        value = -count / 2 * np.log(grid) - squares / (2 * grid) - np.log(grid / centre) ** 2 / 2
        best = grid[np.argmax(value)]
        assert log_normal_variance(squares, count, centre) == pytest.approx(best, rel=2e-3)


def test_noise_head_finds_who_is_noisy_and_its_gradient_is_right():
    draw = rng.derive(7, "head")
    columns = np.column_stack([draw.normal(size=(4000, 2)), np.ones(4000)])
    truth = np.array([0.8, 0.0, -1.0])
    rows = Rows(columns, np.sqrt(np.exp(columns @ truth) + 0.1) * draw.normal(size=4000), *(np.zeros(4000, int),) * 2)
    prior = Prior(1e-9 * np.eye(3), 1.0, 1.0, 0.0)
    blocks = build_blocks(rows)
    result = posterior(blocks, prior)
    left = left_out(rows, blocks, np.zeros((1, 3)), result.conditional, (1.0, 0.0, np.ones(4000)))
    found = fit_head(columns, left, np.full(4000, 0.1), ridge=0.1)
    np.testing.assert_allclose(found, truth, atol=0.12)
