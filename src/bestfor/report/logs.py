"""Render the diagnosis of a log of shown answers as one self-contained page: curves, tables, what limits them."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bestfor.diagnostics.logs import LogCurve, LogDiagnosis
from bestfor.files import write_text
from bestfor.report import words
from bestfor.report.charts import draw, svg
from bestfor.report.charts.plots import Line


def render_log_html(found: LogDiagnosis) -> str:
    """Render the page; the same diagnosis gives the same characters."""
    names = list(found.models)
    page = _environment().get_template("logs.html.j2")
    return page.render(
        found=found,
        headline=_headline(found),
        chart=_chart(found) if names else Markup(),
        models=[(index, name, found.needed.get(name), _rows(curve)) for index, (name, curve) in _numbered(found)],
    )


def write_log_html(path: str | Path, found: LogDiagnosis) -> None:
    """Write the page of :func:`render_log_html` so that the file is either whole or absent."""
    write_text(Path(path), render_log_html(found))


@cache
def _environment() -> Environment:
    loader = PackageLoader("bestfor.report", "templates")
    environment = Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters.update(clean=words.clean, number=words.number)
    environment.globals.update(plural=words.plural, span=words.span, known=words.known)
    return environment


def _numbered(found: LogDiagnosis) -> list[tuple[int, tuple[str, LogCurve]]]:
    return list(enumerate(found.models.items()))


def _headline(found: LogDiagnosis) -> str:
    """Say the gain of the model with the largest at the largest N that the log tells."""
    best: tuple[float, str] | None = None
    for name, curve in found.models.items():
        gain = curve.gain["dr"]
        known = [k for k, value in enumerate(gain.value.tolist()) if math.isfinite(value)]
        if not known:
            continue
        k, value = known[-1], float(gain.value[known[-1]])
        between = words.span(float(gain.low[k]), float(gain.high[k]), "number")
        said = (
            f"the best of {int(curve.n[k])} by '{name}' would gain {words.number(value, signed=True)} over a random one"
        )
        if best is None or value > best[0]:
            best = value, f"{said}{f' ({between})' if between else ''}"
    return f"{found.name}: {best[1] if best else 'no point of a curve can be had from this log'}"


def _chart(found: LogDiagnosis) -> Markup:
    lines = [
        (
            curve.n.tolist(),
            Line(name, index, False, *(getattr(curve.gain["dr"], of) for of in ("value", "low", "high"))),
        )
        for index, (name, curve) in _numbered(found)
    ]
    every = sorted({size for n, _ in lines for size in n})
    values = [0.0, *(float(value) for _, line in lines for part in (line.value, line.low, line.high) for value in part)]

    def drawn(size: draw.ChartSize) -> svg.Canvas:
        canvas = draw.samples_canvas(
            size, every, values, [line.name for _, line in lines], "gain over a random candidate"
        )
        y = svg.coordinate(canvas.y(0.0))
        canvas.add("path", d=f"M{svg.coordinate(canvas.x.start)} {y}H{svg.coordinate(canvas.x.end)}", class_="floor")
        for n, line in lines:
            canvas.band(n, line.low.tolist(), line.high.tolist(), f"band s{line.index}")
        for n, line in lines:
            draw.curve(canvas, n, line)
        ends = [(draw.end_of(canvas, line.value.tolist()), line.name, f"s{line.index}") for _, line in lines]
        draw.end_labels(canvas, size, ends)
        return canvas

    said = f"One curve a reward model over N from {every[0]} to {every[-1]}. Values in the tables below."
    return draw.both(drawn, draw.Caption("log-gain", "Gain by number of candidates, estimated from the log", said))


def _rows(curve: LogCurve) -> list[tuple[int, dict[str, float], float]]:
    """Lay one model's curve out: N, figures, effective answers."""
    return [
        (
            int(n),
            {
                "gain": float(curve.gain["dr"].value[k]),
                "low": float(curve.gain["dr"].low[k]),
                "high": float(curve.gain["dr"].high[k]),
                "ips": float(curve.gain["ips"].value[k]),
                "snips": float(curve.gain["snips"].value[k]),
                "earns": float(curve.utility["dr"].value[k]),
            },
            float(curve.ess[k]),
        )
        for k, n in enumerate(curve.n.tolist())
    ]
