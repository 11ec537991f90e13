"""Weights that every query has of its own, against a brute-force Gaussian process, refits and a simulation."""

import numpy as np
import pytest
from scipy import stats

from bestfor import rng
from bestfor.rewards.hierarchical.labels import compress_rows, pad_batches
from bestfor.rewards.hierarchical.left_out import left_out_queries, left_out_rows
from bestfor.rewards.hierarchical.query_slopes import query_precisions, slope_variances
from bestfor.rewards.hierarchical.structure import choose_slopes
from bestfor.rewards.hierarchical.users import compress_rows_in_chunks, fit_posteriors, variances
from bestfor.rewards.hierarchical.variances import Prior, evaluate, learn_scales
from bestfor.rewards.posterior import RatedRows, learn, no_preferences
from bestfor.rewards.rows import FeatureRows

SLOPES = 1.3
GROUPS = np.array([0, 0, 1])


def small_rows(users=3, sizes=(4, 1, 3), seed=0):
    """Users with queries of differing sizes, one of a single label."""
    draw, n = rng.derive(seed, "slopes"), users * sum(sizes)
    query = np.repeat(np.arange(users * len(sizes)), np.tile(sizes, users))
    z = np.column_stack([draw.normal(size=(n, 2)), np.ones(n)])
    return FeatureRows(z, draw.normal(size=n), query // len(sizes), query), draw.uniform(0.5, 2, size=n)


def small_prior():
    root = rng.derive(1, "prior").normal(size=(3, 3)) / 2
    return Prior(root @ root.T + 0.2 * np.eye(3), np.array([0.6, 0.3, 2.0]), noise=0.4, ratio=0.7)


def brute(rows, prior, size):
    """Covariance of what is shared, of what is a user's, and of the rest."""
    same_user = rows.user[:, None] == rows.user[None, :]
    same_query = rows.query[:, None] == rows.query[None, :]
    own = rows.z[:, :2] @ rows.z[:, :2].T * SLOPES / 2
    noise = prior.noise * (np.diag(size) + (prior.ratio + own) * same_query)
    return rows.z @ np.diag(prior.shared) @ rows.z.T, rows.z @ prior.deviation @ rows.z.T * same_user, noise


def test_posterior_and_evidence_are_those_of_the_gaussian_process():
    (rows, size), prior = small_rows(), small_prior()
    common, personal, noise = brute(rows, prior, size)
    whole = common + personal + noise
    data = compress_rows(rows, size, levels=True, slopes=SLOPES)
    reached = stats.multivariate_normal(np.zeros(len(rows.y)), whole).logpdf(rows.y)
    assert evaluate(data, list(pad_batches(data)), prior).evidence == pytest.approx(reached, abs=1e-8)
    posteriors, asked = fit_posteriors(data, prior), rng.derive(4, "asked").normal(size=(5, 3))
    for user in range(3):
        mine = np.where(rows.user == user, 1.0, 0.0)
        cross = np.diag(prior.shared) @ rows.z.T + prior.deviation @ (rows.z * mine[:, None]).T
        np.testing.assert_allclose(posteriors.weights[user], cross @ np.linalg.solve(whole, rows.y), atol=1e-8)
        covariance = np.diag(prior.shared) + prior.deviation - cross @ np.linalg.solve(whole, cross.T)
        found = variances(posteriors, asked, np.full(5, user))
        np.testing.assert_allclose(found, np.sum(asked @ covariance * asked, axis=1), atol=1e-8)


def test_nothing_of_their_own_is_the_model_without():
    rows, size = small_rows()
    some, none = compress_rows(rows, size, levels=True, slopes=1e-12), compress_rows(rows, size, levels=True)
    prior = small_prior()
    np.testing.assert_allclose(fit_posteriors(some, prior).weights, fit_posteriors(none, prior).weights, atol=1e-9)
    assert some.log_size == pytest.approx(none.log_size, abs=1e-9)
    np.testing.assert_array_equal(some.ends, none.ends)


def test_left_out_errors_are_those_of_refits():
    (rows, size), prior = small_rows(), small_prior()
    posteriors = fit_posteriors(compress_rows(rows, size, levels=True, slopes=SLOPES), prior)
    labels, queries = left_out_rows(rows, size, posteriors, SLOPES), left_out_queries(rows, size, posteriors, SLOPES)
    _, personal, noise = brute(rows, prior, size)
    whole, rest = personal + noise, rows.y - rows.z @ posteriors.shared
    for row in range(len(rows.y)):
        for found, others in (
            (labels.error, np.arange(len(rows.y)) != row),
            (queries, rows.query != rows.query[row]),
        ):
            weights = np.linalg.solve(whole[np.ix_(others, others)], whole[others, row])
            assert found[row] == pytest.approx(rest[row] - weights @ rest[others], abs=1e-8)
            if found is labels.error:
                expected = whole[row, row] - weights @ whole[others, row]
                assert labels.variance[row] == pytest.approx(expected, abs=1e-8)
    for place, inverse in query_precisions(rows, size, prior.ratio, SLOPES):
        for mine, one in zip(place, inverse, strict=True):
            np.testing.assert_allclose(one @ noise[np.ix_(mine, mine)], 0.4 * np.eye(len(mine)), atol=1e-9)
    np.testing.assert_allclose(slope_variances(rows.z, SLOPES), np.sum(rows.z[:, :2] ** 2, axis=1) * SLOPES / 2)


def test_further_labels_are_as_if_they_had_been_there():
    (rows, size), prior = small_rows(), small_prior()
    for user in range(3):
        later = (rows.query % 3 == 2) & (rows.user == user)
        part, slope = rows.query[~later], prior.noise * SLOPES / 2
        known = FeatureRows(rows.z[~later], rows.y[~later], rows.user[~later], np.unique(part, return_inverse=True)[1])
        compact = compress_rows_in_chunks(known, size[~later], levels=True, slopes=SLOPES, chunk=2)
        noise, level = prior.noise * size[later], prior.ratio * prior.noise
        said = RatedRows(rows.z[later], rows.y[later], noise, rows.query[later], level, slope)
        found = learn(fit_posteriors(compact, prior).belief(user), said, no_preferences(3))
        expected = fit_posteriors(compress_rows(rows, size, levels=True, slopes=SLOPES), prior)
        np.testing.assert_allclose(found.mean, expected.weights[user], atol=1e-5)


@pytest.mark.parametrize("truth", [0.0, 2.0])
def test_what_a_query_alone_asks_for_is_told_from_taste(truth):
    draw = rng.derive(5, "simulation")
    users, queries, labels = 40, 5, 8
    n = users * queries * labels
    query = np.repeat(np.arange(users * queries), labels)
    z = np.column_stack([draw.normal(size=(n, 4)), np.ones(n)])
    own = draw.normal(size=(users * queries, 4)) * np.sqrt(truth * 0.4 / 4)
    y = z[:, 0] + np.sum(z[:, :4] * own[query], axis=1) + np.sqrt(0.4) * draw.normal(size=n)
    rows, groups = FeatureRows(z, y, query // queries, query), np.array([0, 0, 0, 0, 1])
    slopes, prior, notes = choose_slopes(rows, groups)
    assert slopes == (pytest.approx(truth, abs=1) if truth else 0)
    assert len(notes) == (truth > 0)
    # nobody has a taste of their own
    assert prior.deviation[:4].sum() < 0.05
    plain = learn_scales(compress_rows(rows, np.ones(n), levels=True), groups)
    assert plain.deviation[:4].sum() > (3 if truth else 0.9) * prior.deviation[:4].sum()
