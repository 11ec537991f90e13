"""Who has collapsed, on either scale, whatever share of the users it is."""

import numpy as np
import pytest

from bestfor.diagnostics import Reward, Settings, diagnose_arrays
from bestfor.diagnostics.folds import combine_folds
from bestfor.diagnostics.quantities.collapse import ALIKE, judge_spreads, separation
from support.cases import case


def people(seed, collapsed, users=30, size=12, noise=1e-4):
    """Users of whom some have rewards that are noise around a constant; the others' correlate with the utility."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), size)
    utility = rng.standard_normal(len(user))
    reward = 0.6 * utility + 0.8 * rng.standard_normal(len(user))
    reward = np.where(user < collapsed, 3 + noise * rng.standard_normal(len(user)), reward)
    return user, utility, reward


def told(user, utility, reward, scale="arbitrary"):
    return diagnose_arrays(user, user, utility, {"x": Reward(reward, scale)}, Settings(n=[1, 2, 8])).models["x"]


@pytest.mark.parametrize("collapsed", [1, 6, 15, 24, 29])
def test_any_share_is_found_on_both_scales(collapsed):
    table = people(collapsed, collapsed)
    own, other = told(*table), told(*table, "utility")
    for model in (own, other):
        assert model.quantities.alpha.value == pytest.approx(collapsed / 30)
        assert model.quantities.alpha_other_scale == pytest.approx(collapsed / 30)
        assert model.per_user.collapsed.tolist() == [True] * collapsed + [False] * (30 - collapsed)
    assert not any("hack" in sentence or "suspects" in sentence for sentence in own.findings)


@pytest.mark.parametrize("collapsed", [0, 30])
def test_spreads_that_are_alike_cannot_be_judged(collapsed):
    table = people(1, collapsed, size=24)
    model = told(*table)
    q = model.quantities
    assert np.isnan(q.alpha.value)
    assert (q.alpha.low, q.alpha.high) == (None, None)
    assert q.reasons["alpha"] == ALIKE
    assert q.alpha_other_scale == collapsed / 30
    assert "alpha_other_scale" not in q.reasons
    turned = told(*table, "utility").quantities
    assert turned.alpha.value == collapsed / 30
    assert turned.reasons["alpha_other_scale"] == ALIKE
    if collapsed:
        assert any(finding.startswith("The reward says nothing") for finding in model.findings)
    assert not any("truly are below" in finding for finding in model.findings)


def test_a_constant_reward_is_a_group_of_its_own():
    user, utility, reward = people(2, 0)
    reward[user < 4] = 7.5
    assert told(user, utility, reward).quantities.alpha.value == pytest.approx(4 / 30)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_rounding_is_constant_too(kind):
    user, utility, reward = people(3, 0)
    step = np.finfo(kind).eps
    rounded = 1 + step * np.random.default_rng(4).integers(0, 2, len(user))
    found = told(user, utility, np.where(user < 4, rounded, reward.astype(np.float32).astype(np.float64)))
    assert found.quantities.alpha.value == pytest.approx(4 / 30)


def test_rewards_far_from_zero_are_not_taken_for_rounding():
    user, utility, reward = people(5, 0)
    assert np.isnan(told(user, utility, np.round(reward * 100) + 1e9).quantities.alpha.value)


def test_a_small_scale_that_gains_is_no_collapse_to_stop_at():
    user, utility, reward = people(6, 0)
    reward = np.where(user < 12, utility * 1e-4, reward)
    model = told(user, utility, reward)
    assert model.quantities.alpha.value == pytest.approx(0.4)
    text = " ".join(model.findings)
    assert "their scale is small, not their sense. Keep picking for them" in text
    assert "one candidate is enough" not in text


def test_a_fold_that_cannot_be_judged_leaves_the_mean_unknown():
    folds = [
        diagnose_arrays(table[0], table[0], table[1], {"x": table[2]}, Settings(n=[1, 2]))
        for table in (people(7, 6), people(8, 0))
    ]
    q = combine_folds(folds).models["x"].quantities
    assert np.isnan(q.alpha.value)
    assert q.reasons["alpha"] == ALIKE
    assert q.alpha_other_scale == pytest.approx(0.1)


def test_the_line_lies_between_the_groups_and_moves_with_the_unit():
    rng = np.random.default_rng(9)
    spread = np.exp(0.3 * rng.standard_normal(50)) * np.where(np.arange(50) < 35, 1e-3, 1.0)
    line = separation(spread)
    assert spread[:35].max() < line < spread[35:].min()
    assert separation(1000 * spread) == pytest.approx(1000 * line)
    for alike in (spread[:35], spread[35:], spread[:1], np.zeros(0), np.geomspace(1e-3, 1, 50)):
        assert np.isnan(separation(alike))


def test_nobody_with_two_candidates_is_not_alike():
    found = judge_spreads(np.zeros(3), np.zeros(3), np.zeros(3), "arbitrary")
    assert not found.judged.any()
    assert not found.unknown


@pytest.mark.parametrize(("name", "alpha"), [("before", 0.8), ("after", 0.2), ("all_collapsed", np.nan)])
def test_the_table_with_collapsed_users(name, alpha):
    t = case("collapse80")
    utility, reward = (np.array(t[key], float) for key in ("utility", name))
    model = diagnose_arrays(t["user"], t["query"], utility, {"x": reward}).models["x"]
    assert model.quantities.alpha.value == pytest.approx(alpha, nan_ok=True)
    assert not any("suspects" in finding for finding in model.findings)


def test_the_table_of_two_scales():
    t = case("ill_05_leakage")
    model = diagnose_arrays(
        t["user"], t["query"], np.array(t["utility"], float), {"x": np.array(t["reward"], float)}
    ).models["x"]
    assert "Keep picking for them" in " ".join(model.findings)
    assert "one candidate is enough" not in " ".join(model.findings)


def test_the_table_of_noise():
    t = case("ill_03_noise")
    model = diagnose_arrays(
        t["user"], t["query"], np.array(t["utility"], float), {"x": np.array(t["reward"], float)}
    ).models["x"]
    assert any(finding.startswith("The reward says nothing") for finding in model.findings)
    assert "label what was picked" not in " ".join(model.findings)
