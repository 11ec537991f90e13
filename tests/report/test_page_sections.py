"""What the sections of the page say: prices, predictions, calibration, reasons, notes."""

import html
import re

from bestfor.report import render_html
from bestfor.report.words import decimals, number, span


def words_of(source):
    """The visible words of a page."""
    bare = re.sub(r"<style>.*?</style>", "", source, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", bare)))


def tried(n):
    """The cell of the N that pays per doubling."""
    return "–" if n is None else f"{n} the largest tried" if n == 16 else str(n)


def test_an_interval_that_passes_everything_is_capped_and_explained(diagnosis):
    model = diagnosis["models"]["hierarchical"]
    model["captured_high"][-1] = 1.07
    source = render_html(diagnosis)
    words = words_of(source)
    share, low = (f"{100 * model[key][-1]:.0f}%" for key in ("captured", "captured_low"))
    assert f"{share} of the headroom captured at N = 16 {low} to 100% (capped)" in words
    assert "an end may lie beyond 100%, which nothing can capture" in words
    assert "107%" not in words


def test_prices_stand_with_their_verdicts(make):
    diagnosis = make(("hierarchical",))
    model = diagnosis["models"]["hierarchical"]
    words = words_of(render_html(diagnosis))
    assert "It pays, or does not, where the interval of that difference says so" in words
    assert [one["price"] for one in model["best_n"]] == [0.02, 0.01, 0.05, 0.1]
    for one in model["best_n"]:
        largest = " the largest tried" if one["n"] == 16 else ""
        assert f"{100 * one['price']:g}% of the headroom a doubling {one['n']}{largest} {one['verdict']} " in words
    for one in model["best_fixed_n"]:
        edge = " or more" if one["at_edge"] else ""
        assert f"{100 * one['price']:g}% of the headroom {one['n']}{edge} {one['net']:.3f}" in words


def test_other_rules_stand_beside_the_highest_reward(make):
    diagnosis = make(("hierarchical",))
    words = words_of(render_html(diagnosis))
    rule = diagnosis["models"]["hierarchical"]["rules"][0]
    digits = decimals(rule["difference"])
    value, low, high = (number(rule[key][1], digits) for key in ("difference", "difference_low", "difference_high"))
    assert value.startswith("\N{MINUS SIGN}")
    assert "Other rules Utility gained or lost when another rule picks among the same N candidates" in words
    assert f"rule N = 2 N = 4 N = 8 N = 16 top:2 {value} {low} to {high}" in words


def test_extrapolations_are_explained_beside_their_table(make):
    words = words_of(render_html(make(("hierarchical",))))
    assert "Order k: how good the candidate at each rank of the reward is, fitted by a polynomial of degree k" in words
    assert "Gao et al. (2023): gain = d (a \N{MINUS SIGN} b d), where d = " in words
    assert "N order 2 Gao et al. agree" in words


def test_a_predicted_std_is_judged_for_the_models_that_have_one(make):
    diagnosis = make(("hierarchical", "pooled"))
    source = render_html(diagnosis)
    words = words_of(source)
    found = diagnosis["models"]["hierarchical"]["calibration"]
    assert f"It is too sure: errors are {found['temperature'] ** 0.5:.2f} times what its std says" in words
    assert "This model predicts no standard deviation in the utility's units." in words
    inside = found["coverage"][-1]
    assert inside["level"] == 0.95
    assert f"95% {100 * inside['share']:.1f}% {span(inside['low'], inside['high'])}" in words
    assert "ENCE expected normalised calibration error: mean distance of the points from the dashed line" in words
    ence = f"{100 * found['ence']:.1f}% {span(found['ence_low'], found['ence_high'])}"
    assert f"relative {ence} ENCE by noise alone" in words
    assert "Utilities take 3 values only" in words
    assert "4 candidates without a standard deviation above 0 were left out." in words
    assert source.count('class="point s0"') > 10


def test_a_reason_that_the_diagnosis_gives_is_shown(make):
    diagnosis = make(("scores",))
    quantities = diagnosis["models"]["scores"]["quantities"]
    quantities |= {"rho_minus": None, "reasons": {"rho_minus": "no correlation is negative"}}
    assert "naive no correlation is negative" in words_of(render_html(diagnosis))


def test_what_is_not_available_for_some_models_is_said_in_two_words(make):
    diagnosis = make(("hierarchical", "pooled"))
    diagnosis["models"]["pooled"]["quantities"]["corrected"] = None
    source = render_html(diagnosis)
    table = source[source.index('aria-label="All quantities of all models"') :]
    assert '<span class="why">not available</span>' in table
    assert "it takes 20 queries with 20 candidates each" in source


def test_an_older_file_states_its_price_in_utility(diagnosis):
    model = diagnosis["models"]["hierarchical"]
    model["best_n"] = [{"cost_in_utility_units": 0.01, "n": 4}]
    words = words_of(render_html(diagnosis))
    assert "4 candidates if a doubling costs 0.01 of utility" in words


def test_notes_stand_with_their_model(make):
    diagnosis = make(("hierarchical", "pooled"))
    diagnosis["models"]["pooled"]["notes"] = ["3 users are served by pooled"]
    source = render_html(diagnosis)
    panel = source[source.rindex('<div class="panel p1">') :]
    assert "3 users are served by pooled" in panel
    assert "12 users without fit labels" not in panel


def test_beyond_the_pool_in_words(make):
    diagnosis = make(("hierarchical", "pooled"))
    diagnosis["pools_used"]["queries"] -= 40
    model = diagnosis["models"]["hierarchical"]
    words = words_of(render_html(diagnosis))
    sd = model["three_draw"]["sd"][-1]
    noise = number(sd, max(decimals([sd]) - 1, 2))
    assert (
        f"±{noise} (one standard deviation) at N = 16; the curve here is exact over all draws and adds none." in words
    )
    reach = model["extrapolation"]
    assert reach["verdict"].startswith(
        f"if the curve goes on as within the pool, the gain at N = {reach['trusted_to']} lies"
    )
    assert f"I{reach['verdict'][1:]}." in words
    assert f"Measured on {diagnosis['queries'] - 40} of {diagnosis['queries']} queries" in words
    assert model["stopping"]["verdict"] in words
    gain = [model["per_user_n"][key] for key in ("gain", "gain_low", "gain_high")]
    shown = f"{number(gain[0], 4, signed=True)} ({number(gain[1], 4)} to {number(gain[2], 4)})"
    assert f"{shown} net utility against one N for all" in words
    more = next(one for one in model["needed"] if one["quantity"] == "captured")
    assert f"{more['more_users']} users or {more['more_queries']} queries of theirs" in words


def test_a_reason_stands_where_nothing_could_be_judged(make):
    diagnosis = make(("scores",))
    model = diagnosis["models"]["scores"]
    model["per_user_n"] = {"cost_per_candidate": 0.01, "gain": None, "reason": "each user has one query here"}
    model["stopping"] = {"cost_per_candidate": 0.01, "advantage": None, "reason": "fewer than four users"}
    model["extrapolation"] = {"smallest_pool": 5, "verdict": "not extrapolable: 5 candidates", "steps": []}
    words = words_of(render_html(diagnosis))
    assert "Not known: each user has one query here." in words
    assert "Not replayed: fewer than four users." in words
    assert "Not extrapolable: 5 candidates." in words


def test_a_diagnosis_without_an_outlook_is_still_a_page(make):
    diagnosis = make(("scores",))
    for key in ("three_draw", "soft", "rules", "extrapolation", "best_fixed_n", "per_user_n", "stopping", "needed"):
        del diagnosis["models"]["scores"][key]
    del diagnosis["pools_used"]
    words = words_of(render_html(diagnosis))
    assert "Beyond the pool" not in words
    assert "3 random draws" not in words
