"""One self-contained page: no script, no network, both colour schemes; the choice of a model is plain CSS."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bestfor.report import tables, view, words
from bestfor.report.cards import Texts
from bestfor.report.charts import draw as charts
from bestfor.report.charts.plots import CurvesPlot
from bestfor.report.panels import build_panel

SECTIONS = (
    ("curves", "Curve"),
    ("law", "Law & ledger"),
    ("spread", "Users"),
    ("pairs", "Models"),
    ("suspects", "Queries"),
    ("beyond", "Beyond the pool"),
    ("calibration", "Calibration"),
    ("quantities", "Quantities"),
    ("findings", "Findings"),
    ("folds", "Folds"),
    ("again", "Signature"),
)
"""Anchors and names of the sections, as the list at the top of the page shows them."""


def render_html(
    diagnosis: Mapping[str, Any],
    *,
    texts: Texts | None = None,
    inputs: Mapping[str, str] | None = None,
    title: str = "",
) -> str:
    """A diagnosis as one HTML page that needs nothing else.

    Args:
        diagnosis: the object of ``diagnosis.json``, also with ``folds``.
        texts: (query_id, candidate) -> the candidate's text, for the suspects.
        inputs: query_id -> what was asked.
        title: of the page; the run's name by default.

    Returns:
        The page; the same arguments give the same characters.

    Raises:
        InputError: it is no diagnosis.
    """
    report = view.read(diagnosis)
    captured = CurvesPlot.captured(report)
    limit = 4000 if len(report.models) <= 3 else 1500
    pairs, zero = tables.comparisons(report)
    page = _environment().get_template("page.html.j2")
    return page.render(
        report=report,
        sections=_sections(report),
        title=title or report.name or "Diagnosis",
        chosen=report.chosen,
        panels=[build_panel(report, model, texts or {}, inputs or {}, limit) for model in report.models],
        utility_chart=_curves_chart(CurvesPlot.utility(report), "curves-utility") if report.n else None,
        captured_chart=_curves_chart(captured, "curves-captured") if len(captured.n) else None,
        intervals=any(value is not None for model in report.models for value in model.utility.low),
        places=_places(report),
        quantities=tables.quantities(report),
        terms=words.TERMS,
        laws=words.LAWS,
        beyond_words=words.BEYOND,
        calibration_words=words.CALIBRATION,
        comparisons=pairs,
        comparison_sizes=tables.comparisons_by_n(report),
        comparison_zero=zero,
        folds=tables.folds(report),
        dropped=tables.dropped(report),
        signature=json.dumps(dict(report.signature), indent=2, ensure_ascii=False, sort_keys=True),
    )


def write_html(
    path: str | Path,
    diagnosis: Mapping[str, Any],
    *,
    texts: Texts | None = None,
    inputs: Mapping[str, str] | None = None,
    title: str = "",
) -> None:
    """Write the page of :func:`render_html` so that the file is either whole or absent."""
    path = Path(path)
    page = render_html(diagnosis, texts=texts, inputs=inputs, title=title)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as handle:
            handle.write(page)
            handle.flush()
            os.fsync(handle.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@cache
def _environment() -> Environment:
    loader = PackageLoader("bestfor.report", "templates")
    # Every template is HTML, also those whose names do not end so: escape always.
    environment = Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters.update(
        capitalize_first=lambda text: text[:1].upper() + text[1:],
        clean=words.clean,
        percent=words.percent,
        number=words.number,
        count=words.count,
        clip=words.clip,
    )
    environment.globals.update(plural=words.plural, span=words.span, enumerate=enumerate, zip=zip)
    return environment


def _sections(report: view.Report) -> list[tuple[str, str]]:
    absent = {"folds": not report.folds, "calibration": all(model.predictive is None for model in report.models)}
    return [(key, name) for key, name in SECTIONS if not absent.get(key, False)]


def _places(report: view.Report) -> int:
    return words.decimals([*report.oracle.value, report.pool_mean])


def _curves_chart(plot: CurvesPlot, ident: str) -> Markup:
    what = "Captured share of the headroom" if plot.share else "Utility of the pick"
    names = ", ".join(words.clip(words.clean(line.name), 40) for line in plot.lines)
    beside = "" if plot.share else ", beside the oracle and the pool mean"
    description = (
        f"One curve a model over N from {plot.n[0]} to {plot.n[-1]}: {names}{beside}. Values in the table below."
    )
    caption = charts.Caption(ident, f"{what} by number of candidates", description)
    return charts.both(lambda size: charts.curves(plot, size), caption)
