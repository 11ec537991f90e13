"""Minimum Bayes risk among N: against every subset, and at its two ends."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bestfor.diagnostics import Sampling, best_of_n, mbr_curve, place_curve, rule_curve
from bestfor.errors import InputError

few = settings(max_examples=40)


def brute(likeness, utility):
    """Every subset; the member with the largest sum to the others, ties shared."""
    m = len(utility)
    curve = []
    for n in range(1, m + 1):
        earned = []
        for subset in combinations(range(m), n):
            sums = {i: sum(likeness[i][j] for j in subset if j != i) for i in subset}
            best = [i for i in subset if abs(sums[i] - max(sums.values())) < 1e-7]
            earned.append(np.mean([utility[i] for i in best]))
        curve.append(np.mean(earned))
    return np.array(curve)


@st.composite
def pools(draw, symmetric=False):
    """Few-valued matrices, so that sums often tie."""
    m = draw(st.integers(1, 6))
    entries = draw(st.lists(st.integers(-2, 3), min_size=m * m, max_size=m * m))
    matrix = np.array(entries, float).reshape(m, m) / 3
    utility = draw(st.lists(st.integers(-3, 3), min_size=m, max_size=m))
    return (matrix + matrix.T if symmetric else matrix), np.array(utility, float)


@few
@given(pools())
def test_it_equals_every_subset(pool):
    matrix, utility = pool
    found = mbr_curve(matrix, utility, np.arange(1, len(utility) + 1))
    np.testing.assert_allclose(found.utility[0], brute(matrix, utility), atol=1e-11)
    assert found.exact.all()
    assert not found.standard_error.any()


@few
@given(pools(symmetric=True))
def test_one_drawn_is_the_mean_two_alike_are_too_and_all_drawn_are_the_whole_pools_pick(pool):
    matrix, utility = pool
    m = len(utility)
    curve = mbr_curve(matrix, utility, np.arange(1, m + 1)).utility[0]
    np.testing.assert_allclose(curve[: min(2, m)], utility.mean(), atol=1e-12)
    whole = matrix.sum(axis=1) - np.diag(matrix)
    assert curve[-1] == pytest.approx(utility[np.isclose(whole, whole.max())].mean(), abs=1e-12)


def test_it_is_not_best_of_n_with_the_whole_pools_scores():
    """Three alike and mediocre, one pair alike and good: a large pool knows the crowd, a small draw does not."""
    likeness = np.eye(5)
    likeness[np.ix_([0, 1, 2], [0, 1, 2])] = 1.0
    likeness[np.ix_([3, 4], [3, 4])] = 1.0
    utility = np.array([0.0, 0.0, 0.0, 1.0, 1.0])
    n = np.arange(1, 6)
    honest = mbr_curve(likeness, utility, n).utility[0]
    np.testing.assert_allclose(honest, brute(likeness, utility), atol=1e-12)
    scores = likeness.sum(axis=1) - 1
    informed = best_of_n(scores[None], utility[None], np.array([5]), n)[0]
    np.testing.assert_allclose(honest[[0, 4]], informed[[0, 4]])
    # of three, one of the crowd's pairs decides only where it was drawn
    np.testing.assert_allclose(honest[2], 3 / 10)
    np.testing.assert_allclose(informed[1:3], [1 / 10, 0.0])


def test_equal_texts_are_a_majority_vote():
    words = np.array([0, 0, 0, 1, 1, 2])
    utility = np.array([0.2, 0.9, 0.4])[words]
    votes = (words[:, None] == words[None, :]).astype(float)
    assert mbr_curve(votes, utility, [6]).utility[0, 0] == pytest.approx(0.2)


def test_draws_are_seeded_and_say_their_standard_error():
    rng = np.random.default_rng(0)
    likeness, utility = rng.random((60, 14, 14)), rng.standard_normal((60, 14))
    exact = mbr_curve(likeness, utility, [1, 5, 14])
    drawn = mbr_curve(likeness, utility, [1, 5, 14], sampling=Sampling(500, 300, 2))
    assert exact.exact.all()
    assert drawn.exact[0].tolist() == [True, False, True]
    np.testing.assert_array_equal(drawn.utility[:, [0, 2]], exact.utility[:, [0, 2]])
    z = ((drawn.utility - exact.utility) / np.where(drawn.standard_error > 0, drawn.standard_error, 1))[:, 1]
    assert 0.7 < z.std() < 1.3
    again = mbr_curve(likeness, utility, [1, 5, 14], sampling=Sampling(500, 300, 2))
    np.testing.assert_array_equal(drawn.utility, again.utility)


def test_sums_that_differ_by_rounding_alone_tie():
    """0.1 + 0.2 + 0.3 in two orders: equal likeness must not be decided by the last bit."""
    likeness = np.array([[0, 0.1, 0.2, 0.3], [0.3, 0, 0.2, 0.1], [0.2, 0.3, 0, 0.1], [0.3, 0.1, 0.2, 0]])
    utility = np.array([0.0, 1.0, 2.0, 5.0])
    assert mbr_curve(likeness, utility, [4]).utility[0, 0] == pytest.approx(2.0)
    assert mbr_curve(1e-9 * likeness, utility, [4]).utility[0, 0] == pytest.approx(2.0)


def test_ragged_pools_are_cut_and_larger_n_is_nan():
    rng = np.random.default_rng(1)
    size = rng.integers(1, 8, 20)
    utility = rng.standard_normal((20, 7))
    ragged = [rng.random((m, m)) for m in size]
    padded = np.full((20, 7, 7), np.nan)
    for row, matrix in enumerate(ragged):
        padded[row, : size[row], : size[row]] = matrix
    found = mbr_curve(ragged, utility, np.arange(1, 8), size=size)
    np.testing.assert_array_equal(found.utility, mbr_curve(padded, utility, np.arange(1, 8), size=size).utility)
    for row, m in enumerate(size):
        np.testing.assert_allclose(found.utility[row, :m], brute(ragged[row], utility[row, :m]), atol=1e-11)
        assert np.isnan(found.utility[row, m:]).all()


def test_the_diagonal_is_not_looked_at():
    rng = np.random.default_rng(3)
    likeness, utility = rng.random((5, 5)), rng.standard_normal(5)
    other = likeness.copy()
    np.fill_diagonal(other, np.nan)
    np.testing.assert_array_equal(
        mbr_curve(likeness, utility, [2, 3]).utility, mbr_curve(other, utility, [2, 3]).utility
    )


def test_large_pools_are_worked_on_in_blocks(monkeypatch):
    rng = np.random.default_rng(4)
    likeness, utility = rng.random((1, 40, 40)), rng.standard_normal((1, 40))
    whole = mbr_curve(likeness, utility, [3, 20]).utility
    monkeypatch.setattr("bestfor.diagnostics.beyond.mbr.ENTRIES", 1000)
    np.testing.assert_array_equal(mbr_curve(likeness, utility, [3, 20]).utility, whole)


def test_a_rule_may_be_told_what_was_drawn():
    """The first drawn that is there, by its place: what rewards alone say, said of places."""
    rng = np.random.default_rng(5)
    reward, utility = rng.standard_normal((2, 6, 7))
    n = [1, 3, 7]

    def best(row, places):
        return reward[row, places].argmax(axis=1)

    found = place_curve(utility, best, n)
    np.testing.assert_allclose(found.utility, rule_curve(reward, utility, "best", n).utility, atol=1e-12)
    with pytest.raises(InputError, match="a place from 0 to 2"):
        place_curve(utility, lambda row, places: places[:, 0] + 7, [3])


@pytest.mark.parametrize(
    ("likeness", "utility", "message"),
    [
        (np.ones((2, 3, 3)), np.ones((3, 3)), "2 matrices; expected 3"),
        (np.ones((1, 2, 3)), np.ones((1, 3)), r"shape \(2, 3\); expected at least \(3, 3\)"),
        (np.full((1, 3, 3), np.inf), np.ones((1, 3)), "likeness: found a number that is not finite"),
        (np.ones((1, 3, 3)), np.full((1, 3), np.nan), "utility: found a number that is not finite"),
        (np.ones((1, 3, 3)), np.full((1, 3), 1e80), "utility"),
    ],
)
def test_what_does_not_fit_is_told(likeness, utility, message):
    with pytest.raises(InputError, match=message):
        mbr_curve(likeness, utility, [2])
    with pytest.raises(InputError, match="each at least 1"):
        mbr_curve(np.ones((2, 2)), np.ones(2), [0])
