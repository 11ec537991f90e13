"""Draw the plots of :mod:`bestfor.report.charts.plots` as inline SVG for the page, each once wide and once narrow."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from markupsafe import Markup

from bestfor.moved import renamed
from bestfor.report import words
from bestfor.report.charts import svg
from bestfor.report.charts.plots import (
    NAMES,
    BeyondPlot,
    CorrelationPlot,
    CurvesPlot,
    LawPlot,
    Line,
    PitPlot,
    ReliabilityPlot,
    UsersPlot,
    gain_axis,
)

__getattr__ = renamed(
    __name__,
    {
        "Size": "ChartSize",
    },
)


SORTED_AT_MOST = 60
"""Above this many users a histogram shows more than sorted dots."""


@dataclass(frozen=True)
class ChartSize:
    """Format of every chart; the window's width shows one of the two.

    Attributes:
        name: ``wide`` or ``narrow``, a class of the style sheet.
        width: in pixels.
        height: in pixels.
        right: pixels that labels on the right take at most.
    """

    name: str
    width: int
    height: int
    right: int


WIDE = ChartSize("wide", 580, 360, 132)
NARROW = ChartSize("narrow", 350, 290, 12)


@dataclass(frozen=True)
class Caption:
    """Words for those who do not see a chart.

    Attributes:
        ident: key of its identifiers.
        title: its name.
        description: what it shows, in a sentence or two.
    """

    ident: str
    title: str
    description: str


def both(draw: Callable[[ChartSize], svg.Canvas], caption: Caption) -> Markup:
    """Draw a chart in both formats; each has its own identifiers."""
    return Markup("").join(
        draw(size).render(caption.title, caption.description, f"{caption.ident}-{size.name}", size.name)
        for size in (WIDE, NARROW)
    )


def curves(plot: CurvesPlot, size: ChartSize) -> svg.Canvas:
    """Draw all models; each curve's class is its model's, so that the choice of a model can bring it forward."""
    reference = [] if plot.oracle is None else [float(value) for value in plot.oracle]
    floor = [] if plot.floor is None else [plot.floor]
    values = [v for line in plot.lines for v in (*line.value, *line.low, *line.high)]
    names = [line.name for line in plot.lines] + ([] if plot.share else ["pool mean"])
    canvas = samples_canvas(size, plot.n.tolist(), [*values, *reference, *floor], names, plot.axis)
    n = plot.n.tolist()
    labels: list[tuple[float, str, str]] = []
    if plot.floor is not None:
        y = svg.coordinate(canvas.y(plot.floor))
        canvas.add("path", d=f"M{svg.coordinate(canvas.x.start)} {y}H{svg.coordinate(canvas.x.end)}", class_="floor")
        if not plot.share:
            labels.append((canvas.y(plot.floor), "pool mean", "reference"))
    if plot.oracle is not None:
        canvas.path(n, plot.oracle.tolist(), "oracle")
        labels.append((end_of(canvas, reference), "oracle", "reference"))
    for line in plot.lines:
        canvas.band(n, line.low.tolist(), line.high.tolist(), f"band s{line.index}{' quiet' if line.quiet else ''}")
    for line in sorted(plot.lines, key=lambda line: not line.quiet):
        curve(canvas, n, line)
        labels.append(
            (end_of(canvas, line.value.tolist()), line.name, f"s{line.index}{' quiet' if line.quiet else ''}")
        )
    end_labels(canvas, size, labels)
    return canvas


def law(plot: LawPlot, size: ChartSize) -> svg.Canvas:
    """Draw the observed gain with its band, and a dashed line for each law."""
    n = plot.n.tolist()
    line = plot.observed
    values = [*line.value, *line.low, *line.high, 0.0]
    every = [*values, *(v for series in plot.laws.values() for v in series)]
    canvas = samples_canvas(size, n, every, ["law: reward"], gain_axis(plot.name))
    y = svg.coordinate(canvas.y(0.0))
    canvas.add("path", d=f"M{svg.coordinate(canvas.x.start)} {y}H{svg.coordinate(canvas.x.end)}", class_="floor")
    canvas.band(n, line.low.tolist(), line.high.tolist(), f"band chosen s{line.index}")
    labels: list[tuple[float, str, str]] = []
    for name, series in plot.laws.items():
        canvas.path(n, series.tolist(), f"law {name}")
        labels.append((end_of(canvas, series.tolist()), f"law: {name}", f"law-{name}"))
    curve(canvas, n, line)
    labels.append((end_of(canvas, line.value.tolist()), "observed", f"s{line.index} strong"))
    end_labels(canvas, size, labels)
    return canvas


def users(plot: UsersPlot, size: ChartSize) -> svg.Canvas:
    """Draw sorted dots for few users, a histogram for many; shares beyond [-1, 1] stand at the edge."""
    return _user_dots(plot, size) if len(plot.names) <= SORTED_AT_MOST else _user_bars(plot, size)


def _user_dots(plot: UsersPlot, size: ChartSize) -> svg.Canvas:
    shares = [min(max(float(share), -1.0), 1.0) for share in plot.captured]
    low, high = min(svg.padded(shares)[0], -0.05), max(svg.padded(shares)[1], 0.05)
    canvas = plain_canvas(size, (1.0, float(max(len(shares), 2))), (low, high), right=16)
    steps = svg.ticks(low, high)
    canvas.rows(steps, _percent(steps))
    y = svg.coordinate(canvas.y(0.0))
    canvas.add("path", d=f"M{svg.coordinate(canvas.x.start)} {y}H{svg.coordinate(canvas.x.end)}", class_="floor")
    for rank, (name, share, collapsed) in enumerate(zip(plot.names, shares, plot.collapsed, strict=True), start=1):
        true = words.percent(float(plot.captured[rank - 1]))
        note = f"{words.clip(words.clean(name), 60)}: {true}{', collapsed' if collapsed else ''}"
        class_ = "dot collapsed" if collapsed else "dot"
        canvas.add(
            "circle", hover(canvas, svg.tag("title", note)), cx=canvas.x(rank), cy=canvas.y(share), r=4, class_=class_
        )
    heading(canvas, "captured share")
    bottom(canvas, size, "users, from least to most captured", ticks=False)
    return canvas


def _user_bars(plot: UsersPlot, size: ChartSize) -> svg.Canvas:
    edges, counts, collapsed = plot.histogram()
    canvas = _bars_canvas(size, -1.0, 1.0, int(counts.max()), "users")
    for low, high, every, flat in zip(edges, edges[1:], counts, collapsed, strict=False):
        label = f"{words.percent(low)} to {words.percent(high)}: {words.plural(int(every), 'user')}"
        note = f"{label}, {int(flat)} collapsed" if flat else label
        bar(canvas, (float(low), float(high)), (int(flat), int(every)), "bad" if high <= 1e-9 else "good", note)
        if flat:
            bar(canvas, (float(low), float(high)), (0, int(flat)), "flat", note)
    canvas.columns([-1.0, -0.5, 0.0, 0.5, 1.0], words.percent)
    _zero(canvas)
    bottom(canvas, size, "captured share of the user's headroom")
    return canvas


def correlations(plot: CorrelationPlot, size: ChartSize) -> svg.Canvas:
    """Draw bars, those of negative correlation in the colour of harm."""
    canvas = _bars_canvas(size, float(plot.edges[0]), float(plot.edges[-1]), int(plot.counts.max()), "queries")
    for low, high, count, negative in zip(plot.edges, plot.edges[1:], plot.counts, plot.negative, strict=False):
        label = f"{words.number(low, 2)} to {words.number(high, 2)}: {words.plural(int(count), 'query', 'queries')}"
        bar(canvas, (float(low), float(high)), (0, int(count)), "bad" if negative else "good", label)
    steps = svg.ticks(float(plot.edges[0]), float(plot.edges[-1]), 9 if size is WIDE else 5)
    canvas.columns(steps, lambda value: words.number(value, svg.places(steps)))
    _zero(canvas)
    bottom(canvas, size, "correlation of reward and utility within a query")
    return canvas


def beyond(plot: BeyondPlot, size: ChartSize) -> svg.Canvas:
    """Draw the exact gain and its dashed continuations; beyond the last trusted N the ground is shaded."""
    n, far, line = plot.n.tolist(), plot.far.tolist(), plot.observed
    every = [0.0, *line.value, *line.low, *line.high, *plot.low, *plot.high]
    every += [value for series in plot.predicted.values() for value in series]
    shown = sorted({*n, *far})
    canvas = samples_canvas(size, shown, every, ["Gao et al."], gain_axis(plot.name))
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


def reliability(plot: ReliabilityPlot, size: ChartSize, index: int) -> svg.Canvas:
    """Draw bins with whiskers beside the diagonal; ``index`` is the model's colour."""
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


