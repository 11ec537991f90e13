"""Make the rows of every table, as words: the page and the terminal lay out the same ones.

First come the curve's end, the quantities, the laws and the ledger, comparisons and folds; then what lies beyond the
pool; then the calibration of predicted standard deviations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from bestfor.diagnostics.beyond.outlook import PerUserN, PrecisionNeeded
from bestfor.diagnostics.calibrated import calibrated
from bestfor.diagnostics.calibration import Calibration
from bestfor.diagnostics.price import Price
from bestfor.diagnostics.public import Diagnosis
from bestfor.diagnostics.result import BestN, Curve
from bestfor.report import words
from bestfor.report.charts.plots import NAMES, LawPlot, PitPlot, WaterfallPlot, predicted
from bestfor.report.shown import ShownModel, decisive
from bestfor.types import Estimate

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
    """Cell of a table.

    Attributes:
        text: the value as written.
        interval: its interval, empty where there is none.
        why: a reason where the value cannot be had, else empty.
    """

    text: str
    interval: str = ""
    why: str = ""


@dataclass(frozen=True)
class Row:
    """A named row.

    Attributes:
        key: finds its explanation in :mod:`bestfor.report.words`.
        label: as shown.
        cells: from left to right.
    """

    key: str
    label: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Tile:
    """One key number in large type.

    Attributes:
        label: what it counts or measures.
        value: as written.
        interval: its interval, empty where there is none.
        notes: short sentences below.
    """

    label: str
    value: str
    interval: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Bar:
    """A row with a bar in it.

    Attributes:
        label: of the row.
        meaning: of the row, or its interval.
        value: as written.
        left: start of the bar, in percent of the bar's column.
        width: of the bar, likewise.
        mark: place of the estimate, likewise; None where the bar alone is drawn.
        kind: ``good``, ``bad``, ``open`` or ``end``: the colour.
        against: the other model of a comparison, else empty.
    """

    label: str
    meaning: str
    value: str
    left: float
    width: float
    mark: float | None
    kind: str
    against: str = ""


def tiles(diagnosis: Diagnosis, model: ShownModel) -> list[Tile]:
    """Make the tiles of what is known: captured share, collapsed users, hacked queries, the N that pays."""
    captured = captured_cell(model)
    alpha = _quantity(model, "alpha", "percent")
    clusters = model.found.interval.replace(" x ", " × ")
    how = f"{words.percent(diagnosis.level)} interval" + (f", {clusters}" if clusters else "")
    every = [
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
    return [tile for tile in every if tile.value != words.NONE]


def _hacked_tile(model: ShownModel) -> Tile:
    naive = _quantity(model, "beta", "percent")
    q = model.found.quantities
    label = "of queries hacked (β)"
    clearly = f"of queries clearly hacked (β below {words.MINUS}0.05)"
    why = "their rewards run against their utilities"
    chance = f"{words.percent(q.beta_by_chance)} would be by chance alone" if words.known(q.beta_by_chance) else ""
    if q.corrected is None:
        return Tile(label, naive.text, naive.interval, (why, f"a naive count{f'; {chance}' if chance else ''}"))
    notes = (why, "without the noise of small pools")
    share, low, high = q.corrected.beta_05, q.corrected.beta_05_low, q.corrected.beta_05_high
    interval = words.span(low, high)
    if not interval:
        return Tile(label, words.percent(q.corrected.beta), "", notes)
    if not low <= share <= high:
        return Tile(clearly, interval, "", notes)
    return Tile(clearly, words.percent(share), interval, notes)


VERDICTS = {
    "pays": "the gain less the price is above 0 for sure",
    "not shown": "no gain can be told from chance",
    "undecided": "there is a gain; whether it is worth the price is open",
    "does not pay": "the gain less the price is below 0 for sure",
}
"""Verdicts on the N with the highest gain less its price, in words."""


def _best_tile(model: ShownModel) -> Tile:
    best = pays(model)
    if best is None:
        return Tile("candidates pay (N)", words.NONE, "", ("not available: no price was stated",))
    further = {
        "not measured": "larger N were not measured",
        "pays": "the next step pays too",
        "does not pay": "the next step does not",
        "undecided": "whether the next step does is open",
        "not shown": "the next step is not shown to gain",
    }.get(best.further, "")
    said = f"{best.verdict}: {VERDICTS[best.verdict]}" if best.verdict in VERDICTS else ""
    price = f"if a {best.per} costs {best.stated.label}"
    notes = tuple(note for note in (said, further if best.n > 1 else "") if note)
    return Tile(f"{'candidate' if best.n == 1 else 'candidates'} {price}", words.count(best.n), "", notes)


def pays(model: ShownModel) -> BestN | None:
    """Find the N with the highest gain less the price that is spoken of, if any."""
    return next(iter(model.found.best_n), None)


def quantity_rows(diagnosis: Diagnosis, models: Sequence[ShownModel]) -> list[Row]:
    """Make one row a quantity, one cell a model; the curve's end first, no leakage where all have none."""
    at = f"captured at N = {int(diagnosis.n[-1])}" if len(diagnosis.n) else "captured"
    captured = Row("captured", at, tuple(captured_cell(model) for model in models))
    rest = [Row(key, label, tuple(_quantity(model, key, show) for model in models)) for key, label, show in QUANTITIES]
    return [captured, *(row for row in rest if row.key != "leakage_gain" or any(map(_is_not_zero, row.cells)))]


