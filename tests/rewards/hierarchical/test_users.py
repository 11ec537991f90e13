"""The posterior of users against golden values and a brute-force Gaussian process, and labels that come later."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from bestfor import rng
from bestfor.rewards.hierarchical.labels import CompactRows, compress_rows, pad_batches, round_single
from bestfor.rewards.hierarchical.users import add_labels, all_user_rows, fit_posteriors, user_rows, variances
from bestfor.rewards.hierarchical.variances import Prior, evaluate
from bestfor.rewards.rows import FeatureRows
from support.mixed_model import brute, sizes_of, small_prior, small_rows


@pytest.mark.parametrize("size", [2, 5])
@pytest.mark.parametrize("ratio", [0.0, 0.7])
@pytest.mark.parametrize("weighted", [False, True])
def test_posterior_is_the_gaussian_process(ratio, weighted, size):
    rows, prior = small_rows(size=size), small_prior(ratio=ratio)
    noise_size = sizes_of(rows, weighted)
    common, personal, noise = brute(rows, prior, noise_size)
    whole = common + personal + noise
    data = compress_rows(rows, noise_size, levels=ratio > 0)
    reached = stats.multivariate_normal(np.zeros(len(rows.y)), whole).logpdf(rows.y)
    assert evaluate(data, list(pad_batches(data)), prior).evidence == pytest.approx(reached, abs=1e-8)
    posteriors = fit_posteriors(data, prior)
    for user in range(3):
        mine = np.where(rows.user == user, 1.0, 0.0)
        cross = (np.diag(prior.shared) @ rows.z.T) + prior.deviation @ (rows.z * mine[:, None]).T
        mean = cross @ np.linalg.solve(whole, rows.y)
        covariance = np.diag(prior.shared) + prior.deviation - cross @ np.linalg.solve(whole, cross.T)
        np.testing.assert_allclose(posteriors.weights[user], mean, atol=1e-8)
        asked = rng.derive(4, "asked").normal(size=(5, 3))
        found = variances(posteriors, asked, np.full(5, user))
        np.testing.assert_allclose(found, np.sum(asked @ covariance * asked, axis=1), atol=1e-8)
    shared = np.diag(prior.shared) - np.diag(prior.shared) @ rows.z.T @ np.linalg.solve(
        whole, rows.z @ np.diag(prior.shared)
    )
    stranger = variances(posteriors, asked, np.full(5, -1))
    np.testing.assert_allclose(stranger, np.sum(asked @ (shared + prior.deviation) * asked, axis=1), atol=1e-8)


def test_a_diagonal_covariance_is_the_same_matrix():
    rows, prior = small_rows(), small_prior()
    data = compress_rows(rows, np.ones(len(rows.y)), levels=True)
    flat = replace(prior, deviation=np.array([0.3, 0.5, 0.7]))
    whole = replace(flat, deviation=flat.full_deviation())
    np.testing.assert_allclose(fit_posteriors(data, flat).weights, fit_posteriors(data, whole).weights, atol=1e-12)


@pytest.mark.parametrize(("size", "mean", "variance"), [((1, 1, 1), 23 / 30, 1 / 15), ((1, 1, 4), 28 / 33, 4 / 33)])
def test_golden_posterior_of_one_weight(size, mean, variance):
    """theta_0 held at one half: its own variance is nothing, and the labels are what is left of it."""
    x, y = np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 2.0])
    rows = FeatureRows(x[:, None], y - 0.5 * x, np.zeros(3, int), np.zeros(3, int))
    prior = Prior(np.array([1.0]), np.array([1e-12]), noise=1.0, ratio=0.0)
    posteriors = fit_posteriors(compress_rows(rows, np.array(size, dtype=float), levels=False), prior)
    assert 0.5 + posteriors.weights[0, 0] == pytest.approx(mean, abs=1e-11)
    assert variances(posteriors, np.ones((1, 1)), np.zeros(1, int))[0] == pytest.approx(variance, abs=1e-11)


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
    posteriors = fit_posteriors(round_single(compress_rows(first, np.ones(len(first.y)), levels=ratio > 0)), prior)
    before = posteriors.weights.copy()
    second = labels_of(rows, later, np.array([1, 3]))
    extra = compress_rows(second, np.ones(len(second.y)), levels=ratio > 0)
    posteriors = add_labels(posteriors, extra, np.array([1, 3]))
    whole = labels_of(rows, np.ones(len(rows.y), bool), all_users)
    expected = fit_posteriors(compress_rows(whole, np.ones(len(rows.y)), levels=ratio > 0), prior)
    np.testing.assert_allclose(posteriors.shared, expected.shared, atol=1e-5)
    np.testing.assert_allclose(posteriors.shared_covariance, expected.shared_covariance, atol=1e-5)
    np.testing.assert_allclose(posteriors.weights[[1, 3]], expected.weights[[1, 3]], atol=1e-5)
    np.testing.assert_array_equal(posteriors.weights[[0, 2]], before[[0, 2]])
    asked = rng.derive(4, "asked").normal(size=(5, 3))
    for user in (-1, 1, 3):
        codes = np.full(5, user)
        np.testing.assert_allclose(variances(posteriors, asked, codes), variances(expected, asked, codes), atol=1e-5)
    piece = all_user_rows(posteriors, np.array([3, 1, 0, 2]))
    np.testing.assert_array_equal(np.diff(piece.ends)[:2], [len(user_rows(posteriors, code).target) for code in (3, 1)])
    moved = fit_posteriors(piece, prior)
    np.testing.assert_allclose(moved.weights[:2], posteriors.weights[[3, 1]], atol=1e-5)


def test_labels_one_by_one_are_the_labels_together():
    rows, prior = small_rows(users=1, queries=6, size=1), small_prior()
    empty = CompactRows(np.zeros((0, 3)), np.zeros(0), np.zeros(0), np.zeros(1, int), 0.0, 0, 0.0)
    posteriors = fit_posteriors(empty, prior)
    for row in range(6):
        mask = np.arange(6) == row
        one = labels_of(rows, mask, np.array([0]))
        posteriors = add_labels(posteriors, compress_rows(one, np.ones(1), levels=True), np.array([0]))
    expected = fit_posteriors(compress_rows(rows, np.ones(6), levels=True), prior)
    np.testing.assert_allclose(posteriors.weights, expected.weights, atol=1e-5)
    np.testing.assert_allclose(posteriors.normal, expected.normal, atol=1e-4)
