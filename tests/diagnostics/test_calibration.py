import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bestfor.diagnostics import Reward, Settings, combine_folds, diagnose_arrays
from bestfor.diagnostics.calibration import (
    Binning,
    BinningPass,
    Predictions,
    SummingPass,
    calibrate,
    calibration_from_sums,
    pool_calibrations,
)
from bestfor.diagnostics.wire import calibration_json
from bestfor.errors import InputError

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def simulate(users, each, *, factor=1.0, spread=0.4, seed=0):
    """Predictions whose errors are ``factor`` times their standard deviations, which differ by ``spread``."""
    rng = np.random.default_rng(seed)
    rows = users * each
    std = np.exp(spread * rng.normal(size=rows))
    mean = rng.normal(size=rows)
    return np.repeat(np.arange(users), each), mean + factor * std * rng.normal(size=rows), mean, std


def numbers(found):
    told = json.loads(json.dumps(calibration_json(found), default=np.ndarray.tolist))
    told.pop("verdict")
    return told


def test_golden_values():
    found = calibrate(["a", "a", "b", "b"], [1, -1, 2, 0], [0, 0, 0, 0], [1, 1, 2, 2])
    assert found.temperature.value == pytest.approx(0.75)
    assert found.nll.value == pytest.approx(HALF_LOG_2PI + 0.5 * math.log(2) + 0.375)
    assert found.nll_constant == pytest.approx(HALF_LOG_2PI + 0.5 * math.log(1.5) + 0.5)
    assert found.gain.value == pytest.approx(found.nll_constant - found.nll.value)
    assert found.tempered_gain.value == pytest.approx(0.5 * (math.log(1.5) - math.log(2) - math.log(0.75)))
    assert found.reliability.predicted == pytest.approx([math.sqrt(2.5)])
    assert found.reliability.observed == pytest.approx([math.sqrt(1.5)])
    assert found.ence.value == pytest.approx(1 - math.sqrt(0.6))
    assert [one.share.value for one in found.coverage] == [0.25, 1.0, 1.0, 1.0]
    # Without a only z^2 = 1, 0 are left, without b only 1, 1: log T moves by log(2/3) and log(4/3).
    error = math.sqrt(0.5 * (math.log(2 / 3) ** 2 + math.log(4 / 3) ** 2))
    half = float(stats.t.ppf(0.975, 1)) * error
    assert found.temperature.low == pytest.approx(0.75 * math.exp(-half))
    assert found.temperature.high == pytest.approx(0.75 * math.exp(half))


def test_the_right_std_is_found_right_and_a_wrong_one_by_its_factor():
    right = calibrate(*simulate(300, 40))
    assert right.temperature.low < 1 < right.temperature.high
    assert right.ence.value == pytest.approx(right.ence_by_noise, abs=0.01)
    assert right.gain.low > 0.1
    for one in right.coverage:
        assert one.share.low <= one.level <= one.share.high
    assert np.abs(right.pit * 20 - 1).max() < 0.15
    wrong = calibrate(*simulate(300, 40, factor=1.5))
    assert wrong.temperature.value == pytest.approx(2.25, rel=0.05)
    assert wrong.ence.value == pytest.approx(0.5, abs=0.04)
    assert wrong.coverage[-1].share.high < 0.85
    assert wrong.tempered_gain.value == pytest.approx(right.tempered_gain.value, abs=0.03)
    # A T on the variance scales every RMV alike: bins keep their order and their ratio.
    assert wrong.reliability.observed / wrong.reliability.predicted == pytest.approx(np.full(10, 1.5), rel=0.1)


def test_against_scipy():
    user, utility, mean, std = simulate(60, 30, factor=1.2, seed=3)
    found = calibrate(user, utility, mean, std)
    assert found.nll.value == pytest.approx(-stats.norm.logpdf(utility, mean, std).mean())
    rmse = np.sqrt(((utility - mean) ** 2).mean())
    assert found.nll_constant == pytest.approx(-stats.norm.logpdf(utility, mean, rmse).mean())
    for one in found.coverage:
        low, high = stats.norm.interval(one.level, mean, std)
        assert one.share.value == pytest.approx(((low <= utility) & (utility <= high)).mean())
    counts, _ = np.histogram(stats.norm.cdf(utility, mean, std), np.linspace(0, 1, 21))
    assert found.pit == pytest.approx(counts / len(utility))
    best = max(np.linspace(0.5, 3, 2001), key=lambda t: stats.norm.logpdf(utility, mean, np.sqrt(t) * std).sum())
    assert found.temperature.value == pytest.approx(best, abs=2e-3)


def test_bins_are_those_of_the_sorted_stds():
    user, utility, mean, std = simulate(60, 40, seed=4)
    found = calibrate(user, utility, mean, std)
    order = np.argsort(std)
    ends = np.cumsum(found.reliability.candidates)[:-1]
    assert found.reliability.candidates == pytest.approx(np.full(10, 240), rel=0.1)
    for part, predicted, observed in zip(
        np.split(order, ends), found.reliability.predicted, found.reliability.observed, strict=True
    ):
        assert predicted == pytest.approx(np.sqrt((std[part] ** 2).mean()))
        assert observed == pytest.approx(np.sqrt(((utility - mean)[part] ** 2).mean()))


