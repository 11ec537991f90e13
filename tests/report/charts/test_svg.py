import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestfor.report.charts import svg


@given(st.floats(-1e4, 1e4), st.floats(1e-2, 1e6), st.integers(2, 10))
def test_ticks_are_few_round_and_inside(low, width, most):
    high = low + width
    ticks = svg.ticks(low, high, most)
    assert len(ticks) <= most + 1
    assert all(low - 1e-6 * width <= tick <= high + 1e-6 * width for tick in ticks)


def test_ticks_of_known_ranges():
    assert svg.ticks(0.0, 1.0, 6) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert svg.ticks(-0.3, 1.1, 4) == pytest.approx([0.0, 0.5, 1.0])
    assert svg.ticks(2.0, 2.0) == [2.0]


@given(st.lists(st.floats(0, 300), min_size=1, max_size=15), st.floats(5, 20))
def test_labels_move_apart_keep_their_order_and_stay_inside(positions, gap):
    placed = svg.spread(positions, gap, 0.0, 300.0)
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    steps = [placed[b] - placed[a] for a, b in itertools.pairwise(order)]
    fair = min(gap, 300.0 / max(len(positions) - 1, 1))
    assert all(step >= fair - 1e-6 for step in steps)
    assert all(-1e-6 <= place <= 300.0 + 1e-6 for place in placed)


def test_labels_that_fit_stay_where_they_are():
    assert svg.spread([10.0, 40.0, 200.0], 15.0, 0.0, 300.0) == [10.0, 40.0, 200.0]


def test_axes_are_linear_or_logarithmic():
    assert svg.Axis(0, 10, 100, 200)(5) == 150
    assert svg.Axis(1, 16, 0, 400, log=True)(4) == 200
    assert svg.Axis(3, 3, 0, 400)(3) == 200


def test_curves_break_where_values_are_missing():
    canvas = svg.Canvas(100, 100, svg.Axis(0, 4, 0, 100), svg.Axis(0, 1, 100, 0))
    canvas.path([0, 1, 2, 3, 4], [0.0, 1.0, math.nan, 0.5, 0.5], "line")
    assert canvas.elements == ['<path d="M0 100L25 0M75 50L100 50" class="line"/>']


def test_bands_need_two_points():
    canvas = svg.Canvas(100, 100, svg.Axis(0, 1, 0, 100), svg.Axis(0, 1, 100, 0))
    canvas.band([0, 1], [0.0, math.nan], [1.0, math.nan], "band")
    assert canvas.elements == []
    canvas.band([0, 1], [0.0, 0.0], [1.0, 0.5], "band")
    assert canvas.elements == ['<path d="M0 0L100 50L100 100L0 100Z" class="band"/>']


def test_text_is_escaped():
    assert svg.tag("text", "<b>", title='"&') == '<text title="&#34;&amp;">&lt;b&gt;</text>'


def test_column_labels_never_touch():
    canvas = svg.Canvas(200, 100, svg.Axis(1, 30, 0, 200, log=True), svg.Axis(0, 1, 80, 0))
    canvas.columns(range(1, 31), lambda value: str(int(value)))
    drawn = "".join(canvas.elements)
    assert ">30<" in drawn
    assert ">29<" not in drawn
    assert ">1<" in drawn


@given(st.lists(st.floats(-100, 100), max_size=10))
def test_padded_ranges_hold_every_value(values):
    low, high = svg.padded([*values, math.nan])
    assert low < high
    assert all(low <= value <= high for value in values)
