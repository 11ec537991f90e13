"""Draw a held-out figure against shots: how much a model knows of people who have told so much."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from bestfor.report import words
from bestfor.report.charts import draw, svg
from bestfor.report.charts.plots import Line


@dataclass(frozen=True)
class ShotCurves:
    """A figure of all models against shots; k points.

    Attributes:
        ticks: the shots in words, "all" the last.
        place: shape (k,), where they stand on a logarithmic axis.
        lines: one a model.
        figure: its name in words.
        unit: what a shot is.
    """

    ticks: tuple[str, ...]
    place: tuple[int, ...]
    lines: tuple[Line, ...]
    figure: str
    unit: str

    @classmethod
    def of(cls, after: Mapping[str, Any], figure: str, head: str) -> ShotCurves:
        """Take a figure of ``after_shots`` of a run's ``held_out.json``."""
        shots = [point["shots"] for point in next(iter(after["models"].values()))]
        most = max((one for one in shots if one is not None), default=0)
        place = tuple(2 * most + 3 if one is None else one + 1 for one in shots)
        lines = []
        for index, (name, points) in enumerate(after["models"].items()):
            limits = [[_number(point[figure][key]) for point in points] for key in ("value", "low", "high")]
            lines.append(Line(name, index, False, *(np.array(one, dtype=np.float64) for one in limits)))
        ticks = tuple("all" if one is None else str(one) for one in shots)
        return cls(ticks, place, tuple(lines), head, str(after["unit"]))


def chart_of(plot: ShotCurves) -> Markup:
    """Draw it for wide and narrow windows."""
    said = "; ".join(
        f"{line.name}: {words.number(float(line.value[0]))} with {plot.ticks[0]}, "
        f"{words.number(float(line.value[-1]))} with {plot.ticks[-1]}"
        for line in plot.lines
    )
    caption = draw.Caption("held-out-shots", f"{plot.figure} by {plot.unit} of each user", words.clean(said))
    return draw.both(lambda size: shot_curves(plot, size), caption)


def shot_curves(plot: ShotCurves, size: draw.ChartSize) -> svg.Canvas:
    """Draw the lines of all models with their bands."""
    values = [value for line in plot.lines for value in (*line.value, *line.low, *line.high) if math.isfinite(value)]
    low, high = svg.padded(values)
    room = 24 + math.ceil(svg.CHARACTER * max(len(line.name) for line in plot.lines))
    ends = float(plot.place[0]), float(max(plot.place[-1], plot.place[0] + 1))
    canvas = draw.plain_canvas(size, ends, (low, high), right=min(room, size.right), log=True)
    steps = svg.ticks(low, high)
    decimals = svg.places(steps)
    canvas.rows(steps, lambda value: words.number(value, decimals))
    names = dict(zip(map(float, plot.place), plot.ticks, strict=True))
    canvas.columns([float(one) for one in plot.place], lambda value: names[value])
    draw.heading(canvas, plot.figure)
    draw.bottom(canvas, size, f"shots: {plot.unit} of each user at fitting")
    place = list(plot.place)
    for line in plot.lines:
        canvas.band(place, line.low.tolist(), line.high.tolist(), f"band s{line.index}")
    labels = []
    for line in plot.lines:
        canvas.path(place, line.value.tolist(), f"line s{line.index}")
        labels.append((draw.end_of(canvas, line.value.tolist()), line.name, f"s{line.index}"))
    draw.end_labels(canvas, size, labels)
    return canvas


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