def test_intervals_are_those_of_leaving_users_out_by_hand():
    user, utility, mean, std = simulate(12, 30, factor=1.3, seed=5)
    found = calibrate(user, utility, mean, std)
    temperatures = [calibrate(*(one[user != out] for one in (user, utility, mean, std))) for out in range(12)]
    moves = np.log([one.temperature.value for one in temperatures]) - np.log(found.temperature.value)
    half = float(stats.t.ppf(0.975, 11)) * np.sqrt(11 / 12 * (moves**2).sum())
    assert np.log([found.temperature.low, found.temperature.high]) == pytest.approx(
        np.log(found.temperature.value) + np.array([-half, half])
    )
    gains = np.array([one.gain.value for one in temperatures]) - found.gain.value
    assert found.gain.high - found.gain.value == pytest.approx(
        float(stats.t.ppf(0.975, 11)) * np.sqrt(11 / 12 * (gains**2).sum())
    )


@pytest.mark.parametrize("users", [20, 60])
def test_coverage_of_the_intervals_where_users_differ(users):
    rng = np.random.default_rng(users)
    held = {"temperature": 0, "coverage": 0}
    times = 200
    for _ in range(times):
        own = np.exp(0.3 * rng.normal(size=users))[:, None] * np.ones(8)
        error = own * rng.normal(size=(users, 8))
        found = calibrate(np.repeat(np.arange(users), 8), error.ravel(), np.zeros(8 * users), np.ones(8 * users))
        held["temperature"] += found.temperature.low <= math.exp(0.18) <= found.temperature.high
        inside = 0.8775  # of N(0, e^(2 * .3 g)) in the 90 % interval of N(0, 1), by numerical integration
        held["coverage"] += found.coverage[2].share.low <= inside <= found.coverage[2].share.high
    assert 0.89 * times <= held["temperature"] <= 0.985 * times
    assert 0.90 * times <= held["coverage"] <= 0.985 * times


def test_votes_are_judged_by_the_randomised_pit_in_expectation():
    rng = np.random.default_rng(6)
    rows = 3000
    mean = rng.normal(0, 0.5, rows)
    std = np.full(rows, 0.7)
    vote = np.clip(np.round(rng.normal(mean, std)), -1, 1)
    found = calibrate(np.repeat(np.arange(100), 30), vote, mean, std)
    assert found.values == 3
    cuts = np.array([-np.inf, -0.5, 0.5, np.inf])
    low, high = (stats.norm.cdf((cuts[vote.astype(int) + 1 + side] - mean) / std) for side in (0, 1))
    drawn = rng.uniform(low, high, (400, rows))
    counts, _ = np.histogram(drawn, np.linspace(0, 1, 21))
    assert found.pit == pytest.approx(counts / drawn.size, abs=6e-4)
    assert found.coverage[1].share.value == pytest.approx((np.abs(drawn - 0.5) <= 0.4).mean(), abs=1e-3)
    assert np.abs(found.pit * 20 - 1).max() < 0.1
    few = calibrate(np.arange(4), np.array([0.0, 1, 0, 1]), np.zeros(4), np.ones(4))
    assert few.values is None, "four numbers are not yet a discrete scale"


def test_one_std_for_all_cannot_tell_and_a_swapped_one_points_wrong():
    user, utility, mean, std = simulate(100, 40, seed=7)
    flat = calibrate(user, utility, mean, np.full(len(std), std.mean()))
    assert len(flat.reliability.candidates) == 1
    assert flat.tempered_gain.value == pytest.approx(0.0, abs=1e-12)
    assert "same for nearly all candidates" in calibration_json(flat)["verdict"]
    swapped = calibrate(user, utility, mean, 1 / std)
    assert swapped.tempered_gain.high < 0
    assert "one constant std would be better" in calibration_json(swapped)["verdict"]


@pytest.mark.parametrize(
    ("factor", "said"),
    [(1.5, "it is too sure: errors are 1.49"), (0.5, "it is not sure enough"), (1.0, "its std has the right size")],
)
def test_verdicts(factor, said):
    found = calibrate(*simulate(200, 30, factor=factor))
    assert said in calibration_json(found)["verdict"]
    assert "tells sure predictions from unsure ones" in calibration_json(found)["verdict"]


def test_one_user_has_no_interval():
    _, utility, mean, std = simulate(1, 60)
    found = calibrate(["a"] * 60, utility, mean, std)
    assert (found.temperature.low, found.ence.low, found.coverage[0].share.low) == (None, None, None)
    assert np.isnan(found.reliability.low).all()
    assert "one user alone carries no interval" in calibration_json(found)["verdict"]


