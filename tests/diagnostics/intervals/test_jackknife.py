import numpy as np
import pytest
from scipy import stats

from bestfor.diagnostics import wilson
from bestfor.diagnostics.intervals.jackknife import exponential, interval, jackknife, share
from bestfor.types import Estimate


def mean(parts):
    return parts[:, [0]] / parts[:, [1]]


def test_of_a_mean_over_users_it_is_the_t_interval():
    values = np.random.default_rng(0).gamma(2.0, size=15)
    found = interval(np.column_stack([values, np.ones(15)]), mean, 0.9)
    expected = stats.t.interval(0.9, 14, values.mean(), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected)


def test_of_a_ratio_it_is_what_leaving_each_user_out_gives():
    rng = np.random.default_rng(1)
    parts = np.column_stack([rng.normal(3, 1, 8), rng.integers(1, 6, 8)])
    value, error, carried = jackknife(parts, mean)
    left = np.array([np.delete(parts, user, axis=0).sum(axis=0) for user in range(8)])
    moves = left[:, 0] / left[:, 1] - value[0]
    assert error[0] == pytest.approx(np.sqrt(7 / 8 * (moves**2).sum()))
    assert carried[0] == 8


def test_in_chunks_the_same(monkeypatch):
    parts = np.random.default_rng(2).gamma(1.0, size=(40, 2))
    whole = jackknife(parts, mean)
    monkeypatch.setattr("bestfor.diagnostics.intervals.jackknife._CHUNK", 7)
    for one, other in zip(whole, jackknife(parts, mean), strict=True):
        assert other == pytest.approx(one)


def test_users_who_move_nothing_do_not_count():
    parts = np.array([[1.0, 1.0], [3.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    assert jackknife(parts, mean)[2].tolist() == [2]
    alone = interval(np.array([[1.0, 1.0], [0.0, 0.0]]), mean, 0.95)
    assert alone == Estimate(1.0, None, None, 0.95)


def test_a_share_of_single_rows_is_wilsons():
    parts = np.column_stack([[1.0, 0, 1, 1, 0, 1, 1, 1, 0, 1], np.ones(10)])
    found = share(parts, mean, 0.95)
    assert (found.low, found.high) == pytest.approx(wilson(0.7, 10))
    assert share(np.array([[2.0, 2.0], [3.0, 3.0]]), mean, 0.95).high == 1.0
    assert share(np.array([[1.0, 2.0]]), mean, 0.95) == Estimate(0.5, None, None, 0.95)


def test_clustering_widens_a_share():
    alike = np.array([[10.0, 10.0], [0.0, 10.0]] * 10)
    mixed = np.array([[5.0, 10.0]] * 19 + [[6.0, 10.0]])
    wide, narrow = share(alike, mean, 0.95), share(mixed, mean, 0.95)
    assert wide.high - wide.low > 0.35 > 0.05 > narrow.high - narrow.low


def test_exponentials_keep_their_order():
    found = exponential(Estimate(0.0, -1.0, 1.0, 0.9))
    assert (found.value, found.low, found.high, found.level) == pytest.approx((1.0, np.exp(-1), np.e, 0.9))
    assert exponential(Estimate(0.0)).low is None