def _is_not_zero(cell: Cell) -> bool:
    return not cell.text or set(cell.text) > {"0", "."}


def captured_cell(model: ShownModel) -> Cell:
    """Make the cell of the captured share at the model's largest N."""
    captured = model.found.captured
    if not model.n or not words.known(captured.value[-1]):
        return Cell(words.NONE, why=words.NO_HEADROOM)
    interval = words.capped(captured.low[-1], captured.high[-1])
    why = "" if interval else words.ONE_USER if len(model.found.per_user.user) == 1 else words.NO_INTERVAL
    return Cell(words.percent(captured.value[-1]), interval, why)


def _quantity(model: ShownModel, key: str, show: str) -> Cell:
    q = model.found.quantities
    if key.endswith("_corrected") or key in ("beta_05", "queries_used"):
        if q.corrected is None:
            return Cell(words.NONE, why=no_corrected(model))
        return _filled(_SHOW[show](getattr(q.corrected, key.removesuffix("_corrected"))))
    value: Estimate | float = getattr(q, key)
    one = value if isinstance(value, Estimate) else Estimate(value)
    return _filled(_SHOW[show](one.value), words.span(one.low, one.high, show), q.reasons.get(key, words.NO_SUCH))


def no_corrected(model: ShownModel) -> str:
    """Say why a model has no corrected values."""
    reason = model.found.quantities.reasons.get("corrected", "")
    return f"not available: {reason}" if reason else words.NO_CORRECTED


def _filled(text: str, interval: str = "", why: str = words.NO_SUCH) -> Cell:
    return Cell(text, interval, why if text == words.NONE else "")


def law_rows(model: ShownModel, plot: LawPlot) -> list[Row]:
    """Make one row an N: the observed gain, then each law's gain with its relative error in the interval's place."""
    every = [*plot.observed.value.tolist(), *(v for series in plot.laws.values() for v in series.tolist())]
    places = words.decimals(every)
    rows: list[Row] = []
    for index, size in enumerate(model.n):
        cells = [Cell(words.number(plot.observed.value[index], places, signed=True))]
        for law, values in plot.laws.items():
            error = model.found.law_error[law][index]
            shown = words.percent(error, signed=True) if words.known(error) else ""
            cells.append(Cell(words.number(values[index], places, signed=True), shown))
        rows.append(Row(str(size), str(size), tuple(cells)))
    return rows


def ledger_bars(plot: WaterfallPlot) -> list[Bar]:
    """Make the ledger's bars from the law to the observed gain; terms that are shown as 0 are left out.

    The axis spans the running totals only.
    """
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
        if float(f"{step:.{places}f}") != 0.0
    ]
    return [first, *middle, last]


