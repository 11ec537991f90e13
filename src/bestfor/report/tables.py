"""Make the rows of every table, as words: the page and the terminal lay out the same ones.

First come the curve's end, the quantities, the laws and the ledger, comparisons and folds; then what lies beyond the
pool; then the calibration of predicted standard deviations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bestfor.report import view, words
from bestfor.report.charts.plots import NAMES, LawPlot, PitPlot, WaterfallPlot
from bestfor.report.outlook import METHODS, FixedView, NeededView, NumbersView, OtherRuleView, SoftView
from bestfor.report.predictive import CalibrationView

COST = 0.01
"""The price that tiles and headline speak of: of one doubling of N, and of one candidate, in utility."""

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
QUANTITY_NAMES = {"captured": "captured share", "alpha": "α, collapsed users", "beta": "β, naive"}
MAIN_METHODS, OTHER_METHODS = ("order_2", "gao"), ("order_1", "order_3")
"""The two predictions that decide on trust, and those shown beside them."""

CALIBRATION_NUMBERS = (
    ("factor", "errors, in predicted std"),
    ("temperature", "variance temperature T"),
    ("ence", "ENCE"),
    ("ence_by_noise", "ENCE by noise alone"),
    ("gain", "better than one constant std"),
    ("tempered_gain", "the same after multiplying by T"),
)
_SHOW: dict[str, Callable[[float | None], str]] = {
    "percent": words.percent,
    "number": words.number,
    "count": words.count,
}


@dataclass(frozen=True)
class Cell:
    """Cell of a table: the value, its interval (or empty), and why there is none (or empty)."""

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


def tiles(report: view.Report, model: view.ModelView) -> list[Tile]:
    """Make the tiles: captured share, collapsed users, hacked queries, the N that pays."""
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


def _hacked_tile(model: view.ModelView) -> Tile:
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


def _best_tile(model: view.ModelView) -> Tile:
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


def pays_each(model: view.ModelView) -> FixedView | None:
    """Find the best fixed N at the cost of one candidate that is nearest to :data:`COST`."""
    known = [one for one in model.outlook.fixed if one.cost is not None]
    return min(known, key=lambda one: abs((one.cost or 0.0) - COST), default=None)


def pays(model: view.ModelView) -> tuple[float, int | None]:
    """Find the stated cost nearest to :data:`COST` per doubling, and the N beyond which doubling does not earn it."""
    return min(model.best_n, key=lambda best: abs(best[0] - COST), default=(COST, None))


def quantity_rows(report: view.Report) -> list[Row]:
    """Make one row a quantity, one cell a model; the curve's end first."""
    captured = Row("captured", _captured_label(report), tuple(captured_cell(model) for model in report.models))
    rest = [
        Row(key, label, tuple(_quantity(model, key, show) for model in report.models))
        for key, label, show in QUANTITIES
    ]
    return [captured, *rest]


def captured_cell(model: view.ModelView) -> Cell:
    """Make the cell of the captured share at the model's largest N."""
    if not model.n or model.captured.value[-1] is None:
        return Cell(words.NONE, why=words.NO_HEADROOM)
    low, high = model.captured.low[-1], model.captured.high[-1]
    interval = words.capped(low, high)
    why = "" if interval else words.ONE_USER if len(model.users) == 1 else words.NO_INTERVAL
    return Cell(words.percent(model.captured.value[-1]), interval, why)


def _captured_label(report: view.Report) -> str:
    return f"captured at N = {report.n[-1]}" if report.n else "captured"


def _quantity(model: view.ModelView, key: str, show: str) -> Cell:
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


def law_rows(model: view.ModelView, plot: LawPlot) -> list[Row]:
    """Make one row an N: the observed gain, then each law's gain with its relative error in the interval's place."""
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


def ledger_bars(plot: WaterfallPlot) -> list[Bar]:
    """Make the ledger's bars from the law to the observed gain, on an axis that spans the running totals only."""
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


def comparison_bars(report: view.Report) -> tuple[list[Bar], float]:
    """Make one bar a paired comparison at the largest N, and where zero lies in percent."""
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


def comparison_rows(report: view.Report) -> tuple[tuple[int, ...], list[Row]]:
    """Make the values of N, and one row a pair (key: the model, label: against which) with a cell for each of them."""
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


def fold_rows(report: view.Report) -> list[Row]:
    """Make one row a model: its captured share in each fold, then in the mean of the folds."""
    rows: list[Row] = []
    for model in report.models:
        found = [fold.model(model.name) for fold in report.folds]
        cells = [Cell(words.NONE, why="not in this fold") if part is None else captured_cell(part) for part in found]
        rows.append(Row(model.name, model.name, (*cells, captured_cell(model))))
    return rows


def dropped_sentences(report: view.Report) -> list[str]:
    """Write sentences about what was left out; empty where nothing was."""
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


def _scale(values: Iterable[float]) -> Callable[[float], float]:
    known = list(values)
    low, high = min(known), max(known)
    margin = 0.06 * (high - low) or 1.0
    return lambda value: round(100.0 * (value - low + margin) / (high - low + 2 * margin), 2)


