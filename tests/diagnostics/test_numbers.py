"""Numbers that cannot be had stay unknown, and offsets that eat digits are taken out first."""

import math

import numpy as np
import pytest

from bestfor.diagnostics import Influences, Panel, Settings, best_of_n, diagnose_arrays, named_rule
from bestfor.diagnostics.curves.best_of_n import pool_curves
from bestfor.diagnostics.curves.rules import curve_by_rule, soft_best_of_n
from bestfor.diagnostics.folds import combine_folds
from bestfor.diagnostics.intervals.jackknife import interval, share
from bestfor.diagnostics.intervals.means import ONE, POOL
from bestfor.diagnostics.wire import diagnosis_json
from bestfor.types import Estimate

NAN = math.nan


def table(seed, users=30, queries=2, size=8):
    rng = np.random.default_rng(seed)
    query = np.repeat(np.arange(users * queries), size)
    utility = np.round(rng.standard_normal(len(query)) * 2**10) * 2.0**-23  # a spread of 1e-4 in steps of 1e9's digits
    reward = utility * 2**13 + rng.standard_normal(len(query))
    return query // queries, query, utility, reward


def leaves(value, path=""):
    if isinstance(value, dict):
        return {k: v for key, one in value.items() for k, v in leaves(one, f"{path}.{key}").items()}
    if isinstance(value, list):
        return {k: v for key, one in enumerate(value) for k, v in leaves(one, f"{path}.{key}").items()}
    return {path: value}


def is_absolute(path):
    """Whether a number moves with the offset: a utility, not a gain, a difference or a share."""
    name = path.rsplit(".", 1)[-1] if not path.rsplit(".", 1)[-1].isdigit() else path.rsplit(".", 2)[-2]
    return "utility" in name or name in ("pool_mean", "net", "net_low", "net_high", "fixed_net", "low", "high")


@pytest.mark.parametrize("offset", [1e9, -1e9])
def test_a_large_offset_changes_no_figure_but_utilities(offset):
    user, query, utility, reward = table(1)
    settings = Settings(rules=("second",), signature={"data": "x"})
    plain, moved = (
        leaves(diagnosis_json(diagnose_arrays(user, query, values, {"x": reward}, settings)))
        for values in (utility, utility + offset)
    )
    assert plain.keys() == moved.keys()
    for path, value in plain.items():
        if value is None or isinstance(value, str) or is_absolute(path):
            assert (moved[path] is None) == (value is None)
            continue
        assert moved[path] == pytest.approx(value, rel=1e-6, abs=1e-12), path
    for path in (".pool_mean", ".models.x.utility.3", ".models.x.low.3", ".oracle.utility.3", ".models.x.best_n.0.n"):
        expected = plain[path] + (0 if path.endswith(".n") else offset)
        assert moved[path] == pytest.approx(expected, abs=3e-7)
    for path in plain:
        if ("suspects" in path and "utility" in path) or path.endswith(("fixed_net", "stopping.utility", "net")):
            assert moved[path] == pytest.approx(plain[path] + offset, abs=3e-7), path


def test_folds_with_offsets_of_their_own_average():
    folds = [diagnose_arrays(*table(seed)[:2], table(seed)[2] + seed * 1e9, {"x": table(seed)[3]}) for seed in (1, 3)]
    whole = combine_folds(folds)
    assert whole.pool_mean.value == pytest.approx(2e9, abs=1e-3)
    gains = [fold.models["x"].gain.value[-1] for fold in folds]
    assert whole.models["x"].gain.value[-1] == pytest.approx(np.mean(gains), rel=1e-9)


def test_a_ratio_of_what_is_not_known_is_not_known():
    users = np.array([[0.5, NAN], [0.5, 1.0]])
    panel = Panel([Influences((ONE, POOL), users.sum(axis=0), ("a", "b"), users, None)])
    assert math.isnan(panel.value({POOL: 1.0}, {ONE: 1.0}))
    assert math.isnan(panel.interval({POOL: 1.0}, {ONE: 1.0}).value)


def test_an_interval_needs_the_statistic_without_each_user():
    def ratio(part):
        return part[:, [0]] / part[:, [1]] + part[:, [2]] / part[:, [3]]

    parts = np.array([[1.0, 2, 1, 1], [2.0, 3, 0, 0], [2.0, 5, 0, 0]])  # the first user alone carries the second ratio
    assert interval(parts, ratio, 0.95).low is None
    assert share(np.array([[NAN, 1.0], [1.0, 1.0]]), lambda part: part[:, [0]] / part[:, [1]], 0.95).low is None
    assert interval(parts + 1, ratio, 0.95).low is not None


@pytest.mark.parametrize("rule", ["best", "second", "soft:0.5"])
def test_a_reward_that_is_not_a_number_spoils_its_own_pool_alone(rule):
    rng = np.random.default_rng(2)
    reward, utility = rng.standard_normal((2, 3, 5))
    size, n = np.array([5, 5, 4]), np.array([1, 2, 4])
    expected = curve_by_rule(reward, utility, size, n, named_rule(rule))
    reward[1, 2] = NAN
    reward[2, 4] = NAN  # past the size: it means nothing
    found = curve_by_rule(reward, utility, size, n, named_rule(rule))
    assert np.isnan(found[1]).all()
    np.testing.assert_allclose(found[[0, 2]], expected[[0, 2]], rtol=1e-12)
    if rule == "best":
        np.testing.assert_array_equal(best_of_n(reward, utility, size, n), found)
        assert np.isnan(pool_curves(reward, utility, size, n)[0][1]).all()
    if rule == "soft:0.5":
        assert np.isnan(soft_best_of_n(reward[[1]], utility[[1]], size[[1]], n, 0.5)).all()


def test_estimates_move_with_their_ends():
    assert Estimate(1.0, 0.5, 2.0).moved(1.0) == Estimate(2.0, 1.5, 3.0)
    assert Estimate(1.0).moved(2.0) == Estimate(3.0)
