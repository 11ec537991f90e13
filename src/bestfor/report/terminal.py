"""Print a diagnosis in a terminal: the headline, one line a model, what the findings say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bestfor.report import tables, view, words

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

BLOCKS = "▁▂▃▄▅▆▇█"
FINDINGS = 4
"""Sentences shown for a model; the others are in the JSON and on the page."""

NOTES = 2
"""Notes shown likewise."""


def print_summary(diagnosis: Mapping[str, Any], console: Console) -> None:
    """Print a diagnosis for people, as wide as the console is.

    Args:
        diagnosis: the object of ``diagnosis.json``, also with ``folds``.
        console: where to.

    Raises:
        InputError: it is no diagnosis.
    """
    from rich.text import Text

    report = view.read(diagnosis)
    console.print(Text(words.clean(report.headline or report.name or "Diagnosis"), style="bold"))
    console.print(Text(_counts(report), style="dim"))
    if not report.models:
        console.print("This diagnosis holds no models.")
        return
    console.print(_models(report, console.width))
    console.print(Text(_key(report), style="dim"))
    if report.decisive:
        console.print(_comparisons(report, console.width))
    if report.folds:
        console.print(_folds(report))
    for model in sorted(report.models, key=lambda model: model is not report.chosen):
        _print_findings(report, model, console)
    about = [*map(words.clean, report.shared_notes), *(f"{line}." for line in tables.dropped_sentences(report))]
    if about:
        console.print()
    for line in about:
        console.print(Text(line))
    console.print()
    console.print(Text(_signature(report), style="dim"))


def sparkline(series: view.Series, low: float, high: float) -> str:
    """Draw a curve in block characters between two values; a dot where there is no value."""
    top = len(BLOCKS) - 1
    drawn: list[str] = []
    for value in series:
        if value is None:
            drawn.append("·")
            continue
        share = 0.0 if high <= low else (value - low) / (high - low)
        drawn.append(BLOCKS[min(max(round(share * top), 0), top)])
    return "".join(drawn)


def _counts(report: view.Report) -> str:
    parts = [
        words.plural(report.users, "user"),
        words.plural(report.queries, "query", "queries"),
        words.plural(report.candidates, "candidate"),
    ]
    if report.folds:
        parts.append(f"mean of {len(report.folds)} folds")
    if report.name and report.headline:
        parts.insert(0, words.clip(words.clean(report.name), 40))
    return " · ".join(parts)


def _models(report: view.Report, width: int) -> Table:
    from rich import box
    from rich.table import Table

    wide = width >= 100
    low, high = _range(report)
    corrected = any(model.corrected for model in report.models)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=not wide)
    table.add_column("model", overflow="ellipsis", no_wrap=True, max_width=36 if wide else 15)
    heads = [f"captured\nat N = {report.n[-1]}" if report.n else "captured", "interval", "α", "β\nnaive"]
    heads += ["β"] * corrected + ["ρ", "pays"] + [f"N {report.n[0]}–{report.n[-1]}" if report.n else ""] * wide
    for head in heads:
        table.add_column(head, justify="left" if head[0:1] in "iN" else "right", no_wrap=True)
    for model in report.models:
        cell = tables.captured_cell(model)
        row = [cell.text, cell.interval or "none", words.percent(model.quantities.get("alpha"))]
        row.append(words.percent(model.quantities.get("beta")))
        if corrected:
            row.append(words.percent(model.corrected.get("beta") if model.corrected else None))
        row.append(words.number(model.quantities.get("rho"), 2))
        row.append(_pays(model))
        if wide:
            row.append(sparkline(model.utility.value, low, high))
        table.add_row(_name(model.name), *row, style="dim" if model.quiet else "")
    return table


def _pays(model: view.ModelView) -> str:
    each = tables.pays_each(model)
    return words.count(tables.pays(model)[1]) + (f" / {words.count(each.n)}" if each is not None else "")


def _range(report: view.Report) -> tuple[float, float]:
    values = [value for model in report.models for value in model.utility.value if value is not None]
    return (min(values), max(values)) if values else (0.0, 0.0)


def _key(report: view.Report) -> str:
    """Explain the columns, one sentence each."""
    corrected = any(model.corrected for model in report.models)
    explained = [
        "captured: share of what a perfect picker gains over a random candidate",
        f"interval: {words.percent(report.level)}, of captured",
        "α: users whose rewards hardly differ (collapsed)",
        "β naive: queries whose rewards run against their utilities (hacked), as counted"
        + ("; β: without the noise of small pools" if corrected else f"; corrected {words.NO_CORRECTED}"),
        "ρ: mean correlation of reward and utility within a query (0: random picks, 1: perfect ones)",
    ]
    priced = next((model for model in report.models if model.best_n), None)
    if priced is not None:
        cost = f"{tables.pays(priced)[0]:g}"
        each = tables.pays_each(priced)
        other = "" if each is None else " / if each candidate does (the highest utility less N times that)"
        explained.append(
            f"pays: N worth drawing if each doubling costs {cost} (from N to 2N gains less, or nothing sure){other}"
        )
    return "\n".join(f"{line}." for line in explained)


def _comparisons(report: view.Report, width: int) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(f"paired comparison at N = {report.decisive[0].n}", overflow="fold")
    room = 30 if width >= 100 else 15
    table.add_column("difference", justify="right", no_wrap=True)
    table.add_column("interval", no_wrap=True)
    table.add_column("", no_wrap=True)
    for pair in report.decisive:
        low, high = pair.low, pair.high
        verdict = _verdict(low, high)
        table.add_row(
            _name(f"{words.clip(pair.model, room)} against {words.clip(pair.against, room)}"),
            words.percent(pair.difference, signed=True),
            words.span(low, high) or "none",
            verdict,
        )
    return table


def _verdict(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return ""
    return "better" if low > 0 else "worse" if high < 0 else "undecided"


def _folds(report: view.Report) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("captured by fold", overflow="ellipsis", no_wrap=True, max_width=36)
    for index in range(len(report.folds)):
        table.add_column(f"fold {index}", justify="right", no_wrap=True)
    table.add_column("mean", justify="right", no_wrap=True)
    for row, model in zip(tables.fold_rows(report), report.models, strict=True):
        table.add_row(_name(row.label), *(cell.text for cell in row.cells), style="dim" if model.quiet else "")
    return table


def _print_findings(report: view.Report, model: view.ModelView, console: Console) -> None:
    from rich.padding import Padding
    from rich.text import Text

    first = model is report.chosen
    most = FINDINGS if first else FINDINGS // 2
    notes = [f"note: {note}" for note in report.own_notes(model)]
    lines = [*model.findings[:most], *notes[:NOTES]]
    if not lines or model.quiet:
        return
    console.print()
    console.print(Text(words.clip(words.clean(model.name), 60), style="bold"))
    for line in lines:
        console.print(Padding(Text(f"• {words.clean(line)}"), (0, 0, 0, 2), expand=False))
    more = len(model.findings) + len(notes) - len(lines)
    if more:
        console.print(Text(f"  … and {more} more in the report", style="dim"))
    for line in _beyond(model) if first else filter(None, [tables.calibration_line(model)]):
        console.print(Padding(Text(words.clean(line), style="dim"), (0, 0, 0, 2), expand=False))


def _beyond(model: view.ModelView) -> list[str]:
    """Say what the outlook and the calibration found, in a few lines."""
    verdict = model.outlook.verdict
    lines = [f"beyond the pool: {verdict}"] if verdict else []
    lines += [_prices(model), _others(model), tables.protocol_line(model), tables.calibration_line(model)]
    return [line for line in lines if line]


def _prices(model: view.ModelView) -> str:
    rows = tables.price_rows(model)
    if not rows:
        return ""
    doubling, each = (", ".join(row.cells[place].text for row in rows) for place in (0, 1))
    price = ", ".join(row.label for row in rows)
    return f"N that pays at a price of {price}: {doubling} if that is for a doubling; {each} if it is for a candidate"


def _others(model: view.ModelView) -> str:
    differences = [
        f"{row.label} {row.cells[-1].text}" + (f" ({row.cells[-1].interval})" if row.cells[-1].interval else "")
        for row in tables.other_rule_rows(model)
        if row.cells
    ]
    return (
        f"other rules against the highest reward at N = {model.n[-1]}: {'; '.join(differences)}" if differences else ""
    )


def _signature(report: view.Report) -> str:
    known = [key for key in ("version", "data", "policy", "rule", "seed", "averaging") if report.signature.get(key)]
    if report.signature.get("seed") == 0:
        known.append("seed")
    return "signature: " + ", ".join(f"{key} {words.clip(str(report.signature[key]), 16)}" for key in known)


def _name(name: str) -> Text:
    from rich.text import Text

    return Text(words.clean(name).replace("\n", " "))
