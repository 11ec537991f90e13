"""Prices: how they are read, what they are in utility, and that no verdict depends on the unit of the utility."""

import csv
import re
from math import log2, pi, sqrt
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bestfor.diagnostics import Reward, Settings, diagnose_arrays
from bestfor.diagnostics.price import HEADROOM, SD, UTILITY, Price, parse_price
from bestfor.errors import InputError

ROUGE = Path(__file__).resolve().parents[3] / "shared/cases/verdicts/ill_15_rouge.csv"


def diagnosed(utility, reward, users=20, **options):
    query = np.repeat(np.arange(len(utility)), utility.shape[1])
    return diagnose_arrays(query % users, query, utility.ravel(), {"x": reward.ravel()}, Settings(**options))


@pytest.mark.parametrize(
    ("text", "price"),
    [
        ("0.02", Price(0.02)),
        ("2%", Price(0.02)),
        ("5 % of the headroom", Price(0.05)),
        ("0.1 headroom per candidate", Price(0.1, per="candidate")),
        ("0.1 sd", Price(0.1, SD)),
        ("0.01 utility", Price(0.01, UTILITY)),
        ("0.01 utility per candidate", Price(0.01, UTILITY, "candidate")),
        ("0.002 EUR at 5", Price(0.002, "EUR", "candidate", 5.0)),
        ("0.4 s per doubling at 60 s", Price(0.4, "s", "doubling", 60.0)),
        ("1e-3", Price(0.001)),
    ],
)
def test_a_price_is_read(text, price):
    assert parse_price(text) == price


@pytest.mark.parametrize(
    "text", ["", "much", "-1", "nan", "0.1 EUR", "2% utility", "0.1 sd at 3", "1 s at 0", "1 s at -4", "1 2 3"]
)
def test_what_is_no_price_is_refused_in_one_line(text):
    with pytest.raises(InputError) as caught:
        parse_price(text)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError):
        Settings(price=text)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="0123456789.%- seutilityperdoublingcandidatEUR", max_size=40))
def test_any_text_is_a_price_or_is_refused(text):
    try:
        found = parse_price(text)
    except InputError:
        return
    assert found.amount >= 0


def test_prices_in_utility_by_hand():
    rng = np.random.default_rng(0)
    utility = rng.standard_normal((60, 6))
    found = diagnosed(utility, utility + rng.standard_normal(utility.shape), n=[1, 6], price="0.03")
    best = found.models["x"].best_n
    headroom = utility.max(axis=1).mean() - utility.mean()
    assert [one.price for one in best] == [0.03]
    assert best[0].cost_in_utility_units == pytest.approx(0.03 * headroom)
    assert found.signature["price"] == "3% of the headroom per doubling"
    pairs = np.mean([[max(a, b) for i, a in enumerate(row) for b in row[i + 1 :]] for row in utility])
    sd = diagnosed(utility, utility, n=[1, 6], price=Price(0.5, SD)).models["x"].best_n[0]
    assert sd.cost_in_utility_units == pytest.approx(0.5 * sqrt(pi) * (pairs - utility.mean()))
    money = diagnosed(utility, utility, n=[1, 6], price="0.3 EUR at 5").models["x"]
    assert money.best_n[0].cost_in_utility_units == pytest.approx(0.06)
    assert [one.cost_per_candidate for one in money.outlook.best_fixed_n] == [pytest.approx(0.06)]
    assert money.outlook.stopping.cost_per_candidate == pytest.approx(0.06)


def test_a_step_that_is_no_doubling_costs_its_part_of_one():
    price = Price(0.1)
    assert price.times(24) - price.times(16) == pytest.approx(log2(1.5))
    assert Price(0.1, per="candidate").times(24) - Price(0.1, per="candidate").times(16) == 8
    assert price.times(1) == 0


