"""Ceilings of noisy utilities: simulated truths, sources, and JSON."""

import numpy as np
import pytest
from scipy.special import expit

from bestfor.diagnostics import Diagnosis, Reward, Settings, combine_folds, diagnose_arrays
from bestfor.diagnostics.quantities.chances import chance_gains, fit_chances
from bestfor.errors import InputError

N = [1, 2, 4, 8]


def accepted(pools=1500, size=8, seed=0, chances=None):
    """Accept or reject with logit-normal chances (-.5, 1): user, query, utility, chances."""
    rng = np.random.default_rng(seed)
    query = np.repeat(np.arange(pools), size)
    p = expit(rng.normal(-0.5, 1, len(query))) if chances is None else chances(rng, len(query))
    return query // 5, query, (rng.random(len(query)) < p).astype(float), p


def true_share(p, utility, size=8):
    """Gain of the best chance over the clairvoyant's, at every N above 1, by brute force over disjoint subsets."""
    found = []
    for n in N[1:]:
        chance, seen = p.reshape(-1, size)[:, :n], utility.reshape(-1, size)[:, :n]
        found.append((chance.max(axis=1).mean() - p.mean()) / (seen.max(axis=1).mean() - utility.mean()))
    return np.array(found)


def test_a_declared_noise_gives_the_ceiling_of_acceptance():
    user, query, utility, p = accepted()
    noise = float(np.sqrt((p * (1 - p)).mean()))
    found = diagnose_arrays(user, query, utility, {"x": p}, Settings(n=N, noise=noise))
    large = accepted(100_000, seed=1)
    truth = true_share(large[3], large[2])
    assert truth == pytest.approx([0.46, 0.48, 0.52], abs=0.02)  # what THEORY gives as .46 to .52
    np.testing.assert_allclose(found.ceiling.share[1:], truth, atol=0.03)
    assert (found.ceiling.source, found.ceiling.chances, found.ceiling.bound) == ("declared noise", True, False)
    assert found.ceiling.share[-1] > np.sqrt(found.ceiling.reliability) + 0.03  # where sqrt(L) is wrong
    model = found.models["x"]
    np.testing.assert_allclose(model.captured_attainable.value[1:], 1, atol=0.12)
    assert model.captured_attainable.low[-1] < 1 < model.captured_attainable.high[-1]
    sentence = next(one for one in model.findings if "of what can be known" in one)
    assert f"captures {100 * model.captured.value[-1]:.0f}% of what an oracle gains" in sentence


@pytest.mark.parametrize(("a", "b"), [(1.2, 2.0), (0.6, 0.9), (4.0, 6.0)])
def test_chances_of_another_family_are_nearly_as_well_told(a, b):
    rng = np.random.default_rng(0)
    p = rng.beta(a, b, (200_000, 8))
    truth = [p[:, :n].max(axis=1).mean() - p.mean() for n in N[1:]]
    np.testing.assert_allclose(chance_gains(p.mean(), p.var(), np.array(N[1:])), truth, rtol=0.03)


def test_fitted_chances_have_the_moments():
    a, b = fit_chances(0.3, 0.04)
    p = expit(a + b * np.random.default_rng(0).standard_normal(400_000))
    assert (p.mean(), p.var()) == pytest.approx((0.3, 0.04), abs=1e-3)
    assert fit_chances(0.3, 0.0)[1] == 0
    assert chance_gains(0.0, 0.1, np.array([1, 2])).tolist() == [0, 0]
    assert chance_gains(0.5, 0.3, np.array([2])) == pytest.approx(0.25, abs=0.01)  # the family's end: certain votes


def rated(times, seed=0, pools=400, size=8):
    """Normal utilities with reliability .5, each text rated several times."""
    rng = np.random.default_rng(seed)
    query = np.repeat(np.arange(pools), size)
    mu = rng.standard_normal(len(query))
    rows = [(query // 4, query, mu + rng.standard_normal(len(query)), mu) for _ in range(times)]
    columns = [np.concatenate(parts) for parts in zip(*rows, strict=True)]
    return columns, [f"t{place}" for place in range(len(query))] * times


def test_repeated_ratings_give_the_reliability_of_their_mean():
    (user, query, utility, mu), text = rated(2)
    found = diagnose_arrays(user, query, utility, {"x": mu}, Settings(n=N), text=text)
    assert found.ceiling.source == "repeated ratings"
    assert found.ceiling.reliability == pytest.approx(1 / 1.5, abs=0.03)
    np.testing.assert_allclose(found.models["x"].captured_attainable.value[1:], 1, atol=0.06)


def test_a_model_bounds_the_ceiling():
    (user, query, utility, mu), _ = rated(1)
    known = Reward(mu, "utility", np.ones(len(mu)))
    poor = Reward(0.0 * mu + 0.3 * np.sin(mu), "utility", np.ones(len(mu)))
    found = diagnose_arrays(user, query, utility, {"poor": poor, "known": known}, Settings(n=N))
    assert (found.ceiling.source, found.ceiling.model, found.ceiling.bound) == ("model", "known", True)
    assert found.ceiling.reliability == pytest.approx(0.5, abs=0.04)
    worse = diagnose_arrays(user, query, utility, {"poor": poor}, Settings(n=N))
    assert 0 < worse.ceiling.reliability < 0.4  # a lower bound
    nothing = diagnose_arrays(user, query, utility, {"x": Reward(0 * mu, "utility", np.ones(len(mu)))}, Settings(n=N))
    assert nothing.ceiling is None
    assert nothing.models["x"].captured_attainable is None


@pytest.mark.slow
def test_folds_and_json_hold_the_ceiling():
    user, query, utility, p = accepted(200)
    settings = Settings(n=N, noise=0.45)
    half = query < 100
    folds = [diagnose_arrays(user[k], query[k], utility[k], {"x": p[k]}, settings) for k in (half, ~half)]
    whole = combine_folds(folds)
    assert whole.ceiling.reliability == pytest.approx(np.mean([one.ceiling.reliability for one in folds]), abs=0.01)
    told = whole.to_dict()
    assert Diagnosis.from_dict(told).to_dict() == told
    assert told["signature"]["noise"] == 0.45
    assert "ceiling" not in diagnose_arrays(user, query, utility, {"x": p}, Settings(n=N)).to_dict()
    with pytest.raises(InputError, match="noise"):
        Settings(noise=-1.0)


def test_a_share_of_what_can_be_known_is_never_told_beyond_all():
    rng = np.random.default_rng(0)
    query = np.repeat(np.arange(300), 8)
    mu = rng.standard_normal(len(query))
    utility = mu + 0.3 * rng.standard_normal(len(query))
    found = diagnose_arrays(query, query, utility, {"x": mu}, Settings(N, noise=0.9))
    assert found.models["x"].captured_attainable.value[-1] > 1
    assert "and all of what can be known" in " ".join(found.models["x"].findings)