def pit(plot: PitPlot, size: ChartSize) -> svg.Canvas:
    """Draw bars in percent of the candidates, and the height that all of them should have."""
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


def plain_canvas(
    size: ChartSize, x: tuple[float, float], y: tuple[float, float], *, right: int, log: bool = False
) -> svg.Canvas:
    """Make axes without ticks.

    Args:
        size: of the chart.
        x: ends of the horizontal axis, in its own unit.
        y: ends of the vertical axis, likewise.
        right: pixels to leave free on the right.
        log: whether the horizontal axis is logarithmic.
    """
    across = svg.Axis(x[0], x[1], 52.0, float(size.width - right), log=log)
    up = svg.Axis(y[0], y[1], float(size.height - 46), 26.0)
    return svg.Canvas(size.width, size.height, across, up)


def samples_canvas(size: ChartSize, n: list[int], values: Iterable[float], names: list[str], what: str) -> svg.Canvas:
    """Make axes for something over N.

    Args:
        size: of the chart.
        n: values of N, increasing.
        values: all that is drawn; the vertical axis spans them.
        names: of the labels on the right; the longest sets how much room they get.
        what: the vertical axis shows, with its unit.
    """
    low, high = svg.padded(values)
    first, last = (float(n[0]), float(n[-1])) if n else (1.0, 2.0)
    room = 24 + math.ceil(svg.CHARACTER * max((len(name) for name in names), default=0))
    canvas = plain_canvas(size, (first, last), (low, high), right=min(room, size.right), log=True)
    steps = svg.ticks(low, high)
    decimals = svg.places(steps)
    canvas.rows(
        steps, _percent(steps) if what.startswith("captured share") else lambda value: words.number(value, decimals)
    )
    canvas.columns([float(value) for value in n], lambda value: str(int(value)))
    heading(canvas, what)
    bottom(canvas, size, "N, candidates drawn")
    return canvas


