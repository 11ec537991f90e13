"""What the page shows of one model: its charts, tables and sentences, ready for the templates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from bestfor.report import charts_beyond, charts_calibration, tables, tables_beyond, tables_calibration, view, words
from bestfor.report.bars import CorrelationPlot, UsersPlot, WaterfallPlot
from bestfor.report.beyond import NAMES, BeyondPlot
from bestfor.report.cards import SuspectCard, Texts, card
from bestfor.report.charts import draw as charts
from bestfor.report.charts.plots import LawPlot
from bestfor.report.outlook import METHODS
from bestfor.report.predictive import Predictive
from bestfor.report.reliability import PitPlot, ReliabilityPlot

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
