"""The page's charts of a predicted standard deviation."""

from __future__ import annotations

import math

from bestfor.report import words
from bestfor.report.charts import svg
from bestfor.report.charts.draw import WIDE, Size, bar, bottom, heading, hover, plain_canvas
from bestfor.report.reliability import PitPlot, ReliabilityPlot


def reliability(plot: ReliabilityPlot, size: Size, index: int) -> svg.Canvas:
    """Bins with whiskers beside the diagonal; ``index`` is the model's colour."""
    ends = plot.ends
    canvas = plain_canvas(size, ends, ends, right=30)
    steps = svg.ticks(*ends)
    places = svg.places(steps)
    canvas.rows(steps, lambda value: words.number(value, places))
    canvas.columns(steps, lambda value: words.number(value, places))
    canvas.path(list(ends), list(ends), "oracle")
    canvas.path(plot.predicted.tolist(), plot.observed.tolist(), f"link s{index}")
    rows = zip(*(part.tolist() for part in (plot.predicted, plot.observed, plot.low, plot.high)), strict=True)
    for (predicted, observed, low, high), many in zip(rows, plot.candidates.tolist(), strict=True):
        if not math.isfinite(observed):
            continue
        x = svg.coordinate(canvas.x(predicted))
        if math.isfinite(low) and math.isfinite(high):
            top, foot = (svg.coordinate(canvas.y(end)) for end in (high, low))
            canvas.add("path", d=f"M{x} {foot}V{top}", class_=f"whisk s{index}")
        note = f"predicted {words.number(predicted, 3)}, observed {words.number(observed, 3)}, {many:,} candidates"
        dot = {"cx": canvas.x(predicted), "cy": canvas.y(observed), "r": 4, "class_": f"point s{index}"}
        canvas.add("circle", hover(canvas, svg.tag("title", note)), **dot)
    heading(canvas, "error observed (root mean square)")
    bottom(canvas, size, "standard deviation predicted")
    return canvas


def pit(plot: PitPlot, size: Size) -> svg.Canvas:
    """Bars in percent of the candidates, and the height that all of them should have."""
    level = 1 / len(plot.share)
    most = max(float(plot.share.max()), level) * 1.08
    canvas = plain_canvas(size, (0.0, 1.0), (0.0, most), right=22)
    steps = svg.ticks(0.0, most, 5)
    places = max(svg.places(steps) - 2, 0)
    canvas.rows(steps, lambda value: words.percent(value, places))
    for low, high, share in zip(plot.edges, plot.edges[1:], plot.share, strict=False):
        note = f"{words.number(low, 2)} to {words.number(high, 2)}: {words.percent(float(share), 1)} of the candidates"
        bar(canvas, (float(low), float(high)), (0.0, float(share)), "good", note)
    y = svg.coordinate(canvas.y(level))
    canvas.add("path", d=f"M{svg.coordinate(canvas.x.start)} {y}H{svg.coordinate(canvas.x.end)}", class_="oracle")
    canvas.columns([0.0, 0.25, 0.5, 0.75, 1.0] if size is WIDE else [0.0, 0.5, 1.0], lambda value: f"{value:g}")
    heading(canvas, "share of the candidates")
    bottom(canvas, size, "place of the utility in its predicted distribution")
    return canvas
