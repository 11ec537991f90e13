"""The page's chart of the curve beyond the pool."""

from __future__ import annotations

from bestfor.report.beyond import NAMES, BeyondPlot
from bestfor.report.charts import svg
from bestfor.report.charts.draw import Size, end_labels, end_of, samples_canvas


def beyond(plot: BeyondPlot, size: Size) -> svg.Canvas:
    """The exact gain and its dashed continuations; beyond the last trusted N the ground is shaded."""
    n, far, line = plot.n.tolist(), plot.far.tolist(), plot.observed
    every = [0.0, *line.value, *line.low, *line.high, *plot.low, *plot.high]
    every += [value for series in plot.predicted.values() for value in series]
    shown = sorted({*n, *far})
    canvas = samples_canvas(size, shown, every, ["Gao et al."], "gain over the pool mean")
    _untrusted(canvas, plot)
    y = svg.coordinate(canvas.y(0.0))
    canvas.add("path", d=f"M{svg.coordinate(canvas.x.start)} {y}H{svg.coordinate(canvas.x.end)}", class_="floor")
    canvas.band(n, line.low.tolist(), line.high.tolist(), f"band chosen s{line.index}")
    canvas.band(far, plot.low.tolist(), plot.high.tolist(), f"band chosen s{line.index}")
    labels: list[tuple[float, str, str]] = []
    for method, series in plot.predicted.items():
        canvas.path(far, series.tolist(), f"far {method.replace('_', '-')} s{line.index}")
        labels.append((end_of(canvas, series.tolist()), NAMES[method], f"far-{method.replace('_', '-')}"))
    canvas.path(n, line.value.tolist(), f"line s{line.index}{' quiet' if line.quiet else ''}")
    end_labels(canvas, size, labels)
    return canvas


def _untrusted(canvas: svg.Canvas, plot: BeyondPlot) -> None:
    first, last = float(plot.far[0]), float(plot.far[-1])
    from_n = float(plot.trusted_to) if plot.trusted_to is not None else first
    if from_n >= last:
        return
    left, right = canvas.x(from_n), canvas.x.end
    note = svg.tag("title", "The predictions disagree here: do not rely on them.")
    box = {"x": left, "y": canvas.y.end, "width": right - left, "height": canvas.y.start - canvas.y.end}
    canvas.add("rect", note, **box, class_="untrusted")
