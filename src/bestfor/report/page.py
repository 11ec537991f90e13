"""One self-contained page: no script, no network, both colour schemes; the choice of a model is plain CSS.

Suspicious queries as cards: what was asked, the reward's pick and the best candidate side by side.

What the page shows of one model: its charts, tables and sentences, ready for the templates.
"""

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

from bestfor.report import tables, view, words
from bestfor.report import tables as tables_beyond
from bestfor.report import tables as tables_calibration
from bestfor.report.charts import draw as charts
from bestfor.report.charts import draw as charts_beyond
from bestfor.report.charts import draw as charts_calibration
from bestfor.report.charts.plots import (
    NAMES,
    BeyondPlot,
    CorrelationPlot,
    CurvesPlot,
    LawPlot,
    PitPlot,
    ReliabilityPlot,
    UsersPlot,
    WaterfallPlot,
)
from bestfor.report.outlook import METHODS
from bestfor.report.predictive import Predictive

Texts = Mapping[tuple[str, int], str]
FOLD_AT = 420
"""Longer texts are folded, their beginning shown."""


@dataclass(frozen=True)
class Excerpt:
    """A text as shown: ``preview`` is empty where the whole stands open."""

    whole: str
    preview: str
    length: int
    cut: bool


@dataclass(frozen=True)
class Side:
    """One of the two candidates of a suspect."""

    title: str
    candidate: int | None
    utility: str
    excerpt: Excerpt | None


@dataclass(frozen=True)
class SuspectCard:
    """A query whose reward's pick and best candidate stand side by side; marks are percent of a scale."""

    query: str
    user: str
    facts: tuple[str, ...]
    asked: Excerpt | None
    sides: tuple[Side, Side]
    marks: tuple[tuple[str, str, float], ...]


def card(suspect: view.Suspect, texts: Texts, inputs: Mapping[str, str], limit: int) -> SuspectCard:
    """One suspect with whatever texts are known; texts longer than ``limit`` characters are cut, and say so."""
    places = words.decimals([suspect.pick_utility, suspect.best_utility, suspect.mean_utility])

    def side(title: str, candidate: int | None, utility: float | None) -> Side:
        text = None if candidate is None else texts.get((suspect.query, candidate))
        return Side(title, candidate, words.number(utility, places), None if text is None else excerpt(text, limit))

    asked = inputs.get(suspect.query)
    facts = [f"correlation {words.number(suspect.correlation, 2)}"]
    if suspect.posterior is not None:
        facts.append(f"reversed with probability {words.number(suspect.posterior, 2)}")
    facts.append(words.plural(suspect.size, "candidate"))
    if suspect.mean_utility is not None:
        facts.append(f"mean utility {words.number(suspect.mean_utility, places)}")
    return SuspectCard(
        query=suspect.query,
        user=suspect.user,
        facts=tuple(facts),
        asked=excerpt(asked, limit) if asked else None,
        sides=(
            side("The reward's pick", suspect.pick, suspect.pick_utility),
            side("Best candidate", suspect.best, suspect.best_utility),
        ),
        marks=_marks(suspect, places),
    )


def _marks(suspect: view.Suspect, places: int) -> tuple[tuple[str, str, float], ...]:
    given = [
        ("pick", suspect.pick_utility),
        ("mean", suspect.mean_utility),
        ("best", suspect.best_utility),
    ]
    known = [(name, value) for name, value in given if value is not None]
    low, high = min((v for _, v in known), default=0.0), max((v for _, v in known), default=0.0)
    if high == low:
        return ()
    return tuple(
        (name, words.number(value, places), round(100 * (value - low) / (high - low), 1)) for name, value in known
    )


def excerpt(text: str, limit: int) -> Excerpt:
    """A text ready to show: cleaned, cut at the limit, with a preview where it is to be folded."""
    whole = words.clean(text)
    shown = whole[:limit]
    preview = words.clip(shown, 300) if len(shown) > FOLD_AT else ""
    return Excerpt(shown, preview, len(whole), len(whole) > limit)


SUSPECTS = 10
"""Queries shown for a model; the others are in the JSON."""


@dataclass(frozen=True)
class Beyond:
    """The part of the page that looks beyond the pool, for one model."""

    chart: Markup | None
    swatches: list[tuple[str, str]]
    methods: list[str]
    steps: list[tables.Row]
    other_methods: list[str]
    other_steps: list[tables.Row]
    costs: list[tables.Row]
    soft: list[tables.Row]
    others: list[tables.Row]
    per_user: str
    distribution: list[tuple[str, str]]
    stopping: str
    needed: list[tables.Row]


@dataclass(frozen=True)
class Calibration:
    """The part of the page that judges a model's predicted standard deviations."""

    verdict: str
    chart: Markup | None
    pit: Markup | None
    pit_rows: list[tuple[str, str]]
    bins: list[tables.Row]
    numbers: list[tables.Row]
    coverage: list[tables.Row]
    notes: list[str]


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
    calibration: Calibration | None


def build_panel(report: view.Report, model: view.Model, texts: Texts, inputs: Mapping[str, str], limit: int) -> Panel:
    """Everything on the page that belongs to one model; ``limit``: characters of a text that are shown."""
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
        calibration=None if model.predictive is None else _calibration(model, model.predictive),
    )


def _beyond(model: view.Model) -> Beyond:
    plot = BeyondPlot.of(model)
    return Beyond(
        chart=None if plot is None else _beyond_chart(plot, model),
        swatches=[(method.replace("_", "-"), NAMES[method]) for method in METHODS],
        methods=tables_beyond.names(tables_beyond.MAIN),
        steps=tables_beyond.steps(model),
        other_methods=tables_beyond.names(tables_beyond.OTHERS),
        other_steps=tables_beyond.steps(model, tables_beyond.OTHERS),
        costs=tables_beyond.costs(model),
        soft=tables_beyond.soft(model),
        others=tables_beyond.others(model),
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


def _calibration(model: view.Model, found: Predictive) -> Calibration:
    bins, pit = ReliabilityPlot.of(model), PitPlot.of(model)
    return Calibration(
        verdict=found.verdict,
        chart=None if bins is None else _reliability_chart(bins, model),
        pit=None if pit is None else _pit_chart(pit, model),
        pit_rows=[] if pit is None else tables_calibration.pit_rows(pit),
        bins=tables_calibration.bins(found),
        numbers=tables_calibration.numbers(found),
        coverage=tables_calibration.coverage(found),
        notes=tables_calibration.notes(found),
    )


def _reliability_chart(plot: ReliabilityPlot, model: view.Model) -> Markup:
    description = (
        f"Error observed by standard deviation predicted, in {len(plot.candidates)} bins beside the diagonal. "
        "Values in the table."
    )
    caption = charts.Caption(f"std-{model.index}", f"Reliability of the predicted std: {_short(model)}", description)
    return charts.both(lambda size: charts_calibration.reliability(plot, size, model.index), caption)


def _pit_chart(plot: PitPlot, model: view.Model) -> Markup:
    description = (
        f"Share of the candidates by where their utility falls in its predicted distribution, from "
        f"{words.percent(float(plot.share.min()), 1)} to {words.percent(float(plot.share.max()), 1)} a bar; "
        f"{words.percent(1 / len(plot.share))} everywhere is right."
    )
    caption = charts.Caption(f"pit-{model.index}", f"PIT histogram: {_short(model)}", description)
    return charts.both(lambda size: charts_calibration.pit(plot, size), caption)


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