def comparison_bars(diagnosis: Diagnosis) -> tuple[list[Bar], float]:
    """Make one bar a paired comparison at the largest N, and where zero lies in percent."""
    pairs = decisive(diagnosis)
    found = [pair.difference for pair in pairs]
    values = [v for one in found for v in (one.value, one.low, one.high) if v is not None]
    at = _scale([0.0, *values])
    rows: list[Bar] = []
    for pair, one in zip(pairs, found, strict=True):
        low, high = (one.value if end is None else end for end in (one.low, one.high))
        certain = one.low is not None and one.high is not None and (one.low > 0 or one.high < 0)
        kind = ("good" if one.value > 0 else "bad") if certain else "open"
        interval = words.points(words.span(one.low, one.high)) or words.NO_INTERVAL
        shown = words.points(words.percent(one.value, signed=True))
        rows.append(Bar(pair.model, interval, shown, at(low), at(high) - at(low), at(one.value), kind, pair.against))
    return rows, at(0.0)


def comparison_rows(diagnosis: Diagnosis) -> tuple[tuple[int, ...], list[Row]]:
    """Make the values of N, and one row a pair (key: the model, label: against which) with a cell for each of them."""
    sizes = tuple(sorted({pair.n for pair in diagnosis.comparisons}))
    found = {(pair.model, pair.against, pair.n): pair.difference for pair in diagnosis.comparisons}
    rows: list[Row] = []
    for model, against in dict.fromkeys((pair.model, pair.against) for pair in diagnosis.comparisons):
        pairs = [found.get((model, against, size)) for size in sizes]
        cells = tuple(
            Cell(words.NONE)
            if one is None
            else Cell(words.points(words.percent(one.value, signed=True)), words.points(words.span(one.low, one.high)))
            for one in pairs
        )
        rows.append(Row(model, against, cells))
    return sizes, rows


def fold_rows(diagnosis: Diagnosis, models: Sequence[ShownModel]) -> list[Row]:
    """Make one row a model: its captured share in each fold, then in the mean of the folds."""
    rows: list[Row] = []
    for model in models:
        found = [fold.models.get(model.name) for fold in diagnosis.folds]
        cells = [
            Cell(words.NONE, why="not in this fold") if part is None else captured_cell(replace(model, found=part))
            for part in found
        ]
        rows.append(Row(model.name, model.name, (*cells, captured_cell(model))))
    return rows


def dropped_sentences(diagnosis: Diagnosis) -> list[str]:
    """Write sentences about what was left out; empty where nothing was."""
    dropped = diagnosis.dropped
    phrases = (
        (dropped.too_few_candidates, "query has", "queries have", "fewer candidates than the largest N"),
        (dropped.not_finite, "candidate has", "candidates have", "a reward or a utility that is no finite number"),
    )
    return [
        f"{words.plural(count, one, many)} {rest} and {'was' if count == 1 else 'were'} left out"
        for count, one, many, rest in phrases
        if count
    ]


def _scale(values: Iterable[float]) -> Callable[[float], float]:
    known = list(values)
    low, high = min(known), max(known)
    margin = 0.06 * (high - low) or 1.0
    return lambda value: round(100.0 * (value - low + margin) / (high - low + 2 * margin), 2)


def _span_bar(label: str, meaning: str, value: str, one: float, other: float, step: float) -> Bar:
    kind = "good" if step >= 0 else "bad"
    return Bar(label, meaning, value, min(one, other), round(abs(other - one), 2), None, kind)


def protocol_line(model: ShownModel) -> str:
    """Say how noisy the usual protocol would be here; empty where that is not known."""
    noise = None if model.found.outlook is None else model.found.outlook.three_draw
    pairs = [] if noise is None else zip(noise.n.tolist(), noise.sd.tolist(), strict=True)
    known = [(size, sd) for size, sd in pairs if sd and words.known(sd)]
    if not known:
        return ""
    size, sd = known[-1]
    places = max(words.decimals([sd]) - 1, 2)
    return (
        f"The usual protocol, the mean of 3 random draws of N, would add noise of ±{words.number(sd, places)} (one "
        f"standard deviation) at N = {size}; the curve here is exact over all draws and adds none."
    )


