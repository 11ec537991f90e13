"""Weights of members: brute force, simulations with known answers, and rows that err together."""

import numpy as np
import pytest

from bestfor import rng
from bestfor.rewards.auto.slopes import learn_slopes
from bestfor.rewards.auto.stack import (
    Scales,
    StackRows,
    StackSums,
    centre,
    cluster_sums,
    posterior_weights,
    stack,
    text_variances,
)


def simulated(texts=60, users=40, junk=1.0, seed=0):
    """Users rate all texts; member 0 sees what is liked, member 1 nothing, member 2 the users' own tastes."""
    draw = rng.derive(seed, "stack")
    user, text = (codes.ravel() for codes in np.meshgrid(np.arange(users), np.arange(texts), indexing="ij"))
    shared, error = draw.normal(size=(2, texts))
    own = draw.normal(size=(users, texts))
    y = shared[text] + 0.7 * error[text] + own[user, text] + draw.normal(size=len(text))
    noise = junk * draw.normal(size=texts)[text]
    x = np.column_stack([shared[text], noise, 0.2 * noise, own[user, text]])
    member, parts = np.array([0, 1, 2, 2]), np.array([False, False, False, True])
    return StackRows(x, y / y.std(), user, text, text, member, parts)


def test_who_knows_gets_the_weight():
    found = stack(simulated())
    assert found.spread > 0
    assert found.sure > 2.33
    assert 0.05 < found.gain < 0.6
    assert found.share.sum() == pytest.approx(1)
    assert found.share[1] < 0.12
    assert found.weight[0] > 3 * found.weight[1]
    assert np.all(found.weight >= 0)


def test_few_texts_leave_equal_weights():
    rows = simulated(texts=6, users=200, seed=3)
    draw = rng.derive(1, "nothing")
    nothing = draw.normal(size=(6, 4))[rows.text]
    found = stack(StackRows(nothing, rows.y, rows.group, rows.text, rows.unit, rows.member, rows.own))
    assert (found.spread, found.gain) == (0, 0)
    np.testing.assert_allclose(found.share, found.share[0])


def test_members_that_know_nothing_get_equal_weights_nearly_always():
    """One in a hundred by chance for each of five spreads, which choose alike."""
    chosen = 0
    for seed in range(60):
        draw = rng.derive(seed, "by chance")
        unit = np.repeat(np.arange(40), 6)
        x, y = draw.normal(size=(240, 3)), draw.normal(size=240)
        rows = StackRows(x, y, unit, np.arange(240), unit, np.arange(3), np.zeros(3, dtype=bool))
        chosen += stack(rows).spread > 0
    assert chosen <= 4


def test_copies_of_a_text_within_a_query_do_not_hide_who_knows():
    """Candidates of a query that are the same text have one utility: they say nothing of noise."""
    draw = rng.derive(0, "copies within")
    unit = np.repeat(np.arange(88), 6)
    text = np.arange(len(unit))
    y, junk = draw.normal(size=(2, len(unit)))
    knows = y + 1.6 * draw.normal(size=len(unit))
    for row in range(0, 13 * 24, 24):
        text[row + 1] = text[row]
        for values in (y, knows, junk):
            values[row + 1] = values[row]
    x = np.column_stack([knows, junk, draw.normal(size=len(unit))])
    found = stack(StackRows(x, y, unit, text, unit, np.arange(3), np.zeros(3, dtype=bool)))
    assert found.text_ratio == 0
    assert found.share[0] > 0.7


def test_levels_of_groups_change_nothing():
    rows = simulated(texts=20, users=10)
    level = rng.derive(0, "level").normal(size=(10, 4))[rows.group]
    moved = StackRows(rows.x + level, rows.y + level[:, 0], rows.group, rows.text, rows.unit, rows.member, rows.own)
    np.testing.assert_allclose(stack(moved).weight, stack(rows).weight, rtol=1e-8)


def test_weights_are_those_of_a_normal_model():
    draw = rng.derive(0, "evidence")
    x, prior, size = draw.normal(size=(12, 3)), np.array([0.5, 0.2, 0.1]), np.array([0.3, 0.2, 0.4])
    y = x @ prior + draw.normal(size=12)
    sums = StackSums(x.T @ x, x.T @ y)
    precision = x.T @ x + np.diag(1 / size**2)
    mean = np.linalg.solve(precision, x.T @ y + prior / size**2)
    np.testing.assert_allclose(posterior_weights(sums, prior, size), mean, atol=1e-10)


def test_copies_of_people_say_no_more_about_texts():
    """A hundred people who err alike on a text are one reason, not a hundred."""
    draw = rng.derive(0, "copies")
    x, y = draw.normal(size=(30, 2)), draw.normal(size=30)
    curvature = []
    for copies in (10, 1000):
        text = np.tile(np.arange(30), copies)
        rows = StackRows(x[text], y[text], text * 0, text, text, np.array([0, 1]), np.zeros(2, dtype=bool))
        ratio, noise = (0.0, 1.0)
        scales = Scales(np.ones(len(text)), ratio, noise)
        curvature.append(np.trace(cluster_sums(x[text], y[text], rows, scales, np.array([0.1, 0.1])).gram))
    assert curvature[1] < 1.5 * curvature[0]


def test_text_effects_are_found_by_moments():
    draw = rng.derive(0, "moments")
    text = np.repeat(np.arange(400), 25)
    error = 0.8 * draw.normal(size=400)[text] + 2.0 * draw.normal(size=len(text))
    ratio, noise = text_variances(error, text, np.ones(len(text)), np.arange(len(text)))
    assert noise == pytest.approx(4.0, rel=0.05)
    assert ratio == pytest.approx(0.16, rel=0.2)
    assert text_variances(error[:50], np.arange(50), np.ones(50), np.arange(50))[0] == 0


def test_centring_takes_means_of_groups_away():
    values, group = np.arange(12.0).reshape(6, 2), np.array([0, 0, 1, 1, 1, 2])
    found = centre(values, group)
    for code in range(3):
        np.testing.assert_allclose(found[group == code].sum(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(found[:2], [[-1, -1], [1, 1]])


@pytest.mark.parametrize("differ", [0.0, 0.9])
def test_users_factors_are_learned_where_users_differ(differ):
    draw = rng.derive(0, "slopes")
    user, unit = (codes.ravel() for codes in np.meshgrid(np.arange(60), np.arange(40), indexing="ij"))
    parts = draw.normal(size=(len(user), 2))
    truth = 1 + differ * draw.normal(size=(60, 2))
    y = np.sum(truth[user] * parts, axis=1) + 0.3 * draw.normal(size=40)[unit] + draw.normal(size=len(user))
    found = learn_slopes(parts, y, (user, unit), 62, 1.0)
    np.testing.assert_array_equal(found.factor[60:], 1)
    if differ == 0:
        np.testing.assert_array_equal(found.factor, 1)
        assert found.spreads == (0, 0)
        return
    assert np.corrcoef(found.factor[:60].ravel(), np.maximum(truth, 0).ravel())[0, 1] > 0.9
    assert np.all(found.factor >= 0)
    assert np.any(found.factor[:, 1] == 0)
