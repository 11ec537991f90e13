import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestfor.report import words


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0.0, "0%"),
        (0.371, "37%"),
        (0.0213, "2.1%"),
        (-0.0213, "−2.1%"),
        (1e-9, "0%"),
        (-1e-9, "0%"),
        (1, "100%"),
    ],
)
def test_percent(value, shown):
    assert words.percent(value) == shown


def test_what_is_not_a_number_is_shown_as_nothing():
    nothing = float("nan")
    assert words.percent(nothing) == words.number(nothing) == words.count(nothing) == words.NONE
    assert words.span(nothing, 1.0) == words.capped(0.5, nothing) == ""
    assert words.decimals([nothing, 0.5]) == words.decimals([0.5])


@pytest.mark.parametrize(
    ("value", "places", "shown"),
    [(1234.5, 1, "1,234.5"), (-0.5, 2, "−0.50"), (-0.0001, 2, "0.00"), (None, 2, "–"), (3, 0, "3")],
)
def test_number(value, places, shown):
    assert words.number(value, places) == shown


def test_signs_only_where_asked():
    assert words.number(0.2, 1, signed=True) == "+0.2"
    assert words.number(0.0, 1, signed=True) == "0.0"


def test_intervals_share_their_decimals():
    assert words.span(-0.01, 0.19) == "−1% to 19%"
    assert words.span(0.01, 0.02) == "1.0% to 2.0%"
    assert words.span(None, 0.2) == ""
    assert words.span(0.1, 0.25, "number", 2) == "0.10 to 0.25"


@given(st.floats(1e-5, 1e6))
def test_decimals_show_the_largest_value_to_three_digits(value):
    shown = words.number(value, words.decimals([value, None, 0.0])).replace(",", "")
    assert float(shown) == pytest.approx(value, rel=5.1e-2 if value < 1e-4 else 5.1e-3)


@given(st.text())
def test_cleaned_text_can_always_be_written(text):
    shown = words.clean(text)
    shown.encode("utf-8")
    assert not any(ord(char) < 32 and char not in "\n\t" for char in shown)
    assert words.clean(shown) == shown


@given(st.text(), st.integers(1, 50))
def test_clipped_text_fits(text, width):
    assert len(words.clip(text, width)) <= max(width, 2)


def test_every_term_and_law_is_explained():
    from bestfor.diagnostics.quantities.laws import LAWS
    from bestfor.report import tables
    from bestfor.report.charts.plots import LEDGER

    assert {key for key, _, _ in tables.QUANTITIES} <= words.TERMS.keys()
    assert set(LAWS) == words.LAWS.keys()
    assert {*LEDGER, "law", "observed"} == words.LEDGER.keys()