def test_verdicts_from_intervals():
    rng = np.random.default_rng(1)
    utility = rng.standard_normal((200, 16))
    good = diagnosed(utility, utility + rng.standard_normal(utility.shape), 50)
    assert good.models["x"].best_n[0].verdict == "pays"
    assert good.models["x"].best_n[0].further == "not measured"
    noise = diagnosed(utility, rng.standard_normal(utility.shape), 50).models["x"].best_n[0]
    assert noise.verdict in ("not shown", "does not pay")
    dear = diagnosed(utility, utility + rng.standard_normal(utility.shape), 50, price="3 utility").models["x"]
    assert (dear.best_n[0].n, dear.best_n[0].verdict) == (1, "does not pay")
    harm = diagnosed(utility, -utility, 50)
    assert (harm.models["x"].best_n[0].n, harm.models["x"].best_n[0].verdict) == (1, "does not pay")
    few = diagnosed(utility[:8], utility[:8], 4).models["x"].best_n[0]
    assert few.verdict == "undecided"


def test_undecided_is_a_gain_whose_worth_is_open():
    rng = np.random.default_rng(2)
    utility = rng.standard_normal((60, 8))
    found = diagnosed(utility, utility + 2 * rng.standard_normal(utility.shape), 60).models["x"]
    first = found.gain.at(2)
    per_doubling = Price(first.value, UTILITY)
    best = diagnosed(utility, utility + 2 * rng.standard_normal(utility.shape), 60, price=per_doubling).models["x"]
    assert best.best_n[0].verdict == "undecided"


@pytest.mark.parametrize("unit", [0.001, 1000.0])
@pytest.mark.parametrize("strength", [0.0, 0.15, 1.0])
def test_verdicts_and_sentences_do_not_depend_on_the_unit(unit, strength):
    rng = np.random.default_rng(3)
    utility = rng.standard_normal((120, 24))
    reward = strength * utility + rng.standard_normal(utility.shape)

    def told(scale):
        found = diagnosed(utility * scale, reward, 40)
        model = found.models["x"]
        sentences = [re.sub(r"-?\d+(\.\d+)?(e-?\d+)?", "#", one) for one in (found.headline, *model.findings)]
        return (
            [(one.n, one.verdict, one.further) for one in model.best_n],
            sentences,
            model.outlook.per_user_n.n.tolist(),
        )

    assert told(unit) == told(1.0)


@pytest.mark.skipif(not ROUGE.is_file(), reason="the made-up tables lie beside the project's folder")
def test_a_utility_of_small_spread_pays():
    with ROUGE.open() as file:
        rows = list(csv.DictReader(file))
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    utility, reward = (np.array(columns[name], float) for name in ("utility", "reward"))

    def told(scale):
        found = diagnose_arrays(columns["user"], columns["query"], utility * scale, {"reward": Reward(reward)})
        return found.headline, [(one.n, one.verdict) for one in found.models["reward"].best_n]

    headline, best = told(1.0)
    assert headline.startswith("Best-of-24 with `reward` pays: +0.014 of 0.039")
    assert best[0] == (24, "pays")
    assert told(1000.0)[1] == best


def test_the_headline_has_at_most_twenty_words():
    rng = np.random.default_rng(4)
    utility = rng.standard_normal((60, 8))
    for reward in (utility, -utility, rng.standard_normal(utility.shape), 0 * utility):
        for users in (60, 3, 1):
            assert len(diagnosed(utility, reward, users).headline.split()) <= 20
            assert len(diagnosed(0 * utility, reward, users).headline.split()) <= 20


def test_old_files_state_a_cost_in_utility():
    from bestfor.diagnostics import Diagnosis

    rng = np.random.default_rng(5)
    told = diagnosed(rng.standard_normal((20, 4)), rng.standard_normal((20, 4))).to_dict()
    told["models"]["x"]["best_n"] = [{"cost_in_utility_units": 0.01, "n": 4}]
    (best,) = Diagnosis.from_dict(told).models["x"].best_n
    assert (best.price, best.unit, best.n, best.verdict, best.per) == (0.01, UTILITY, 4, "", "doubling")
    assert best.stated.label == "0.01 of utility"
    assert Price(0.02).unit == HEADROOM
