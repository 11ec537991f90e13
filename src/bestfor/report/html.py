"""One self-contained page: no script, no network, both colour schemes; the choice of a model is plain CSS."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bestfor.report import charts, charts_beyond, tables, tables_beyond, view, words
from bestfor.report.bars import CorrelationPlot, UsersPlot, WaterfallPlot
from bestfor.report.beyond import NAMES, BeyondPlot
from bestfor.report.cards import SuspectCard, Texts, card
from bestfor.report.curves import CurvesPlot, LawPlot
from bestfor.report.outlook import METHODS

SUSPECTS = 10
"""Queries shown for a model; the others are in the JSON."""


SECTIONS = (
    ("curves", "Curve"),
    ("law", "Law & ledger"),
    ("spread", "Users"),
    ("pairs", "Models"),
    ("suspects", "Queries"),
    ("beyond", "Beyond the pool"),
    ("quantities", "Quantities"),
    ("findings", "Findings"),
    ("folds", "Folds"),
    ("again", "Signature"),
)
"""Anchors and names of the sections, as the list at the top of the page shows them."""


@dataclass(frozen=True)
class Beyond:
    """The part of the page that looks beyond the pool, for one model."""

    chart: Markup | None
    swatches: list[tuple[str, str]]
    methods: list[str]
    steps: list[tables.Row]
    fixed: list[tables.Row]
    soft: list[tables.Row]
    per_user: str
    distribution: list[tuple[str, str]]
    stopping: str
    needed: list[tables.Row]


@dataclass(frozen=True)
class Panel:
    """Everything on the page that belongs to one model."""

    model: view.Model
    tiles: list[tables.Tile]
    law_chart: Markup | None
    law_names: tuple[str, ...]
    law_rows: list[tables.Row]
    ledger: list[tables.Bar]
    ledger_n: int
    users_chart: Markup | None
    users_note: str
    users_rows: list[tuple[str, int, int]]
    correlation_chart: Markup | None
    correlation_rows: list[tuple[str, int]]
    suspects: list[SuspectCard]
    unlucky: list[SuspectCard]
    more_suspects: int
    protocol: str
    beyond: Beyond | None


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
        sections=[(key, name) for key, name in SECTIONS if key != "folds" or report.folds],
        title=title or report.name or "Diagnosis",
        chosen=report.chosen,
        panels=[_panel(report, model, texts or {}, inputs or {}, limit) for model in report.models],
        utility_chart=_curves_chart(CurvesPlot.utility(report), "curves-utility") if report.n else None,
        captured_chart=_curves_chart(captured, "curves-captured") if len(captured.n) else None,
        intervals=any(value is not None for model in report.models for value in model.utility.low),
        places=_places(report),
        quantities=tables.quantities(report),
        terms=words.TERMS,
        laws=words.LAWS,
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


def _panel(report: view.Report, model: view.Model, texts: Texts, inputs: Mapping[str, str], limit: int) -> Panel:
    law = LawPlot.of(report, model)
    ledger = WaterfallPlot.of(model)
    users = UsersPlot.of(model)
    correlation = CorrelationPlot.of(model)
    shown = model.suspects[:SUSPECTS]
    return Panel(
        model=model,
        tiles=tables.tiles(report, model),
        law_chart=None if law is None else _law_chart(law, model),
        law_names=() if law is None else tuple(law.laws),
        law_rows=[] if law is None else tables.law_rows(model, law),
        ledger=[] if ledger is None else tables.ledger_rows(ledger),
        ledger_n=0 if ledger is None else ledger.n,
        users_chart=_users_chart(users, model) if len(users.names) > 1 else None,
        users_note=_users_note(users),
        users_rows=_users_rows(users),
        correlation_chart=None if correlation is None else _correlation_chart(correlation, model),
        correlation_rows=[] if correlation is None else _correlation_rows(correlation),
        suspects=[card(suspect, texts, inputs, limit) for suspect in shown if not _is_unlucky(suspect)],
        unlucky=[card(suspect, texts, inputs, limit) for suspect in shown if _is_unlucky(suspect)],
        more_suspects=len(model.suspects) - len(shown),
        protocol=tables_beyond.protocol_line(model),
        beyond=_beyond(model) if model.outlook.known else None,
    )


def _beyond(model: view.Model) -> Beyond:
    plot = BeyondPlot.of(model)
    return Beyond(
        chart=None if plot is None else _beyond_chart(plot, model),
        swatches=[(method.replace("_", "-"), NAMES[method]) for method in METHODS],
        methods=tables_beyond.method_names(),
        steps=tables_beyond.steps(model),
        fixed=tables_beyond.fixed(model),
        soft=tables_beyond.soft(model),
        per_user=tables_beyond.per_user(model),
        distribution=tables_beyond.distribution(model.outlook.per_user),
        stopping=tables_beyond.stopping(model),
        needed=tables_beyond.needed(model),
    )


def _beyond_chart(plot: BeyondPlot, model: view.Model) -> Markup:
    trusted = "none of it to be trusted" if plot.trusted_to is None else f"to be trusted up to N = {plot.trusted_to}"
    description = f"Exact gain, and four predictions up to N = {plot.far[-1]}, {trusted}. Values in the table."
    caption = charts.Caption(f"beyond-{model.index}", f"Gain beyond the pool: {_short(model)}", description)
    return charts.both(lambda size: charts_beyond.beyond(plot, size), caption)


def _is_unlucky(suspect: view.Suspect) -> bool:
    return suspect.posterior is not None and suspect.posterior < 0.5


def _law_chart(plot: LawPlot, model: view.Model) -> Markup:
    description = f"Observed gain over the pool mean beside the laws {', '.join(plot.laws)}. Values in the table."
    caption = charts.Caption(f"law-{model.index}", f"Law over curve: {_short(model)}", description)
    return charts.both(lambda size: charts.law(plot, size), caption)


def _users_chart(plot: UsersPlot, model: view.Model) -> Markup:
    description = f"Captured shares of {len(plot.names)} users, {int(plot.collapsed.sum())} of them collapsed."
    caption = charts.Caption(f"users-{model.index}", f"Captured share per user: {_short(model)}", description)
    return charts.both(lambda size: charts.users(plot, size), caption)


def _correlation_chart(plot: CorrelationPlot, model: view.Model) -> Markup:
    below = int(plot.counts[plot.negative].sum())
    description = f"{int(plot.counts.sum())} queries, {below} of them in bins below zero."
    caption = charts.Caption(f"rho-{model.index}", f"Within-query correlation: {_short(model)}", description)
    return charts.both(lambda size: charts.correlations(plot, size), caption)


def _short(model: view.Model) -> str:
    return words.clip(words.clean(model.name), 60)


def _users_note(plot: UsersPlot) -> str:
    if len(plot.names) == 1:
        return f"One user, {plot.names[0]}: {words.percent(float(plot.captured[0]))} captured."
    said = [f"{words.plural(plot.absent, 'user')} without headroom left out."] if plot.absent else []
    beyond = int((abs(plot.captured) > 1.0).sum())
    if beyond:
        said.append(f"{words.plural(beyond, 'user')} beyond ±100% shown at the edge (little headroom).")
    flat = int(plot.collapsed.sum())
    if flat:
        how = "hollow" if len(plot.names) <= charts.SORTED_AT_MOST else "in grey"
        said.append(f"{words.plural(flat, 'user')} collapsed, drawn {how}.")
    return " ".join(said)


def _users_rows(plot: UsersPlot) -> list[tuple[str, int, int]]:
    edges, counts, collapsed = plot.histogram()
    return [
        (f"{words.percent(low)} to {words.percent(high)}", int(every), int(flat))
        for low, high, every, flat in zip(edges, edges[1:], counts, collapsed, strict=False)
        if every
    ]


def _correlation_rows(plot: CorrelationPlot) -> list[tuple[str, int]]:
    return [
        (f"{words.number(low, 2)} to {words.number(high, 2)}", int(count))
        for low, high, count in zip(plot.edges, plot.edges[1:], plot.counts, strict=False)
        if count
    ]
