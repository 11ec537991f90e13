"""What texts do to alpha, beta and rho: against leaving each text out of each pool, and simulated coverage."""

from dataclasses import replace

import numpy as np
import pytest

from bestfor.diagnostics import Panel, Reward, Settings, diagnose_arrays, pools_from_rows
from bestfor.diagnostics.evidence import evidence_of_pools
from bestfor.diagnostics.intervals.means import QuantityMean
from bestfor.diagnostics.quantities.queries import collapse, within_queries

N = np.array([1, 2])


def table(seed, users=8, texts=11, ties=True):
    rng = np.random.default_rng(seed)
    user, text = np.nonzero(rng.random((users, texts)) < 0.8)
    utility = rng.integers(-1, 2, len(user)).astype(float)
    reward = rng.integers(0, 3, len(user)).astype(float) if ties else rng.standard_normal(len(user))
    reward[user == 0] = np.where(text[user == 0] == text[user == 0][0], 1.0, 0.0)  # constant without one text
    reward[user == 1] = 2.0
    reward[user == 2] *= 0.049
    return user, text, utility, reward


def by_hand(rows, collapsed):
    """Each user's active, negative, plus and minus, with this verdict on collapse."""
    pools = pools_from_rows(rows[0], rows[0], rows[2], {"x": rows[3]})
    within = within_queries(pools, "x")
    r = np.where(np.isfinite(within.correlation) & ~collapsed, np.nan_to_num(within.correlation), 0.0)
    active = (np.isfinite(within.correlation) & ~collapsed).astype(float)
    return np.stack([active, r < 0, np.maximum(r, 0), np.minimum(r, 0)], axis=1)


@pytest.mark.parametrize("scale", ["utility", "arbitrary"])
@pytest.mark.parametrize("ties", [False, True])
def test_effects_equal_leaving_each_text_out_of_each_pool(scale, ties):
    user, text, utility, reward = table(3, ties=ties)
    pools = pools_from_rows(user, user, utility, {"x": Reward(reward, scale)}, text=text)
    quantities = evidence_of_pools(pools, N, "user").quantities
    assert quantities.texts is not None
    users = len(np.unique(user))
    verdict = collapse(within_queries(pools, "x"), pools.user, users, scale).collapsed
    full = by_hand((user, text, utility, reward), verdict)
    names = ("active", "negative", "plus", "minus")
    np.testing.assert_allclose(
        [quantities.total @ quantities.form({QuantityMean(name, "x"): 1.0}) for name in names],
        full.mean(axis=0),
        atol=1e-12,
    )
    expected = {int(name): np.zeros(4) for name in quantities.texts.ids}
    products = np.zeros((4, 4))
    for one in range(users):
        here = np.flatnonzero(user == one)
        m = len(here)
        changes = []
        for left in here:
            kept = np.setdiff1d(here, left)
            again = by_hand((user[kept] * 0, text[kept], utility[kept], reward[kept]), verdict[[one]])
            changes.append((full[one] - again[0]) / users)
        changes = np.sqrt((m - 1) / m) * (np.array(changes) - np.mean(changes, axis=0))
        products += changes.T @ changes
        for place, change in zip(here, changes, strict=True):
            expected[int(text[place])] += change
    at = [quantities.columns.index(QuantityMean(name, "x")) for name in names]
    for place, name in enumerate(quantities.texts.ids):
        np.testing.assert_allclose(quantities.texts.effect[place, at], expected[int(name)], atol=1e-12)
    np.testing.assert_allclose(quantities.texts.cells[np.ix_(at, at)], products, atol=1e-12)


