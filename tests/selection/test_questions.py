"""Which two to show: worth against brute-force integration, golden values, invariants and refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bestfor.errors import InputError
from bestfor.selection.questions import MOST, answer_noise, pair_to_show, worth_of_pairs
from bestfor.types import Scores

few = settings(max_examples=30, deadline=None)


def posterior(seed, count):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(count, count))
    return rng.normal(size=count), root @ root.T / count


def test_worth_is_the_increase_that_many_draws_of_the_person_show():
    mean, cov = posterior(0, 3)
    noise, pair = 0.7, np.array([[0, 2]])
    rng = np.random.default_rng(1)
    drawn = rng.multivariate_normal(mean, cov, 400_000)
    says_first = drawn[:, 0] - drawn[:, 2] + noise * rng.standard_normal(len(drawn)) > 0
    after = [drawn[says_first].mean(axis=0).max(), drawn[~says_first].mean(axis=0).max()]
    expected = says_first.mean() * after[0] + (~says_first).mean() * after[1] - mean.max()
    assert worth_of_pairs(mean, cov, pair, noise=noise)[0] == pytest.approx(expected, abs=0.005)


def test_golden_one_weight():
    # w ~ N(0, 1), mu = (w, 0), s = 1, a preferred: E[w] = 1 / sqrt(pi); its opposite leaves max(-.564, 0) = 0
    worth = worth_of_pairs(np.zeros(2), np.array([[1.0, 0], [0, 0]]), np.array([[0, 1]]))
    assert worth[0] == pytest.approx(0.5 / np.sqrt(np.pi))


def test_questions_are_valued_by_later_pools():
    # the person's weight moves candidate 2, of a later request, twice as far as the one that can be shown
    root = np.array([1.0, 0.0, 2.0, 0.0])
    cov = np.outer(root, root)
    mean, pairs = np.zeros(4), np.array([[0, 1]])
    here = worth_of_pairs(mean, cov, pairs, pools=[[0, 1]])[0]
    later = worth_of_pairs(mean, cov, pairs, pools=[[2, 3]])[0]
    assert later == pytest.approx(2 * here)
    assert worth_of_pairs(mean, cov, pairs, pools=[[0, 1], [2, 3]])[0] == pytest.approx(1.5 * here)


@few
@given(st.integers(0, 100), st.integers(2, 7))
def test_worth_is_never_negative_and_the_best_pair_is_shown(seed, count):
    mean, cov = posterior(seed, count)
    pairs = np.array([(a, b) for a in range(count) for b in range(count) if a != b])
    worth = worth_of_pairs(mean, cov, pairs)
    assert (worth >= 0).all()
    a, b = pair_to_show(mean, cov)
    assert mean[a] >= mean[b]
    found = dict(zip(map(tuple, pairs.tolist()), worth, strict=True))
    assert found[a, b] == pytest.approx(found[b, a])
    if worth.max() > 1e-9:
        assert found[a, b] == pytest.approx(worth.max())
    np.testing.assert_allclose(worth_of_pairs(mean + 4, cov, pairs), worth, atol=1e-12)


def test_pairs_by_hand():
    mean, std = np.array([1.0, 0.9, 0.5, 0.0]), np.array([0.0, 0.0, 0.8, 0.1])
    assert pair_to_show(mean, std, rule="top-two") == (0, 1)
    assert pair_to_show(mean, std, rule="duel") == (0, 2)
    assert pair_to_show(mean, std) in [(0, 2), (1, 2)]
    assert pair_to_show(mean, std, among=[3, 1]) == (1, 3)
    # nothing can be learned: the duel's pair, not one of rounding
    assert pair_to_show(mean, np.zeros(4)) == pair_to_show(mean, np.zeros(4), rule="duel") == (0, 1)
    seen = {pair_to_show(mean, std, rule="random", rng=np.random.default_rng(seed)) for seed in range(200)}
    assert len(seen) == 12


def test_many_candidates_and_extreme_means():
    mean, cov = posterior(3, MOST + 20)
    a, b = pair_to_show(mean, cov)
    assert a != b
    far = np.array([1e6, 0.0, -1e6])
    assert np.isfinite(worth_of_pairs(far, np.eye(3), np.array([[0, 1], [0, 2], [2, 0]]))).all()
    assert stats.norm.sf(far[0]) == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (dict(mean=[1.0], cov=[1.0]), "at least 2 candidates"),
        (dict(mean=[1.0, 2], cov=np.ones((3, 3))), "shape"),
        (dict(mean=[1.0, np.nan], cov=[1.0, 1]), "not finite"),
        (dict(mean=[1.0, 2], cov=[1.0, 1], rule="toptwo"), "'top-two'"),
        (dict(mean=[1.0, 2], cov=[1.0, 1], noise=0), "noise"),
        (dict(mean=[1.0, 2], cov=[1.0, 1], among=[1]), "1 candidates to show"),
        (dict(mean=[1.0, 2], cov=[1.0, 1], among=[1, 2]), "from 0 to 1"),
        (dict(mean=[1.0, 2], cov=[1.0, 1], rule="random"), "no rng"),
    ],
)
def test_questions_that_cannot_be_asked(given, said):
    with pytest.raises(InputError, match=said):
        pair_to_show(**given)


def test_a_comparison_is_as_noisy_as_two_labels():
    scores = Scores(np.array([0.0, 2.0]), std=np.array([5.0, 13.0]), std_mean=np.array([3.0, 5.0]))
    assert answer_noise(scores) == pytest.approx(np.sqrt(2 * (16 + 144) / 2))
    assert answer_noise(Scores(np.array([0.0, 2.0]))) == 1.0
    assert answer_noise(Scores(np.array([2.0, 2.0]), std=np.ones(2), std_mean=np.ones(2))) == 1.0
