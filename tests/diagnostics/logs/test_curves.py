"""Curves from logs of shown answers: brute force, golden values, full information, another implementation."""

import itertools

import numpy as np
import pytest

from bestfor.diagnostics import best_of_n
from bestfor.diagnostics.logs import log_curve, log_difference, logged_pools
from bestfor.diagnostics.logs.curves import outcome_model, pick_chances
from bestfor.errors import InputError


def chances_by_enumeration(reward, n):
    """Every N-subset, ties sharing."""
    total, count = np.zeros(len(reward)), 0
    for subset in itertools.combinations(range(len(reward)), n):
        best = max(reward[j] for j in subset)
        winners = [j for j in subset if reward[j] == best]
        total[winners] += 1 / len(winners)
        count += 1
    return total / count


def world(queries, size, *, seed=0, logger="uniform"):
    draw = np.random.default_rng(seed)
    reward = draw.standard_normal((queries, size))
    utility = (draw.random((queries, size)) < 1 / (1 + np.exp(0.5 - 0.8 * reward))).astype(float)
    weight = np.ones((queries, size)) if logger == "uniform" else np.exp(reward)
    chance = weight / weight.sum(axis=1, keepdims=True)
    shown = np.array([draw.choice(size, p=row) for row in chance])
    return reward, utility, chance, shown


def pools_of(utility, chance, shown, user=None):
    queries, size = utility.shape
    user = np.arange(queries) if user is None else user
    return logged_pools(user, chance, np.full(queries, size), shown, utility[np.arange(queries), shown])


def noise_squares(reward, utility, chance, shown, u):
    for q, a in enumerate(shown):
        w = chances_by_enumeration(reward[q].tolist(), 3)
        yield (w[a] / chance[q, a] * (utility[q, a] - u[q, a]) / len(shown)) ** 2


def assisted_squares(reward, utility, chance, shown, u):
    """The same in expectation over what could have been shown, by weighted least squares of its own."""
    rows = [(u[q, a], (utility[q, a] - u[q, a]) ** 2, chance[q, a] ** -0.25) for q, a in enumerate(shown)]
    at, squares, root = (np.array(one) for one in zip(*rows, strict=True))
    line = np.polynomial.Polynomial.fit(at, squares, 2, w=root)
    total = 0.0
    for q in range(len(shown)):
        w = chances_by_enumeration(reward[q].tolist(), 3)
        total += sum(w[j] ** 2 / chance[q, j] * max(line(u[q, j]), 0) for j in range(len(w)))
    return total / len(shown) ** 2


class TestPickChances:
    @pytest.mark.parametrize("reward", [[4.0, 3, 2, 1], [1.0, 1, 2, 2, 0], [0.0, 0, 0], [3.0]])
    def test_are_those_of_all_subsets(self, reward):
        n = np.arange(1, len(reward) + 1)
        found = pick_chances(np.array([reward]), np.array([len(reward)]), n)
        for k, one in enumerate(n):
            assert found[k, 0] == pytest.approx(chances_by_enumeration(reward, int(one)))

    def test_pools_of_different_sizes(self):
        reward = np.array([[1.0, 2, 3], [5.0, 4, 99], [2.0, 2, 1]])
        found = pick_chances(reward, np.array([3, 2, 3]), np.array([2, 4]))
        assert found[0, 1].tolist() == [1, 0, 0]
        assert found[0, 0] == pytest.approx(chances_by_enumeration([1, 2, 3], 2))
        assert found[1].sum(axis=1) == pytest.approx(1)


