"""Learned variances: gradients, maxima, and the variances of a simulation."""

from dataclasses import replace

import numpy as np
import pytest

from bestfor import rng
from bestfor.rewards.hierarchical.labels import compress_rows, pad_batches
from bestfor.rewards.hierarchical.users import fit_posteriors
from bestfor.rewards.hierarchical.variances import (
    LearningOptions,
    evaluate,
    learn_scales,
    learn_variances,
    log_normal_variance,
    prior_centre,
    update_variances,
)
from bestfor.rewards.rows import FeatureRows
from support.mixed_model import GROUPS, sizes_of, small_prior, small_rows


@pytest.mark.parametrize("levels", [False, True])
def test_gradient_is_that_of_finite_differences(levels):
    rows = small_rows(users=4, size=5)
    data = compress_rows(rows, sizes_of(rows, True), levels=levels)
    parts, prior = list(pad_batches(data)), small_prior(ratio=0.7 if levels else 0.0)
    found, step = evaluate(data, parts, prior), 1e-5

    def slope(change):
        return (evaluate(data, parts, change(step)).evidence - evaluate(data, parts, change(-step)).evidence) / (
            2 * step
        )

    for i, j in [(0, 0), (0, 1), (1, 2)]:
        direction = np.zeros((3, 3))
        direction[i, j] = direction[j, i] = 1.0
        by_step = slope(lambda h, d=direction: replace(prior, deviation=prior.deviation + h * d))
        assert by_step == pytest.approx(0.5 * np.sum(found.deviation_gradient * direction), abs=1e-5)
    flat = replace(prior, deviation=np.array([0.3, 0.5, 0.7]))
    whole = evaluate(data, parts, replace(flat, deviation=flat.full_deviation()))
    np.testing.assert_allclose(
        evaluate(data, parts, flat).deviation_gradient, np.diag(whole.deviation_gradient), atol=1e-10
    )
    rest = 0.5 * (data.labels - found.rows - data.rest / prior.noise) / prior.noise
    level = 0.5 * prior.ratio * found.level_gradient
    by_step = slope(lambda h: replace(prior, noise=prior.noise + h))
    assert by_step == pytest.approx(0.5 * found.noise_gradient + level - rest, abs=1e-5)
    if levels:
        by_step = slope(lambda h: replace(prior, ratio=prior.ratio + h))
        assert by_step == pytest.approx(0.5 * prior.noise * found.level_gradient, abs=1e-5)


def test_scales_are_where_the_posterior_density_is_largest():
    rows = small_rows(users=8, size=6, seed=3)
    data = compress_rows(rows, np.ones(len(rows.y)), levels=True)
    found, centre = learn_scales(data, GROUPS, tolerance=1e-7), prior_centre(GROUPS)

    def density(prior):
        pairs = [(prior.deviation, centre.deviation), (prior.shared[:-1], centre.shared[:-1])]
        logs = np.concatenate([np.log(one / other) for one, other in pairs])
        logs = np.append(logs, [np.log(prior.noise / centre.noise), np.log(prior.ratio / centre.ratio)])
        return evaluate(data, list(pad_batches(data)), prior).evidence - 0.5 * float(logs @ logs)

    best = density(found)
    for factor in (0.9, 1.1):
        for column in range(3):
            scale = np.where(np.arange(3) == column, factor, 1.0)
            assert density(replace(found, deviation=found.deviation * scale)) < best
            if column < 2:
                assert density(replace(found, shared=found.shared * scale)) < best
        assert density(replace(found, noise=found.noise * factor)) < best
        assert density(replace(found, ratio=found.ratio * factor)) < best


@pytest.mark.parametrize("covariance", ["low_rank", "full"])
def test_learning_climbs(covariance):
    rows = small_rows(users=12, queries=2, size=6, seed=5)
    data = compress_rows(rows, np.ones(len(rows.y)), levels=True)
    parts, learning = list(pad_batches(data)), LearningOptions(GROUPS, covariance, rank=1, shrinkage=0.0)
    prior = prior_centre(GROUPS)
    prior, levels = replace(prior, deviation=prior.full_deviation()), []
    for _ in range(15):
        found = evaluate(data, parts, prior)
        levels.append(found.evidence)
        prior = update_variances(data, prior, found, learning)
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
    data = compress_rows(rows, np.ones(len(rows.y)), levels=True)
    prior = learn_variances(
        data, LearningOptions(GROUPS, covariance, rank=2, shrinkage=0.0, rounds=100, tolerance=1e-5)
    )
    assert prior.noise == pytest.approx(0.3, rel=0.05)
    assert prior.noise * prior.ratio == pytest.approx(0.5, rel=0.15)
    np.testing.assert_allclose(prior.full_deviation()[:2, :2], truth[:2, :2], atol=0.1)
    np.testing.assert_allclose(fit_posteriors(data, prior).shared, [0.3, -0.2, 0.1], atol=0.15)


def test_log_normal_variance_is_the_maximum():
    grid = np.exp(np.linspace(-6, 3, 20001))
    for squares, count, centre in [(3.0, 5, 1.0), (0.0, 4, 0.1), (100.0, 2, 0.01)]:
        value = -count / 2 * np.log(grid) - squares / (2 * grid) - np.log(grid / centre) ** 2 / 2
        best = grid[np.argmax(value)]
        assert log_normal_variance(squares, count, centre) == pytest.approx(best, rel=2e-3)