def _span_bar(label: str, meaning: str, value: str, one: float, other: float, step: float) -> Bar:
    kind = "good" if step >= 0 else "bad"
    return Bar(label, meaning, value, min(one, other), round(abs(other - one), 2), None, kind)


def protocol_line(model: view.ModelView) -> str:
    """Say how noisy the usual protocol would be here; empty where that is not known."""
    known = [(size, sd) for size, sd in zip(model.n, model.outlook.three_draw, strict=True) if sd]
    if not known:
        return ""
    size, sd = known[-1]
    places = max(words.decimals([sd]) - 1, 2)
    return (
        f"The usual protocol, the mean of 3 random draws of N, would add noise of ±{words.number(sd, places)} (one "
        f"standard deviation) at N = {size}; the curve here is exact over all draws and adds none."
    )


def extrapolation_rows(model: view.ModelView, methods: tuple[str, ...] = MAIN_METHODS) -> list[Row]:
    """Make one row an N: the gain by some methods, and, for the main ones, whether to trust it."""
    values = [step.values[method] for step in model.outlook.steps for method in METHODS]
    places = words.decimals(values)
    rows: list[Row] = []
    for step in model.outlook.steps:
        cells = [
            Cell(
                words.number(step.values[method], places, signed=True),
                words.span(step.values[f"{method}_low"], step.values[f"{method}_high"], "number", places),
            )
            for method in methods
        ]
        if methods == MAIN_METHODS:
            cells.append(Cell("yes" if step.trusted else "no"))
        rows.append(Row(str(step.n), str(step.n), tuple(cells)))
    return rows


def method_names(methods: tuple[str, ...]) -> list[str]:
    """Name the methods as people do."""
    return [NAMES[method] for method in methods]


def price_rows(model: view.ModelView) -> list[Row]:
    """Make one row a price: the N that pays where a doubling or a candidate costs it, and what that earns."""
    places = words.decimals([one.net for one in model.outlook.fixed])
    doubling = dict(model.best_n)
    each = {one.cost: one for one in model.outlook.fixed if one.cost is not None}
    rows: list[Row] = []
    for cost in sorted({*doubling, *each}):
        one, label = each.get(cost), f"{cost:g}"
        largest = bool(model.n) and doubling.get(cost) == model.n[-1]
        cells = [Cell(words.count(doubling.get(cost)), "the largest tried" if largest else "")]
        if one is None:
            cells += [Cell(words.NONE), Cell(words.NONE)]
        else:
            edge = "or more" if one.at_edge else ""
            cells.append(Cell(words.count(one.n), edge))
            cells.append(Cell(words.number(one.net, places), words.span(one.low, one.high, "number", places)))
        rows.append(Row(label, label, tuple(cells)))
    return rows


def soft_rows(model: view.ModelView) -> list[Row]:
    """Make one row a temperature: the difference from picking the highest reward, at every N above 1."""
    labels = (words.NONE if one.in_sd is None else f"{one.in_sd:g} sd" for one in model.outlook.soft)
    return _differences(model, list(zip(labels, model.outlook.soft, strict=True)))


def other_rule_rows(model: view.ModelView) -> list[Row]:
    """Make one row another rule: the difference from picking the highest reward, at every N above 1."""
    return _differences(model, [(one.rule, one) for one in model.outlook.others])


def _differences(model: view.ModelView, choices: Sequence[tuple[str, SoftView | OtherRuleView]]) -> list[Row]:
    places = words.decimals(value for _, one in choices for value in one.difference)
    rows: list[Row] = []
    for label, one in choices:
        curves = zip(model.n, one.difference, one.low, one.high, strict=True)
        cells = tuple(
            Cell(words.number(value, places, signed=True), words.span(low, high, "number", places))
            for n, value, low, high in curves
            if n > 1
        )
        rows.append(Row(label, label, cells))
    return rows


def per_user_sentence(model: view.ModelView) -> str:
    """Say what one N for each user would earn."""
    chosen = model.outlook.per_user
    if chosen is None:
        return ""
    if chosen.reason:
        return f"Not known: {chosen.reason}."
    v = chosen.values
    gain = words.number(v.get("gain"), 4, signed=True)
    interval = words.span(v.get("gain_low"), v.get("gain_high"), "number", 4)
    return (
        f"{gain}{f' ({interval})' if interval else ''} net utility against one N for all, at "
        f"{v.get('cost_per_candidate') or 0:g} a candidate: {words.number(v.get('own_n'), 1)} candidates on average "
        f"instead of {words.number(v.get('common_n'), 1)}. Judged on {words.plural(int(v.get('users') or 0), 'user')} "
        f"with two queries or more, one half of their queries choosing for the other; a user's own slope weighs "
        f"{words.percent(v.get('trust'))} against everybody's."
    )