def extrapolation_rows(model: ShownModel, methods: tuple[str, ...] = MAIN_METHODS) -> list[Row]:
    """Make one row an N: the gain by some methods, and, for the main ones, whether to trust it."""
    steps = () if model.found.outlook is None else model.found.outlook.extrapolation.steps
    places = words.decimals(predicted(step, method).value for step in steps for method in NAMES)
    rows: list[Row] = []
    for step in steps:
        found = [predicted(step, method) for method in methods]
        cells = [
            Cell(words.number(one.value, places, signed=True), words.span(one.low, one.high, "number", places))
            for one in found
        ]
        if methods == MAIN_METHODS:
            cells.append(Cell("yes" if step.trusted else "no"))
        rows.append(Row(str(step.n), str(step.n), tuple(cells)))
    return rows


def method_names(methods: tuple[str, ...]) -> list[str]:
    """Name the methods as people do."""
    return [NAMES[method] for method in methods]


def price_rows(model: ShownModel) -> list[Row]:
    """Make one row a price of a doubling or of a candidate: the N with the highest gain less it, and the verdict."""
    rows: list[Row] = []
    for best in model.found.best_n:
        label = f"{best.stated.label} a {best.per}"
        largest = "the largest tried" if model.n and best.n == model.n[-1] else ""
        places = words.decimals([best.gain.value])
        gain = Cell(words.number(best.gain.value, places), words.span(best.gain.low, best.gain.high, "number", places))
        rows.append(Row(label, label, (Cell(words.count(best.n), largest), Cell(best.verdict or words.NONE), gain)))
    return rows


def fixed_rows(model: ShownModel) -> list[Row]:
    """Make one row a price of a candidate: the N of all with the highest utility less N times it, by the estimates."""
    fixed = () if model.found.outlook is None else model.found.outlook.best_fixed_n
    places = words.decimals([one.net.value for one in fixed])
    rows: list[Row] = []
    for one in fixed:
        label = f"{one.cost_per_candidate:.3g}" if not one.unit else Price(one.price, one.unit, "candidate").label
        net = Cell(words.number(one.net.value, places), words.span(one.net.low, one.net.high, "number", places))
        rows.append(Row(label, label, (Cell(words.count(one.n), "or more" if one.at_edge else ""), net)))
    return rows


def soft_rows(model: ShownModel) -> list[Row]:
    """Make one row a temperature: the difference from picking the highest reward, at every N above 1."""
    soft = () if model.found.outlook is None else model.found.outlook.soft
    known = [(one.temperature_in_sd, one) for one in soft]
    labels = (f"{share:g} sd" if words.known(share) else words.NONE for share, _ in known)
    curves = [Curve(model.found.utility.n, one.difference, one.low, one.high) for one in soft]
    return _differences(list(zip(labels, curves, strict=True)))


def other_rule_rows(model: ShownModel) -> list[Row]:
    """Make one row another rule: the difference from picking the highest reward, at every N above 1."""
    return _differences([(one.rule, one.difference) for one in model.found.rules])


def _differences(choices: Sequence[tuple[str, Curve]]) -> list[Row]:
    places = words.decimals(value for _, one in choices for value in one.value.tolist())
    rows: list[Row] = []
    for label, one in choices:
        curves = zip(one.n.tolist(), one.value.tolist(), one.low.tolist(), one.high.tolist(), strict=True)
        cells = tuple(
            Cell(words.number(value, places, signed=True), words.span(low, high, "number", places))
            for n, value, low, high in curves
            if n > 1
        )
        rows.append(Row(label, label, cells))
    return rows


def per_user_sentence(model: ShownModel) -> str:
    """Say what one N for each user would earn."""
    chosen = None if model.found.outlook is None else model.found.outlook.per_user_n
    if chosen is None:
        return ""
    if chosen.reason:
        return f"Not known: {chosen.reason}."
    if not (words.known(chosen.gain.value) and words.known(chosen.cost_per_candidate)):
        return ""
    gain = words.number(chosen.gain.value, 4, signed=True)
    interval = words.span(chosen.gain.low, chosen.gain.high, "number", 4)
    return (
        f"{gain}{f' ({interval})' if interval else ''} net utility against one N for all, at "
        f"{chosen.cost_per_candidate:.3g} a candidate: {words.number(chosen.own_n, 1)} candidates on average "
        f"instead of {words.number(chosen.common_n, 1)}. Judged on {words.plural(chosen.users, 'user')} "
        f"with two queries or more, one half of their queries choosing for the other; a user's own slope weighs "
        f"{words.percent(chosen.trust)} against everybody's."
    )


