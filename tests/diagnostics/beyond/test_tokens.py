"""Utility against generated tokens."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bestfor.diagnostics import best_by_tokens
from bestfor.errors import InputError


def test_a_budget_between_two_candidates_is_met_in_the_mean():
    found = best_by_tokens([1, 3, 2, 5], [0.1, 0.5, 0.9, 0.3], [10, 20, 40, 100], [0, 10, 15, 20, 30, 70, 100, 500])
    np.testing.assert_allclose(found.utility[0], [0.1, 0.1, 0.3, 0.5, 0.5, 0.4, 0.3, 0.3])
    np.testing.assert_allclose(found.reward[0], [1, 1, 2, 3, 3, 4, 5, 5])
    np.testing.assert_allclose(found.used[0], [10, 10, 15, 20, 30, 70, 100, 100])


rows = st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 5), st.integers(1, 9)), min_size=1, max_size=8)


@settings(max_examples=40)
@given(rows)
def test_at_each_candidates_own_tokens_it_is_the_best_so_far(candidates):
    reward, utility, tokens = (np.array(one, float) for one in zip(*candidates, strict=True))
    spent = np.cumsum(tokens)
    found = best_by_tokens(reward, utility, spent, spent)
    for k in range(len(reward)):
        best = reward[: k + 1] == reward[: k + 1].max()
        assert found.utility[0, k] == pytest.approx(utility[: k + 1][best].mean(), abs=1e-12)
    assert (np.diff(found.reward[0]) >= 0).all()
    np.testing.assert_allclose(found.used[0], spent)


def test_queries_of_differing_length():
    reward, utility = np.array([[1.0, 2, 9], [3, 1, 2]]), np.array([[1.0, 2, 7], [4, 5, 6]])
    spent = np.array([[2.0, 4, 0], [1, 2, 3]])
    found = best_by_tokens(reward, utility, spent, [3, 50], size=[2, 3])
    np.testing.assert_allclose(found.utility, [[1.5, 2], [4, 4]])
    np.testing.assert_allclose(found.used, [[3, 4], [3, 3]])


@pytest.mark.parametrize(
    ("reward", "spent", "budget", "message"),
    [
        ([1.0], [1.0, 2.0], [1], r"reward: found shape \(1, 1\)"),
        ([1.0, 2.0], [[1.0]], [1], r"spent: found shape \(1, 1\)"),
        ([1.0, 2.0], [2.0, 2.0], [1], "increasing numbers"),
        ([1.0, np.nan], [1.0, 2.0], [1], "reward: found a number that is not finite"),
        ([1.0, 2.0], [1.0, 2.0], [-1], "budget"),
        ([1.0, 2.0], [1.0, 2.0], [np.inf], "budget"),
    ],
)
def test_what_does_not_fit_is_told(reward, spent, budget, message):
    with pytest.raises(InputError, match=message):
        best_by_tokens(reward, [1.0, 2.0], spent, budget)
