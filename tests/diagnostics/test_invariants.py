"""What must not change a diagnosis, and what must, on tables of every shape; and code that shares nothing with ours."""

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bestfor.diagnostics import Panel, Settings, best_of_n, diagnose_arrays, normal_growth, pools_from_rows
from bestfor.diagnostics.evidence import facts_of_pools
from bestfor.diagnostics.intervals.clustered import wilson
from bestfor.diagnostics.intervals.means import ONE, POOL, CurveMean, QuantityMean

N = np.array([1, 2, 3])
few = settings(max_examples=30, deadline=None)


@st.composite
def tables(draw):
    """Ragged queries of at least three candidates, few distinct rewards, users with one to three queries."""
    columns = {"user": [], "query": [], "candidate": [], "utility": [], "reward": []}
    for user in range(draw(st.integers(1, 4))):
        for query in range(draw(st.integers(1, 3))):
            size = draw(st.integers(3, 7))
            columns["user"] += [user] * size
            columns["query"] += [query] * size
            columns["candidate"] += range(size)
            columns["utility"] += draw(st.lists(st.integers(-40, 40), min_size=size, max_size=size))
            columns["reward"] += draw(st.lists(st.integers(-4, 4), min_size=size, max_size=size))
    found = {name: np.array(values) for name, values in columns.items()}
    return found | {name: found[name] / 8 for name in ("utility", "reward")}


def measured(table, averaging="user"):
    rewards = {"x": table["reward"]}
    pools = pools_from_rows(
        table["user"], table["query"], table["utility"], rewards, candidate=table["candidate"]
    ).with_at_least(3)
    return facts_of_pools(pools, N, averaging)


def curve(table, averaging="user"):
    """Every mean of the curves: pool mean, oracle, model."""
    evidence, _ = measured(table, averaging)
    panel = Panel([evidence.curves])
    return {column: panel.value({column: 1.0}, {ONE: 1.0}) for column in evidence.curves.columns}


def everything(table, averaging="user"):
    """Curves, quantities, laws, ledger."""
    evidence, facts = measured(table, averaging)
    quantities = Panel([evidence.quantities])
    active = {QuantityMean("active", "x"): 1.0}
    shares = {name: quantities.value({QuantityMean(name, "x"): 1.0}, active) for name in ("negative", "plus", "minus")}
    alpha = quantities.value({QuantityMean("collapsed", "x"): 1.0}, {QuantityMean("judged", "x"): 1.0})
    laws = {f"law {name} {k}": float(value) for name, row in facts["x"].law.items() for k, value in enumerate(row)}
    ledger = {f"ledger {name}": value for name, value in asdict(facts["x"].ledger).items()}
    return curve(table, averaging) | shares | {"alpha": alpha} | laws | ledger


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-11, nan_ok=True), name


@few
@given(tables(), st.sampled_from([np.exp, np.arctan, lambda x: x**3, lambda x: 1e40 * x + 3e40]))
def test_an_increasing_map_of_rewards_leaves_every_curve(table, mapped):
    assert_close(curve(table | {"reward": mapped(table["reward"])}), curve(table))


@pytest.mark.slow
@few
@given(tables(), st.sampled_from([1e-12, 0.3, 7.0, 1e12]), st.integers(-3, 3))
def test_an_affine_map_of_rewards_leaves_everything(table, scale, shift):
    changed = table | {"reward": scale * (table["reward"] + shift)}
    assert_close(everything(changed), everything(table))


@pytest.mark.slow
@few
@given(tables(), st.sampled_from([0.25, 8.0]), st.integers(-3, 3))
def test_an_affine_map_of_utilities_is_followed(table, scale, shift):
    found, expected = curve(table | {"utility": scale * (table["utility"] + shift)}), curve(table)
    for column, value in expected.items():
        moved = scale * (value + shift) if column != ONE else value
        assert found[column] == pytest.approx(moved, abs=1e-10)
    kept = ("negative", "plus", "minus", "alpha")
    plain, moved = everything(table), everything(table | {"utility": scale * table["utility"]})
    assert_close({name: moved[name] for name in kept}, {name: plain[name] for name in kept})


@few
@given(tables())
def test_utilities_as_rewards_give_the_oracle(table):
    found = curve(table | {"reward": table["utility"]})
    for n in (1, 2, 3):
        assert found[CurveMean("pick", n, "x")] == found[CurveMean("oracle", n)]


@few
@given(tables())
def test_utilities_upside_down_give_the_worst(table):
    found = curve(table | {"reward": -table["utility"]})
    turned = curve(table | {"utility": -table["utility"], "reward": -table["utility"]})
    for n in (1, 2, 3):
        assert found[CurveMean("pick", n, "x")] == pytest.approx(-turned[CurveMean("oracle", n)], abs=1e-12)


