"""Ridges of each user alone: conformance; weights, evidence and the choice of ratios by brute force."""

from typing import ClassVar

import numpy as np
import pytest
from scipy import stats

from bestfor import rng
from bestfor.rewards import Ridge
from bestfor.rewards.linear.ridge import (
    USER_INTERCEPT_VARIANCE,
    choose_ratios,
    evidence,
    left_out_errors,
    normal_equations,
    solve_users,
    sum_users,
)
from bestfor.rewards.rows import FeatureRows
from bestfor.testing.rewards import RewardModelTests


class TestRidge(RewardModelTests):
    model = Ridge
    options: ClassVar = {"components": 8}


class TestCautious(RewardModelTests):
    model = Ridge
    options: ClassVar = {"components": 8, "abstain": True}


def rows_of(users=4, queries=3, size=5, p=3, seed=0, slope=0.5):
    draw = rng.derive(seed, "users")
    n = users * queries * size
    z = np.column_stack([draw.normal(size=(n, p - 1)), np.ones(n)])
    query = np.repeat(np.arange(users * queries), size)
    user = query // queries
    weights = draw.normal(size=(users, p)) * np.sqrt(slope)
    level = draw.normal(size=users * queries)
    return FeatureRows(z, np.sum(z * weights[user], axis=1) + level[query] + draw.normal(size=n), user, query)


def test_evidence_is_the_full_normal():
    rows = rows_of()
    slope, query = 0.4, 0.8
    prior = np.diag([slope, slope, USER_INTERCEPT_VARIANCE])
    same = rows.user[:, None] == rows.user[None, :]
    whole = rows.z @ prior @ rows.z.T * same + np.eye(len(rows.y)) + query * (rows.query[:, None] == rows.query)
    noise = rows.y @ np.linalg.solve(whole, rows.y) / len(rows.y)
    expected = stats.multivariate_normal(np.zeros(len(rows.y)), noise * whole).logpdf(rows.y)
    assert evidence(sum_users(rows), slope, query) == pytest.approx(expected, abs=1e-8)
    weights = solve_users(sum_users(rows), slope, query)
    mine = rows.user == 2
    part = whole[np.ix_(mine, mine)]
    np.testing.assert_allclose(weights[2], prior @ rows.z[mine].T @ np.linalg.solve(part, rows.y[mine]), atol=1e-10)


@pytest.mark.parametrize("query", [0.0, 0.8])
def test_left_out_errors_are_those_of_the_other_rows(query):
    rows = rows_of(users=2, queries=2, size=3, seed=3)
    found = left_out_errors(rows, sum_users(rows), 0.4, query)
    prior = np.diag([0.4, 0.4, USER_INTERCEPT_VARIANCE])
    for row in range(len(rows.y)):
        others = np.flatnonzero((rows.user == rows.user[row]) & (np.arange(len(rows.y)) != row))
        level = query * (rows.query[:, None] == rows.query[None, others])
        reach = rows.z @ prior @ rows.z[others].T + level
        expected = reach[row] @ np.linalg.solve(reach[others] + np.eye(len(others)), rows.y[others])
        assert found[row] == pytest.approx(rows.y[row] - expected, abs=1e-9)


def test_ratios_are_near_those_of_the_simulation():
    rows = rows_of(users=150, queries=4, size=8, slope=0.5)
    slope, query = choose_ratios(sum_users(rows), None)
    assert slope == pytest.approx(0.5, rel=0.3)
    assert query == pytest.approx(1.0, rel=0.3)
    assert choose_ratios(sum_users(rows), 0.1)[0] == 0.1


def test_one_query_per_user_has_no_query_effect():
    rows = rows_of(queries=1)
    assert choose_ratios(sum_users(rows), None)[1] == 0.0


def test_normal_equations_are_those_of_the_inverse_covariance():
    rows = rows_of(users=2, queries=2, size=3)
    size = rng.derive(1, "size").uniform(0.5, 2, size=len(rows.y))
    found = normal_equations(sum_users(rows, size), 0.6)
    for user in range(2):
        mine = rows.user == user
        z, y, query = rows.z[mine], rows.y[mine], rows.query[mine]
        whole = np.diag(size[mine]) + 0.6 * (query[:, None] == query[None, :])
        inverse = np.linalg.inv(whole)
        np.testing.assert_allclose(found.gram[user], z.T @ inverse @ z, atol=1e-10)
        np.testing.assert_allclose(found.moment[user], z.T @ inverse @ y, atol=1e-10)
        assert found.square[user] == pytest.approx(y @ inverse @ y)
        assert found.log_det[user] == pytest.approx(np.linalg.slogdet(whole)[1])
