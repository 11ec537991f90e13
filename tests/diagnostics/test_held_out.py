"""Figures of held-out answers against brute force and an independent library."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from bestfor.diagnostics.held_out import SURE, HeldOutPart, judge_held_out, judge_shots


def part(users=8, answers=12, *, seed=0, values=(0.0, 1.0), pool=1):
    draw = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), answers)
    chance = draw.uniform(0.05, 0.95, len(user))
    utility = np.where(draw.random(len(user)) < chance, values[1], values[0])
    return HeldOutPart(
        users=tuple(f"u{k}" for k in range(users)),
        user=user,
        query=np.arange(len(user)) // pool,
        utility=utility,
        shots=np.arange(users) * 5,
        base=float(utility.mean()),
        rewards={"good": values[0] + chance * (values[1] - values[0]), "order": chance},
        scales={"good": "utility", "order": "arbitrary"},
    )


def by_user(part, name, figure):
    values = []
    for user in range(len(part.users)):
        rows = part.user == user
        if len(np.unique(part.utility[rows])) == 2:
            values.append(figure(part.utility[rows], part.rewards[name][rows]))
    return np.array(values)


def test_auc_and_log_loss_are_those_of_a_library():
    one = part()
    found = judge_held_out([one])
    aucs = by_user(one, "order", roc_auc_score)
    figure = found.models["order"].figures["auc"]
    assert figure.value == pytest.approx(aucs.mean())
    half = 2.364624 * aucs.std(ddof=1) / np.sqrt(8)  # Student's t of 7 degrees of freedom
    assert (figure.low, figure.high) == pytest.approx((aucs.mean() - half, aucs.mean() + half), rel=1e-5)
    losses = by_user(one, "good", lambda utility, reward: log_loss(utility, reward))
    assert found.models["good"].figures["log_loss"].value == pytest.approx(losses.mean())
    assert found.models["good"].figures["log_loss_gain"].value > 0
    assert np.isnan(found.models["order"].figures["log_loss"].value)
    assert found.outcomes == (0.0, 1.0)


def test_outcomes_on_another_scale_are_the_same():
    one, other = part(), part(values=(-3.0, 5.0))
    mine, theirs = (judge_held_out([each]).models["good"] for each in (one, other))
    for name in ("auc", "log_loss"):
        assert theirs.figures[name].value == pytest.approx(mine.figures[name].value)


def test_folds_are_put_together_by_user():
    whole = part(answers=20)
    first = np.tile(np.arange(20) < 9, 8)
    halves = [
        replace(
            whole,
            user=whole.user[rows],
            query=whole.query[rows],
            utility=whole.utility[rows],
            rewards={name: values[rows] for name, values in whole.rewards.items()},
        )
        for rows in (first, ~first)
    ]
    together, apart = judge_held_out([whole]), judge_held_out(halves)
    for name in ("log_loss", "square", "bias"):
        assert apart.models["good"].figures[name].value == pytest.approx(together.models["good"].figures[name].value)
    assert apart.models["good"].ece == pytest.approx(together.models["good"].ece)
    assert (apart.models["good"].users, apart.models["good"].answers) == (8, 160)


@given(st.data())
def test_pairs_within_prompts_are_counted_one_by_one(data):
    count = data.draw(st.integers(2, 12))
    numbers = st.lists(st.integers(0, 3), min_size=count, max_size=count)
    reward, utility, query = (np.array(data.draw(numbers)) for _ in range(3))
    one = HeldOutPart(
        ("u",), np.zeros(count, np.int64), query, utility.astype(float), np.array([3]), 1.0,
        {"m": reward.astype(float)}, {"m": "arbitrary"},
    )  # fmt: skip
    right = total = 0.0
    for i in range(count):
        for j in range(i):
            if query[i] == query[j] and utility[i] != utility[j]:
                total += 1
                same = (reward[i] - reward[j]) * (utility[i] - utility[j])
                right += 0.5 if same == 0 else float(same > 0)
    figure = judge_held_out([one]).models["m"].figures["accuracy"]
    assert figure.value == pytest.approx(right / total) if total else np.isnan(figure.value)
    assert figure.low is None


def test_shots_part_the_users():
    found = judge_held_out([part()])
    parts = found.by_shots["good"]
    assert {shots: one.users for shots, one in parts.items()} == {(0, 0): 1, (5, 19): 3, (20, 99): 4}
    weighted = sum(one.figures["bias"].value * one.users for one in parts.values()) / 8
    assert weighted == pytest.approx(found.models["good"].figures["bias"].value)


def test_a_reward_that_is_missing_is_left_out_and_certainty_is_bounded():
    one = part(users=5)
    sure = np.where(one.utility > 0, -5.0, 9.0)
    sure[one.user == 0] = np.nan
    found = judge_held_out([replace(one, rewards={"m": sure}, scales={"m": "utility"})])
    assert (found.models["m"].users, found.models["m"].answers) == (4, 48)
    assert found.models["m"].figures["log_loss"].value == pytest.approx(-np.log(SURE))
    assert found.models["m"].figures["auc"].value == 0.0


def test_users_of_one_outcome_and_more_than_two_values_are_told():
    one = part(users=6)
    utility = np.where(one.user == 2, 1.0, one.utility)
    found = judge_held_out([replace(one, utility=utility)])
    assert "good: 1 of 6 users have answers of one outcome only: no AUC" in found.notes
    graded = judge_held_out([replace(one, utility=one.utility + one.user)])
    assert graded.outcomes is None
    assert any(note.startswith("no log-loss") for note in graded.notes)


def test_gains_over_the_first_point_are_paired_by_user():
    none, some = part(seed=1), part(seed=1)
    draw = np.random.default_rng(5)
    none = replace(none, rewards={"order": draw.random(len(none.user))}, scales={"order": "arbitrary"})
    some = replace(some, rewards={"order": some.rewards["order"]}, scales={"order": "arbitrary"})
    points = judge_shots({0: [none], 3: [some]}).models["order"]
    before, after = (by_user(one, "order", roc_auc_score) for one in (none, some))
    assert [point.shots for point in points] == [0, 3]
    assert points[1].found.figures["auc"].value == pytest.approx(after.mean())
    gained = points[1].gained["auc"]
    half = 2.364624 * (after - before).std(ddof=1) / np.sqrt(8)
    assert gained.value == pytest.approx((after - before).mean())
    assert (gained.low, gained.high) == pytest.approx((gained.value - half, gained.value + half), rel=1e-5)
    assert points[0].gained["auc"].value == 0


def test_points_of_several_folds_are_of_all_their_users():
    one, other = part(seed=1), replace(part(seed=2), users=tuple(f"v{k}" for k in range(8)))
    point = judge_shots({0: [one, other]}).models["order"][0].found
    both = np.concatenate([by_user(each, "order", roc_auc_score) for each in (one, other)])
    assert (point.users, point.answers) == (16, 192)
    assert point.figures["auc"].value == pytest.approx(both.mean())
