"""Simulated coverage of 95 % intervals against the truth of the population that users and texts were drawn from."""

from dataclasses import replace

import numpy as np
import pytest

from bestfor.diagnostics.evidence import evidence_of_pools
from bestfor.diagnostics.intervals.clustered import Panel
from bestfor.diagnostics.intervals.means import ONE, POOL, CurveMean, QuantityMean
from bestfor.diagnostics.table.pools import Reward, pools_from_rows


def people(rng, users, texts, sizes, shared):
    """Three-valued votes: a common opinion of each text, personal tastes, noise; a model that errs per text."""
    taste = 0.6 * rng.standard_normal((users, 3))
    axis, error = rng.standard_normal((2, texts, 3))
    common, common_error = rng.standard_normal((2, texts))
    opinion = shared * common + taste @ axis.T + rng.standard_normal((users, texts))
    reward = 0.7 * (shared * (common + common_error) + taste @ (axis + error).T)
    size = rng.integers(sizes[0], sizes[1] + 1, users)
    seen = rng.random((users, texts)).argsort(axis=1).argsort(axis=1) < size[:, None]
    user, text = np.nonzero(seen)
    return user, text, (np.sign(opinion) * (np.abs(opinion) > 0.5))[seen], reward[seen]


def forms(n, model="x"):
    return {CurveMean("pick", n, model): 1.0, POOL: -1.0}, {CurveMean("oracle", n): 1.0, POOL: -1.0}


def coverage(panels, numerator, denominator):
    """Share of intervals that hold the truth: the ratio of the means over all simulations."""
    above, below, intervals = [], [], []
    for panel in panels:
        fold = panel.folds[0]
        above.append(fold.total @ fold.form(numerator))
        below.append(fold.total @ fold.form(denominator))
        intervals.append(panel.interval(numerator, denominator))
    truth = np.sum(above) / np.sum(below)
    given = [one for one in intervals if one.low is not None]
    assert len(given) > 0.99 * len(intervals)
    return np.mean([one.low <= truth <= one.high for one in given])


def simulated(repetitions, texts, n, **world):
    for seed in range(repetitions):
        user, text, utility, reward = people(np.random.default_rng([77, seed]), texts=texts, **world)
        noisy = reward + 0.5 * np.random.default_rng([78, seed]).standard_normal(len(reward))
        rewards = {"x": Reward(reward), "y": Reward(noisy)}
        yield evidence_of_pools(pools_from_rows(user, user, utility, rewards, text=text), n, "user").curves


@pytest.mark.slow
@pytest.mark.parametrize(
    ("users", "texts", "sizes", "shared"),
    [(200, 60, (16, 40), 0.7), (100, 30, (12, 24), 0.7), (300, 200, (16, 40), 0.3), (40, 60, (16, 40), 0.0)],
)
def test_two_way_intervals_cover_where_texts_are_shared(users, texts, sizes, shared):
    n = np.array([1, 2, 8])
    curves = list(simulated(1000, texts, n, users=users, sizes=sizes, shared=shared))
    both = [Panel([one]) for one in curves]
    for drawn in (2, 8):
        assert coverage(both, *forms(drawn)) == pytest.approx(0.95, abs=0.02)
    if shared == 0.7:
        alone = [Panel([replace(one, texts=None)]) for one in curves]
        assert coverage(alone, *forms(8)) < 0.75


@pytest.mark.slow
def test_differences_between_models_cover():
    n = np.array([1, 8])
    panels = [Panel([one]) for one in simulated(1000, 60, n, users=200, sizes=(16, 40), shared=0.7)]
    difference = {CurveMean("pick", 8, "x"): 1.0, CurveMean("pick", 8, "y"): -1.0}
    assert coverage(panels, difference, forms(8)[1]) == pytest.approx(0.95, abs=0.02)


@pytest.mark.slow
def test_the_mean_of_three_folds_covers():
    values, intervals = [], []
    for seed in range(1000):
        rng = np.random.default_rng([79, seed])
        user, text, utility, reward = people(rng, 120, 90, (36, 70), 0.7)
        folds = []
        for fold in range(3):
            here = text % 3 == fold
            pools = pools_from_rows(user[here], user[here], utility[here], {"x": reward[here]}, text=text[here])
            folds.append(evidence_of_pools(pools.with_at_least(4), np.array([1, 4]), "user").curves)
        panel = Panel(folds)
        values.append(panel.value(*forms(4)))
        intervals.append(panel.interval(*forms(4)))
    truth = np.mean(values)
    assert np.mean([one.low <= truth <= one.high for one in intervals]) == pytest.approx(0.95, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("users", [20, 60, 200])
def test_t_and_ratio_intervals_cover_with_users_alone(users):
    rng = np.random.default_rng(users)
    gains, ratios = [], []
    for _ in range(1000):
        skill = rng.beta(2, 2, users).repeat(2)
        spread = rng.gamma(4, 0.25, users).repeat(2)
        utility = spread[:, None] * rng.standard_normal((2 * users, 12))
        noise = spread[:, None] * rng.standard_normal(utility.shape)
        reward = skill[:, None] * utility + np.sqrt(1 - skill[:, None] ** 2) * noise
        query = np.repeat(np.arange(2 * users), 12)
        pools = pools_from_rows(query // 2, query, utility.ravel(), {"x": reward.ravel()})
        panel = Panel([evidence_of_pools(pools, np.array([1, 8]), "user").curves])
        gains.append(panel)
        ratios.append(panel)
    assert coverage(gains, forms(8)[0], {ONE: 1.0}) == pytest.approx(0.95, abs=0.02)
    assert coverage(ratios, *forms(8)) == pytest.approx(0.95, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("users", "queries"), [(60, 1), (60, 4), pytest.param(200, 2, marks=pytest.mark.slow)])
def test_beta_and_rho_intervals_cover(users, queries):
    rng = np.random.default_rng(users + queries)
    panels = []
    for _ in range(1000):
        rho = np.clip(0.2 + 0.15 * rng.standard_normal(users).repeat(queries), -0.9, 0.9)
        utility, noise = rng.standard_normal((2, users * queries, 16))
        reward = rho[:, None] * utility + np.sqrt(1 - rho[:, None] ** 2) * noise
        query = np.repeat(np.arange(users * queries), 16)
        pools = pools_from_rows(query // queries, query, utility.ravel(), {"x": reward.ravel()})
        panels.append(Panel([evidence_of_pools(pools, np.array([1, 2]), "user").quantities]))
    active, negative = {QuantityMean("active", "x"): 1.0}, {QuantityMean("negative", "x"): 1.0}
    truth = np.mean([panel.value(negative, active) for panel in panels])
    shares = [panel.share(negative, active) for panel in panels]
    assert np.mean([one.low <= truth <= one.high for one in shares]) == pytest.approx(0.95, abs=0.02)
    rho = {QuantityMean("plus", "x"): 1.0, QuantityMean("minus", "x"): 1.0}
    assert coverage(panels, rho, active) == pytest.approx(0.95, abs=0.02)
