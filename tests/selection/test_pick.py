"""Picking one candidate: exact chances against brute force, golden values, simulation and invariants."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bestfor as bf
from bestfor.diagnostics import rule_curve
from bestfor.errors import InputError
from bestfor.selection import NAMES, Rule, named_rule, select
from bestfor.types import RewardEstimate

EVERY = (
    *("best", "second", "median", "rank:3", "top:1", "top:3", "trimmed:0.25", "epsilon:0.2"),
    *("cap:1", "first:0.5", "lower:0.7", "soft:0.8", "length_capped:4", "length_capped:9characters", "thompson"),
)
SCORED_ALONE = [name for name in EVERY if name.partition(":")[0] not in ("lower", "length_capped", "thompson")]
SOFT = [30, 34.7596295565, 37.5115376037, 38.9261742156, 39.2073864124]
FEW = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=7)


def estimate(rewards):
    std = np.arange(1.0, len(rewards) + 1)
    return RewardEstimate(np.array(rewards), std=std, std_mean=std / 2)


def texts(count):
    """Texts of 3, 2, 1, 6, 5 ... words."""
    return [" ".join(["word"] * ((2 - place) % 7 + 1)) for place in range(count)]


def mean_over_subsets(reward, utility, n, rule):
    """Expected utility of the pick, over all subsets of n."""
    reward, utility = np.array(reward, dtype=float), np.array(utility, dtype=float)
    subsets = [list(one) for one in combinations(range(len(reward)), n)]
    return np.mean([select(reward[one], rule).chances @ utility[one] for one in subsets])


@pytest.mark.parametrize(
    ("reward", "utility", "rule", "expected"),
    [
        ([3, 1, 2, 5, 4], [10, 20, 30, 40, 50], "best", [30, 36, 40, 42, 40]),
        ([3, 1, 2, 5, 4], [10, 20, 30, 40, 50], "soft:1", SOFT),
        ([1, 1, 2, 2, 3], [0, 6, 3, 9, 4], "best", [22 / 5, 49 / 10, 24 / 5, 22 / 5, 4]),
        ([0, 6, 3, 9, 4], [0, 6, 3, 9, 4], "best", [22 / 5, 13 / 2, 38 / 5, 42 / 5, 9]),
        ([0, 0, 0, 0], [1, 2, 3, 6], "best", [3, 3, 3, 3]),
        ([4, 3, 2, 1], [1, 2, 3, 4], "best", [5 / 2, 5 / 3, 5 / 4, 1]),
    ],
)  # fmt: skip
def test_golden_curves_are_means_over_subsets(reward, utility, rule, expected):
    found = [mean_over_subsets(reward, utility, n, rule) for n in range(1, len(reward) + 1)]
    assert found == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("rule", SCORED_ALONE)
def test_the_diagnosis_integrates_the_same_chances(rule):
    rng = np.random.default_rng(1)
    reward, utility = np.rint(2 * rng.normal(size=7)), rng.normal(size=7)
    curve = rule_curve(reward, utility, rule, np.arange(1, 8)).utility[0]
    found = [mean_over_subsets(reward, utility, n, rule) for n in range(1, 8)]
    assert found == pytest.approx(curve.tolist(), abs=1e-9)


def test_drawn_picks_are_as_frequent_as_their_chances():
    rng = np.random.default_rng(0)
    for rule in ("best", "top:3", "soft:1", "median"):
        scores = [1.0, 3.0, 2.0, 3.0, 0.0, 2.0]
        picks = [select(scores, rule, rng=rng) for _ in range(4000)]
        seen = np.bincount([pick.index for pick in picks], minlength=6) / len(picks)
        expected = picks[0].chances
        assert np.abs(seen - expected).max() < 4.5 * np.sqrt(0.25 / len(picks))
        assert not seen[expected == 0].any()


def test_chances_by_hand():
    assert select([1, 3, 2, 3]).chances.tolist() == [0, 0.5, 0, 0.5]
    assert select([1, 3, 2, 3], "second").chances.tolist() == [0, 0.5, 0, 0.5]
    assert select([1, 3, 2, 3], "rank:3").chances.tolist() == [0, 0, 1, 0]
    assert select([1, 3, 2, 3], "rank:9").chances.tolist() == [1, 0, 0, 0]
    assert select([1, 3, 2, 3], "top:3").chances == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3])
    assert select([1, 3, 2], "median").chances.tolist() == [0, 0, 1]
    assert select([1, 3, 2, 4], "median").chances.tolist() == [0, 0.5, 0.5, 0]
    assert select([1, 3, 2, 4], "cap:2").chances == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3])
    assert select([0, np.log(3)], "soft:1").chances == pytest.approx([0.25, 0.75])
    assert select(RewardEstimate(np.array([1.0, 1.5]), np.array([0.1, 2.0])), "lower:1").chances.tolist() == [1, 0]


def test_the_pick_without_chance_is_the_first_of_the_likeliest():
    pick = bf.select([1, 3, 2, 3])
    assert isinstance(pick, bf.Pick)
    assert (pick.index, pick.expected) == (1, 3.0)
    assert select([0.2, 0.9, 1.0], "first:0.8").index == 1
    assert select([0.5], "soft:0.1").chances.tolist() == [1.0]
    assert select([1.0, 2.0], "top:2").expected == 1.5


@given(FEW, st.sampled_from(EVERY))
def test_chances_sum_to_one_and_what_ties_has_the_same(rewards, rule):
    given_scores = estimate(rewards)
    found = select(given_scores, rule, texts=texts(len(rewards)))
    assert found.chances.sum() == pytest.approx(1.0)
    assert (found.chances >= 0).all()
    assert found.chances[found.index] == found.chances.max()
    assert min(rewards) - 1e-9 <= found.expected <= max(rewards) + 1e-9
    if rule in SCORED_ALONE:
        for reward in set(rewards):
            assert (
                len({chance for chance, one in zip(found.chances.tolist(), rewards, strict=True) if one == reward}) == 1
            )


@given(st.data(), FEW, st.sampled_from(EVERY))
def test_chances_follow_their_candidates(data, rewards, rule):
    order = data.draw(st.permutations(range(len(rewards))))
    whole = estimate(rewards)
    moved = RewardEstimate(whole.mean[order], whole.std[order], whole.std_mean[order])
    said = texts(len(rewards))
    found = select(moved, rule, texts=[said[place] for place in order]).chances
    np.testing.assert_allclose(found, select(whole, rule, texts=said).chances[order], atol=1e-9)


@given(FEW, st.sampled_from([name for name in EVERY if name.partition(":")[0] not in ("cap", "first")]))
def test_a_constant_changes_nothing(rewards, rule):
    whole, said = estimate(rewards), texts(len(rewards))
    moved = RewardEstimate(whole.mean + 8.0, whole.std, whole.std_mean)
    found, before = select(moved, rule, texts=said), select(whole, rule, texts=said)
    np.testing.assert_allclose(found.chances, before.chances, atol=1e-9)
    assert found.index == before.index or before.chances[found.index] == pytest.approx(before.chances.max())


@pytest.mark.parametrize("temperature", ["1", "1e-3", "1e-320", "5e-324", "1e300"])
@pytest.mark.parametrize("rewards", [[0, 705.0, 1400.0], [-1e308, 1e308, 0], [1e-320, 0, 0]])
def test_no_temperature_overflows(rewards, temperature):
    found = select(rewards, f"soft:{temperature}")
    assert np.isfinite(found.chances).all()
    assert found.chances.sum() == pytest.approx(1.0)
    assert np.isfinite(found.expected)
    if temperature == "1e-320":
        assert found.chances.argmax() == np.argmax(rewards)


def test_a_cap_on_the_length_takes_the_best_within_it_else_the_shortest():
    said = ["one two three", "one two", "one", "one two three four"]
    assert select([1, 2, 3, 9], "length_capped:3", texts=said).index == 2
    assert select([4, 2, 3, 9], "length_capped:3", texts=said).chances.tolist() == [1, 0, 0, 0]
    assert select([4, 2, 3, 9], "length_capped:4", texts=said).index == 3
    assert select([4, 2, 3, 9], "length_capped:2characters", texts=said).index == 2
    assert select([4, 2], "length_capped:1", texts=["a b", "c d"]).index == 0
    assert select([2, 2], "length_capped:1", texts=["a b", "c d"]).chances.tolist() == [0.5, 0.5]
    with pytest.raises(InputError, match="no texts"):
        select([1, 2], "length_capped:3")
    with pytest.raises(InputError, match="one for each of the 2 rewards"):
        select([1, 2], "length_capped:3", texts=["a"])


def test_best_logs_chance_one_and_shares_ties():
    assert select([1, 3, 2]).chances.tolist() == [0, 1, 0]
    tied = select([1, 3, 3])
    assert (tied.index, tied.chances.tolist(), tied.chance, tied.drawn) == (1, [0, 0.5, 0.5], 1.0, False)
    drawn = select([1, 3, 3], rng=np.random.default_rng(0))
    assert (drawn.chance, drawn.drawn, drawn.rule) == (0.5, True, "best")
    shown = select([1, 3, 2, 0], "epsilon:0.1")
    np.testing.assert_allclose(shown.chances, [0.025, 0.925, 0.025, 0.025])


def test_what_cannot_be_selected_is_refused():
    for scores, said in (([], "shape"), ([[1.0]], "shape"), ([1.0, np.nan], "candidate 1"), ([np.inf], "candidate 0")):
        with pytest.raises(InputError, match=said):
            select(scores)
    with pytest.raises(InputError, match="candidate 1: found the reward nan"):
        select([1.0, np.nan])
    with pytest.raises(InputError, match="no array of numbers"):
        select(["good", "bad"])
    with pytest.raises(InputError, match="no standard deviations"):
        select([1.0, 2.0], "lower:1")
    for name in (
        "bestest",
        "rank:0",
        "rank:1.5",
        "soft:0",
        "trimmed:0.5",
        "cap:nan",
        "best:1",
        "soft",
        "epsilon:2",
        "length_capped:0",
        "thompson:1",
    ):
        with pytest.raises(InputError, match="rule"):
            select([1.0], name)
    with pytest.raises(InputError, match="sum to 1"):
        select([1.0, 2.0], Rule("half", ranks=lambda n: np.full(n, 0.4)))


def test_every_name_is_a_rule():
    kinds = [one.partition(":")[0] for one in NAMES.replace(" or ", ", ").split(", ")]
    assert sorted(kinds) == sorted({name.partition(":")[0] for name in EVERY})
    assert [named_rule(name).name for name in EVERY if name != "second"] == [name for name in EVERY if name != "second"]