class TestEstimates:
    def test_golden_values(self):
        pools = logged_pools(np.array([0]), np.full((1, 4), 0.25), np.array([4]), np.array([1]), np.array([1.0]))
        curve = log_curve(pools, np.array([[4.0, 3, 2, 1]]), np.array([2]), outcomes=np.full((1, 4), 0.5))
        assert curve.utility["ips"].value[0] == pytest.approx(4 / 3)
        assert curve.utility["dr"].value[0] == pytest.approx(7 / 6)
        assert np.isnan(curve.utility["ips"].low[0])

    @pytest.mark.parametrize("logger", ["uniform", "softmax"])
    def test_are_unbiased_over_all_answers_that_could_have_been_shown(self, logger):
        """The mean over every shown answer, by its chance, is the exact curve: IPS and DR have no bias at all."""
        reward, utility, chance, _ = world(12, 5, logger=logger)
        n = np.array([1, 2, 5])
        size = np.full(12, 5)
        truth = best_of_n(reward, utility, size, n).mean(axis=0)
        guess = np.random.default_rng(9).random((12, 5))
        ips, dr, gain = np.zeros(3), np.zeros(3), np.zeros(3)
        for place in range(5):
            shown = np.full(12, place)
            for q in range(12):
                one = logged_pools(np.zeros(1, int), chance[[q]], size[:1], shown[:1], utility[[q], [place]])
                curve = log_curve(one, reward[[q]], n, outcomes=guess[[q]])
                ips += chance[q, place] * curve.utility["ips"].value / 12
                dr += chance[q, place] * curve.utility["dr"].value / 12
                gain += chance[q, place] * curve.gain["dr"].value / 12
        assert ips == pytest.approx(truth)
        assert dr == pytest.approx(truth)
        assert gain == pytest.approx(truth - utility.mean())

    def test_against_another_implementation(self):
        reward, utility, chance, shown = world(60, 6, logger="softmax")
        pools = pools_of(utility, chance, shown, user=np.arange(60) // 3)
        curve = log_curve(pools, reward, np.array([1, 3]))
        u = outcome_model(pools, reward)
        ips, weights, dr = [], [], []
        for q in range(60):
            w = chances_by_enumeration(reward[q].tolist(), 3)
            x = w[shown[q]] / chance[q, shown[q]]
            ips.append(x * utility[q, shown[q]])
            weights.append(x)
            dr.append(w @ u[q] + x * (utility[q, shown[q]] - u[q, shown[q]]))
        assert curve.utility["ips"].value[1] == pytest.approx(np.mean(ips))
        assert curve.utility["snips"].value[1] == pytest.approx(sum(ips) / sum(weights))
        assert curve.utility["dr"].value[1] == pytest.approx(np.mean(dr))
        assert curve.ess[1] == pytest.approx(sum(weights) ** 2 / sum(x**2 for x in weights))
        by_user = np.array(dr).reshape(20, 3).mean(axis=1)
        squares = assisted_squares(reward, utility, chance, shown, u)
        variance = by_user.var(ddof=1) / 20 + max(squares - sum(noise_squares(reward, utility, chance, shown, u)), 0)
        half = 2.093024 * variance**0.5
        assert curve.utility["dr"].high[1] == pytest.approx(np.mean(dr) + half, rel=1e-5)
        own = np.array(ips).reshape(20, 3).mean(axis=1)
        half = 2.093024 * own.std(ddof=1) / 20**0.5
        assert curve.utility["ips"].high[1] == pytest.approx(np.mean(ips) + half, rel=1e-5)

    def test_a_log_that_missed_the_rare_answers_knows_less_than_its_spread_says(self):
        """All but the rarest answers were well predicted and none of the rare ones was shown."""
        reward = np.tile([3.0, 2, 1, 0], (200, 1))
        chance = np.tile([0.5, 0.3, 0.199, 0.001], (200, 1))
        draw = np.random.default_rng(0)
        utility = (draw.random((200, 4)) < 0.5).astype(float)
        shown = draw.choice(3, p=np.array([0.5, 0.3, 0.2]), size=200)
        pools = pools_of(utility, chance, shown)
        gain = log_curve(pools, reward, np.array([2]), outcomes=np.full((200, 4), 0.5)).gain["dr"]
        c = chances_by_enumeration([3, 2, 1, 0], 2) - 0.25
        rare = (c[3] ** 2 / 0.001 * 0.25) / 200
        seen = 1 - 49 / 200  # .049 answers of 200 logs' worth count as never shown
        assert (gain.high[0] - gain.low[0]) / 2 > 1.96 * (seen * rare) ** 0.5

    def test_candidates_of_next_to_no_chance_are_never_shown(self):
        reward = np.tile([3.0, 2, 1, 0], (200, 1))
        draw = np.random.default_rng(0)
        utility = (draw.random((200, 4)) < 0.5).astype(float)
        curves = []
        for least in (1e-12, 0.0):
            chance = np.tile([least, 0.3, 0.2, 0.5 - least], (200, 1))
            shown = draw.choice([1, 2, 3], p=[0.3, 0.2, 0.5], size=200)
            pools = pools_of(utility, chance, shown)
            assert pools.seldom[:, 0].all()
            assert not pools.seldom[:, 1:].any()
            curves.append(log_curve(pools, reward, np.array([2])))
        assert [one.unsupported[0] for one in curves] == pytest.approx([0.5, 0.5])
        assert curves[0].gain["dr"].high[0] - curves[0].gain["dr"].low[0] < 1

    def test_no_uniform_log_has_any_of_them(self):
        for size in (2, 30):
            assert not pools_of(*world(3, size)[1:]).seldom.any()

    def test_gain_of_one_candidate_is_nothing(self):
        reward, utility, chance, shown = world(40, 4, logger="softmax")
        curve = log_curve(pools_of(utility, chance, shown), reward, np.array([1, 2]))
        for one in curve.gain.values():
            assert one.value[0] == pytest.approx(0, abs=1e-12)

    def test_averaging_over_users(self):
        reward, utility, chance, shown = world(30, 4)
        user = np.repeat([0, 1, 2], [2, 8, 20])
        pools = pools_of(utility, chance, shown, user)
        flat = log_curve(pools, reward, np.array([2]), outcomes=np.zeros((30, 4))).utility["ips"].value[0]
        own = log_curve(pools, reward, np.array([2]), outcomes=np.zeros((30, 4)), averaging="user").utility["ips"]
        w = pick_chances(reward, pools.size, np.array([2]))[0]
        x = w[np.arange(30), shown] / 0.25 * pools.outcome
        assert flat == pytest.approx(x.mean())
        assert own.value[0] == pytest.approx(np.mean([x[user == one].mean() for one in range(3)]))

    def test_intervals_hold_the_truth_about_as_often_as_they_say(self):
        n, held = np.array([4]), 0
        for seed in range(60):
            reward, utility, chance, shown = world(300, 6, seed=seed, logger="softmax")
            gain = log_curve(pools_of(utility, chance, shown), reward, n).gain["dr"]
            chance_of = 1 / (1 + np.exp(0.5 - 0.8 * reward))
            truth = (best_of_n(reward, chance_of, np.full(300, 6), n)[:, 0] - chance_of.mean(axis=1)).mean()
            held += bool(gain.low[0] <= truth <= gain.high[0])
        assert held >= 51

    def test_a_modelled_chance_of_answering_corrects_for_silence(self):
        reward, utility, chance, shown = world(40000, 4)
        seen = utility[np.arange(40000), shown]
        answers = np.where(seen > 0, 0.9, 0.3)
        kept = np.random.default_rng(1).random(40000) < answers
        pools = logged_pools(
            np.arange(kept.sum()), chance[kept], np.full(kept.sum(), 4), shown[kept], seen[kept], answers[kept]
        )
        w = pick_chances(reward[kept], pools.size, np.array([4]))[0]
        x = w[np.arange(len(pools)), pools.shown] / pools.propensity
        truth = best_of_n(reward, utility, np.full(40000, 4), np.array([4])).mean()
        assert (x * pools.outcome).sum() / 40000 == pytest.approx(truth, abs=0.02)


class TestDifference:
    def test_is_the_difference_of_the_two(self):
        reward, utility, chance, shown = world(200, 5)
        pools = pools_of(utility, chance, shown)
        other = -reward
        found = log_difference(pools, ("one", "two"), (reward, other), 3)
        one, two = (log_curve(pools, each, np.array([3])).utility["dr"].value[0] for each in (reward, other))
        assert found.difference.value == pytest.approx(one - two)
        assert found.difference.low > 0


class TestRefusals:
    def test_a_logger_that_took_the_best(self):
        chance = np.eye(4)[np.zeros(10, int)]
        with pytest.raises(InputError, match="the logger took the best"):
            logged_pools(np.arange(10), chance, np.full(10, 4), np.zeros(10, int), np.ones(10))

    def test_chances_that_do_not_sum_to_one(self):
        with pytest.raises(InputError, match=r"sum to 0\.8 in 3 of 3 pools"):
            logged_pools(np.arange(3), np.full((3, 4), 0.2), np.full(3, 4), np.zeros(3, int), np.ones(3))

    def test_a_shown_answer_of_chance_nothing(self):
        chance = np.array([[0.5, 0.5, 0.0]])
        with pytest.raises(InputError, match="a shown answer of chance 0"):
            logged_pools(np.array([0]), chance, np.array([3]), np.array([2]), np.ones(1))
