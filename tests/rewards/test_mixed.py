"""The hierarchical posterior against golden values, a brute-force Gaussian process, refits, and its own likelihood."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from bestfor import rng
from bestfor.rewards.hierarchical.fit import fit_head, left_out
from bestfor.rewards.hierarchical.labels import Compact, batches, compact, join, round_single
from bestfor.rewards.hierarchical.users import absorb, rows_of, settle, settled_rows, variances
from bestfor.rewards.hierarchical.variances import (
    INTERCEPT_VARIANCE,
    Learning,
    Prior,
    expect,
    first_guess,
    improve,
    learn,
    learn_scales,
    log_normal_variance,
)
from bestfor.rewards.rows import FeatureRows

GROUPS = np.array([0, 1, 2])


def small_rows(users=3, queries=2, size=4, p=3, seed=0):
    draw = rng.derive(seed, "mixed")
    n = users * queries * size
    z = np.column_stack([draw.normal(size=(n, p - 1)), np.ones(n)])
    query = np.repeat(np.arange(users * queries), size)
    return FeatureRows(z, draw.normal(size=n), query // queries, query)


def small_prior(p=3, ratio=0.7):
    root = rng.derive(1, "prior").normal(size=(p, p)) / 2
    shared = np.array([0.6, 0.3, INTERCEPT_VARIANCE])
    return Prior(root @ root.T + 0.2 * np.eye(p), shared, noise=0.4, ratio=ratio)


def brute(rows, prior, size):
    """Joint normal of labels: covariance of the shared part, of the personal part, and of noise with query effects."""
    same_user = rows.user[:, None] == rows.user[None, :]
    same_query = rows.query[:, None] == rows.query[None, :]
    personal = rows.z @ prior.full_deviation() @ rows.z.T * same_user
    noise = prior.noise * (np.diag(size) + prior.ratio * same_query)
    return rows.z @ np.diag(prior.shared) @ rows.z.T, personal, noise


def sizes_of(rows, weighted):
    return rng.derive(2, "size").uniform(0.5, 2, size=len(rows.y)) if weighted else np.ones(len(rows.y))


@pytest.mark.parametrize("size", [2, 5])
@pytest.mark.parametrize("ratio", [0.0, 0.7])
@pytest.mark.parametrize("weighted", [False, True])
def test_posterior_is_the_gaussian_process(ratio, weighted, size):
    rows, prior = small_rows(size=size), small_prior(ratio=ratio)
    noise_size = sizes_of(rows, weighted)
    common, personal, noise = brute(rows, prior, noise_size)
    whole = common + personal + noise
    data = compact(rows, noise_size, levels=ratio > 0)
    reached = stats.multivariate_normal(np.zeros(len(rows.y)), whole).logpdf(rows.y)
    assert expect(data, list(batches(data)), prior).evidence == pytest.approx(reached, abs=1e-8)
    people = settle(data, prior)
    for user in range(3):
        mine = np.where(rows.user == user, 1.0, 0.0)
        cross = (np.diag(prior.shared) @ rows.z.T) + prior.deviation @ (rows.z * mine[:, None]).T
        mean = cross @ np.linalg.solve(whole, rows.y)
        covariance = np.diag(prior.shared) + prior.deviation - cross @ np.linalg.solve(whole, cross.T)
        np.testing.assert_allclose(people.weights[user], mean, atol=1e-8)
        asked = rng.derive(4, "asked").normal(size=(5, 3))
        found = variances(people, asked, np.full(5, user))
        np.testing.assert_allclose(found, np.sum(asked @ covariance * asked, axis=1), atol=1e-8)
    shared = np.diag(prior.shared) - np.diag(prior.shared) @ rows.z.T @ np.linalg.solve(
        whole, rows.z @ np.diag(prior.shared)
    )
    stranger = variances(people, asked, np.full(5, -1))
    np.testing.assert_allclose(stranger, np.sum(asked @ (shared + prior.deviation) * asked, axis=1), atol=1e-8)


def test_a_diagonal_covariance_is_the_same_matrix():
    rows, prior = small_rows(), small_prior()
    data = compact(rows, np.ones(len(rows.y)), levels=True)
    flat = replace(prior, deviation=np.array([0.3, 0.5, 0.7]))
    whole = replace(flat, deviation=flat.full_deviation())
    np.testing.assert_allclose(settle(data, flat).weights, settle(data, whole).weights, atol=1e-12)


@pytest.mark.parametrize(("size", "mean", "variance"), [((1, 1, 1), 23 / 30, 1 / 15), ((1, 1, 4), 28 / 33, 4 / 33)])
def test_golden_posterior_of_one_weight(size, mean, variance):
    """theta_0 held at one half: its own variance is nothing, and the labels are what is left of it."""
    x, y = np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 2.0])
    rows = FeatureRows(x[:, None], y - 0.5 * x, np.zeros(3, int), np.zeros(3, int))
    prior = Prior(np.array([1.0]), np.array([1e-12]), noise=1.0, ratio=0.0)
    people = settle(compact(rows, np.array(size, dtype=float), levels=False), prior)
    assert 0.5 + people.weights[0, 0] == pytest.approx(mean, abs=1e-11)
    assert variances(people, np.ones((1, 1)), np.zeros(1, int))[0] == pytest.approx(variance, abs=1e-11)


@pytest.mark.parametrize("levels", [False, True])
def test_gradient_is_that_of_finite_differences(levels):
    rows = small_rows(users=4, size=5)
    data = compact(rows, sizes_of(rows, True), levels=levels)
    parts, prior = list(batches(data)), small_prior(ratio=0.7 if levels else 0.0)
    found, step = expect(data, parts, prior), 1e-5

    def slope(change):
        return (expect(data, parts, change(step)).evidence - expect(data, parts, change(-step)).evidence) / (2 * step)

    for i, j in [(0, 0), (0, 1), (1, 2)]:
        direction = np.zeros((3, 3))
        direction[i, j] = direction[j, i] = 1.0
        by_step = slope(lambda h, d=direction: replace(prior, deviation=prior.deviation + h * d))
        assert by_step == pytest.approx(0.5 * np.sum(found.pull * direction), abs=1e-5)
    flat = replace(prior, deviation=np.array([0.3, 0.5, 0.7]))
    whole = expect(data, parts, replace(flat, deviation=flat.full_deviation()))
    np.testing.assert_allclose(expect(data, parts, flat).pull, np.diag(whole.pull), atol=1e-10)
    rest = 0.5 * (data.labels - found.rows - data.rest / prior.noise) / prior.noise
    level = 0.5 * prior.ratio * found.level_pull
    by_step = slope(lambda h: replace(prior, noise=prior.noise + h))
    assert by_step == pytest.approx(0.5 * found.noise_pull + level - rest, abs=1e-5)
    if levels:
        by_step = slope(lambda h: replace(prior, ratio=prior.ratio + h))
        assert by_step == pytest.approx(0.5 * prior.noise * found.level_pull, abs=1e-5)


def test_scales_are_where_the_posterior_density_is_largest():
    rows = small_rows(users=8, size=6, seed=3)
    data = compact(rows, np.ones(len(rows.y)), levels=True)
    found, centre = learn_scales(data, GROUPS, tolerance=1e-7), first_guess(GROUPS)

    def density(prior):
        pairs = [(prior.deviation, centre.deviation), (prior.shared[:-1], centre.shared[:-1])]
        logs = np.concatenate([np.log(one / other) for one, other in pairs])
        logs = np.append(logs, [np.log(prior.noise / centre.noise), np.log(prior.ratio / centre.ratio)])
        return expect(data, list(batches(data)), prior).evidence - 0.5 * float(logs @ logs)

    best = density(found)
    for factor in (0.9, 1.1):
        for column in range(3):
            scale = np.where(np.arange(3) == column, factor, 1.0)
            assert density(replace(found, deviation=found.deviation * scale)) < best
            if column < 2:
                assert density(replace(found, shared=found.shared * scale)) < best
        assert density(replace(found, noise=found.noise * factor)) < best
        assert density(replace(found, ratio=found.ratio * factor)) < best


@pytest.mark.parametrize("ratio", [0.0, 0.7])
@pytest.mark.parametrize("size", [2, 5])
def test_left_out_errors_are_those_of_refits(ratio, size):
    rows, prior = small_rows(users=2, size=size), small_prior(ratio=ratio)
    sizes = sizes_of(rows, True)
    people = settle(compact(rows, sizes, levels=ratio > 0), prior)
    found = left_out(rows, sizes, people)
    _, personal, noise = brute(rows, prior, sizes)
    whole, rest = personal + noise, rows.y - rows.z @ people.shared
    for row in range(len(rows.y)):
        others = np.arange(len(rows.y)) != row
        weights = np.linalg.solve(whole[np.ix_(others, others)], whole[others, row])
        assert found.error[row] == pytest.approx(rest[row] - weights @ rest[others], abs=1e-8)
        assert found.variance[row] == pytest.approx(whole[row, row] - weights @ whole[others, row], abs=1e-8)


@pytest.mark.parametrize("covariance", ["low_rank", "full"])
def test_learning_climbs(covariance):
    rows = small_rows(users=12, queries=2, size=6, seed=5)
    data = compact(rows, np.ones(len(rows.y)), levels=True)
    parts, learning = list(batches(data)), Learning(GROUPS, covariance, rank=1, shrinkage=0.0)
    prior = first_guess(GROUPS)
    prior, levels = replace(prior, deviation=prior.full_deviation()), []
    for _ in range(15):
        found = expect(data, parts, prior)
        levels.append(found.evidence)
        prior = improve(data, prior, found, learning)
    assert np.all(np.diff(levels) > -0.05)
    assert levels[-1] > levels[0]


def simulation(users=300, size=30, truth=None):
    draw = rng.derive(6, "simulation")
    n = users * size
    z = np.column_stack([draw.normal(size=(n, len(truth) - 1)), np.ones(n)])
    user, query = np.repeat(np.arange(users), size), np.repeat(np.arange(users * 3), size // 3)
    theta = draw.multivariate_normal([0.3, -0.2, 0.1], truth, size=users)
    level = draw.normal(size=users * 3) * np.sqrt(0.5)
    y = np.sum(z * theta[user], axis=1) + level[query] + draw.normal(size=n) * np.sqrt(0.3)
    return FeatureRows(z, y, user, query)


@pytest.mark.parametrize("covariance", ["isotropic", "low_rank", "full"])
def test_learning_finds_the_variances_of_a_simulation(covariance):
    truth = np.array([[0.5, 0.3, 0.0], [0.3, 0.4, 0.0], [0.0, 0.0, 0.2]])
    if covariance == "isotropic":
        truth = np.diag(np.diag(truth))
    rows = simulation(truth=truth)
    data = compact(rows, np.ones(len(rows.y)), levels=True)
    prior = learn(data, Learning(GROUPS, covariance, rank=2, shrinkage=0.0, rounds=100, tolerance=1e-5))
    assert prior.noise == pytest.approx(0.3, rel=0.05)
    assert prior.noise * prior.ratio == pytest.approx(0.5, rel=0.15)
    np.testing.assert_allclose(prior.full_deviation()[:2, :2], truth[:2, :2], atol=0.1)
    np.testing.assert_allclose(settle(data, prior).shared, [0.3, -0.2, 0.1], atol=0.15)


def labels_of(rows, mask, users):
    """FeatureRows of some labels with contiguous codes; users keep their place."""
    query = np.unique(rows.query[mask], return_inverse=True)[1]
    return FeatureRows(rows.z[mask], rows.y[mask], np.searchsorted(users, rows.user[mask]), query)


@pytest.mark.parametrize("ratio", [0.0, 0.7])
def test_absorbed_labels_are_as_if_they_had_been_there(ratio):
    """Users 0 to 2 are known, 1 gives more, 3 is new; later labels come under queries of their own."""
    rows, prior = small_rows(users=4, queries=3, size=4), small_prior(ratio=ratio)
    later = ((rows.user == 1) & (rows.query % 3 == 2)) | (rows.user == 3)
    known, all_users = np.arange(3), np.arange(4)
    first = labels_of(rows, ~later, known)
    people = settle(round_single(compact(first, np.ones(len(first.y)), levels=ratio > 0)), prior)
    before = people.weights.copy()
    second = labels_of(rows, later, np.array([1, 3]))
    extra = compact(second, np.ones(len(second.y)), levels=ratio > 0)
    people = absorb(people, extra, np.array([1, 3]))
    whole = labels_of(rows, np.ones(len(rows.y), bool), all_users)
    expected = settle(compact(whole, np.ones(len(rows.y)), levels=ratio > 0), prior)
    np.testing.assert_allclose(people.shared, expected.shared, atol=1e-5)
    np.testing.assert_allclose(people.shared_covariance, expected.shared_covariance, atol=1e-5)
    np.testing.assert_allclose(people.weights[[1, 3]], expected.weights[[1, 3]], atol=1e-5)
    np.testing.assert_array_equal(people.weights[[0, 2]], before[[0, 2]])
    asked = rng.derive(4, "asked").normal(size=(5, 3))
    for user in (-1, 1, 3):
        codes = np.full(5, user)
        np.testing.assert_allclose(variances(people, asked, codes), variances(expected, asked, codes), atol=1e-5)
    piece = settled_rows(people, np.array([3, 1, 0, 2]))
    np.testing.assert_array_equal(np.diff(piece.ends)[:2], [len(rows_of(people, code).target) for code in (3, 1)])
    moved = settle(piece, prior)
    np.testing.assert_allclose(moved.weights[:2], people.weights[[3, 1]], atol=1e-5)


def test_labels_one_by_one_are_the_labels_together():
    rows, prior = small_rows(users=1, queries=6, size=1), small_prior()
    empty = Compact(np.zeros((0, 3)), np.zeros(0), np.zeros(0), np.zeros(1, int), 0.0, 0, 0.0)
    people = settle(empty, prior)
    for row in range(6):
        mask = np.arange(6) == row
        one = labels_of(rows, mask, np.array([0]))
        people = absorb(people, compact(one, np.ones(1), levels=True), np.array([0]))
    expected = settle(compact(rows, np.ones(6), levels=True), prior)
    np.testing.assert_allclose(people.weights, expected.weights, atol=1e-5)
    np.testing.assert_allclose(people.normal, expected.normal, atol=1e-4)


def test_compact_rows_keep_all_sums_and_are_few():
    rows = small_rows(users=2, queries=2, size=9)
    data = compact(rows, np.ones(36), levels=False)
    assert np.diff(data.ends).tolist() == [3, 3]
    together = join([data, data], np.float64)
    assert (together.labels, len(together.ends)) == (72, 5)
    for user in range(2):
        mine, part = rows.user == user, slice(data.ends[user], data.ends[user + 1])
        np.testing.assert_allclose(data.rows[part].T @ data.rows[part], rows.z[mine].T @ rows.z[mine], atol=1e-10)
        np.testing.assert_allclose(data.rows[part].T @ data.target[part], rows.z[mine].T @ rows.y[mine], atol=1e-10)
    assert float(data.target @ data.target) + data.rest == pytest.approx(float(rows.y @ rows.y))


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
    user = np.zeros(4000, int)
    rows = FeatureRows(columns, np.sqrt(np.exp(columns @ truth) + 0.1) * draw.normal(size=4000), user, user)
    prior = Prior(np.full(3, 1e-9), np.full(3, 1e-9), 1.0, 0.0)
    size = np.ones(4000)
    left = left_out(rows, size, settle(compact(rows, size, levels=False), prior))
    found = fit_head(columns, left, np.full(4000, 0.1), ridge=0.1)
    np.testing.assert_allclose(found, truth, atol=0.12)
