"""Render a diagnosis as one self-contained page: no script, no network, both colour schemes.

The choice of a model is plain CSS. Of each model the page shows its charts, tables and sentences, and its suspicious
queries as cards: what was asked, the reward's pick and the best candidate side by side.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bestfor.diagnostics.beyond.outlook import Outlook
from bestfor.diagnostics.calibrated import calibrated
from bestfor.diagnostics.public import Diagnosis
from bestfor.diagnostics.words import actions
from bestfor.files import write_text
from bestfor.moved import renamed
from bestfor.report import tables, words
from bestfor.report.answers import AnswersSection
from bestfor.report.charts import draw
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
from bestfor.report.held_out import HeldOutSection
from bestfor.report.shown import (
    Given,
    ShownModel,
    decisive,
    facts_in_words,
    first_shown,
    gains_in_words,
    open_diagnosis,
    own_notes,
    shared_notes,
    shown_models,
)
from bestfor.report.spoken import SpokenSection
from bestfor.report.suspects import SuspectCard, Texts, is_unlucky, suspect_card

if TYPE_CHECKING:
    from bestfor.diagnostics.calibration import Calibration  # as a name of this module it is the old one of a section

__getattr__ = renamed(
    __name__,
    {
        "Beyond": "BeyondSection",
        "Calibration": "CalibrationSection",
        "Panel": "ModelPanel",
    },
)


SECTIONS = (
    ("todo", "What to do"),
    ("held-out", "Held-out answers"),
    ("answers", "Answers"),
    ("suspects", "Queries"),
    ("curves", "Curve"),
    ("spread", "Users"),
    ("pairs", "Models"),
)
"""Anchors and names of the sections that stand open, as the list at the top of the page shows them."""

FOLDED = (
    ("law", "law and ledger"),
    ("suspects", "suspicious queries"),
    ("beyond", "beyond the pool"),
    ("calibration", "calibration"),
    ("quantities", "all quantities"),
    ("findings", "more findings"),
    ("folds", "folds"),
    ("again", "signature"),
)
"""Anchors and names of the sections that are folded, for researchers."""

OPEN_FINDINGS = 3
"""Findings that stand open: those that ask for something."""

SUSPECTS = 10
"""Queries shown for a model; the others are in the JSON."""


@dataclass(frozen=True)
class BeyondSection:
    """The part of the page that looks beyond the pool, for one model."""

    chart: Markup | None
    swatches: list[tuple[str, str]]
    verdict: str
    smallest: int
    methods: list[str]
    steps: list[tables.Row]
    other_methods: list[str]
    other_steps: list[tables.Row]
    costs: list[tables.Row]
    fixed: list[tables.Row]
    soft: list[tables.Row]
    soft_queries: int
    others: list[tables.Row]
    per_user: str
    distribution: list[tuple[str, str]]
    stopping: str
    needed: list[tables.Row]


@dataclass(frozen=True)
class CalibrationSection:
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
class ModelPanel:
    """Part of the page that belongs to one model."""

    model: ShownModel
    actions: tuple[str, ...]
    findings: tuple[str, ...]
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
    reversed: bool
    suspects: list[SuspectCard]
    unlucky: list[SuspectCard]
    more_suspects: int
    protocol: str
    beyond: BeyondSection | None
    calibration: CalibrationSection | None


def render_html(
    diagnosis: Given,
    *,
    texts: Texts | None = None,
    inputs: Mapping[str, str] | None = None,
    title: str = "",
    answers: AnswersSection | None = None,
    held_out: HeldOutSection | None = None,
    date: str = "",
    spoken: SpokenSection | None = None,
    data: str = "",
) -> str:
    """Render a diagnosis as one HTML page that needs nothing else.

    Args:
        diagnosis: one from Python, the object of its JSON, a file ``diagnosis.json`` or a run's folder; its sentences
            are written anew.
        texts: (query_id, candidate) -> the candidate's text, for the suspects.
        inputs: query_id -> what was asked.
        title: of the page; the run's name by default.
        answers: what users of the run would get, from :func:`~bestfor.report.answers.read_answers`.
        held_out: how its models predict held-out answers, from :func:`~bestfor.report.held_out.read_held_out`.
        date: when it was measured, in words; empty where it is not said.
        spoken: what a table's candidates say.
        data: what was measured, in words; empty where it is not said.

    Returns:
        The page; the same arguments give the same characters.

    Raises:
        InputError: it is no diagnosis.
    """
    report = open_diagnosis(diagnosis)
    models = shown_models(report)
    limit = 4000 if len(models) <= 3 else 1500
    panels = [build_panel(report, model, texts or {}, inputs or {}, limit) for model in models]
    chosen = first_shown(models)
    readable = bool(texts) and any(panel.suspects for panel in panels if panel.model is chosen)
    page = _environment().get_template("page.html.j2")
    return page.render(
        answers=answers,
        spoken=spoken,
        held_out=held_out,
        title=title or report.name or "Diagnosis",
        facts=facts_in_words(report, data=data, date=date),
        **_parts(
            report,
            panels,
            readable,
            {"answers": answers or spoken, "held-out": held_out},
        ),
        **_numbers(report, models),
    )


def _parts(
    report: Diagnosis, panels: Sequence[ModelPanel], texts: bool, given: Mapping[str, object]
) -> dict[str, object]:
    """Decide which sections stand open and which are folded, and collect what they say in words."""
    models = [panel.model for panel in panels]
    shared, dropped = shared_notes(models), tables.dropped_sentences(report)
    notes = {model.name: own_notes(model, shared) for model in models}
    shown = _present(report, given, panels, bool(shared or dropped or any(notes.values())))
    opened = [one for one in SECTIONS if one[0] in shown and (one[0] != "suspects" or texts)]
    return {
        "report": report,
        "models": models,
        "panels": panels,
        "shown": shown,
        "sections": [*opened, ("researchers", "For researchers")],
        "folded": ", ".join(name for key, name in FOLDED if key in shown and (key != "suspects" or not texts)),
        "texts_known": texts,
        "gains": gains_in_words(report),
        "chosen": first_shown(models),
        "own_notes": notes,
        "shared_notes": shared,
        "dropped": dropped,
        "signature": json.dumps(dict(report.signature), indent=2, ensure_ascii=False, sort_keys=True),
    }


def _numbers(report: Diagnosis, models: Sequence[ShownModel]) -> dict[str, object]:
    """Collect charts, tables and explanations of what all models share."""
    captured = CurvesPlot.captured(report)
    pairs, zero = tables.comparison_bars(report)
    return {
        "utility_chart": _curves_chart(CurvesPlot.utility(report), "curves-utility") if len(report.n) else None,
        "captured_chart": _curves_chart(captured, "curves-captured") if len(captured.n) else None,
        "intervals": any(words.known(low) for model in models for low in model.found.utility.low),
        "places": words.decimals([*report.oracle.value, report.pool_mean.value]),
        "quantities": tables.quantity_rows(report, models),
        "terms": words.TERMS,
        "laws": words.LAWS,
        "beyond_words": words.BEYOND,
        "calibration_words": words.CALIBRATION,
        "comparisons": pairs,
        "comparison_sizes": tables.comparison_rows(report),
        "comparison_zero": zero,
        "decisive": decisive(report),
        "folds": tables.fold_rows(report, models),
    }


def write_html(
    path: str | Path,
    diagnosis: Given,
    *,
    texts: Texts | None = None,
    inputs: Mapping[str, str] | None = None,
    title: str = "",
    answers: AnswersSection | None = None,
    held_out: HeldOutSection | None = None,
    date: str = "",
    spoken: SpokenSection | None = None,
    data: str = "",
) -> None:
    """Write the page of :func:`render_html` so that the file is either whole or absent.

    Args:
        path: the file; its folder is made.
        diagnosis: as for :func:`render_html`, and so the others.
        texts: see there.
        inputs: see there.
        title: see there.
        answers: see there.
        held_out: see there.
        date: see there.
        spoken: see there.
        data: see there.

    Raises:
        InputError: it is no diagnosis.
    """
    path = Path(path)
    page = render_html(
        diagnosis,
        texts=texts,
        inputs=inputs,
        title=title,
        answers=answers,
        held_out=held_out,
        date=date,
        spoken=spoken,
        data=data,
    )
    write_text(path, page)


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
        coded=words.coded,
        unquoted=words.unquoted,
        percent=words.percent,
        number=words.number,
        count=words.count,
        clip=words.clip,
    )
    environment.globals.update(plural=words.plural, span=words.span, known=words.known, enumerate=enumerate, zip=zip)
    return environment


def _present(
    report: Diagnosis, given: Mapping[str, object], panels: Sequence[ModelPanel], notes: bool
) -> frozenset[str]:
    """Name the sections that have something to show."""
    present = {
        **{key: section is not None for key, section in given.items()},
        "suspects": any(panel.suspects or panel.unlucky for panel in panels),
        "spread": any(panel.users_note or panel.users_chart or panel.correlation_chart for panel in panels),
        "pairs": bool(decisive(report)),
        "law": any(panel.law_chart or panel.ledger for panel in panels),
        "beyond": any(panel.beyond is not None for panel in panels),
        "calibration": any(panel.calibration is not None for panel in panels),
        "findings": notes or any(panel.findings for panel in panels),
        "folds": bool(report.folds),
    }
    every = {key for key, _ in (*SECTIONS, *FOLDED)}
    return frozenset(key for key in every if present.get(key, True))


def _curves_chart(plot: CurvesPlot, ident: str) -> Markup:
    what = plot.axis[:1].upper() + plot.axis[1:]
    names = ", ".join(words.clip(words.clean(line.name), 40) for line in plot.lines)
    beside = "" if plot.share else ", beside the oracle and the pool mean"
    description = (
        f"One curve a model over N from {plot.n[0]} to {plot.n[-1]}: {names}{beside}. Values in the table below."
    )
    caption = draw.Caption(ident, f"{what} by number of candidates", description)
    return draw.both(lambda size: draw.curves(plot, size), caption)


def build_panel(
    report: Diagnosis, model: ShownModel, texts: Texts, inputs: Mapping[str, str], limit: int
) -> ModelPanel:
    """Build the part of the page that belongs to one model.

    Args:
        report: the diagnosis.
        model: one of its models.
        texts: (query_id, candidate) -> the candidate's text.
        inputs: query_id -> what was asked.
        limit: characters of a text that are shown at most.
    """
    law = LawPlot.of(model)
    ledger = WaterfallPlot.of(model)
    users = UsersPlot.of(model)
    correlation = CorrelationPlot.of(model)
    found = model.found
    shown = found.suspects[:SUSPECTS]
    asked = actions(found.findings)[:OPEN_FINDINGS]
    return ModelPanel(
        model=model,
        actions=asked,
        findings=tuple(sentence for sentence in found.findings if sentence not in asked),
        tiles=tables.tiles(report, model),
        law_chart=None if law is None else _law_chart(law, model),
        law_names=() if law is None else tuple(law.laws),
        law_rows=[] if law is None else tables.law_rows(model, law),
        ledger=[] if ledger is None else tables.ledger_bars(ledger),
        ledger_n=0 if ledger is None else ledger.n,
        users_chart=_users_chart(users, model) if len(users.names) > 1 else None,
        users_note=_users_note(users),
        users_rows=_users_rows(users),
        correlation_chart=None if correlation is None else _correlation_chart(correlation, model),
        correlation_rows=[] if correlation is None else _correlation_rows(correlation),
        reversed=correlation is not None and bool(correlation.counts[correlation.negative].any()),
        suspects=[suspect_card(suspect, texts, inputs, limit) for suspect in shown if not is_unlucky(suspect)],
        unlucky=[suspect_card(suspect, texts, inputs, limit) for suspect in shown if is_unlucky(suspect)],
        more_suspects=len(found.suspects) - len(shown),
        protocol=tables.protocol_line(model),
        beyond=_beyond(model, found.outlook) if found.outlook is not None or found.rules else None,
        calibration=None if found.calibration is None else _calibration(model, found.calibration),
    )


def _law_chart(plot: LawPlot, model: ShownModel) -> Markup:
    description = f"Observed gain over the pool mean beside the laws {', '.join(plot.laws)}. Values in the table."
    caption = draw.Caption(f"law-{model.index}", f"Law over curve: {_short(model)}", description)
    return draw.both(lambda size: draw.law(plot, size), caption)


def _users_chart(plot: UsersPlot, model: ShownModel) -> Markup:
    description = f"Captured shares of {len(plot.names)} users, {int(plot.collapsed.sum())} of them collapsed."
    caption = draw.Caption(f"users-{model.index}", f"Captured share per user: {_short(model)}", description)
    return draw.both(lambda size: draw.users(plot, size), caption)


def _users_note(plot: UsersPlot) -> str:
    if len(plot.names) == 1:
        return f"One user, {plot.names[0]}: {words.percent(float(plot.captured[0]))} captured."
    said = [worse_off(plot)] if (plot.captured < 0).any() else []
    said += [f"{words.plural(plot.absent, 'user')} without headroom left out."] if plot.absent else []
    beyond = int((abs(plot.captured) > 1.0).sum())
    if beyond:
        said.append(f"{words.plural(beyond, 'user')} beyond ±100% shown at the edge (little headroom).")
    flat = int(plot.collapsed.sum())
    if flat:
        how = "hollow" if len(plot.names) <= draw.SORTED_AT_MOST else "in grey"
        said.append(f"{words.plural(flat, 'user')} collapsed, drawn {how}.")
    return " ".join(said)


def worse_off(plot: UsersPlot) -> str:
    """Say how many users get less than a random pick would give them."""
    below, every = int((plot.captured < 0).sum()), len(plot.names) + plot.absent
    off = f"{'is' if below == 1 else 'are'} worse off than with a random answer"
    return f"{below:,} of {words.plural(every, 'user')} {off}."


def _users_rows(plot: UsersPlot) -> list[tuple[str, int, int]]:
    edges, counts, collapsed = plot.histogram()
    return [
        (f"{words.percent(low)} to {words.percent(high)}", int(every), int(flat))
        for low, high, every, flat in zip(edges, edges[1:], counts, collapsed, strict=False)
        if every
    ]


def _correlation_chart(plot: CorrelationPlot, model: ShownModel) -> Markup:
    below = int(plot.counts[plot.negative].sum())
    description = f"{int(plot.counts.sum())} queries, {below} of them in bins below zero."
    caption = draw.Caption(f"rho-{model.index}", f"Within-query correlation: {_short(model)}", description)
    return draw.both(lambda size: draw.correlations(plot, size), caption)


def _correlation_rows(plot: CorrelationPlot) -> list[tuple[str, int]]:
    return [
        (f"{words.number(low, 2)} to {words.number(high, 2)}", int(count))
        for low, high, count in zip(plot.edges, plot.edges[1:], plot.counts, strict=False)
        if count
    ]


def _beyond(model: ShownModel, outlook: Outlook | None) -> BeyondSection:
    plot = BeyondPlot.of(model)
    return BeyondSection(
        chart=None if plot is None else _beyond_chart(plot, model),
        swatches=[(method.replace("_", "-"), name) for method, name in NAMES.items()],
        verdict="" if outlook is None else outlook.extrapolation.verdict,
        smallest=0 if outlook is None else outlook.extrapolation.smallest_pool,
        methods=tables.method_names(tables.MAIN_METHODS),
        steps=tables.extrapolation_rows(model),
        other_methods=tables.method_names(tables.OTHER_METHODS),
        other_steps=tables.extrapolation_rows(model, tables.OTHER_METHODS),
        costs=tables.price_rows(model),
        fixed=tables.fixed_rows(model),
        soft=tables.soft_rows(model),
        soft_queries=outlook.soft[0].queries if outlook is not None and outlook.soft else 0,
        others=tables.other_rule_rows(model),
        per_user=tables.per_user_sentence(model),
        distribution=[] if outlook is None else tables.per_user_rows(outlook.per_user_n),
        stopping=tables.stopping_sentence(model),
        needed=tables.needed_rows(model),
    )


def _beyond_chart(plot: BeyondPlot, model: ShownModel) -> Markup:
    trusted = "none of it to be trusted" if plot.trusted_to is None else f"to be trusted up to N = {plot.trusted_to}"
    description = f"Exact gain, and four predictions up to N = {plot.far[-1]}, {trusted}. Values in the table."
    caption = draw.Caption(f"beyond-{model.index}", f"Gain beyond the pool: {_short(model)}", description)
    return draw.both(lambda size: draw.beyond(plot, size), caption)


def _calibration(model: ShownModel, found: Calibration) -> CalibrationSection:
    bins, pit = ReliabilityPlot.of(model), PitPlot.of(model)
    return CalibrationSection(
        verdict=calibrated(found),
        chart=None if bins is None else _reliability_chart(bins, model),
        pit=None if pit is None else _pit_chart(pit, model),
        pit_rows=[] if pit is None else tables.pit_rows(pit),
        bins=tables.reliability_rows(found),
        numbers=tables.calibration_rows(found),
        coverage=tables.coverage_rows(found),
        notes=tables.calibration_notes(found),
    )


def _reliability_chart(plot: ReliabilityPlot, model: ShownModel) -> Markup:
    description = (
        f"Error observed by standard deviation predicted, in {len(plot.candidates)} bins beside the diagonal. "
        "Values in the table."
    )
    caption = draw.Caption(f"std-{model.index}", f"Reliability of the predicted std: {_short(model)}", description)
    return draw.both(lambda size: draw.reliability(plot, size, model.index), caption)


def _pit_chart(plot: PitPlot, model: ShownModel) -> Markup:
    description = (
        f"Share of the candidates by where their utility falls in its predicted distribution, from "
        f"{words.percent(float(plot.share.min()), 1)} to {words.percent(float(plot.share.max()), 1)} a bar; "
        f"{words.percent(1 / len(plot.share))} everywhere is right."
    )
    caption = draw.Caption(f"pit-{model.index}", f"PIT histogram: {_short(model)}", description)
    return draw.both(lambda size: draw.pit(plot, size), caption)


def _short(model: ShownModel) -> str:
    return words.clip(words.clean(model.name), 60)
