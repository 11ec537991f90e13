"""One user's part against the exact posterior and the regression on tastes."""

from dataclasses import replace

import numpy as np
import pytest

from bestfor.rewards.tastes.factors import spectral_start, update_users
from bestfor.rewards.tastes.person import PersonVariances, UserRatings, fit_person
from support.votes import priors_of, votes_of


def known_user(share):
    _, (y, user, query, item), texts = votes_of()
    near = priors_of(9)[0].matrix - np.eye(9)
    labels = UserRatings.build(12, user, item, query, y)
    mine = labels.item[labels.of(5)]
    person = fit_person(labels, 5, texts[mine], near[np.ix_(mine, mine)], PersonVariances(0.3, 0.4, 0.3 * share))
    return person, near, (y[user == 5], query[user == 5], item[user == 5]), texts


def test_own_part_is_the_exact_posterior_of_a_user():
    person, near, (y, query, item), texts = known_user(0.25)
    h, rest = texts[item, 1:], y - texts[item, 0]
    own = 0.075 * near[np.ix_(item, item)]
    whole = h @ h.T + 0.4 * (query[:, None] == query) + own + 0.225 * np.eye(len(y))
    np.testing.assert_allclose(person.taste, h.T @ np.linalg.solve(whole, rest), atol=1e-10)
    np.testing.assert_allclose(person.spread, np.diag(np.eye(2) - h.T @ np.linalg.solve(whole, h)), atol=1e-10)
    every, prior = texts[:, 1:], texts[:, 1:] @ texts[:, 1:].T + 0.075 * near
    reach = every @ h.T + 0.075 * near[:, item]
    mean, variance = person.predict(every, near[:, item], 0.075)
    np.testing.assert_allclose(mean, reach @ np.linalg.solve(whole, rest), atol=1e-10)
    np.testing.assert_allclose(variance, np.diag(prior - reach @ np.linalg.solve(whole, reach.T)), atol=1e-10)
    for row in range(len(y)):
        others = np.arange(len(y)) != row
        cover = whole - 0.225 * np.eye(len(y))
        expected = cover[row, others] @ np.linalg.solve(whole[np.ix_(others, others)], rest[others])
        assert person.left_out[row] == pytest.approx(rest[row] - expected, abs=1e-9)


def test_without_own_part_tastes_are_those_of_the_regression():
    votes, _, texts = votes_of()
    state = replace(
        spectral_start(votes, 2, 0), item=texts, item_variance=np.zeros_like(texts), noise=0.3, level_scale=0.4
    )
    expected, (person, *_) = update_users(votes, state), known_user(0.0)
    np.testing.assert_allclose(person.taste, expected.taste[5], atol=1e-9)
    np.testing.assert_allclose(person.spread, np.diag(expected.spread[5]), atol=1e-9)
    assert not person.own_weights.any()
