import json

import numpy as np
import pytest

from bestfor.diagnostics import (
    Beliefs,
    Reward,
    Settings,
    best_of_n,
    combine_folds,
    diagnose_arrays,
    expected_improvement,
    negative_by_chance,
    normal_growth,
    soft_best_of_n,
    subset_variance,
)
from bestfor.diagnostics.beyond import sample as sampling
from bestfor.diagnostics.beyond.budget import draws_until, shrink
from bestfor.diagnostics.beyond.measure import fixed_grid
from bestfor.diagnostics.words_beyond import Exchange, matters, stopping
from bestfor.types import Estimate


def world(slopes, queries, candidates, seed=0):
    """Users whose utility rises by their own slope with a normal reward; noise of sd 1."""
    rng = np.random.default_rng(seed)
    rows = len(slopes) * queries
    reward = rng.standard_normal((rows, candidates))
    utility = np.repeat(slopes, queries)[:, None] * reward + rng.standard_normal(reward.shape)
    return utility, reward


def told(utility, reward, n, queries=1, **options):
    query = np.repeat(np.arange(len(utility)), utility.shape[1])
    return diagnose_arrays(
        query // queries, query, utility.ravel(), {"x": Reward(reward.ravel())}, Settings(n=n, **options)
    )


@pytest.mark.parametrize(
    ("candidates", "rho", "chance"), [(10, 0.05, 0.442), (16, 0.15, 0.283), (30, 0.1, 0.296), (64, 0.3, 0.008)]
)
def test_negative_correlations_by_chance_golden(candidates, rho, chance):
    assert negative_by_chance(rho, candidates) == pytest.approx(chance, abs=6e-4)


def test_negative_correlations_by_chance_simulated():
    rng = np.random.default_rng(0)
    reward = rng.standard_normal((20000, 16))
    utility = 0.13 * reward + np.sqrt(1 - 0.13**2) * rng.standard_normal(reward.shape)
    both = [one - one.mean(axis=1, keepdims=True) for one in (reward, utility)]
    seen = ((both[0] * both[1]).sum(axis=1) < 0).mean()
    assert negative_by_chance(0.13, 16) == pytest.approx(seen, abs=0.01)
    assert np.isnan(negative_by_chance(float("nan"), 16))
    assert (negative_by_chance(1.0, 16), negative_by_chance(-1.0, 16)) == (0.0, 1.0)


def test_the_noise_of_three_draws_is_what_three_draws_make():
    utility, reward = world(np.full(40, 0.3), 1, 12)
    n = np.array([1, 4, 12])
    found = told(utility, reward, n).models["x"].outlook.three_draw
    rng = np.random.default_rng(1)
    runs = []
    for _ in range(800):
        order = rng.permuted(np.tile(np.arange(12), (3, 40, 1)), axis=2)[:, :, :4]
        chosen = np.take_along_axis(np.broadcast_to(reward, (3, 40, 12)), order, axis=2).argmax(axis=2)
        place = np.take_along_axis(order, chosen[:, :, None], axis=2)
        runs.append(np.take_along_axis(np.broadcast_to(utility, (3, 40, 12)), place, axis=2).mean())
    assert found.sd[1] == pytest.approx(np.std(runs), rel=0.08)
    exact = subset_variance(reward, utility, np.full(40, 12), n).mean(axis=0)
    np.testing.assert_allclose(found.sd, np.sqrt(exact / 40 / 3), atol=1e-8)
    assert found.sd[2] == 0


def test_soft_curves_are_the_exact_ones_where_all_queries_fit():
    utility, reward = world(np.full(30, 0.5), 1, 10)
    n = np.array([1, 3, 10])
    found = told(utility, reward, n).models["x"]
    spread = np.sqrt(reward.var(axis=1, ddof=1).mean())
    for soft, share in zip(found.outlook.soft, (0.25, 0.5, 1.0), strict=True):
        assert soft.queries == 30
        assert soft.temperature == pytest.approx(share * spread)
        exact = soft_best_of_n(reward, utility, np.full(30, 10), n, share * spread).mean(axis=0)
        np.testing.assert_allclose(soft.utility, exact, atol=2e-5)
        np.testing.assert_allclose(soft.difference, exact - found.utility.value, atol=2e-5)
    widths = [soft.difference[-1] for soft in found.outlook.soft]
    assert widths == sorted(widths, reverse=True)


