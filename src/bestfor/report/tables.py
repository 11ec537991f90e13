"""The rows of every table, as words: the page and the terminal lay out the same ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bestfor.report import view, words
from bestfor.report.bars import WaterfallPlot
from bestfor.report.charts.plots import LawPlot
from bestfor.report.outlook import Fixed

COST = 0.01
"""The price that tiles and headline speak of: of one doubling of N, and of one candidate, in utility."""


@dataclass(frozen=True)
class Cell:
    """What stands in a table: the value, its interval (or empty), and why there is none (or empty)."""

    text: str
    interval: str = ""
    why: str = ""


@dataclass(frozen=True)
class Row:
    """A named row; ``key`` finds its explanation in :mod:`bestfor.report.words`."""

    key: str
    label: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Tile:
    """One key number in large type."""

    label: str
    value: str
    interval: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Bar:
    """A row with a bar in it: ``left`` and ``width`` in percent of the bar's column, ``mark`` likewise or None."""

    label: str
    meaning: str
    value: str
    left: float
    width: float
    mark: float | None
    kind: str
    against: str = ""


QUANTITIES = (
    ("alpha", "α, collapsed users", "percent"),
    ("alpha_other_scale", "α by the other scale's rule", "percent"),
    ("beta", "β, hacked queries, naive", "percent"),
    ("beta_by_chance", "β by chance alone", "percent"),
    ("beta_corrected", "β, corrected", "percent"),
    ("beta_05", "β beyond −0.05, corrected", "percent"),
    ("rho_plus", "ρ₊, naive", "number"),
    ("rho_plus_corrected", "ρ₊, corrected", "number"),
    ("rho_minus", "ρ₋, naive", "number"),
    ("rho_minus_corrected", "ρ₋, corrected", "number"),
    ("rho", "ρ, mean correlation", "number"),
    ("leakage_gain", "leakage gain", "number"),
    ("active_queries", "active queries", "count"),
    ("queries_used", "queries behind corrected values", "count"),
)
_SHOW: dict[str, Callable[[float | None], str]] = {
    "percent": words.percent,
    "number": words.number,
    "count": words.count,
}


def quantities(report: view.Report) -> list[Row]:
    """One row a quantity, one cell a model; the curve's end first."""
    captured = Row("captured", _captured_label(report), tuple(captured_cell(model) for model in report.models))
    rest = [
        Row(key, label, tuple(_quantity(model, key, show) for model in report.models))
        for key, label, show in QUANTITIES
    ]
    return [captured, *rest]


def captured_cell(model: view.Model) -> Cell:
    """The captured share at the model's largest N."""
    if not model.n or model.captured.value[-1] is None:
        return Cell(words.NONE, why=words.NO_HEADROOM)
    low, high = model.captured.low[-1], model.captured.high[-1]
    interval = words.capped(low, high)
    why = "" if interval else words.ONE_USER if len(model.users) == 1 else words.NO_INTERVAL
    return Cell(words.percent(model.captured.value[-1]), interval, why)


def tiles(report: view.Report, model: view.Model) -> list[Tile]:
    """Captured share, collapsed users, hacked queries, the N that pays."""
    captured = captured_cell(model)
    alpha = _quantity(model, "alpha", "percent")
    clusters = model.interval.replace(" x ", " × ")
    how = f"{words.percent(report.level)} interval" + (f", {clusters}" if clusters else "")
    return [
        Tile(
            f"of the headroom captured at N = {model.n[-1] if model.n else 1}",
            captured.text,
            captured.interval,
            (captured.why or how,),
        ),
        Tile("of users collapsed (α)", alpha.text, alpha.interval, ("their rewards are nearly constant",)),
        _hacked_tile(model),
        _best_tile(model),
    ]


