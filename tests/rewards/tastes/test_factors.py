"""Latent tastes by variational Bayes: regressions, an exact Gaussian process, and a simulation."""

from dataclasses import replace

import numpy as np
import pytest

from bestfor.rewards.tastes.factors import fit_tastes, spectral_start, standardise, update_users
from support.votes import priors_of, votes_of


def test_users_get_the_posterior_of_a_regression_on_known_texts():
    votes, (y, user, query, item), texts = votes_of()
    state = replace(
        spectral_start(votes, 2, 0), item=texts, item_variance=np.zeros_like(texts), noise=0.2, level_scale=0.4
    )
    found = update_users(votes, state)
    for code in (0, 5):
        mine = user == code
        h, rest, own = texts[item[mine], 1:], y[mine] - texts[item[mine], 0], query[mine]
        same = own[:, None] == own[None, :]
        inverse = np.linalg.inv(0.2 * np.eye(mine.sum()) + 0.4 * same)
        spread = np.linalg.inv(np.eye(2) + h.T @ inverse @ h)
        np.testing.assert_allclose(found.spread[code], spread, atol=1e-10)
        np.testing.assert_allclose(found.taste[code], spread @ h.T @ inverse @ rest, atol=1e-10)
        # joint of tastes and levels, by brute force
        wide = np.column_stack([h, own[:, None] == np.unique(own)[None, :]]).astype(float)
        precision = wide.T @ wide / 0.2 + np.diag([1.0, 1.0] + [1 / 0.4] * len(np.unique(own)))
        covariance = np.linalg.inv(precision)
        mean = covariance @ wide.T @ rest / 0.2
        np.testing.assert_allclose(found.level[np.unique(own)], mean[2:], atol=1e-10)
        np.testing.assert_allclose(found.level_variance[np.unique(own)], np.diag(covariance)[2:], atol=1e-10)
        np.testing.assert_allclose(found.cross[np.unique(own)], covariance[2:, :2], atol=1e-10)


def test_standardising_changes_no_prediction():
    votes, (_, user, query, item), texts = votes_of()
    state = replace(spectral_start(votes, 2, 0), item=texts, item_variance=np.full(texts.shape, 0.01))
    before = update_users(votes, state)
    after = standardise(votes, before)

    def predictions(state):
        return state.item[item, 0] + np.sum(state.taste[user] * state.item[item, 1:], axis=1) + state.level[query]

    np.testing.assert_allclose(predictions(before), predictions(after), atol=1e-10)
    moment = after.taste.T @ after.taste / len(after.taste) + after.spread.mean(axis=0)
    np.testing.assert_allclose(moment, np.eye(2), atol=1e-4)


def test_without_tastes_the_mean_is_the_exact_gaussian_process():
    votes, (y, _, query, item), _ = votes_of()
    priors = priors_of(9)
    found = fit_tastes(votes, priors, 0, 400, rng=0)
    general = found.scale[0] * priors[0].matrix
    cover = general[np.ix_(item, item)] + found.level_scale * (query[:, None] == query[None, :])
    exact = general[:, item] @ np.linalg.solve(cover + found.noise * np.eye(len(y)), y)
    np.testing.assert_allclose(found.item[:, 0] - found.item[:, 0].mean(), exact - exact.mean(), atol=0.02)


def test_noise_and_tastes_of_a_simulation_are_found():
    votes, (y, user, query, item), _ = votes_of(users=200, items=60)
    found = fit_tastes(votes, priors_of(60), 5, 40, rng=0)
    assert found.noise == pytest.approx(0.09, rel=0.25)
    fitted = found.item[item, 0] + np.sum(found.taste[user] * found.item[item, 1:], axis=1) + found.level[query]
    assert np.corrcoef(fitted, y)[0, 1] > 0.95
    assert found.scale[1:].min() < 0.05 * found.scale[1]