def test_a_linear_reward_reaches_beyond_its_pool():
    utility, reward = world(np.full(500, 0.4), 1, 20)
    found = told(utility, reward, [1, 2, 8, 20]).models["x"]
    reach = found.outlook.extrapolation
    assert (reach.smallest_pool, reach.farthest, reach.trusted_to) == (20, 60, 60)
    assert [step.n for step in reach.steps] == [20, 30, 40, 50, 60]
    last = reach.steps[-1]
    assert last.order_2.low < 0.4 * normal_growth(60) < last.order_2.high
    assert last.order_1 == pytest.approx(0.4 * normal_growth(60), rel=0.08)
    assert last.utility == pytest.approx(utility.mean() + last.order_2.value, abs=1e-12)
    told_so = " ".join(found.findings)
    assert "By extrapolation, not measured, the gain of" in told_so
    assert "at N = 40, a doubling." in told_so
    assert "a ceiling behind the pool" in told_so


def test_a_cliff_is_said_not_to_be_extrapolable():
    utility, reward = world(np.full(500, 0.4), 1, 20)
    reach = told(np.where(reward > 1.6, -2.0, utility), reward, [1, 8, 20]).models["x"].outlook.extrapolation
    assert reach.trusted_to is None
    assert reach.verdict.startswith("not extrapolable: the two predictions")


def test_small_pools_are_not_extrapolated():
    utility, reward = world(np.full(30, 0.4), 1, 5)
    reach = told(utility, reward, [1, 5]).models["x"].outlook.extrapolation
    assert reach.steps == ()
    assert reach.verdict == "not extrapolable: the smallest pool has 5 candidates; 8 are needed"


def test_the_best_fixed_n_is_the_maximum_of_the_exact_curve():
    utility, reward = world(np.full(400, 0.5), 1, 30)
    n = np.arange(1, 31)
    curve = best_of_n(reward, utility, np.full(400, 30), n).mean(axis=0)
    for best in told(utility, reward, [1, 30]).models["x"].outlook.best_fixed_n:
        net = curve - best.cost_per_candidate * n
        assert best.n == n[net.argmax()]
        assert best.net.value == pytest.approx(net.max(), abs=1e-12)
        assert best.at_edge == (best.n == 30)


def test_the_grid_of_fixed_n_is_dense_then_sparse():
    assert fixed_grid(64).tolist() == list(range(1, 65))
    grid = fixed_grid(1000)
    assert grid[-1] == 1000
    assert len(grid) < 130
    assert (np.diff(grid) > 0).all()
    assert (grid[1:] / grid[:-1])[64:].max() < 1.06


def test_shrinking_recovers_normal_means():
    rng = np.random.default_rng(0)
    truth = 1.0 + 0.5 * rng.standard_normal(4000)
    variance = rng.choice([0.1, 1.0], 4000)
    shrunk, trust = shrink(truth + np.sqrt(variance) * rng.standard_normal(4000), variance)
    np.testing.assert_allclose(trust, 0.25 / (0.25 + variance), atol=0.05)
    assert ((shrunk - truth) ** 2).mean() < 0.16


def test_users_that_differ_gain_from_their_own_n_and_others_do_not():
    rng = np.random.default_rng(1)
    utility, reward = world(np.where(rng.random(150) < 0.5, 0.05, 0.8), 6, 24)
    chosen = told(utility, reward, [1, 24], 6).models["x"].outlook.per_user_n
    assert chosen.users == 150
    assert chosen.gain.low > 0
    assert chosen.trust > 0.8
    assert chosen.share.sum() == pytest.approx(1)
    assert chosen.n[0] < 6 < 18 < chosen.n[-1]
    utility, reward = world(np.full(150, 0.4), 6, 24)
    chosen = told(utility, reward, [1, 24], 6).models["x"].outlook.per_user_n
    assert chosen.trust < 0.3
    assert abs(chosen.gain.value) < 0.02


def test_one_query_a_user_says_why_there_is_no_own_n():
    utility, reward = world(np.full(30, 0.4), 1, 12)
    model = told(utility, reward, [1, 12])
    chosen = model.models["x"].outlook.per_user_n
    assert "each user has one query" in chosen.reason
    found = model.to_dict()["models"]["x"]
    assert found["per_user_n"]["gain"] is None
    flat = told(*world(np.full(30, -0.5), 4, 12), [1, 12], 4).models["x"].outlook.per_user_n
    assert "does not rise with the reward" in flat.reason