def law_rows(model: view.Model, plot: LawPlot) -> list[Row]:
    """One row an N: the observed gain, then each law's gain with its relative error in the interval's place."""
    values = [*plot.observed.value.tolist(), *(v for series in plot.laws.values() for v in series.tolist())]
    places = words.decimals(value for value in values if value == value)
    rows: list[Row] = []
    for index, size in enumerate(model.n):
        observed = plot.observed.value[index]
        cells = [Cell(words.number(None if observed != observed else float(observed), places, signed=True))]
        for law in plot.laws:
            error = model.law_error[law][index]
            shown = "" if error is None else words.percent(error, signed=True)
            cells.append(Cell(words.number(model.law[law][index], places, signed=True), shown))
        rows.append(Row(str(size), str(size), tuple(cells)))
    return rows


def ledger_rows(plot: WaterfallPlot) -> list[Bar]:
    """From the law to the observed gain, on an axis that spans the running totals only."""
    before = plot.before.tolist()
    steps = plot.steps.tolist()
    totals = [plot.start, plot.end, *before, *(b + s for b, s in zip(before, steps, strict=True))]
    at = _scale(totals)
    places = words.decimals([plot.start, plot.end])
    first = Bar("law", words.LEDGER["law"], words.number(plot.start, places), 0, 0, at(plot.start), "end")
    last = Bar("observed", words.LEDGER["observed"], words.number(plot.end, places), 0, 0, at(plot.end), "end")
    middle = [
        _span_bar(name, words.LEDGER[name], words.number(step, places, signed=True), at(left), at(left + step), step)
        for name, left, step in zip(plot.names, before, steps, strict=True)
    ]
    return [first, *middle, last]


def comparisons(report: view.Report) -> tuple[list[Bar], float]:
    """One row a paired comparison at the largest N, and where zero lies in percent."""
    pairs = report.decisive
    values = [v for pair in pairs for v in (pair.difference, pair.low, pair.high) if v is not None]
    at = _scale([0.0, *values])
    rows: list[Bar] = []
    for pair in pairs:
        difference = pair.difference or 0.0
        low, high = (difference if end is None else end for end in (pair.low, pair.high))
        certain = pair.low is not None and pair.high is not None and (pair.low > 0 or pair.high < 0)
        kind = ("good" if difference > 0 else "bad") if certain else "open"
        interval = words.span(pair.low, pair.high) or words.NO_INTERVAL
        shown = words.percent(difference, signed=True)
        rows.append(Bar(pair.model, interval, shown, at(low), at(high) - at(low), at(difference), kind, pair.against))
    return rows, at(0.0)


def comparisons_by_n(report: view.Report) -> tuple[tuple[int, ...], list[Row]]:
    """The values of N, and one row a pair (key: the model, label: against which) with a cell for each of them."""
    sizes = tuple(sorted({pair.n for pair in report.comparisons}))
    found = {(pair.model, pair.against, pair.n): pair for pair in report.comparisons}
    rows: list[Row] = []
    for model, against in dict.fromkeys((pair.model, pair.against) for pair in report.comparisons):
        pairs = [found.get((model, against, size)) for size in sizes]
        cells = tuple(
            Cell(words.NONE)
            if pair is None
            else Cell(words.percent(pair.difference, signed=True), words.span(pair.low, pair.high))
            for pair in pairs
        )
        rows.append(Row(model, against, cells))
    return sizes, rows


def folds(report: view.Report) -> list[Row]:
    """One row a model: its captured share in each fold, then in the mean of the folds."""
    rows: list[Row] = []
    for model in report.models:
        found = [fold.model(model.name) for fold in report.folds]
        cells = [Cell(words.NONE, why="not in this fold") if part is None else captured_cell(part) for part in found]
        rows.append(Row(model.name, model.name, (*cells, captured_cell(model))))
    return rows


def dropped(report: view.Report) -> list[str]:
    """Sentences about what was left out; empty where nothing was."""
    phrases = {
        "too_few_candidates": ("query has", "queries have", "fewer candidates than the largest N"),
        "not_finite": ("candidate has", "candidates have", "a reward or a utility that is no finite number"),
    }
    said: list[str] = []
    for key, value in report.dropped.items():
        if value:
            one, many, rest = phrases.get(key, ("row:", "rows:", key.replace("_", " ")))
            said.append(f"{words.plural(value, one, many)} {rest} and {'was' if value == 1 else 'were'} left out")
    return said


