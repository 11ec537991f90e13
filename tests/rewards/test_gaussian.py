from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestfor import rng
from bestfor.rewards import Gaussian, Point
from bestfor.rewards.gaussian import beta_nll, fit_log_variance
from bestfor.testing.rewards import LetterEncoder, RewardModelTests, taste_examples


class TestGaussian(RewardModelTests):
    model = Gaussian
    options: ClassVar = {"components": 8}

    def test_equal_variances_give_the_point_model(self):
        examples = taste_examples(users=4, queries=4)
        options = {"components": 8, "encoder": LetterEncoder()}
        point = Point(**options).fit(examples, rng=0).predict(examples)
        gaussian = Gaussian(**options, beta=1.0).fit(examples, rng=0).predict(examples)
        np.testing.assert_allclose(gaussian.mean, point.mean, rtol=1e-6)


def test_golden_loss():
    at = [np.array([value]) for value in (0.0, np.log(4.0), 2.0)]
    plain, half, full = beta_nll(*at), beta_nll(*at, 0.5), beta_nll(*at, 1.0)
    assert plain.value[0] == pytest.approx(1.1931472, abs=1e-7)
    assert plain.by_mean[0] == pytest.approx(-0.5)
    assert plain.by_log_variance[0] == pytest.approx(0.0)
    assert half.value[0] == pytest.approx(2.3862944, abs=1e-7)
    assert half.by_mean[0] == pytest.approx(-1.0)
    assert full.by_mean[0] == pytest.approx(0.0 - 2.0)


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(-3, 3), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_gradients_by_finite_differences(mean, log_variance, utility, beta):
    def value(m, s):
        weight = np.exp(log_variance) ** beta
        return weight * ((m - utility) ** 2 / np.exp(s) + s) / 2

    found = beta_nll(np.array([mean]), np.array([log_variance]), np.array([utility]), beta)
    step = 1e-5
    by_mean = (value(mean + step, log_variance) - value(mean - step, log_variance)) / (2 * step)
    by_log = (value(mean, log_variance + step) - value(mean, log_variance - step)) / (2 * step)
    assert found.by_mean[0] == pytest.approx(by_mean, rel=1e-5, abs=1e-6)
    assert found.by_log_variance[0] == pytest.approx(by_log, rel=1e-5, abs=1e-6)


def test_log_variance_is_found_and_stationary():
    draw = rng.derive(0, "log variance")
    columns = np.column_stack([draw.normal(size=(3000, 2)), np.ones(3000)])
    truth = np.array([0.7, -0.4, 0.3])
    squares = np.exp(columns @ truth) * draw.normal(size=3000) ** 2
    found = np.zeros(3)
    for _ in range(4):
        found = fit_log_variance(columns, squares, found, np.ones(3000), ridge=0.5)
    np.testing.assert_allclose(found, truth, atol=0.12)
    scaled = squares * np.exp(-columns @ found)
    gradient = columns.T @ (1 - scaled) / 2 + np.array([0.5, 0.5, 0.1]) * found
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_noisy_labels_are_told_from_clean_ones():
    draw = rng.derive(1, "noisy")
    examples = taste_examples(users=3, queries=40, candidates=8, seed=1)
    loud = np.array([examples.texts[code].count("a") >= 3 for code in examples.text])
    noisy = examples.utility + np.where(loud, 3.0, 0.0) * draw.normal(size=len(examples))
    model = Gaussian(components=16, variance_components=16, encoder=LetterEncoder(), rounds=10)
    std = model.fit(replace(examples, utility=noisy), rng=0).predict(examples).std
    assert std[loud].mean() > 1.3 * std[~loud].mean()