def test_what_cannot_be_used_is_counted_or_refused():
    std = np.array([1.0, 0.0, np.nan, np.inf, 2.0])
    found = calibrate(list("aabbb"), np.arange(5.0), np.zeros(5), std)
    assert (found.candidates, found.left_out) == (2, 3)
    assert calibrate(["a"], [1.0], [0.0], [0.0]) is None
    with pytest.raises(InputError, match="std, row 2: found -1; expected a standard deviation, 0 or more"):
        calibrate(["a", "b"], [1.0, 2.0], [0.0, 0.0], [1.0, -1.0])
    with pytest.raises(InputError, match="std: found shape"):
        calibrate(["a", "b"], [1.0, 2.0], [0.0, 0.0], [1.0])


@pytest.mark.parametrize("std", [1e-300, 5e-324, 1e300])
def test_absurd_stds_warn_nobody(std):
    assert calibrate(["a", "b"], [1.0, 2.0], [0.0, 0.0], [std, std]) is None
    exact = calibrate(["a", "b"], [1.0, 2.0], [1.0, 2.0], [1.0, 1.0])
    assert exact.temperature.value == 0.0


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), power=st.integers(-20, 20), cuts=st.lists(st.integers(0, 240), max_size=4))
def test_units_order_blocks_and_doubling_change_nothing(seed, power, cuts):
    user, utility, mean, std = simulate(8, 30, seed=seed)
    plain = calibrate(user, utility, mean, std)
    unit = 2.0**power
    scaled = calibrate(user, utility * unit, mean * unit, std * unit)
    for name in ("temperature", "ence", "gain", "tempered_gain"):
        assert getattr(scaled, name).value == pytest.approx(getattr(plain, name).value, rel=1e-9, abs=1e-9)
    order = np.random.default_rng(seed).permutation(len(user))
    shuffled = calibrate(user[order], utility[order], mean[order], std[order])
    assert shuffled.temperature.value == pytest.approx(plain.temperature.value)
    assert shuffled.ence.value == pytest.approx(plain.ence.value)
    blocks = [slice(low, high) for low, high in zip([0, *sorted(cuts)], [*sorted(cuts), 240], strict=True)]
    look = BinningPass()
    whole = Predictions(utility, mean, std)
    for block in blocks:
        look.add(whole.take(block))
    tally = SummingPass(look.binning())
    for block in blocks:
        names, codes = np.unique(user[block], return_inverse=True)
        tally.add([str(name) for name in names], codes.astype(np.int64), whole.take(block))
    in_blocks = calibration_from_sums(tally.sums())
    assert in_blocks.temperature.low == pytest.approx(plain.temperature.low)
    assert in_blocks.reliability.candidates.tolist() == plain.reliability.candidates.tolist()
    assert in_blocks.reliability.high == pytest.approx(plain.reliability.high)
    assert in_blocks.pit.sum() == pytest.approx(1.0)
    twice = pool_calibrations([plain, plain])
    assert twice.temperature.value == pytest.approx(plain.temperature.value)
    assert twice.ence.value == pytest.approx(plain.ence.value)
    assert twice.temperature.high == pytest.approx(plain.temperature.high)
    assert (twice.candidates, twice.users) == (480, 8)


def test_folds_with_fewer_bins_are_put_together_by_rank():
    fine = calibrate(*simulate(10, 30, seed=1))
    coarse = calibrate(*simulate(10, 6, seed=2))
    both = pool_calibrations([fine, coarse])
    assert len(both.reliability.candidates) == len(coarse.reliability.candidates) == 3
    assert both.reliability.candidates.sum() == both.candidates == 360
    apart = fine.evidence.parts.plain.sum(axis=0) + coarse.evidence.parts.plain.sum(axis=0)
    assert both.evidence.parts.plain.sum(axis=0) == pytest.approx(apart)
    assert pool_calibrations([fine, None]) is None
    assert Binning(np.zeros(0, dtype=np.int64), None, 0).bins == 1


def rewards_of(seed):
    user, utility, mean, std = simulate(20, 24, seed=seed)
    query = user * 3 + np.arange(len(user)) % 3
    models = {
        "sure": Reward(mean, "utility", std),
        "plain": Reward(mean, "utility"),
        "theirs": Reward(mean, "arbitrary", std),
    }
    return diagnose_arrays(user, query, utility, models, Settings(n=[1, 4]))


def test_a_diagnosis_holds_it_for_models_on_the_utility_scale():
    found = rewards_of(1)
    assert found.models["plain"].calibration is None
    assert found.models["theirs"].calibration is None
    user, utility, mean, std = simulate(20, 24, seed=1)
    inside, alone = numbers(found.models["sure"].calibration), numbers(calibrate(user, utility, mean, std))
    for name, value in alone["reliability"].items():
        assert inside["reliability"][name] == pytest.approx(value)
    assert (inside["temperature_low"], inside["pit"]) == (pytest.approx(alone["temperature_low"]), alone["pit"])
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["models"]["sure"]["calibration"]["candidates"] == 480
    assert told["models"]["plain"]["calibration"] is None
    both = combine_folds([found, rewards_of(2)])
    assert both.models["sure"].calibration.candidates == 960
    assert both.models["plain"].calibration is None
    with pytest.raises(InputError, match="std of 'x': found shape"):
        diagnose_arrays([0, 0], [0, 0], [1.0, 2.0], {"x": Reward(np.zeros(2), "utility", np.ones(3))})
