"""What the sections of the page say: prices, predictions, calibration, reasons, notes."""

import html
import re

from bestfor.report import render_html


def words_of(source):
    """The visible words of a page."""
    bare = re.sub(r"<style>.*?</style>", "", source, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", bare)))


def test_an_interval_that_passes_everything_is_capped_and_explained(diagnosis):
    diagnosis["models"]["hierarchical"]["captured_high"][-1] = 1.07
    source = render_html(diagnosis)
    words = words_of(source)
    assert "29% of the headroom captured at N = 16 23% to 100% (capped)" in words
    assert "an end may lie beyond 100%, which nothing can capture" in words
    assert "107%" not in words


def test_prices_are_stated_both_ways_side_by_side(make):
    words = words_of(render_html(make(("hierarchical",))))
    assert "Two ways to state a price, in utility. Per doubling: the last N up to which going from N to 2N" in words
    assert "price N, per doubling N, per candidate utility less N prices 0.005 16 the largest tried 16" in words
    assert "0.01 16 the largest tried 5 0.414" in words
    assert "0.02 – 3 0.414" in words


def test_other_rules_stand_beside_the_highest_reward(make):
    words = words_of(render_html(make(("hierarchical",))))
    assert "Other rules Utility gained or lost when another rule picks among the same N candidates" in words
    assert "rule N = 2 N = 4 N = 8 N = 16 top:2 \N{MINUS SIGN}0.0100 \N{MINUS SIGN}0.0200 to 0.0000" in words


def test_extrapolations_are_explained_beside_their_table(make):
    words = words_of(render_html(make(("hierarchical",))))
    assert "Order k: how good the candidate at each rank of the reward is, fitted by a polynomial of degree k" in words
    assert "Gao et al. (2023): gain = d (a \N{MINUS SIGN} b d), where d = " in words
    assert "N order 2 Gao et al. trusted" in words


def test_a_predicted_std_is_judged_for_the_models_that_have_one(make):
    source = render_html(make(("hierarchical", "pooled")))
    words = words_of(source)
    assert "It is too sure: errors are 1.20 times what its std says" in words
    assert "This model predicts no standard deviation in the utility's units." in words
    assert "95% 89.0% 88% to 90%" in words
    assert "ENCE expected normalised calibration error: mean distance of the points from the dashed line" in words
    assert "relative 21.0% 20% to 22% ENCE by noise alone" in words
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
    assert "pools hold fewer than 20 candidates" in source


def test_a_price_per_candidate_says_where_chance_is_not_ruled_out(diagnosis):
    diagnosis["models"]["hierarchical"]["best_n"] = [{"cost_in_utility_units": 0.01, "n": 1}]
    words = words_of(render_html(diagnosis))
    assert (
        "1 candidate pays where a doubling costs 0.01 5 where each candidate costs 0.01, chance not ruled out" in words
    )


def test_notes_stand_with_their_model(make):
    diagnosis = make(("hierarchical", "pooled"))
    diagnosis["models"]["pooled"]["notes"] = ["3 users are served by pooled"]
    source = render_html(diagnosis)
    panel = source[source.rindex('<div class="panel p1">') :]
    assert "3 users are served by pooled" in panel
    assert "12 users without fit labels" not in panel


def test_beyond_the_pool_in_words(make):
    words = words_of(render_html(make(("hierarchical", "pooled"))))
    assert "±0.0071 (one standard deviation) at N = 8; the curve here is exact over all draws and adds none." in words
    assert "Extrapolable to N = 64: the two predictions agree." in words
    assert "Measured on 300 of 400 queries" in words
    assert "Stopping early pays." in words
    assert "+0.0040 (−0.0010 to 0.0090) net utility against one N for all" in words
    assert "200 users or 200 queries of theirs" in words


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
    assert "This diagnosis says nothing beyond its curve." in words
    assert "3 random draws" not in words