def per_user_rows(chosen: NumbersView | None) -> list[tuple[str, str]]:
    """Make rows of the shares of users by their N, in at most eight ranges."""
    if chosen is None or not chosen.n:
        return []
    width = -(-len(chosen.n) // 8)
    rows: list[tuple[str, str]] = []
    for start in range(0, len(chosen.n), width):
        sizes, shares = chosen.n[start : start + width], chosen.share[start : start + width]
        label = str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        rows.append((label, words.percent(sum(shares))))
    return rows


def stopping_sentence(model: view.ModelView) -> str:
    """Say what the stopping rule did, in a sentence or two."""
    replay = model.outlook.stopping
    if replay is None:
        return ""
    if replay.reason:
        return f"Not replayed: {replay.reason}."
    v = replay.values
    interval = words.span(v.get("advantage_low"), v.get("advantage_high"), "number", 4)
    return (
        f"{replay.verdict} At {v.get('cost_per_candidate') or 0:g} a candidate it nets {words.number(v.get('net'), 4)} "
        f"against {words.number(v.get('fixed_net'), 4)}, a difference of "
        f"{words.number(v.get('advantage'), 4, signed=True)}{f' ({interval})' if interval else ''}."
    )


def needed_rows(model: view.ModelView) -> list[Row]:
    """Make one row a quantity: how well it is known, and what more it takes."""
    return [
        Row(one.quantity, QUANTITY_NAMES.get(one.quantity, one.quantity), (Cell(_now(one)), _more(one)))
        for one in model.outlook.needed
    ]


def _now(one: NeededView) -> str:
    return words.NONE if one.now is None else f"±{words.percent(one.now)}"


def _more(one: NeededView) -> Cell:
    if one.more_users is None:
        why = words.NO_INTERVAL if one.now is None else "no number of users alone is enough: the texts are too few"
        return Cell(words.NONE, why=why)
    if one.more_users == 0:
        return Cell("none", f"{words.count(one.users)} would do")
    more = words.plural(one.more_users, "user")
    return Cell(more, f"or {words.plural(one.more_queries or 0, 'query', 'queries')} of theirs")


def calibration_rows(found: CalibrationView) -> list[Row]:
    """Make rows of the numbers of a calibration, each with its interval."""
    return [Row(key, label, (_number(found, key),)) for key, label in CALIBRATION_NUMBERS]


def _number(found: CalibrationView, key: str) -> Cell:
    name = "temperature" if key == "factor" else key
    value, low, high = (found.numbers.get(f"{name}{end}") for end in ("", "_low", "_high"))
    if key == "factor":
        value, low, high = (None if one is None else one**0.5 for one in (value, low, high))
    if key.startswith("ence"):
        return Cell(words.percent(value, 1), words.span(low, high))
    signed, unit = key.endswith("gain"), " nats" if key.endswith("gain") else ""
    shown = words.number(value, 3 if signed else 2, signed=signed) + unit
    return Cell(shown, words.span(low, high, "number", 3 if signed else 2) or words.NO_INTERVAL)


def coverage_rows(found: CalibrationView) -> list[Row]:
    """Make one row a level: the share of utilities inside its predictive interval."""
    return [
        Row(
            words.percent(one.level),
            words.percent(one.level),
            (Cell(words.percent(one.share, 1), words.span(one.low, one.high)),),
        )
        for one in found.coverage
    ]


def reliability_rows(found: CalibrationView) -> list[Row]:
    """Make one row a bin: how many candidates, what was predicted, what was observed."""
    places = words.decimals([*found.predicted, *found.observed])
    columns = zip(found.sizes, found.predicted, found.observed, found.low, found.high, strict=True)
    return [
        Row(
            str(place),
            str(place),
            (
                Cell(words.count(size)),
                Cell(words.number(predicted, places)),
                Cell(words.number(observed, places), words.span(low, high, "number", places)),
            ),
        )
        for place, (size, predicted, observed, low, high) in enumerate(columns, start=1)
    ]


def pit_rows(plot: PitPlot) -> list[tuple[str, str]]:
    """Make one row a bin of the PIT: where it lies, and the share of the candidates in it."""
    return [
        (f"{words.number(low, 2)} to {words.number(high, 2)}", words.percent(float(share), 1))
        for low, high, share in zip(plot.edges, plot.edges[1:], plot.share, strict=False)
    ]


def calibration_notes(found: CalibrationView) -> list[str]:
    """Say what a reader should know of how it was measured."""
    said = [
        f"{words.plural(found.candidates, 'candidate')} of {words.plural(found.users, 'user')}, every one weighing "
        "the same; intervals count users as random."
    ]
    if found.values is not None:
        said.append(
            f"Utilities take {found.values} values only: the prediction is rounded to the nearest of them, and "
            "coverage and PIT are spread evenly over what a value covers."
        )
    if found.left_out:
        one = found.left_out == 1
        said.append(
            f"{words.plural(found.left_out, 'candidate')} without a standard deviation above 0 "
            f"{'was' if one else 'were'} left out."
        )
    return said


def calibration_line(model: view.ModelView) -> str:
    """Write the verdict for a terminal; empty where no standard deviation is predicted."""
    found = model.predictive
    return f"std: {found.verdict}" if found is not None and found.verdict else ""
