"""The chance that a mean is the highest: closed forms, an independent integrator, counted draws and invariants."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from bestfor.errors import InputError
from bestfor.selection import select
from bestfor.selection.posterior import DRAWS, chances_of_highest
from bestfor.types import RewardEstimate, Scores

few = settings(max_examples=30, deadline=None)
MEANS = st.lists(st.integers(-8, 8).map(lambda value: value / 4), min_size=1, max_size=6)
STDS = st.sampled_from([0.0, 0.05, 0.3, 1.0, 4.0])


def independent(mean, std):
    return chances_of_highest(np.array(mean, float), np.array(std, float))[0]


@pytest.mark.parametrize(("gap", "first", "second"), [(0.5, 1.0, 1.0), (0.2, 1e-4, 0.3), (-1.0, 2.0, 1e-9), (3, 1, 0)])
def test_two_means_are_one_normal_difference(gap, first, second):
    expected = stats.norm.cdf(gap / np.hypot(first, second))
    assert independent([gap, 0.0], [first, second])[0] == pytest.approx(expected, abs=1e-8)


def test_an_independent_integrator_agrees():
    rng = np.random.default_rng(0)
    for count in (3, 8):
        mean, std = rng.normal(size=count), rng.uniform(0.05, 2.0, count)

        def density(x, i, mean=mean, std=std):
            others = np.delete(stats.norm.cdf(x, mean, std), i).prod()
            return stats.norm.pdf(x, mean[i], std[i]) * others

        expected = [
            integrate.quad(density, mean[i] - 9 * std[i], mean[i] + 9 * std[i], args=(i,), limit=400, epsabs=1e-11)[0]
            for i in range(count)
        ]
        np.testing.assert_allclose(independent(mean, std), expected, atol=1e-9)


def test_equal_means_share_and_certain_ones_are_the_best():
    np.testing.assert_allclose(independent([1.0] * 5, [0.3] * 5), 0.2, atol=1e-12)
    assert independent([1, 3, 2, 3], [0.0] * 4).tolist() == [0, 0.5, 0, 0.5]
    # one certain mean against one uncertain: two of the certain kind share what the uncertain one leaves
    np.testing.assert_allclose(independent([0, 0, 1], [0, 0, 1]), [*[stats.norm.cdf(-1) / 2] * 2, stats.norm.cdf(1)])


def test_counted_draws_agree_with_quadrature_within_their_error():
    rng = np.random.default_rng(1)
    mean, std = rng.normal(size=6) / 2, rng.uniform(0.2, 1.0, 6)
    exact, none = chances_of_highest(mean, np.diag(std**2))
    assert none is None
    almost = np.diag(std**2)
    almost[0, 1] = almost[1, 0] = 1e-12
    counted, error = chances_of_highest(mean, almost)
    assert error is not None
    assert error.max() <= 0.5 / np.sqrt(DRAWS)
    assert (np.abs(counted - exact) < 4.5 * error + 1e-4).all()
    again = chances_of_highest(mean, almost)[0]
    np.testing.assert_array_equal(counted, again)


def test_what_all_means_share_changes_nothing_and_equal_texts_share():
    rng = np.random.default_rng(2)
    mean, std = np.array([0.0, 0.3, -0.2]), np.array([0.5, 0.4, 0.9])
    exact = independent(mean, std)
    counted, error = chances_of_highest(mean, np.diag(std**2) + 25.0)
    assert (np.abs(counted - exact) < 4.5 * error).all()
    twice = np.array([0, 1, 1, 2])
    root = rng.normal(size=(3, 3))
    covariance = (root @ root.T)[np.ix_(twice, twice)]
    found, _ = chances_of_highest(mean[twice], covariance)
    assert found[1] == found[2]
    two, none = chances_of_highest(np.array([0.4, 0.0]), np.array([[1.0, 0.9], [0.9, 1.0]]))
    assert none is None
    assert two[0] == pytest.approx(stats.norm.cdf(0.4 / np.sqrt(0.2)))
    same, _ = chances_of_highest(np.array([1.0, 1.0]), np.ones((2, 2)))
    assert same.tolist() == [0.5, 0.5]


@few
@given(MEANS, st.data())
def test_chances_sum_to_one_follow_their_candidates_and_ignore_a_constant(mean, data):
    mean = np.array(mean)
    std = np.array(data.draw(st.lists(STDS, min_size=len(mean), max_size=len(mean))))
    order = np.array(data.draw(st.permutations(range(len(mean)))))
    found = independent(mean, std)
    assert found.sum() == pytest.approx(1.0)
    assert (found >= 0).all()
    np.testing.assert_allclose(independent(mean[order], std[order]), found[order], atol=1e-9)
    np.testing.assert_allclose(independent(mean + 3.0, std), found, atol=1e-7)
    np.testing.assert_allclose(independent(1000 * mean, 1000 * std), found, atol=1e-9)


def test_extreme_spreads_stay_numbers():
    for mean, std in (([0.0, 1.0], [1e-300, 1e-300]), ([1e8, 0.0], [1.0, 1e6]), ([0, 0, 0], [1e-12, 1.0, 1e6])):
        found = independent(mean, std)
        assert np.isfinite(found).all()
        assert found.sum() == pytest.approx(1.0)
    many = independent(np.linspace(0, 1, 300), np.full(300, 0.2))
    assert many.sum() == pytest.approx(1.0)
    assert (np.diff(many) > 0).all()


def test_the_pick_says_how_its_chances_were_found():
    mean, std = np.array([0.0, 0.2, 0.1]), np.array([1.0, 0.5, 0.1])
    exact = select(Scores(mean, std_mean=std), "thompson")
    assert exact.chances_error is None
    np.testing.assert_array_equal(select(RewardEstimate(mean, std_mean=std), "thompson").chances, exact.chances)
    joint = select(Scores(mean, std_mean=std, cov_mean=np.diag(std**2) + 0.01), "thompson")
    assert joint.chances_error is not None
    drawn = select(Scores(mean, std_mean=std), "thompson", rng=np.random.default_rng(0))
    assert drawn.drawn
    assert drawn.chance == drawn.chances[drawn.index]


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        (Scores(np.zeros(2)), "no standard deviations of the means"),
        (Scores(np.zeros(2), std=np.ones(2)), "no standard deviations of the means"),
        (Scores(np.zeros(2), std_mean=np.ones(3)), "shape"),
        (Scores(np.zeros(2), std_mean=np.array([1.0, np.nan])), "negative or not finite"),
        (Scores(np.zeros(2), std_mean=np.array([1.0, -1.0])), "negative or not finite"),
        (Scores(np.zeros(2), cov_mean=np.ones(2)), "shape"),
    ],
)
def test_a_posterior_that_is_none_is_refused(scores, said):
    with pytest.raises(InputError, match=said):
        select(scores, "thompson")
