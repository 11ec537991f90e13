import numpy as np
import pytest
from scipy import stats

from bestfor.diagnostics.intervals.clustered import Panel, Resampling, wilson
from bestfor.diagnostics.intervals.influence import Influences, Texts, user_influences

ONE = {("one", 0): 1.0}


def influences(values, user=None, weight=None, **columns):
    user = np.arange(len(values)) if user is None else user
    users = int(user.max()) + 1
    weight = np.full(len(values), 1 / len(values)) if weight is None else weight
    every = {("one", 0): np.ones(len(values)), ("x", 0): values} | {(k, 0): v for k, v in columns.items()}
    return user_influences(every, weight, user, tuple(f"u{i:04}" for i in range(users)))


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_a_mean_over_users_has_the_t_interval(level):
    values = np.random.default_rng(0).standard_normal(17)
    found = Panel([influences(values)], level).interval({("x", 0): 1.0}, ONE)
    low, high = stats.t.interval(level, 16, values.mean(), stats.sem(values))
    assert (found.value, found.low, found.high) == pytest.approx((values.mean(), low, high))
    assert found.level == level


@pytest.mark.parametrize(("some", "users"), [(0, 10), (3, 10), (10, 10), (40, 1000)])
def test_a_share_of_users_has_wilsons_interval(some, users):
    values = np.r_[np.ones(some), np.zeros(users - some)]
    found = Panel([influences(values)]).share({("x", 0): 1.0}, ONE)
    expected = stats.binomtest(some, users).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_wilson_is_scipys():
    expected = stats.binomtest(7, 50).proportion_ci(0.8, method="wilson")
    assert wilson(0.14, 50, 0.8) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_queries_of_a_user_count_as_one_cluster():
    rng = np.random.default_rng(1)
    means = rng.standard_normal(12)
    user = np.repeat(np.arange(12), 5)
    found = Panel([influences(means[user], user)]).interval({("x", 0): 1.0}, ONE)
    low, high = stats.t.interval(0.95, 11, means.mean(), stats.sem(means))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_fewer_than_two_users_have_no_interval():
    panel = Panel([influences(np.array([2.0]))])
    found = panel.interval({("x", 0): 1.0}, ONE)
    assert (found.value, found.low, found.high) == (2.0, None, None)
    share = panel.share({("one", 0): 1.0}, ONE)
    assert (share.value, share.low, share.high) == (1.0, None, None)


def test_only_users_that_carry_a_ratio_count():
    panel = Panel([influences(np.array([1.0, 0, 0, 0]), below=np.array([2.0, 0, 0, 0]))])
    found = panel.interval({("x", 0): 1.0}, {("below", 0): 1.0})
    assert (found.value, found.low) == (0.5, None)


def test_a_denominator_of_zero_is_nan():
    panel = Panel([influences(np.ones(3), below=np.zeros(3))])
    assert np.isnan(panel.value({("x", 0): 1.0}, {("below", 0): 1.0}))
    assert np.isnan(panel.pooled({("x", 0): 1.0}, {("below", 0): 1.0}))
    assert panel.interval({("x", 0): 1.0}, {("below", 0): 1.0}).low is None


def test_the_ratio_interval_agrees_with_the_bootstrap_over_users():
    rng = np.random.default_rng(2)
    below = rng.gamma(4, size=300)
    above = 0.4 * below + 0.5 * rng.standard_normal(300)
    found = Panel([influences(above, below=below)]).interval({("x", 0): 1.0}, {("below", 0): 1.0})
    panel = Panel([influences(above, below=below)], resampling=Resampling(4000, 3))
    boot = panel.interval({("x", 0): 1.0}, {("below", 0): 1.0})
    assert boot.value == found.value
    assert (found.low, found.high) == pytest.approx((boot.low, boot.high), abs=0.005)