def _bars_canvas(size: ChartSize, low: float, high: float, most: int, noun: str) -> svg.Canvas:
    canvas = plain_canvas(size, (low, high), (0.0, most * 1.06 or 1.0), right=22)
    steps = [step for step in svg.ticks(0.0, most * 1.06 or 1.0, 5) if step == int(step)]
    canvas.rows(steps, words.count)
    heading(canvas, noun)
    return canvas


def _percent(steps: list[float]) -> Callable[[float], str]:
    decimals = max(svg.places(steps) - 2, 0)
    return lambda value: words.percent(value, decimals)


def heading(canvas: svg.Canvas, text: str) -> None:
    """Write what the vertical axis shows, above it."""
    canvas.text(0, 13, text, class_="axis")


def bottom(canvas: svg.Canvas, size: ChartSize, text: str, *, ticks: bool = True) -> None:
    """Write what the horizontal axis shows, below it."""
    below = size.height - (6 if ticks else 22)
    canvas.text((canvas.x.start + canvas.x.end) / 2, below, text, anchor="middle", class_="axis")


def _zero(canvas: svg.Canvas) -> None:
    x = svg.coordinate(canvas.x(0.0))
    canvas.add("path", d=f"M{x} {svg.coordinate(canvas.y.start)}V{svg.coordinate(canvas.y.end)}", class_="zero")


def bar(canvas: svg.Canvas, x: tuple[float, float], y: tuple[float, float], class_: str, note: str) -> None:
    """Draw one bar of a histogram; nothing where it has no height.

    Args:
        canvas: to draw on.
        x: left and right end, in the axis' unit.
        y: foot and top, likewise.
        class_: ``good`` (the model's colour), ``bad`` or ``flat``.
        note: what a pointer shows.
    """
    left, right = canvas.x(x[0]) + 0.75, canvas.x(x[1]) - 0.75
    top, bottom = canvas.y(y[1]), canvas.y(y[0])
    if bottom > top:
        title = svg.tag("title", note)
        box = {"x": left, "y": top, "width": max(right - left, 0.5), "height": bottom - top}
        canvas.add("rect", hover(canvas, title), **box, class_=f"bar {class_}")


def hover(canvas: svg.Canvas, note: Markup) -> Markup:
    """Keep a pointer's note on wide charts; narrow ones are for fingers, and the table beside them says the same."""
    return Markup() if canvas.width == NARROW.width else note


def curve(canvas: svg.Canvas, n: list[int], line: Line) -> None:
    """Draw a model's line with a point at every N; baselines have no points."""
    quiet = " quiet" if line.quiet else ""
    canvas.path(n, line.value.tolist(), f"line s{line.index}{quiet}")
    if line.quiet:
        return
    for size, value in zip(n, line.value.tolist(), strict=True):
        if math.isfinite(value):
            note = svg.tag("title", f"{words.clip(words.clean(line.name), 60)}, N = {size}: {words.number(value)}")
            canvas.add(
                "circle",
                hover(canvas, note),
                cx=canvas.x(size),
                cy=canvas.y(value),
                r=3,
                class_=f"point s{line.index}",
            )


def end_of(canvas: svg.Canvas, values: list[float]) -> float:
    """Find the height of the last known value, NaN where there is none."""
    finite = [value for value in values if math.isfinite(value)]
    return canvas.y(finite[-1]) if finite else math.nan


def end_labels(canvas: svg.Canvas, size: ChartSize, labels: list[tuple[float, str, str]]) -> None:
    """Write names at the ends of the curves, moved apart; a narrow chart leaves them to the legend.

    Args:
        canvas: to draw on.
        size: of the chart.
        labels: height in pixels (NaN: none), name and class of each.
    """
    shown = [label for label in labels if math.isfinite(label[0])]
    if size is NARROW or not shown:
        return
    edge = canvas.x.end
    room = int((size.right - 18) / svg.CHARACTER)
    heights = svg.spread([y for y, _, _ in shown], 15.0, canvas.y.end, canvas.y.start)
    for (y, name, class_), placed in zip(shown, heights, strict=True):
        ends = " ".join(svg.coordinate(value) for value in (edge + 3, y, edge + 12, placed))
        canvas.add("path", d="M{} {}L{} {}".format(*ends.split()), class_=f"leader {class_}")
        canvas.text(edge + 15, placed + 4, words.clip(words.clean(name), room), class_=f"label {class_}")
