"""The pooled ridge: conformance, scikit-learn and the full normal distribution."""

from typing import ClassVar

import numpy as np
import pytest
from scipy import stats

from bestfor import rng
from bestfor.rewards import Pooled
from bestfor.rewards.linear.pooled import INTERCEPT_VARIANCE, build_sums, posterior, solve_ridge
from bestfor.rewards.rows import FeatureRows
from bestfor.testing.rewards import RewardModelTests
from support import later

linear_model = later("sklearn.linear_model")


class TestPooled(RewardModelTests):
    model = Pooled
    options: ClassVar = {"components": 8}


def rows_of(n=60, p=4, queries=6, seed=0):
    draw = rng.derive(seed, "ridge")
    z = np.column_stack([draw.normal(size=(n, p - 1)), np.ones(n)])
    query = np.sort(draw.integers(queries, size=n))
    query = np.unique(query, return_inverse=True)[1]
    y = z @ draw.normal(size=p) + draw.normal(size=n)
    return FeatureRows(z, y, query, query), draw


def test_weights_are_those_of_scikit_learn():
    rows, _ = rows_of()
    found = posterior(build_sums(rows, np.arange(len(rows.y))), slope=0.25)
    scaled = rows.z.copy()
    scaled[:, -1] *= np.sqrt(INTERCEPT_VARIANCE / 0.25)
    expected = linear_model.Ridge(alpha=1 / 0.25, fit_intercept=False).fit(scaled, rows.y).coef_
    expected[-1] *= np.sqrt(INTERCEPT_VARIANCE / 0.25)
    np.testing.assert_allclose(found.weights, expected, atol=1e-10)


def test_evidence_and_posterior_are_the_full_normal():
    rows, draw = rows_of()
    text = draw.integers(8, size=len(rows.y))
    sums = build_sums(rows, text)
    found = posterior(sums, slope=0.3, query=0.5, text=0.8)
    counted = np.bincount(text, minlength=8)
    queries = [len(set(rows.query[text == code])) for code in range(8)]
    shared = np.array([queries[code] >= 2 for code in text])
    assert counted.min() > 0
    prior = np.diag([0.3] * 3 + [INTERCEPT_VARIANCE])
    whole = rows.z @ prior @ rows.z.T + np.eye(len(rows.y)) + 0.5 * (rows.query[:, None] == rows.query[None, :])
    whole = whole + 0.8 * (text[:, None] == text[None, :]) * shared[:, None] * shared[None, :]
    noise = rows.y @ np.linalg.solve(whole, rows.y) / len(rows.y)
    assert found.noise == pytest.approx(noise)
    expected = stats.multivariate_normal(np.zeros(len(rows.y)), noise * whole).logpdf(rows.y)
    assert found.evidence == pytest.approx(expected, abs=1e-8)
    np.testing.assert_allclose(found.weights, prior @ rows.z.T @ np.linalg.solve(whole, rows.y), atol=1e-9)
    rest = prior - prior @ rows.z.T @ np.linalg.solve(whole, rows.z @ prior)
    np.testing.assert_allclose(found.covariance, noise * rest, atol=1e-7)


def test_estimated_variances_are_near_those_of_bayesian_ridge():
    draw = rng.derive(3, "bayes")
    z = np.column_stack([draw.normal(size=(400, 20)), np.ones(400)])
    y = z[:, :-1] @ draw.normal(size=20) * 0.5 + draw.normal(size=400)
    found = solve_ridge(FeatureRows(z, y, np.arange(400), np.arange(400)), np.arange(400))
    reference = linear_model.BayesianRidge().fit(z[:, :-1], y)
    assert found.noise == pytest.approx(1 / reference.alpha_, rel=0.05)
    assert found.slope == pytest.approx(1 / reference.lambda_, rel=0.25)
    np.testing.assert_allclose(found.weights[:-1], reference.coef_, atol=0.02)
    assert found.query == found.text == 0.0


def test_shared_texts_are_not_counted_as_many_facts():
    draw = rng.derive(4, "texts")
    users, texts = 200, 40
    features = draw.normal(size=(texts, 10))
    quality = features[:, 0] * 0.5 + draw.normal(size=texts)
    user, text = np.repeat(np.arange(users), texts), np.tile(np.arange(texts), users)
    y = quality[text] + draw.normal(size=len(user))
    z = np.column_stack([features[text], np.ones(len(user))])
    found = solve_ridge(FeatureRows(z, y, user, user), text)
    assert found.text == pytest.approx(1.0, rel=0.5)
    assert found.noise == pytest.approx(1.0, rel=0.05)
    # forty texts cannot say much about ten weights, although eight thousand rows seem to
    assert np.sqrt(found.covariance[0, 0]) > 0.05