def test_users_shared_by_folds_are_matched_by_id():
    values = np.random.default_rng(4).standard_normal(20)
    same = Panel([influences(values), influences(values)]).interval({("x", 0): 1.0}, ONE)
    alone = Panel([influences(values)]).interval({("x", 0): 1.0}, ONE)
    assert (same.value, same.low, same.high) == pytest.approx((alone.value, alone.low, alone.high))
    opposite = Panel([influences(values), influences(-values)]).interval({("x", 0): 1.0}, ONE)
    assert opposite.low == pytest.approx(0, abs=1e-12)
    assert opposite.high == pytest.approx(0, abs=1e-12)


def test_disjoint_users_of_folds_add_their_variances():
    rng = np.random.default_rng(5)
    one, two = influences(rng.standard_normal(40)), influences(rng.standard_normal(40))
    other = Influences(two.columns, two.total, tuple(f"v{i}" for i in range(40)), two.users, None)
    form = {("x", 0): 1.0}
    both = Panel([one, other]).spread(form, ONE)
    expected = (Panel([one]).spread(form, ONE).variance + Panel([other]).spread(form, ONE).variance) / 4
    assert both.variance == pytest.approx(expected * (79 / 80) / (39 / 40))
    assert both.users == 80


def grid(rng, users, texts):
    """A mean of users x texts with effects of both and noise, as influences by hand."""
    table = rng.standard_normal(users)[:, None] + rng.standard_normal(texts) + rng.standard_normal((users, texts))
    cells = np.sqrt((texts - 1) / texts) * (table - table.mean(axis=1, keepdims=True)) / (texts - 1) / users
    by_user = table.mean(axis=1) / users
    texts_ = Texts(
        tuple(f"t{i:03}" for i in range(texts)),
        np.stack([np.zeros(texts), cells.sum(axis=0)], axis=1),
        np.array([[0.0, 0.0], [0.0, float((cells**2).sum())]]),
    )
    users_ = np.stack([np.full(users, 1 / users), by_user], axis=1)
    names = tuple(f"u{i:03}" for i in range(users))
    return Influences((("one", 0), ("x", 0)), users_.sum(axis=0), names, users_, texts_)


def test_two_way_variance_is_that_of_a_crossed_design():
    variances = [Panel([grid(np.random.default_rng(i), 40, 25)]).spread({("x", 0): 1.0}, ONE) for i in range(200)]
    expected = 1 / 40 + 1 / 25 + 1 / 1000
    assert np.mean([one.variance for one in variances]) == pytest.approx(expected, rel=0.05)
    assert 20 < np.mean([one.freedom for one in variances]) <= 39
    assert Panel([grid(np.random.default_rng(0), 40, 25)]).two_way


def test_two_way_is_never_narrower_than_users_alone():
    rng = np.random.default_rng(6)
    one = grid(rng, 30, 12)
    assert one.texts is not None
    none = Texts(one.texts.ids, one.texts.effect * 1e-3, one.texts.cells)
    quiet = Influences(one.columns, one.total, one.user_ids, one.users, none)
    alone = Influences(one.columns, one.total, one.user_ids, one.users, None)
    form = {("x", 0): 1.0}
    assert Panel([quiet]).spread(form, ONE).variance == pytest.approx(Panel([alone]).spread(form, ONE).variance)


def test_users_needed_bring_the_interval_to_its_half_width():
    values = np.random.default_rng(7).standard_normal(50)
    panel = Panel([influences(values)])
    needed = panel.users_needed({("x", 0): 1.0}, ONE, 0.1)
    quantile = stats.t.ppf(0.975, 49)
    assert needed == int(np.ceil((quantile * values.std(ddof=1) / 0.1) ** 2))
    found = panel.interval({("x", 0): 1.0}, ONE)
    assert panel.users_needed({("x", 0): 1.0}, ONE, (found.high - found.low) / 2) == 50
    assert panel.users_needed({("x", 0): 0.0}, ONE, 0.1) == 2
    assert Panel([influences(np.array([1.0]))]).users_needed({("x", 0): 1.0}, ONE, 0.1) is None


def test_no_number_of_users_makes_up_for_few_texts():
    panel = Panel([grid(np.random.default_rng(1), 60, 15)])
    assert panel.users_needed({("x", 0): 1.0}, ONE, 0.2) is None
    assert panel.users_needed({("x", 0): 1.0}, ONE, 1.0) is not None