def test_whole_orders_stop_where_the_rule_stops():
    rewards = np.random.default_rng(2).standard_normal((200, 15))
    beliefs, cost, slope = Beliefs(0.2, 0.5, 1.1), 0.05, 0.7
    rule = expected_improvement(cost, beliefs, slope)
    stops = np.stack([rule(rewards[:, :k]) for k in range(1, 15)] + [np.ones(200, dtype=bool)], axis=1)
    np.testing.assert_array_equal(draws_until(rewards, cost, beliefs, slope), stops.argmax(axis=1) + 1)


def test_stopping_pays_on_normal_rewards_and_not_on_skewed_ones():
    rng = np.random.default_rng(3)
    reward = rng.standard_normal((400, 40))
    normal = told(0.3 * reward, reward, [1, 40]).models["x"]
    assert normal.outlook.stopping.pays
    assert normal.outlook.stopping.verdict.startswith("Stopping early pays")
    reward = -rng.exponential(size=(400, 60))
    skewed = told(0.3 * reward, reward, [1, 60]).models["x"].outlook.stopping
    assert not skewed.pays
    assert skewed.advantage.high < 0
    assert skewed.verdict.endswith("Keep N fixed.")


def test_few_users_cannot_judge_a_rule():
    found = told(*world(np.full(3, 0.4), 1, 12), [1, 12]).models["x"].outlook.stopping
    assert "fewer than four users" in found.reason


def test_more_data_are_counted_in_users_and_queries():
    found = told(*world(np.full(40, 0.3), 3, 12), [1, 12], 3)
    for one in (one for one in found.models["x"].outlook.needed if one.quantity != "alpha"):
        assert one.half_width == 0.05
        assert one.more_users == max(one.users - 40, 0)
        assert one.more_queries == 3 * one.more_users
    captured = next(one for one in found.models["x"].users_needed if one.half_width == 0.05)
    needed = {one.quantity: one for one in found.models["x"].outlook.needed}
    assert needed["captured"].users == captured.users
    assert needed["alpha"].users is None  # everybody's spread is alike
    assert needed["captured"].now > 0.05
    assert needed["captured"].more_users > 0