def _captured_label(report: view.Report) -> str:
    return f"captured at N = {report.n[-1]}" if report.n else "captured"


def _quantity(model: view.Model, key: str, show: str) -> Cell:
    base, _, corrected = key.partition("_corrected")
    if "_corrected" in key or key in ("beta_05", "queries_used"):
        if model.corrected is None:
            return Cell(words.NONE, why=words.NO_CORRECTED)
        return _filled(_SHOW[show](model.corrected.get(base + corrected)))
    known = model.quantities
    interval = words.span(known.get(f"{key}_low"), known.get(f"{key}_high"), show)
    return _filled(_SHOW[show](known.get(key)), interval, model.reasons.get(key, words.NO_SUCH))


def _filled(text: str, interval: str = "", why: str = words.NO_SUCH) -> Cell:
    return Cell(text, interval, why if text == words.NONE else "")


def _hacked_tile(model: view.Model) -> Tile:
    naive = _quantity(model, "beta", "percent")
    corrected = model.corrected.get("beta") if model.corrected else None
    label = "of queries hacked (β)"
    why = "their rewards run against their utilities"
    chance = model.quantities.get("beta_by_chance")
    cause = "" if chance is None else f"; pools of this size would show {words.percent(chance)} by chance alone"
    if corrected is None:
        note = f"a naive count{cause}; taking out that noise is {words.NO_CORRECTED}"
        return Tile(label, naive.text, naive.interval, (why, note))
    interval = f" ({naive.interval})" if naive.interval else ""
    note = f"without the noise of small pools; counted naively {naive.text}{interval}{cause}"
    return Tile(label, words.percent(corrected), "", (why, note))


def _best_tile(model: view.Model) -> Tile:
    if not model.best_n:
        return Tile("candidates pay (N)", words.NONE, "", ("not available: no cost was stated",))
    cost, n = pays(model)
    if n == 1:
        note = f"already the second gains less than {cost:g}, or nothing that can be told from zero"
    elif model.n and n == model.n[-1]:
        note = f"every doubling up to here gains more than {cost:g}; larger N were not measured"
    else:
        note = f"the next doubling gains less than {cost:g}, or nothing that can be told from zero"
    each = pays_each(model)
    unsure = ", chance not ruled out" if each is not None and n == 1 and (each.n or 1) > 1 else ""
    other = "" if each is None else f"{words.count(each.n)} where each candidate costs {each.cost or 0:g}{unsure}"
    return Tile(
        f"{'candidate pays' if n == 1 else 'candidates pay'} where a doubling costs {cost:g}",
        words.count(n),
        other,
        (note,),
    )


def pays_each(model: view.Model) -> Fixed | None:
    """The best fixed N at the cost of one candidate that is nearest to :data:`COST`."""
    known = [one for one in model.outlook.fixed if one.cost is not None]
    return min(known, key=lambda one: abs((one.cost or 0.0) - COST), default=None)


def pays(model: view.Model) -> tuple[float, int | None]:
    """The stated cost nearest to :data:`COST` per doubling, and the N beyond which doubling does not earn it."""
    return min(model.best_n, key=lambda best: abs(best[0] - COST), default=(COST, None))


def _scale(values: Iterable[float]) -> Callable[[float], float]:
    known = list(values)
    low, high = min(known), max(known)
    margin = 0.06 * (high - low) or 1.0
    return lambda value: round(100.0 * (value - low + margin) / (high - low + 2 * margin), 2)


def _span_bar(label: str, meaning: str, value: str, one: float, other: float, step: float) -> Bar:
    kind = "good" if step >= 0 else "bad"
    return Bar(label, meaning, value, min(one, other), round(abs(other - one), 2), None, kind)
