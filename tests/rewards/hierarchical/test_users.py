"""The posterior of users against golden values and a brute-force Gaussian process, and labels that come later."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from bestfor import rng
from bestfor.rewards.hierarchical.labels import compress_rows, pad_batches, round_single
from bestfor.rewards.hierarchical.users import fit_posteriors, variances
from bestfor.rewards.hierarchical.variances import Prior, evaluate
from bestfor.rewards.posterior import RatedRows, learn, no_preferences
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
def test_further_labels_are_as_if_they_had_been_there(ratio):
    """Users 0 to 2 are known, 1 says more, 3 is new; later labels come under queries of their own."""
    rows, prior = small_rows(users=4, queries=3, size=4), small_prior(ratio=ratio)
    later = ((rows.user == 1) & (rows.query % 3 == 2)) | (rows.user == 3)
    asked = rng.derive(4, "asked").normal(size=(5, 3))
    for user in (1, 3):
        mine = later & (rows.user == user)
        first, whole = (labels_of(rows, kept, np.arange(4)) for kept in (~later, ~later | mine))
        fitted, expected = (
            fit_posteriors(round_single(compress_rows(part, np.ones(len(part.y)), levels=ratio > 0)), prior)
            for part in (first, whole)
        )
        level = prior.ratio * prior.noise
        noise = np.full(int(mine.sum()), prior.noise)
        said = RatedRows(rows.z[mine], rows.y[mine], noise, rows.query[mine], level)
        code = user if user < 3 else -1
        found = learn(fitted.belief(code), said, no_preferences(3))
        np.testing.assert_allclose(found.mean, expected.weights[user], atol=1e-5)
        variance = np.sum((asked @ found.covariance) * asked, axis=1)
        np.testing.assert_allclose(variance, variances(expected, asked, np.full(5, user)), atol=1e-5)
        before = np.sum((asked @ fitted.belief(code).covariance) * asked, axis=1)
        np.testing.assert_allclose(before, variances(fitted, asked, np.full(5, code)), atol=1e-12)