@pytest.mark.slow
@few
@given(tables(), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_the_names_of_candidates_change_nothing(table, random):
    order = list(range(len(table["user"])))
    random.shuffle(order)
    changed = {name: values[order] for name, values in table.items()}
    assert_close(everything(changed), everything(table))
    renamed = table | {"candidate": 100 - table["candidate"]}
    assert_close(everything(renamed), everything(table))


@pytest.mark.slow
@few
@given(tables())
def test_the_names_of_users_and_queries_change_nothing(table):
    changed = table | {"user": 9 - table["user"], "query": 5 - table["query"]}
    assert_close(everything(changed), everything(table))


@pytest.mark.slow
@few
@given(tables(), st.sampled_from(["user", "query"]), st.sampled_from(["user", "query"]))
def test_two_copies_of_the_data_leave_every_estimate(table, averaging, copied):
    twice = {name: np.concatenate([values, values]) for name, values in table.items()}
    twice[copied] = np.concatenate([table[copied], table[copied] + 100])
    assert_close(everything(twice, averaging), everything(table, averaging))


@few
@given(tables())
def test_one_candidate_gains_nothing_and_every_curve_stays_in_its_bounds(table):
    found = curve(table)
    assert found[CurveMean("pick", 1, "x")] == found[POOL] == found[CurveMean("oracle", 1)]
    low, high = table["utility"].min(), table["utility"].max()
    for column, value in found.items():
        if column != ONE:
            assert low - 1e-12 <= value <= high + 1e-12
            assert value <= found[CurveMean("oracle", max(column.n, 1))] + 1e-12


@pytest.mark.slow
@few
@given(tables())
def test_the_ledger_adds_up_and_constants_gain_exactly_nothing(table):
    _, facts = measured(table)
    terms = asdict(facts["x"].ledger)
    observed = terms.pop("observed")
    del terms["n"]
    assert sum(terms.values()) == pytest.approx(observed, abs=1e-10)
    for name in ("reward", "utility"):
        evidence, _ = measured(table | {name: np.full(len(table["user"]), 0.1)})
        panel = Panel([evidence.curves])
        assert panel.value({CurveMean("pick", 3, "x"): 1.0, POOL: -1.0}, {ONE: 1.0}) == 0


@settings(max_examples=5, deadline=None)
@given(tables())
def test_a_whole_diagnosis_does_not_depend_on_the_order_of_rows(table):
    order = np.random.default_rng(0).permutation(len(table["user"]))
    pair = []
    for rows in (np.arange(len(order)), order):
        one = {name: values[rows] for name, values in table.items()}
        reward = {"x": one["reward"], "upside down": -one["reward"]}
        found = diagnose_arrays(
            one["user"], one["query"], one["utility"], reward, Settings(n=[1, 3]), candidate=one["candidate"]
        )
        pair.append(found.to_dict())
    assert pair[0] == pair[1]


@few
@given(tables())
def test_another_model_beside_it_changes_nothing(table):
    args = (table["user"], table["query"], table["utility"])
    alone = facts_of_pools(pools_from_rows(*args, {"x": table["reward"]}), N, "user")[1]["x"]
    beside = facts_of_pools(pools_from_rows(*args, {"y": -table["reward"], "x": table["reward"]}), N, "user")[1]["x"]
    assert asdict(alone.ledger) == asdict(beside.ledger)
    assert repr(alone.suspects) == repr(beside.suspects)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 16, 30, 100])
def test_the_normal_law_is_scipys_order_statistic(n):
    expected = float(stats.order_statistic(stats.Normal(), r=n, n=n).mean())
    assert normal_growth(n) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("m", [1, 7, 60])
def test_the_curve_follows_from_scipys_hypergeometric(m):
    """The best of a subset has rank j if none of the j above it was drawn and not the same for j + 1."""
    rng = np.random.default_rng(m)
    reward, utility = rng.standard_normal(m), rng.standard_normal(m)
    ranked = utility[np.argsort(-reward)]
    n = np.arange(1, m + 1)
    missed = stats.hypergeom.pmf(0, m, np.arange(m + 1)[:, None], n[None, :])
    expected = ranked @ (missed[:-1] - missed[1:])
    found = best_of_n(reward[None], utility[None], np.array([m]), n)[0]
    np.testing.assert_allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize(("m", "right"), [(20, 3), (200, 17)])
def test_a_binary_oracle_is_pass_at_k_as_published(m, right):
    """1 - prod_{i = m-c+1}^{m} (1 - k / i), the numerically stable form of Chen et al. 2021."""
    utility = np.r_[np.ones(right), np.zeros(m - right)]
    n = np.arange(1, m + 1)
    expected = [1 - np.prod(1 - k / np.arange(m - right + 1, m + 1)) if m - right >= k else 1.0 for k in n]
    found = best_of_n(utility[None], utility[None], np.array([m]), n)[0]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_the_interval_of_a_gain_is_scipys_t_test_on_user_means():
    rng = np.random.default_rng(5)
    shape = (40, 6)
    utility, reward = rng.standard_normal(shape), rng.standard_normal(shape)
    user = np.repeat(np.arange(40), 6)
    found = diagnose_arrays(user, user, utility.ravel(), {"x": reward.ravel()}, Settings(n=[1, 4], level=0.9))
    gains = best_of_n(reward, utility, np.full(40, 6), np.array([4]))[:, 0] - utility.mean(axis=1)
    test = stats.ttest_1samp(gains, 0.0)
    expected = test.confidence_interval(0.9)
    gain = found.models["x"].gain
    assert (gain.low[1], gain.high[1]) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert gain.value[1] == pytest.approx(gains.mean(), abs=1e-12)


@pytest.mark.parametrize(("some", "of"), [(0, 9), (3, 17), (40, 40)])
def test_intervals_of_shares_are_scipys(some, of):
    expected = stats.binomtest(some, of).proportion_ci(0.95, method="wilson")
    assert wilson(some / of, of) == pytest.approx((expected.low, expected.high), abs=1e-12)
