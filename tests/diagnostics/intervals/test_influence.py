import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestfor.diagnostics.curves.best_of_n import best_of_n
from bestfor.diagnostics.evidence import evidence_of_pools
from bestfor.diagnostics.intervals.clustered import Panel
from bestfor.diagnostics.intervals.influence import leave_one_out, leave_one_out_mean, shares_texts
from bestfor.diagnostics.intervals.means import POOL, CurveMean
from bestfor.diagnostics.table.pools import pools_from_rows

tables = st.integers(2, 9).flatmap(
    lambda m: st.tuples(
        st.lists(st.integers(0, 3), min_size=m, max_size=m), st.lists(st.integers(-4, 4), min_size=m, max_size=m)
    )
)


@given(tables)
def test_leaving_one_out_equals_computing_again(table):
    reward, utility = np.array([table[0]], float), np.array([table[1]], float)
    m = reward.shape[1]
    n = np.arange(1, m + 1)
    full = best_of_n(reward, utility, np.array([m]), n)[0]
    again = np.empty((m, m))
    for i in range(m):
        others = np.delete(np.arange(m), i)
        again[i] = full - best_of_n(reward[:, others], utility[:, others], np.array([m - 1]), np.minimum(n, m - 1))[0]
    found = leave_one_out(reward, utility, n)[0]
    np.testing.assert_allclose(found[:, :-1], again[:, :-1], atol=1e-12)
    np.testing.assert_allclose(found[:, -1], again[:, -1] - again[:, -1].mean(), atol=1e-12)
    np.testing.assert_allclose(leave_one_out_mean(utility)[0], again[:, 0], atol=1e-12)


def test_a_pool_of_one_has_no_influence():
    assert not leave_one_out(np.ones((3, 1)), np.ones((3, 1)), np.array([1])).any()
    assert not leave_one_out_mean(np.ones((3, 1))).any()


def table(rng, users=7, texts=11, ties=True):
    user, text = np.nonzero(rng.random((users, texts)) < 0.8)
    utility = rng.integers(-1, 2, len(user)).astype(float)
    reward = rng.integers(0, 4, len(user)).astype(float) if ties else rng.standard_normal(len(user))
    return user, text, utility, reward


def captured(user, utility, reward, n):
    gains, headrooms = [], []
    for one in np.unique(user):
        here = user == one
        pair = [
            best_of_n(score[None, here], utility[None, here], np.array([here.sum()]), np.array([n]))[0, 0]
            - utility[here].mean()
            for score in (reward, utility)
        ]
        gains.append(pair[0])
        headrooms.append(pair[1])
    return np.mean(gains), np.mean(headrooms)


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("ties", [False, True])
def test_text_effects_equal_removing_the_text_from_every_pool(n, ties):
    user, text, utility, reward = table(np.random.default_rng(4), ties=ties)
    pools = pools_from_rows(user, user, utility, {"x": reward}, text=text)
    curves = evidence_of_pools(pools, np.array([1, n]), "user").curves
    assert curves.texts is not None
    gain, headroom = (
        curves.form({best: 1.0, POOL: -1.0}) for best in (CurveMean("pick", n, "x"), CurveMean("oracle", n))
    )
    full = captured(user, utility, reward, n)
    np.testing.assert_allclose([curves.total @ gain, curves.total @ headroom], full, atol=1e-12)
    size = np.bincount(user)
    users = len(size)
    for place, name in enumerate(curves.texts.ids):
        expected = np.zeros(2)
        for one in user[text == int(name)]:
            here = user == one
            with_text = np.array(captured(user[here], utility[here], reward[here], n))
            kept = here & (text != int(name))
            without = np.array(captured(user[kept], utility[kept], reward[kept], n))
            expected += np.sqrt((size[one] - 1) / size[one]) * (with_text - without) / users
        effect = curves.texts.effect[place]
        np.testing.assert_allclose([effect @ gain, effect @ headroom], expected, atol=1e-12)


def test_user_moves_equal_leaving_each_user_out():
    user, _, utility, reward = table(np.random.default_rng(5))
    pools = pools_from_rows(user, user, utility, {"x": reward})
    curves = evidence_of_pools(pools, np.array([1, 2]), "user").curves
    gain, headroom = captured(user, utility, reward, 2)
    moves = []
    for one in np.unique(user):
        kept = user != one
        less = captured(user[kept], utility[kept], reward[kept], 2)
        moves.append(gain / headroom - less[0] / less[1])
    users = len(moves)
    spread = Panel([curves]).spread({CurveMean("pick", 2, "x"): 1, POOL: -1}, {CurveMean("oracle", 2): 1, POOL: -1})
    assert spread.value == pytest.approx(gain / headroom)
    assert spread.variance == pytest.approx((users - 1) / users * np.sum(np.square(moves)), rel=1e-10)


def test_texts_count_only_where_users_share_them():
    rows = ([0, 0, 1, 1], [0, 0, 1, 1], [1.0, 2, 3, 4], {"x": [1.0, 2, 3, 4]})
    assert shares_texts(pools_from_rows(*rows, text=["a", "b", "b", "c"]))
    assert not shares_texts(pools_from_rows(*rows, text=["a", "a", "b", "c"]))
    assert not shares_texts(pools_from_rows(*rows))
    assert (
        evidence_of_pools(pools_from_rows(*rows, text=["a", "a", "b", "c"]), np.array([1, 2]), "user").curves.texts
        is None
    )
