"""Print a diagnosis in a terminal: the headline, one line a model, what the findings say."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bestfor.diagnostics.public import Diagnosis
from bestfor.diagnostics.result import Comparison
from bestfor.diagnostics.words import actions
from bestfor.report import tables, words
from bestfor.report.shown import (
    Given,
    ShownModel,
    decisive,
    first_shown,
    open_diagnosis,
    own_notes,
    shared_notes,
    shown_models,
)
from bestfor.types import FloatArray

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

BLOCKS = "▁▂▃▄▅▆▇█"
FINDINGS = 4
"""Sentences shown for a model; the others are in the JSON and on the page."""

LINES, ROWS, STEPS = 15, 3, 3
"""Lines of a short summary, models in it, and findings."""

_SENTENCE = re.compile(r"(?<=[a-z)%0-9])\. (?=[A-Z])")

_DIGEST = re.compile("(sha256:)?[0-9a-f]{20,}")

NOTES = 2
"""Notes shown likewise."""


def print_summary(diagnosis: Given, console: Console | None = None, *, verbose: bool = False) -> None:
    """Print a diagnosis for people, as wide as the console is: 15 lines, or everything.

    Args:
        diagnosis: one from Python, the object of its JSON, a file ``diagnosis.json`` or a run's folder; its sentences
            are written anew.
        console: where to; standard output where None.
        verbose: with the explanation of every column, all comparisons, findings, notes and the signature.

    Raises:
        InputError: it is no diagnosis.
    """
    from rich.console import Console
    from rich.text import Text

    console = console or Console(highlight=False)
    report = open_diagnosis(diagnosis)
    console.print(Text(_headline(report), style="bold"))
    console.print(Text(_counts(report, console.width), style="dim"))
    if not shown_models(report):
        console.print("This diagnosis holds no models.")
    elif verbose:
        _print_all(report, console)
    else:
        _print_short(report, console)


def _print_short(report: Diagnosis, console: Console) -> None:
    """Print the best models in a line each and what to do, within :data:`LINES` lines."""
    from rich.table import Table
    from rich.text import Text

    models = shown_models(report)
    chosen = first_shown(models)
    ranked = sorted(models, key=lambda model: (model is not chosen, model.quiet, -model.found.rank))[:ROWS]
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    table.add_column("model", overflow="ellipsis", no_wrap=True, max_width=max(console.width - 58, 12))
    at = f"captured at N = {report.n[-1]}" if len(report.n) else "captured"
    for head in (at, "interval", "best N", "verdict"):
        table.add_column(head, no_wrap=True, justify="right" if head in (at, "best N") else "left")
    for model in ranked:
        cell, best = tables.captured_cell(model), tables.pays(model)
        verdict = "" if best is None else best.verdict
        row = (cell.text, cell.interval or "none", words.NONE if best is None else words.count(best.n), verdict)
        table.add_row(_name(model.name), *row, style="dim" if model.quiet else "")
    console.print(table)
    title = len(Text(_headline(report)).wrap(console, console.width))
    found = () if chosen is None else chosen.found.findings
    findings = tuple(map(words.clean, (actions(found) or found[:1])[:STEPS]))
    shown = _whole_findings(findings, console.width, LINES - 3 - title - len(ranked))
    for line in (line for lines in shown for line in lines):
        console.print(Text(line))
    hidden = len(models) - len(ranked), len(found) - len(shown)
    nouns = zip(hidden, ("more model", "more finding"), strict=True)
    more = ", ".join(words.plural(count, noun) for count, noun in nouns if count)
    said = f"--verbose shows all{f': {more}' if more else ''}."
    console.print(Text(words.clip(said, console.width), style="dim"))


def _whole_findings(findings: Sequence[str], width: int, room: int) -> list[list[str]]:
    """Wrap as many findings as fit whole into some lines; the first is cut, to whole sentences, where it alone is long.

    Args:
        findings: the most pressing first.
        width: characters of a line.
        room: lines in all.
    """
    shown: list[list[str]] = []
    for place, finding in enumerate(findings, start=1):
        text = f"{place}. {finding}"
        lines = textwrap.wrap(text, width, subsequent_indent="   ")
        if len(lines) > room and not shown:
            lines = _cut(text, width, room)
        if len(lines) > room:
            break
        room -= len(lines)
        shown.append(lines)
    return shown


def _cut(text: str, width: int, most: int) -> list[str]:
    """Leave sentences out of the middle of a long finding: its first says the cause, its last the step."""
    sentences = _SENTENCE.split(text)
    for kept in range(len(sentences) - 1, 0, -1):
        shorter = ". ".join(sentences[:kept] if kept < 2 else [*sentences[: kept - 1], sentences[-1]])
        lines = textwrap.wrap(shorter.rstrip(".") + ".", width, subsequent_indent="   ")
        if len(lines) <= most:
            return lines
    lines = textwrap.wrap(text, width, subsequent_indent="   ")
    rest = "   " + " ".join(line.strip() for line in lines[most - 1 :])
    return [*lines[: most - 1], words.clip(rest, width)]


def _headline(report: Diagnosis) -> str:
    return words.clean(report.headline or report.name or "Diagnosis")


def _print_all(report: Diagnosis, console: Console) -> None:
    from rich.text import Text

    models, pairs = shown_models(report), decisive(report)
    chosen, shared = first_shown(models), shared_notes(models)
    console.print(_models(report, models, console.width))
    console.print(Text(_key(report, models), style="dim"))
    if pairs:
        console.print(_comparisons(pairs, console.width))
    if report.folds:
        console.print(_folds(report, models))
    for model in sorted(models, key=lambda model: model is not chosen):
        _print_findings(model, own_notes(model, shared), console, first=model is chosen)
    about = [*map(words.clean, shared), *(f"{line}." for line in tables.dropped_sentences(report))]
    if about:
        console.print()
    for line in about:
        console.print(Text(line))
    console.print()
    console.print(Text(_signature(report), style="dim"))


def sparkline(series: Sequence[float | None] | FloatArray, low: float, high: float) -> str:
    """Draw a curve in block characters.

    Args:
        series: values; None or NaN becomes a dot.
        low: value of the lowest block.
        high: value of the highest one.

    Returns:
        One character a value.
    """
    top = len(BLOCKS) - 1
    drawn: list[str] = []
    for value in series:
        if not words.known(value):
            drawn.append("·")
            continue
        share = 0.0 if high <= low else (value - low) / (high - low)
        drawn.append(BLOCKS[min(max(round(share * top), 0), top)])
    return "".join(drawn)


def _counts(report: Diagnosis, width: int) -> str:
    """Count users, queries and candidates on one line, with the name before and the folds behind where they fit."""
    parts = [
        words.plural(report.users, "user"),
        words.plural(report.queries, "query", "queries"),
        words.plural(report.candidates, "candidate"),
    ]
    if report.folds:
        parts.append(f"mean of {len(report.folds)} folds")
    name = [words.clip(words.clean(report.name), 40)] if report.name and report.headline else []
    lines = [" · ".join(some) for some in ([*name, *parts], parts, parts[:3], parts[:2])]
    return next((line for line in lines if len(line) <= width), words.clip(lines[-1], width))


def _models(report: Diagnosis, models: Sequence[ShownModel], width: int) -> Table:
    from rich import box
    from rich.table import Table

    wide = width >= 100
    low, high = _range(models)
    n, corrected = report.n.tolist(), _corrected(models)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=not wide)
    table.add_column("model", overflow="ellipsis", no_wrap=True, max_width=36 if wide else 15)
    heads = [f"captured\nat N = {n[-1]}" if n else "captured", "interval", "α", "β\nnaive"]
    heads += ["β true"] * corrected + ["ρ", "pays"] + [f"N {n[0]}–{n[-1]}" if n else ""] * wide
    for head in heads:
        table.add_column(head, justify="left" if head[0:1] in "iN" else "right", no_wrap=True)
    for model in models:
        cell, q = tables.captured_cell(model), model.found.quantities
        row = [cell.text, cell.interval or "none", words.percent(q.alpha.value), words.percent(q.beta.value)]
        if corrected:
            ends = q.corrected and words.span(q.corrected.beta_05_low, q.corrected.beta_05_high)
            row.append(ends or words.NONE)
        row.append(words.number(q.rho.value, 2))
        row.append(_pays(model))
        if wide:
            row.append(sparkline(model.found.utility.value, low, high))
        table.add_row(_name(model.name), *row, style="dim" if model.quiet else "")
    return table


def _pays(model: ShownModel) -> str:
    best = tables.pays(model)
    return words.NONE if best is None else words.count(best.n)


def _range(models: Sequence[ShownModel]) -> tuple[float, float]:
    values = [value for model in models for value in model.found.utility.value.tolist() if words.known(value)]
    return (min(values), max(values)) if values else (0.0, 0.0)


def _corrected(models: Sequence[ShownModel]) -> bool:
    return any(model.found.quantities.corrected for model in models)


def _key(report: Diagnosis, models: Sequence[ShownModel]) -> str:
    """Explain the columns, one sentence each."""
    explained = [
        "captured: share of what a perfect picker gains over a random candidate",
        f"interval: {words.percent(report.level)}, of captured",
        "α: users whose rewards hardly differ (collapsed)",
        "β naive: queries whose rewards run against their utilities (hacked), as counted"
        + (
            "; β true: the interval of those below −0.05 without noise"
            if _corrected(models)
            else f"; corrected {' or '.join(dict.fromkeys(map(tables.no_corrected, models)))}"
        ),
        "ρ: mean correlation of reward and utility within a query (0: random picks, 1: perfect ones)",
    ]
    stated = next((best for model in models if (best := tables.pays(model)) is not None), None)
    if stated is not None:
        explained.append(f"pays: N with the highest gain less its price, {stated.stated.label} a {stated.per}")
    return "\n".join(f"{line}." for line in explained)


def _comparisons(pairs: Sequence[Comparison], width: int) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(f"paired comparison at N = {pairs[0].n}", overflow="fold")
    room = 30 if width >= 100 else 15
    table.add_column("points", justify="right", no_wrap=True)
    table.add_column("interval", no_wrap=True)
    table.add_column("", no_wrap=True)
    for pair in pairs:
        low, high = pair.difference.low, pair.difference.high
        verdict = _verdict(low, high)
        table.add_row(
            _name(f"{words.clip(pair.model, room)} against {words.clip(pair.against, room)}"),
            words.points(words.percent(pair.difference.value, signed=True)),
            words.points(words.span(low, high)) or "none",
            verdict,
        )
    return table


def _verdict(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return ""
    return "better" if low > 0 else "worse" if high < 0 else "undecided"


def _folds(report: Diagnosis, models: Sequence[ShownModel]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("captured by fold", overflow="ellipsis", no_wrap=True, max_width=36)
    for index in range(len(report.folds)):
        table.add_column(f"fold {index}", justify="right", no_wrap=True)
    table.add_column("mean", justify="right", no_wrap=True)
    for row, model in zip(tables.fold_rows(report, models), models, strict=True):
        table.add_row(_name(row.label), *(cell.text for cell in row.cells), style="dim" if model.quiet else "")
    return table


def _print_findings(model: ShownModel, own: Sequence[str], console: Console, *, first: bool) -> None:
    from rich.padding import Padding
    from rich.text import Text

    most = FINDINGS if first else FINDINGS // 2
    notes = [f"note: {note}" for note in own]
    lines = [*model.found.findings[:most], *notes[:NOTES]]
    if not lines or model.quiet:
        return
    console.print()
    console.print(Text(words.clip(words.clean(model.name), 60), style="bold"))
    for line in lines:
        console.print(Padding(Text(f"• {words.clean(line)}"), (0, 0, 0, 2), expand=False))
    more = len(model.found.findings) + len(notes) - len(lines)
    if more:
        console.print(Text(f"  … and {more} more in the report", style="dim"))
    for line in _beyond(model) if first else filter(None, [tables.calibration_line(model)]):
        console.print(Padding(Text(words.clean(line), style="dim"), (0, 0, 0, 2), expand=False))


def _beyond(model: ShownModel) -> list[str]:
    """Say what the outlook and the calibration found, in a few lines."""
    outlook = model.found.outlook
    verdict = "" if outlook is None else outlook.extrapolation.verdict
    lines = [f"beyond the pool: {verdict}"] if verdict else []
    lines += [_prices(model), _others(model), tables.protocol_line(model), tables.calibration_line(model)]
    return [line for line in lines if line]


def _prices(model: ShownModel) -> str:
    rows = tables.price_rows(model)
    said = [f"{row.cells[0].text} at {row.label} ({row.cells[1].text})" for row in rows]
    return f"N with the highest gain less its price: {'; '.join(said)}" if said else ""


def _others(model: ShownModel) -> str:
    differences = [
        f"{row.label} {row.cells[-1].text}" + (f" ({row.cells[-1].interval})" if row.cells[-1].interval else "")
        for row in tables.other_rule_rows(model)
        if row.cells
    ]
    return (
        f"other rules against the highest reward at N = {model.n[-1]}: {'; '.join(differences)}" if differences else ""
    )


def _signature(report: Diagnosis) -> str:
    known = [key for key in ("version", "data", "policy", "rule", "seed", "averaging") if report.signature.get(key)]
    if report.signature.get("seed") == 0:
        known.append("seed")
    said = ((key, str(report.signature[key])) for key in known)
    return "signature: " + ", ".join(
        f"{key} {words.clip(one, 16) if _DIGEST.fullmatch(one) else one}" for key, one in said
    )


def _name(name: str) -> Text:
    from rich.text import Text

    return Text(words.clean(name).replace("\n", " "))
