"""Rules besides the highest reward, against every subset and every order of ties."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bestfor.diagnostics import Sampling, best_of_n, named_rule, rule_curve, soft_best_of_n
from bestfor.diagnostics.curves.rules import chance_table
from bestfor.errors import InputError
from bestfor.selection import select
from bestfor.types import Scores

few = settings(max_examples=40)
RANKED = {
    "second": lambda n: np.eye(n)[min(1, n - 1)],
    "rank:3": lambda n: np.eye(n)[min(2, n - 1)],
    "top:2": lambda n: np.r_[np.ones(min(2, n)), np.zeros(max(n - 2, 0))] / min(2, n),
    "median": lambda n: (np.eye(n)[(n - 1) // 2] + np.eye(n)[n // 2]) / 2,
    "trimmed:0.25": lambda n: np.r_[np.zeros(n // 4), np.ones(n - 2 * (n // 4)), np.zeros(n // 4)] / (n - 2 * (n // 4)),
    "best": lambda n: np.eye(n)[0],
}


def ranked_brute(reward, utility, chances):
    """Every subset; ties are ordered at random, so ranks of a tied group share their chance."""
    curve = []
    for n in range(1, len(reward) + 1):
        earned = []
        for subset in combinations(range(len(reward)), n):
            order = sorted(subset, key=lambda i: -reward[i])
            chance = chances(n)
            total, k = 0.0, 0
            while k < n:
                group = [i for i in order if reward[i] == reward[order[k]]]
                total += chance[k : k + len(group)].sum() * np.mean([utility[i] for i in group])
                k += len(group)
            earned.append(total)
        curve.append(np.mean(earned))
    return np.array(curve)


def one(reward, utility, rule, **options):
    return rule_curve(np.array(reward, float), np.array(utility, float), rule, np.arange(1, len(reward) + 1), **options)


pools = st.lists(st.tuples(st.integers(0, 3), st.integers(-3, 3)), min_size=1, max_size=7)


@few
@given(pools, st.sampled_from(sorted(RANKED)))
def test_rank_rules_equal_every_subset(rows, name):
    reward, utility = zip(*rows, strict=True)
    found = one(reward, utility, name)
    np.testing.assert_allclose(found.utility[0], ranked_brute(reward, utility, RANKED[name]), atol=1e-11)
    assert found.exact.all()
    assert not found.standard_error.any()


@few
@given(pools, st.integers(0, 3))
def test_a_cap_and_the_first_that_passes_equal_every_order_of_drawing(rows, cap):
    """Drawn one after the other: the first that reaches the cap, else the best (of equal ones at random)."""
    reward, utility = (np.array(one, float) for one in zip(*rows, strict=True))
    expected = []
    for n in range(1, len(reward) + 1):
        earned = []
        for subset in combinations(range(len(reward)), n):
            here = list(subset)
            passing = [i for i in here if reward[i] >= cap]  # each is the first of them with the same chance
            best = [i for i in here if reward[i] == reward[here].max()]
            earned.append(utility[passing or best].mean())
        expected.append(np.mean(earned))
    for name in (f"cap:{cap}", f"first:{cap}"):
        np.testing.assert_allclose(one(reward, utility, name).utility[0], expected, atol=1e-11)


@few
@given(pools, st.sampled_from(sorted(RANKED)))
def test_any_function_of_rewards_is_listed_exactly(rows, name):
    reward, utility = zip(*rows, strict=True)
    found = one(reward, utility, lambda scores: np.tile(RANKED[name](scores.shape[1]), (len(scores), 1)))
    np.testing.assert_allclose(found.utility, one(reward, utility, name).utility, atol=1e-11)
    assert found.exact.all()


def nearest_to_mean(scores):
    return np.abs(scores - scores.mean(axis=1, keepdims=True)).argmin(axis=1)


@few
@given(pools)
def test_a_function_that_no_ranks_express_equals_every_subset(rows):
    reward, utility = (np.array(one, float) for one in zip(*rows, strict=True))
    expected = []
    for n in range(1, len(reward) + 1):
        earned = []
        for subset in combinations(range(len(reward)), n):
            scores = np.sort(reward[list(subset)])[::-1]
            value = scores[nearest_to_mean(scores[None])[0]]
            earned.append(utility[reward == value].mean())  # equal rewards are exchangeable
        expected.append(np.mean(earned))
    np.testing.assert_allclose(one(reward, utility, nearest_to_mean).utility[0], expected, atol=1e-11)


def test_draws_are_seeded_and_say_their_standard_error():
    rng = np.random.default_rng(0)
    reward, utility = rng.standard_normal((2, 40, 24))
    n = [1, 8, 24]
    drawn = rule_curve(reward, utility, lambda scores: np.zeros(len(scores), int), n, sampling=Sampling(500, 400, 3))
    exact = best_of_n(reward, utility, np.full(40, 24), np.array(n))
    assert drawn.exact[0].tolist() == [True, False, True]
    np.testing.assert_allclose(drawn.utility[:, [0, 2]], exact[:, [0, 2]], atol=1e-12)
    assert not drawn.standard_error[:, [0, 2]].any()
    z = (drawn.utility - exact)[:, 1] / drawn.standard_error[:, 1]
    assert 0.6 < z.std() < 1.4
    value, error = drawn.mean()
    assert abs(value[1] - exact[:, 1].mean()) < 4 * error[1]
    assert error[1] == pytest.approx(np.sqrt((drawn.standard_error[:, 1] ** 2).sum()) / 40)
    again = rule_curve(reward, utility, lambda scores: np.zeros(len(scores), int), n, sampling=Sampling(500, 400, 3))
    other = rule_curve(reward, utility, lambda scores: np.zeros(len(scores), int), n, sampling=Sampling(500, 400, 4))
    np.testing.assert_array_equal(drawn.utility, again.utility)
    assert (drawn.utility[:, 1] != other.utility[:, 1]).all()


@few
@given(pools, st.sampled_from(sorted(RANKED)))
def test_an_increasing_map_of_rewards_leaves_rank_rules_and_every_curve_stays_in_its_bounds(rows, name):
    reward, utility = (np.array(one, float) for one in zip(*rows, strict=True))
    found = one(reward, utility, name).utility
    np.testing.assert_allclose(one(np.exp(reward) - 9, utility, name).utility, found, atol=1e-12)
    assert found[0, 0] == pytest.approx(utility.mean(), abs=1e-12)
    assert (found >= utility.min() - 1e-12).all()
    assert (found <= utility.max() + 1e-12).all()


@pytest.mark.parametrize("m", [9, 60, 400])
def test_ranks_of_large_pools_are_scipys_hypergeometric(m):
    n, k = np.array([1, 2, m // 2, m]), 2
    table = chance_table(named_rule(f"rank:{k + 1}"), m, n)
    rank = np.arange(m)
    for column, drawn in enumerate(n.tolist()):
        if drawn > k:
            expected = drawn / m * stats.hypergeom.pmf(k, m - 1, rank, drawn - 1)
            np.testing.assert_allclose(table[:, column], expected, atol=1e-12)
    np.testing.assert_allclose(table.sum(axis=0), 1.0)


def test_ragged_pools_and_larger_n_than_the_pool():
    rng = np.random.default_rng(1)
    size = rng.integers(1, 9, 50)
    reward, utility = rng.integers(0, 4, (50, 8)).astype(float), rng.standard_normal((50, 8))
    n = np.arange(1, 9)
    for rule in ("median", "top:3", nearest_to_mean):
        together = rule_curve(reward, utility, rule, n, size=size)
        for q, m in enumerate(size):
            alone = rule_curve(reward[q, :m], utility[q, :m], rule, n[:m]).utility[0]
            np.testing.assert_allclose(together.utility[q, :m], alone, atol=1e-12)
            assert np.isnan(together.utility[q, m:]).all()
    best = rule_curve(reward, utility, "best", n, size=size).utility
    np.testing.assert_allclose(best, best_of_n(reward, utility, size, n), atol=1e-12)


def test_lower_bounds_take_standard_deviations_and_soft_is_the_integral():
    rng = np.random.default_rng(2)
    mean, utility = rng.standard_normal((2, 5, 9))
    std, n, size = rng.uniform(0.1, 1, (5, 9)), np.arange(1, 10), np.full(5, 9)
    found = rule_curve(mean, utility, "lower:1.5", n, std=std).utility
    np.testing.assert_allclose(found, best_of_n(mean - 1.5 * std, utility, size, n), atol=1e-12)
    with pytest.raises(InputError, match="no standard deviations"):
        rule_curve(mean, utility, "lower:1", n)
    with pytest.raises(InputError, match=r"shape \(5,\)|shape \(1, 9\)"):
        rule_curve(mean, utility, "lower:1", n, std=std[0])
    found = rule_curve(mean, utility, "soft:0.7", n).utility
    np.testing.assert_allclose(found, soft_best_of_n(mean, utility, size, n, 0.7))


@pytest.mark.parametrize(
    "name", ["", "third", "top", "top:0", "top:x", "rank:-1", "cap:nan", "trimmed:0.5", "soft:0", "median:2", "cap:"]
)
def test_unknown_rules_are_named(name):
    with pytest.raises(InputError, match="rule"):
        rule_curve([1.0, 2], [1.0, 2], name, [1])


@pytest.mark.parametrize(
    ("choose", "message"),
    [
        (lambda scores: np.full(len(scores), scores.shape[1]), "a place from 0 to 1"),
        (lambda scores: np.zeros((len(scores), 1)), "a place from 0 to 1"),
        (lambda scores: scores[:, 0], "a place from 0 to 1"),
        (lambda scores: np.ones(scores.shape), "do not sum to 1"),
    ],
)
def test_functions_that_pick_nothing_are_told(choose, message):
    with pytest.raises(InputError, match=message):
        rule_curve([1.0, 2, 3], [1.0, 2, 3], choose, [2])


def test_shapes_that_do_not_fit_are_told():
    with pytest.raises(InputError, match="that of the utility"):
        rule_curve([1.0, 2], [1.0, 2, 3], "best", [1])
    with pytest.raises(InputError, match="each at least 1"):
        rule_curve([1.0, 2], [1.0, 2], "best", [0])


@pytest.mark.parametrize("value", [1e308, -1e308, np.inf, np.nan])
def test_numbers_that_would_overflow_are_refused(value):
    with pytest.raises(InputError, match="utility"):
        rule_curve([1.0, 1, 2], [value, value, 3], "second", [1, 2])
    found = rule_curve([1.0, 2, 1e308], [1.0, 2, 3], "best", [1, 3]).utility[0]
    np.testing.assert_allclose(found, [2, 3])
    with pytest.raises(InputError, match="reward: found a number that is not finite"):
        rule_curve([np.nan, 1, 2], [1.0, 2, 3], "best", [1])
    with pytest.raises(InputError, match="2 sizes from 1 to 2"):
        rule_curve([[1.0, 2], [1.0, 2]], [[1.0, 2], [1.0, 2]], "best", [1], size=[0, 3])


def soft_brute(reward, utility, temperature):
    curve = []
    for n in range(1, len(reward) + 1):
        values = []
        for subset in combinations(range(len(reward)), n):
            chosen = list(subset)
            share = np.exp((reward[chosen] - reward[chosen].max()) / temperature)
            values.append(share @ utility[chosen] / share.sum())
        curve.append(np.mean(values))
    return np.array(curve)


def test_soft_golden():
    found = soft_best_of_n(
        np.array([[3.0, 1, 2, 5, 4]]), np.array([[10.0, 20, 30, 40, 50]]), np.array([5]), np.arange(1, 6), 1.0
    )
    expected = [30, 34.7596295565, 37.5115376037, 38.9261742156, 39.2073864124]
    np.testing.assert_allclose(found[0], expected, atol=1e-9)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 3.0, 100.0])
def test_soft_equals_every_subset_in_ragged_pools(temperature):
    rng = np.random.default_rng(0)
    size = np.array([7, 3, 1, 7])
    reward, utility = rng.standard_normal((2, 4, 7))
    found = soft_best_of_n(reward, utility, size, np.arange(1, 8), temperature)
    for q, m in enumerate(size):
        np.testing.assert_allclose(found[q, :m], soft_brute(reward[q, :m], utility[q, :m], temperature), atol=1e-10)
        assert np.isnan(found[q, m:]).all()


def test_soft_limits_are_best_of_n_and_the_pool_mean():
    rng = np.random.default_rng(1)
    reward = np.stack([rng.permutation(12) for _ in range(5)]).astype(float)
    utility = rng.standard_normal((5, 12))
    size, n = np.full(5, 12), np.array([1, 4, 12])
    cold = soft_best_of_n(reward, utility, size, n, 0.03)
    np.testing.assert_allclose(cold, best_of_n(reward, utility, size, n), atol=1e-10)
    hot = soft_best_of_n(reward, utility, size, n, 1e9)
    np.testing.assert_allclose(hot, np.repeat(utility.mean(axis=1, keepdims=True), 3, axis=1), atol=1e-8)


def test_a_soft_temperature_of_zero_is_refused():
    with pytest.raises(ValueError, match="above 0"):
        soft_best_of_n(np.ones((1, 2)), np.ones((1, 2)), np.array([2]), np.array([1]), 0.0)


def test_rewards_far_apart_are_chosen_among_without_overflow():
    reward = np.array([0.0, -700.0, -2000.0, -2500.0, -2500.3, 1e300])
    utility = np.arange(6.0) ** 2
    for temperature in (1.0, 1e-3, 1e-320):
        found = soft_best_of_n(reward[None], utility[None], np.array([6]), np.arange(1, 7), temperature)[0]
        with np.errstate(over="ignore"):
            expected = soft_brute(reward, utility, temperature)
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_an_epsilon_is_a_mixture_of_the_pool_mean_and_the_best():
    rng = np.random.default_rng(3)
    reward, utility, n = rng.integers(0, 4, 9).astype(float), rng.normal(size=9), np.arange(1, 10)
    best = rule_curve(reward, utility, "best", n).utility
    found = rule_curve(reward, utility, "epsilon:0.3", n).utility
    np.testing.assert_allclose(found, 0.3 * utility.mean() + 0.7 * best, atol=1e-12)


def test_thompsons_curve_is_the_mean_over_every_subset():
    rng = np.random.default_rng(4)
    mean, utility, std = rng.normal(size=(2, 6)), rng.normal(size=(2, 6)), rng.uniform(0.05, 1.5, (2, 6))
    std[0, 2], size = 0.0, np.array([6, 4])
    found = rule_curve(mean, utility, "thompson", np.arange(1, 7), size=size, std=std).utility
    for row, m in enumerate(size):
        for n in range(1, m + 1):
            subsets = [list(one) for one in combinations(range(m), n)]
            expected = np.mean(
                [
                    select(Scores(mean[row, one], std_mean=std[row, one]), "thompson").chances @ utility[row, one]
                    for one in subsets
                ]
            )
            assert found[row, n - 1] == pytest.approx(expected, abs=1e-7)
    assert np.isnan(found[1, 4:]).all()
    certain = rule_curve(mean, utility, "thompson", [1, 3], size=size, std=np.zeros((2, 6))).utility
    np.testing.assert_allclose(certain, rule_curve(mean, utility, "best", [1, 3], size=size).utility, atol=1e-7)
    with pytest.raises(InputError, match="no standard deviations"):
        rule_curve(mean, utility, "thompson", [1])
    with pytest.raises(InputError, match="negative or not finite"):
        rule_curve(mean, utility, "thompson", [1], std=-std)


def test_a_cap_on_length_is_best_of_n_of_its_order():
    rng = np.random.default_rng(5)
    reward, utility, words = rng.normal(size=7), rng.normal(size=7), rng.integers(1, 6, 7)
    said = [" ".join("w" * count) for count in words]
    order = named_rule("length_capped:3").ranked(reward[None], None, words[None])
    found = rule_curve(order, utility, "best", np.arange(1, 8)).utility[0]
    for n in range(1, 8):
        picks = [
            select(reward[list(one)], "length_capped:3", texts=[said[i] for i in one]).chances @ utility[list(one)]
            for one in combinations(range(7), n)
        ]
        assert found[n - 1] == pytest.approx(np.mean(picks))
