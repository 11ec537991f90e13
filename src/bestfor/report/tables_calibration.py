"""The rows of the section on predicted standard deviations, as words."""

from __future__ import annotations

from bestfor.report import view, words
from bestfor.report.predictive import Predictive
from bestfor.report.reliability import PitPlot
from bestfor.report.tables import Cell, Row

NUMBERS = (
    ("factor", "errors, in predicted std"),
    ("temperature", "variance temperature T"),
    ("ence", "ENCE"),
    ("ence_by_noise", "ENCE by noise alone"),
    ("gain", "better than one constant std"),
    ("tempered_gain", "the same after multiplying by T"),
)


def coverage(found: Predictive) -> list[Row]:
    """One row a level: the share of utilities inside its predictive interval."""
    return [
        Row(
            words.percent(one.level),
            words.percent(one.level),
            (Cell(words.percent(one.share, 1), words.span(one.low, one.high)),),
        )
        for one in found.coverage
    ]


def numbers(found: Predictive) -> list[Row]:
    """The numbers of a calibration, each with its interval."""
    return [Row(key, label, (_number(found, key),)) for key, label in NUMBERS]


def bins(found: Predictive) -> list[Row]:
    """One row a bin: how many candidates, what was predicted, what was observed."""
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
    """One row a bin of the PIT: where it lies, and the share of the candidates in it."""
    return [
        (f"{words.number(low, 2)} to {words.number(high, 2)}", words.percent(float(share), 1))
        for low, high, share in zip(plot.edges, plot.edges[1:], plot.share, strict=False)
    ]


def notes(found: Predictive) -> list[str]:
    """What a reader should know of how it was measured."""
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


def line(model: view.Model) -> str:
    """The verdict for a terminal; empty where no standard deviation is predicted."""
    found = model.predictive
    return f"std: {found.verdict}" if found is not None and found.verdict else ""


def _number(found: Predictive, key: str) -> Cell:
    name = "temperature" if key == "factor" else key
    value, low, high = (found.numbers.get(f"{name}{end}") for end in ("", "_low", "_high"))
    if key == "factor":
        value, low, high = (None if one is None else one**0.5 for one in (value, low, high))
    if key.startswith("ence"):
        return Cell(words.percent(value, 1), words.span(low, high))
    signed, unit = key.endswith("gain"), " nats" if key.endswith("gain") else ""
    shown = words.number(value, 3 if signed else 2, signed=signed) + unit
    return Cell(shown, words.span(low, high, "number", 3 if signed else 2) or words.NO_INTERVAL)