def test_verdicts_of_collapse_equal_leaving_each_text_out_of_each_pool():
    user, text, utility, reward = table(3)
    pools = pools_from_rows(user, user, utility, {"x": Reward(reward, "utility")}, text=text)
    quantities = evidence_of_pools(pools, N, "user").quantities
    effect = quantities.texts.effect[:, quantities.columns.index(QuantityMean("collapsed", "x"))]
    expected = dict.fromkeys(quantities.texts.ids, 0.0)
    flips = 0
    for one in np.unique(user):
        here = np.flatnonzero(user == one)
        verdicts = []
        for kept in [here, *(np.setdiff1d(here, left) for left in here)]:
            alone = pools_from_rows(user[kept], user[kept], utility[kept], {"x": reward[kept]})
            verdicts.append(float(collapse(within_queries(alone, "x"), alone.user, 1, "utility").collapsed[0]))
        changes = (verdicts[0] - np.array(verdicts[1:])) / 8
        flips += np.count_nonzero(changes)
        for place, change in zip(here, changes - changes.mean(), strict=True):
            expected[str(text[place])] += np.sqrt((len(here) - 1) / len(here)) * change
    assert flips >= 1
    np.testing.assert_allclose(effect, list(expected.values()), atol=1e-12)
    arbitrary = pools_from_rows(user, user, utility, {"x": reward}, text=text)
    other = evidence_of_pools(arbitrary, N, "user").quantities
    alone, size = str(text[user == 0][0]), (user == 0).sum()
    effect = other.texts.effect[:, other.columns.index(QuantityMean("collapsed", "x"))]
    change = -np.sqrt((size - 1) / size) * (1 - 1 / size) / 8
    assert effect[other.texts.ids.index(alone)] == pytest.approx(change)


def test_shared_texts_widen_the_intervals_of_quantities():
    rng = np.random.default_rng(7)
    users, texts = 80, 20
    user, text = np.repeat(np.arange(users), texts), np.tile(np.arange(texts), users)
    common = rng.standard_normal(texts)
    utility = common[text] + rng.standard_normal(len(user))
    reward = (0.2 * common + rng.standard_normal(texts))[text] + 0.3 * rng.standard_normal(len(user))
    one = diagnose_arrays(user, user, utility, {"x": reward}, Settings(n=[1, 8])).models["x"].quantities
    two = diagnose_arrays(user, user, utility, {"x": reward}, Settings(n=[1, 8]), text=text).models["x"].quantities
    assert two.rho.value == one.rho.value
    assert two.rho.high - two.rho.low > 2 * (one.rho.high - one.rho.low)
    assert two.beta.high - two.beta.low > 1.5 * (one.beta.high - one.beta.low)
    assert 0 <= two.beta.low < two.beta.high <= 1


def votes(rng, users, texts, candidates):
    """A common opinion, personal tastes and noise; a reward that errs per text and per user."""
    taste, axis, error = 0.6 * rng.standard_normal((users, 3)), *rng.standard_normal((2, texts, 3))
    common, wrong = rng.standard_normal((2, texts))
    opinion = 0.5 * common + taste @ axis.T + rng.standard_normal((users, texts))
    reward = 0.5 * (0.5 * common + 1.2 * wrong) + 0.7 * taste @ (axis + error).T
    seen = rng.random((users, texts)).argsort(axis=1).argsort(axis=1) < candidates
    user, text = np.nonzero(seen)
    return user, text, opinion[seen], reward[seen]


@pytest.mark.slow
@pytest.mark.parametrize(("users", "texts"), [(150, 60), (80, 120)])
def test_intervals_of_rho_and_beta_cover_where_texts_are_shared(users, texts):
    forms = {
        "rho": ({QuantityMean("plus", "x"): 1.0, QuantityMean("minus", "x"): 1.0}, {QuantityMean("active", "x"): 1.0}),
        "beta": ({QuantityMean("negative", "x"): 1.0}, {QuantityMean("active", "x"): 1.0}),
    }
    values, found, alone = ({name: [] for name in forms} for _ in range(3))
    for seed in range(500):
        user, text, utility, reward = votes(np.random.default_rng([91, seed]), users, texts, 24)
        pools = pools_from_rows(user, user, utility, {"x": reward}, text=text)
        quantities = evidence_of_pools(pools, N, "user").quantities
        both, only = Panel([quantities]), Panel([replace(quantities, texts=None)])
        for name, form in forms.items():
            values[name].append(both.value(*form))
            for panel, kept in ((both, found), (only, alone)):
                kept[name].append(panel.share(*form) if name == "beta" else panel.interval(*form))
    for name in forms:
        truth = np.mean(values[name])
        covered = {
            kind: np.mean([one.low <= truth <= one.high for one in kept[name]])
            for kind, kept in (("both", found), ("users", alone))
        }
        assert covered["both"] == pytest.approx(0.95, abs=0.03), (name, covered)
        if name == "rho" and texts == 60:
            assert covered["users"] < 0.9, covered
