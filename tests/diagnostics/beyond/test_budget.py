import numpy as np
import pytest

from bestfor.diagnostics import (
    Beliefs,
    Reward,
    beliefs_from,
    best_fixed_n,
    best_fixed_n_by_law,
    expected_improvement,
    normal_growth,
    pools_from_rows,
    replay,
)


def pools_of(values, utility=None):
    rows, m = values.shape
    query = np.repeat(np.arange(rows), m)
    return pools_from_rows(
        query, query, (values if utility is None else utility).ravel(), {"x": Reward(values.ravel())}
    )


def test_best_fixed_n_by_law_golden():
    assert [best_fixed_n_by_law(k) for k in (0.1, 0.05, 0.02, 0.01, 0.005)] == [6, 10, 22, 40, 74]
    assert best_fixed_n_by_law(10.0) == 1
    with pytest.raises(ValueError, match="above 0"):
        best_fixed_n_by_law(0.0)


@pytest.mark.parametrize("cost", [0.03, 0.2])
def test_best_fixed_n_by_law_is_the_maximum(cost):
    net = [normal_growth(n) - cost * n for n in range(1, 60)]
    assert best_fixed_n_by_law(cost) == int(np.argmax(net)) + 1


def test_best_fixed_n_maximises_the_exact_net():
    values = np.random.default_rng(0).standard_normal((800, 30))
    found = best_fixed_n(pools_of(values), "x", 0.05)
    assert abs(found.n - best_fixed_n_by_law(0.05)) <= 2
    assert found.net.value == pytest.approx(normal_growth(10) - 0.5, abs=0.05)
    assert found.net.low < found.net.value < found.net.high
    assert not found.at_edge
    assert best_fixed_n(pools_of(values), "x", 0.0).n == 30
    assert best_fixed_n(pools_of(values), "x", 0.0).at_edge
    assert best_fixed_n(pools_of(values), "x", 5.0).n == 1


def test_beliefs_recover_the_components():
    rng = np.random.default_rng(1)
    values = 2.0 + 0.5 * rng.standard_normal((3000, 1)) + 1.5 * rng.standard_normal((3000, 8))
    found = beliefs_from(pools_of(values), "x")
    assert (found.mean, found.between, found.within) == pytest.approx((2.0, 0.5, 1.5), abs=0.06)
    with pytest.raises(ValueError, match="two pools"):
        beliefs_from(pools_of(values[:1]), "x")


def test_expected_improvement_is_the_integral():
    beliefs, best, cost = Beliefs(0.0, 0.0, 2.0), 1.0, 0.3
    draws = 2.0 * np.random.default_rng(2).standard_normal(400_000)
    improvement = np.maximum(draws - best, 0).mean()
    rewards = np.array([[best, -1.0]])
    assert not expected_improvement(improvement - 0.01, beliefs)(rewards)[0]
    assert expected_improvement(improvement + 0.01, beliefs)(rewards)[0]
    assert expected_improvement(cost, beliefs, slope=1e-6)(rewards)[0]
    assert expected_improvement(cost, Beliefs(0.0, 0.0, 0.0))(rewards)[0]


def test_a_rule_that_stops_at_a_number_is_that_fixed_number():
    rng = np.random.default_rng(3)
    values = rng.standard_normal((600, 12))
    pools = pools_of(values, values + rng.standard_normal(values.shape))

    def four(rewards):
        return np.full(len(rewards), rewards.shape[1] >= 4)

    found = replay(pools, "x", four, 0.0, orders=20)
    assert found.drawn.value == 4
    assert found.utility.value == pytest.approx(normal_growth(4), abs=0.1)
    assert found.net.value == pytest.approx(found.utility.value)
    assert found.advantage.value == pytest.approx(found.net.value - found.fixed.net.value)


def test_stopping_pays_on_normal_rewards_and_not_on_skewed_ones():
    rng = np.random.default_rng(4)
    normal = pools_of(rng.standard_normal((400, 60)))
    assert replay(normal, "x", expected_improvement(0.05, beliefs_from(normal, "x")), 0.05).pays
    skewed = pools_of(-rng.exponential(size=(400, 60)))
    found = replay(skewed, "x", expected_improvement(0.05, beliefs_from(skewed, "x")), 0.05)
    assert not found.pays
    assert found.advantage.high < 0


def test_replays_repeat_and_a_rule_that_never_stops_ends_with_the_pool():
    values = np.random.default_rng(5).standard_normal((50, 6))
    pools = pools_of(values)

    def never(rewards):
        return np.zeros(len(rewards), dtype=bool)

    one, two = (replay(pools, "x", never, 0.01, seed=7) for _ in range(2))
    assert one == two
    assert one.drawn.value == pytest.approx(6)
    free = replay(pools, "x", never, 0.0)
    assert free.advantage.value == 0
    assert not free.pays
    assert one.utility.value == pytest.approx(values.max(axis=1).mean())
    rule = expected_improvement(0.1, beliefs_from(pools, "x"))
    assert replay(pools, "x", rule, 0.1, seed=7) != replay(pools, "x", rule, 0.1, seed=8)