def per_user_rows(chosen: PerUserN) -> list[tuple[str, str]]:
    """Make rows of the shares of users by their N, in at most eight ranges."""
    if not len(chosen.n):
        return []
    width = -(-len(chosen.n) // 8)
    rows: list[tuple[str, str]] = []
    for start in range(0, len(chosen.n), width):
        sizes, shares = chosen.n[start : start + width], chosen.share[start : start + width]
        label = str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        rows.append((label, words.percent(sum(shares.tolist()))))
    return rows


def stopping_sentence(model: ShownModel) -> str:
    """Say what the stopping rule did, in a sentence or two."""
    replay = None if model.found.outlook is None else model.found.outlook.stopping
    if replay is None:
        return ""
    if replay.reason:
        return f"Not replayed: {replay.reason}."
    if not (words.known(replay.advantage.value) and words.known(replay.cost_per_candidate)):
        return ""
    interval = words.span(replay.advantage.low, replay.advantage.high, "number", 4)
    return (
        f"{replay.verdict} At {replay.cost_per_candidate:.3g} a candidate it nets {words.number(replay.net, 4)} "
        f"against {words.number(replay.fixed_net, 4)}, a difference of "
        f"{words.number(replay.advantage.value, 4, signed=True)}{f' ({interval})' if interval else ''}."
    )


def needed_rows(model: ShownModel) -> list[Row]:
    """Make one row a quantity: how well it is known, and what more it takes."""
    needed = () if model.found.outlook is None else model.found.outlook.needed
    return [
        Row(one.quantity, QUANTITY_NAMES.get(one.quantity, one.quantity), (Cell(_now(one)), _more(one)))
        for one in needed
    ]


def _now(one: PrecisionNeeded) -> str:
    return words.NONE if one.now is None else f"±{words.percent(one.now)}"


def _more(one: PrecisionNeeded) -> Cell:
    if one.more_users is None:
        why = words.NO_INTERVAL if one.now is None else "no number of users alone is enough: the texts are too few"
        return Cell(words.NONE, why=why)
    if one.more_users == 0:
        return Cell("none", f"{words.count(one.users)} would do")
    more = words.plural(one.more_users, "user")
    return Cell(more, f"or {words.plural(one.more_queries or 0, 'query', 'queries')} of theirs")


def calibration_rows(found: Calibration) -> list[Row]:
    """Make rows of the numbers of a calibration, each with its interval."""
    return [Row(key, label, (_number(found, key),)) for key, label in CALIBRATION_NUMBERS]


def _number(found: Calibration, key: str) -> Cell:
    given: Estimate | float = getattr(found, "temperature" if key == "factor" else key)
    one = given if isinstance(given, Estimate) else Estimate(given)
    value, low, high = one.value, one.low, one.high
    if key == "factor":
        value, low, high = (end**0.5 if words.known(end) and end >= 0 else None for end in (value, low, high))
    if key.startswith("ence"):
        return Cell(words.percent(value, 1), words.span(low, high))
    signed, unit = key.endswith("gain"), " nats" if key.endswith("gain") else ""
    shown = words.number(value, 3 if signed else 2, signed=signed) + unit
    return Cell(shown, words.span(low, high, "number", 3 if signed else 2) or words.NO_INTERVAL)


def coverage_rows(found: Calibration) -> list[Row]:
    """Make one row a level: the share of utilities inside its predictive interval."""
    return [
        Row(
            words.percent(one.level),
            words.percent(one.level),
            (Cell(words.percent(one.share.value, 1), words.span(one.share.low, one.share.high)),),
        )
        for one in found.coverage
    ]


def reliability_rows(found: Calibration) -> list[Row]:
    """Make one row a bin: how many candidates, what was predicted, what was observed."""
    bins = found.reliability
    places = words.decimals([*bins.predicted, *bins.observed])
    columns = zip(bins.candidates, bins.predicted, bins.observed, bins.low, bins.high, strict=True)
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


def calibration_notes(found: Calibration) -> list[str]:
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


def calibration_line(model: ShownModel) -> str:
    """Write the verdict for a terminal; empty where no standard deviation is predicted."""
    verdict = "" if model.found.calibration is None else calibrated(model.found.calibration)
    return f"std: {verdict}" if verdict else ""