def test_large_data_are_sampled_by_users_whatever_the_order_of_rows(monkeypatch):
    monkeypatch.setattr(sampling, "MOST_QUERIES", 60)
    utility, reward = world(np.full(30, 0.4), 12, 10)
    query = np.repeat(np.arange(360), 10)
    rewards = {"x": reward.ravel(), "y": -reward.ravel()}
    candidate = np.tile(np.arange(10), 360)
    one = diagnose_arrays(query // 12, query, utility.ravel(), rewards, Settings(n=[1, 10]), candidate=candidate)
    order = np.random.default_rng(0).permutation(len(query))
    shuffled = {name: column[order] for name, column in rewards.items()}
    settings = Settings(n=[1, 10])
    query, utility_, candidate = query[order], utility.ravel()[order], candidate[order]
    two = diagnose_arrays(query // 12, query, utility_, shuffled, settings, candidate=candidate)
    assert (one.pools_used.queries, one.pools_used.of, one.pools_used.users) == (56, 360, 7)
    assert one.to_dict() == two.to_dict()
    full = told(utility, reward, [1, 10], 12).models["x"]
    np.testing.assert_allclose(one.models["x"].outlook.three_draw.sd, full.outlook.three_draw.sd, atol=1e-12)


def test_folds_average_their_outlooks():
    folds = [told(*world(np.full(40, 0.4), 2, 12, seed), [1, 4, 12], 2) for seed in range(3)]
    whole = combine_folds(folds)
    json.dumps(whole.to_dict(), allow_nan=False)
    parts = [fold.models["x"].outlook for fold in folds]
    found = whole.models["x"].outlook
    for place, step in enumerate(found.extrapolation.steps):
        mean = np.mean([part.extrapolation.steps[place].gao.value for part in parts])
        assert step.gao.value == pytest.approx(mean, abs=1e-12)
    np.testing.assert_allclose(
        found.soft[1].difference, np.mean([part.soft[1].difference for part in parts], axis=0), atol=1e-12
    )
    assert found.stopping.drawn == pytest.approx(np.mean([part.stopping.drawn for part in parts]))
    squares = np.mean([part.three_draw.sd**2 for part in parts], axis=0)
    np.testing.assert_allclose(found.three_draw.sd, np.sqrt(squares / 3), atol=1e-12)
    assert whole.pools_used.of == 240


def test_chance_is_named_where_noise_cannot_be_taken_out():
    utility, reward = world(np.full(300, 0.13), 1, 16)
    text = " ".join(told(utility, reward, [1, 8]).models["x"].findings)
    assert "with 16 candidates each" in text
    assert "rho = 0.1" in text
    assert "sample more per query before acting." in text


def test_at_most_six_findings():
    rng = np.random.default_rng(0)
    utility = rng.standard_normal((60, 12))
    reward = np.where(np.arange(60)[:, None] < 20, 0.0, -utility)
    query = np.repeat(np.arange(60), 12)
    utility[-1, 6:] = np.nan
    found = diagnose_arrays(
        query // 4, query, utility.ravel(), {"x": Reward(reward.ravel(), "utility")}, Settings(n=[1, 4, 12])
    )
    assert 3 <= len(found.models["x"].findings) <= 6


def test_a_gain_too_small_to_matter_is_no_reason_to_stop_early():
    small, headroom = Estimate(0.019, 0.01, 0.028), 1.0
    assert not matters(small, headroom)
    given = Exchange(5.6, 6, 0.015, 0.01)
    said = stopping(small, headroom, given)
    assert said.startswith("Stopping early earns 0.019 more, less than 2% of what can be won: it draws 5.6 candidates")
    assert said.endswith("Keep N fixed.")
    assert stopping(small, 0.9, given).startswith("Stopping early pays")
    assert not matters(Estimate(0.1, -0.01, 0.2), 1.0)
    assert not matters(Estimate(0.1), 1.0)


@pytest.mark.parametrize(
    ("drawn", "gained", "said"),
    [
        (24.9, 0.2, "Stopping query by query pays: it gains 0.2 more for 8.9 more candidates (24.9 on average,"),
        (6.0, 0.0, "Stopping early pays: it gains 0 more for 10.0 fewer candidates (6.0 on average,"),
        (4.0, -0.02, "Stopping early pays: it gains 0.02 less for 12.0 fewer candidates (4.0 on average,"),
    ],
)
def test_stopping_names_what_is_gained_and_for_how_many_candidates(drawn, gained, said):
    assert stopping(Estimate(0.1, 0.05, 0.15), 1.0, Exchange(drawn, 16, gained, 0.01)) == (
        f"{said} the best fixed N is 16), and earns 0.1 more than an N that other users chose, the cost of candidates "
        "paid."
    )


@pytest.mark.parametrize(("drawn", "gained"), [(24.9, 0.0), (24.9, 0.05), (12.0, -0.1)])
def test_a_rule_that_the_best_fixed_n_beats_is_not_said_to_pay(drawn, gained):
    said = stopping(Estimate(0.1, 0.05, 0.15), 1.0, Exchange(drawn, 16, gained, 0.01))
    assert " pays" not in said
    assert said.endswith("Keep N fixed.")


def test_what_stopping_gains_is_the_difference_of_the_curves():
    reward = np.random.default_rng(3).standard_normal((400, 40))
    model = told(0.3 * reward, reward, [*range(1, 41)]).models["x"]
    replay = model.outlook.stopping
    gained = replay.utility - model.utility.at(replay.fixed_n).value
    assert f"it gains {abs(gained):.3g} {'more' if gained >= 0 else 'less'} for " in replay.verdict


def test_a_rule_that_draws_more_than_the_fixed_n_is_not_said_to_stop_early():
    for advantage in (
        Estimate(0.1),
        Estimate(0.1, -0.1, 0.3),
        Estimate(-0.1, -0.2, -0.05),
        Estimate(0.01, 0.005, 0.02),
    ):
        assert stopping(advantage, 1.0, Exchange(24.9, 16, 0.0, 0.01)).startswith("Stopping query by query")
        assert stopping(advantage, 1.0, Exchange(12.0, 16, 0.0, 0.01)).startswith("Stopping early")


@pytest.mark.parametrize("unit", [0.001, 1.0, 1000.0])
def test_what_matters_does_not_depend_on_the_unit(unit):
    rng = np.random.default_rng(3)
    reward = rng.standard_normal((400, 40))
    utility = unit * (0.3 * reward + 0.3 * rng.standard_normal(reward.shape))
    found = told(utility, reward, [1, 40]).models["x"]
    assert found.outlook.stopping.pays
    assert any(finding.startswith("Stopping early pays") for finding in found.findings)
