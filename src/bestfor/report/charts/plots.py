"""Hold the plots of a diagnosis as data: each has its arrays and draws itself on a matplotlib Axes.

Curves over N of all models, the laws beside one model, ledger, users, correlations, comparisons, the curve beyond the
pool, and predicted standard deviations against observed errors with the PIT. matplotlib is imported only to draw.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bestfor.diagnostics.beyond.outlook import ExtrapolationStep
from bestfor.diagnostics.public import Diagnosis
from bestfor.diagnostics.quantities.laws import Ledger
from bestfor.diagnostics.result import Curve
from bestfor.report import words
from bestfor.report.shown import ShownModel, decisive, shown_models, unit_in_words, utility_in_words
from bestfor.types import BoolArray, Estimate, FloatArray, IntArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("#2563b8", "#8b3fb5", "#0f766e", "#be185d", "#4d7c0f", "#0e7490", "#5b5bd6", "#7c5a3c", "#475569", "#15803d")
QUIET = "#8a8f98"
INK = "#3c4250"
GOOD = "#0f7b6c"
BAD = "#c2410c"
LAW_STYLES: dict[str, tuple[Any, str]] = {
    "bound": (":", QUIET),
    "normal": ("--", INK),
    "reward": ("-.", "#5b6270"),
    "pool": ((0, (1, 1)), "#8a8f98"),
    "pairs": ((0, (5, 1)), "#5b6270"),
}
NAMES = {"order_2": "order 2", "gao": "Gao et al.", "order_1": "order 1", "order_3": "order 3"}
"""Predictions beyond the pool -> their names for people, the main ones first."""

LEDGER = tuple(one.name for one in fields(Ledger) if one.name not in ("law", "observed", "n"))
"""Terms of the ledger, in their order."""


@dataclass(frozen=True)
class Line:
    """One model's curve over N.

    Attributes:
        name: of the model.
        index: its place among the models, which is its colour.
        quiet: whether it is a baseline.
        value: shape (k,), in utility or as a share; NaN where there is none.
        low: shape (k,), lower end of the interval, likewise.
        high: shape (k,), upper end.
    """

    name: str
    index: int
    quiet: bool
    value: FloatArray
    low: FloatArray
    high: FloatArray

    @property
    def color(self) -> str:
        """Grey for a baseline, else the palette's entry."""
        return color_of(self)


def color_of(model: Line | ShownModel) -> str:
    """Colour of a model in every picture: grey for a baseline, else the palette's entry."""
    return QUIET if model.quiet else COLORS[model.index % len(COLORS)]


def array(values: Iterable[float | None]) -> FloatArray:
    """Convert to numbers with NaN in the place of None."""
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def line_of(model: ShownModel, curve: Curve, n: IntArray) -> Line:
    """Put a model's curve on a grid of N that need not be the model's own.

    Args:
        model: whose curve.
        curve: with values at the model's own N.
        n: shape (k,), the grid.

    Returns:
        Values of shape (k,), NaN where the model has no such N.
    """
    place = {size: index for index, size in enumerate(curve.n.tolist())}
    at = np.array([place.get(size, -1) for size in n.tolist()], dtype=np.int64)

    def aligned(values: FloatArray) -> FloatArray:
        return np.append(values, np.nan)[at]

    return Line(model.name, model.index, model.quiet, aligned(curve.value), aligned(curve.low), aligned(curve.high))


def predicted(step: ExtrapolationStep, method: str) -> Estimate:
    """Take what a method predicts at one N; two of them have no interval."""
    value: Estimate | float = getattr(step, method)
    return value if isinstance(value, Estimate) else Estimate(value)


def fill(axes: Axes, n: IntArray, line: Line) -> None:
    """Draw the confidence band; baselines and curves without intervals have none.

    Args:
        axes: to draw on.
        n: shape (k,), candidates drawn.
        line: whose band.
    """
    if np.isfinite(line.low).any() and not line.quiet:
        axes.fill_between(n, line.low, line.high, color=line.color, alpha=0.13, linewidth=0)


def frame(axes: Axes) -> None:
    """Style axes with two spines and small type."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.xaxis.label.set_fontsize(8.5)
    axes.yaxis.label.set_fontsize(8.5)


def samples_axis(axes: Axes, n: IntArray) -> None:
    """Set N on a logarithmic axis, labelled at the powers of two and at the end."""
    axes.set_xscale("log", base=2)
    ticks = [int(size) for size in n if size & (size - 1) == 0 or size == n[-1]] or [int(size) for size in n]
    axes.set_xticks(ticks, [str(size) for size in ticks])
    axes.minorticks_off()
    axes.set_xlabel("N, candidates drawn")
    axes.grid(axis="y", color="#e6e8ec", linewidth=0.7)
    axes.set_axisbelow(True)
    frame(axes)


def percent_axis(axes: Axes) -> None:
    """Show shares as percentages on the vertical axis."""
    from matplotlib.ticker import PercentFormatter

    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def gain_axis(name: str) -> str:
    """Name the axis of a gain by its utility."""
    return f"gain in {plain(name)} over the pool mean"


def plain(text: str) -> str:
    """Escape text so that matplotlib does not read it as mathematics."""
    return words.clean(text).replace("$", r"\$")


@dataclass(frozen=True)
class CurvesPlot:
    """All models over N, in utility (with oracle and pool mean) or as captured share.

    Attributes:
        n: shape (k,), candidates drawn.
        lines: one a model.
        oracle: shape (k,), utility of a perfect picker, or None for captured shares.
        floor: the pool mean, or 0 for captured shares; None where unknown.
        share: whether values are shares of the headroom.
        name: of the utility.
        unit: of the utility, such as ``"0 to 1"``; empty where it is not known.
    """

    n: IntArray
    lines: tuple[Line, ...]
    oracle: FloatArray | None
    floor: float | None
    share: bool
    name: str = "utility"
    unit: str = ""

    @property
    def axis(self) -> str:
        """Name of the vertical axis, with the unit where it is known."""
        if self.share:
            return "captured share of the headroom"
        return f"{self.name} of the pick" + (f", {self.unit}" if self.unit else "")

    @classmethod
    def utility(cls, diagnosis: Diagnosis) -> CurvesPlot:
        """Take the utility of the pick, beside the oracle and the pool mean."""
        lines = tuple(line_of(model, model.found.utility, diagnosis.n) for model in shown_models(diagnosis))
        mean = diagnosis.pool_mean.value
        floor = mean if words.known(mean) else None
        measured = {"name": utility_in_words(diagnosis), "unit": unit_in_words(diagnosis)}
        return cls(diagnosis.n, lines, diagnosis.oracle.value, floor, share=False, **measured)

    @classmethod
    def captured(cls, diagnosis: Diagnosis) -> CurvesPlot:
        """Take captured shares of the headroom, N = 1 left out (nothing can be captured), intervals capped at 1."""
        n = diagnosis.n[diagnosis.n > 1]
        lines = tuple(line_of(model, model.found.captured, n) for model in shown_models(diagnosis))
        capped = tuple(replace(line, high=np.minimum(line.high, 1.0)) for line in lines)
        return cls(n, capped, None, 0.0, share=True)

    def draw(self, axes: Axes) -> None:
        """Draw bands, curves and reference lines."""
        for line in self.lines:
            fill(axes, self.n, line)
            style = {"linestyle": (0, (4, 2)), "linewidth": 1.1} if line.quiet else {"linewidth": 1.8, "marker": "o"}
            axes.plot(self.n, line.value, color=line.color, markersize=3.2, label=plain(line.name), **style)
        if self.oracle is not None:
            axes.plot(self.n, self.oracle, color=INK, linestyle="--", linewidth=1.1, label="oracle")
        if self.floor is not None:
            axes.axhline(self.floor, color=INK, linewidth=0.8, linestyle=":", label=None if self.share else "pool mean")
        samples_axis(axes, self.n)
        axes.set_ylabel(plain(self.axis))
        if self.share:
            percent_axis(axes)
        axes.legend(frameon=False, fontsize=7.5)


@dataclass(frozen=True)
class LawPlot:
    """Observed gain over the pool mean beside what the laws predict.

    Attributes:
        n: shape (k,), candidates drawn.
        observed: the exact gain, in utility.
        laws: a law's name -> the gains that it predicts, shape (k,).
        name: of the utility.
    """

    n: IntArray
    observed: Line
    laws: Mapping[str, FloatArray]
    name: str = "utility"

    @classmethod
    def of(cls, model: ShownModel) -> LawPlot | None:
        """Take the laws laid over, or None where the model has none or its gains are unknown."""
        gain, laws = model.found.gain, {law: v for law, v in model.found.law.items() if np.isfinite(v).any()}
        if not laws or not np.isfinite(gain.value).any():
            return None
        return cls(gain.n, line_of(model, gain, gain.n), laws, model.utility)

    def draw(self, axes: Axes) -> None:
        """Draw the observed curve with its band and one dashed line a law."""
        fill(axes, self.n, self.observed)
        axes.plot(self.n, self.observed.value, color=self.observed.color, marker="o", markersize=3.5, label="observed")
        for law, values in self.laws.items():
            style, color = LAW_STYLES[law]
            axes.plot(self.n, values, linestyle=style, color=color, linewidth=1.2, label=f"law: {law}")
        axes.axhline(0.0, color=INK, linewidth=0.8, linestyle=":")
        samples_axis(axes, self.n)
        axes.set_ylabel(gain_axis(self.name))
        axes.legend(frameon=False, fontsize=7.5)


@dataclass(frozen=True)
class WaterfallPlot:
    """The ledger from law to observed.

    Attributes:
        names: of the steps.
        steps: shape (steps,), in utility; they lead from ``start`` to ``end``.
        start: what the normal law predicts.
        end: what was measured.
        n: candidates drawn.
        color: of the model.
        name: of the utility.
    """

    names: tuple[str, ...]
    steps: FloatArray
    start: float
    end: float
    n: int
    color: str = COLORS[0]
    name: str = "utility"

    @classmethod
    def of(cls, model: ShownModel) -> WaterfallPlot | None:
        """Take the ledger's terms in their order, or None where one is unknown."""
        ledger = model.found.ledger
        steps = array(getattr(ledger, name) for name in LEDGER)
        if not np.isfinite([ledger.law, *steps, ledger.observed]).all():
            return None
        return cls(LEDGER, steps, ledger.law, ledger.observed, ledger.n, color_of(model), model.utility)

    @property
    def before(self) -> FloatArray:
        """Running total before each step, shape (terms,)."""
        return self.start + np.concatenate([[0.0], np.cumsum(self.steps)[:-1]])

    def draw(self, axes: Axes) -> None:
        """Draw horizontal steps, the law on top and the observed gain below."""
        places = len(self.names) + 2
        rows = np.arange(1, places - 1)
        colors = [self.color if step >= 0 else BAD for step in self.steps]
        axes.barh(rows, self.steps, left=self.before, color=colors, height=0.62)
        axes.plot([self.start], [0], "D", color=INK, markersize=5)
        axes.plot([self.end], [places - 1], "D", color=self.color, markersize=5)
        axes.set_yticks(range(places), ["law", *self.names, "observed"])
        axes.invert_yaxis()
        axes.set_xlabel(f"{gain_axis(self.name)} at N = {self.n}")
        frame(axes)


@dataclass(frozen=True)
class UsersPlot:
    """Captured share per user, sorted; users without headroom are left out and counted.

    Attributes:
        names: the users, worst first.
        captured: shape (users,).
        collapsed: shape (users,).
        absent: users without a share.
    """

    names: tuple[str, ...]
    captured: FloatArray
    collapsed: BoolArray
    absent: int
    color: str = COLORS[0]

    @classmethod
    def of(cls, model: ShownModel) -> UsersPlot:
        """Order users by share, then by name."""
        users = model.found.per_user
        known = np.flatnonzero(np.isfinite(users.captured))
        order = np.array(sorted(known, key=lambda place: (users.captured[place], users.user[place])), dtype=np.int64)
        names = tuple(users.user[place] for place in order)
        absent = len(users.user) - len(names)
        return cls(names, users.captured[order], users.collapsed[order], absent, color_of(model))

    def histogram(self, bins: int = 20) -> tuple[FloatArray, IntArray, IntArray]:
        """Count users, and collapsed ones, by share over [-1, 1]: edges and counts; the outer bins hold the rest."""
        edges = np.linspace(-1.0, 1.0, bins + 1)
        inside = np.clip(self.captured, -1.0, 1.0)
        every, _ = np.histogram(inside, edges)
        collapsed, _ = np.histogram(inside[self.collapsed], edges)
        return edges, every.astype(np.int64), collapsed.astype(np.int64)

    def draw(self, axes: Axes) -> None:
        """Draw the sorted shares, clipped to [-1, 1]; collapsed users hollow."""
        rank = np.arange(1, len(self.captured) + 1)
        share = np.clip(self.captured, -1.0, 1.0)
        for mask, face, label in (
            (~self.collapsed, self.color, "user"),
            (self.collapsed, "none", "collapsed user"),
        ):
            if mask.any():
                axes.scatter(rank[mask], share[mask], s=9, facecolors=face, edgecolors=self.color, label=label)
        axes.axhline(0.0, color=INK, linewidth=0.8, linestyle=":")
        axes.set_xlabel("users, sorted")
        axes.set_ylabel("captured share")
        percent_axis(axes)
        frame(axes)
        if self.collapsed.any():
            axes.legend(frameon=False, fontsize=7.5)


@dataclass(frozen=True)
class CorrelationPlot:
    """Histogram of within-query correlations of reward and utility.

    Attributes:
        edges: shape (bins + 1,), from -1 to 1.
        counts: shape (bins,), queries.
        color: of the model; bins below zero are in the colour of harm.
    """

    edges: FloatArray
    counts: IntArray
    color: str = COLORS[0]

    @classmethod
    def of(cls, model: ShownModel) -> CorrelationPlot | None:
        """Take the model's histogram, or None where no query is active."""
        edges, counts = model.found.edges, model.found.counts
        known = len(edges) == len(counts) + 1 and np.isfinite(edges).all()
        return cls(edges, counts, color_of(model)) if counts.any() and known else None

    @property
    def negative(self) -> BoolArray:
        """True where a bin lies below zero, shape (bins,)."""
        return self.edges[1:] <= 1e-9

    def draw(self, axes: Axes) -> None:
        """Draw the bars, those below zero in the colour of harm."""
        colors = np.where(self.negative, BAD, self.color)
        axes.bar(self.edges[:-1], self.counts, np.diff(self.edges), align="edge", color=colors, edgecolor="white")
        axes.axvline(0.0, color=INK, linewidth=0.8)
        axes.set_xlabel("within-query correlation of reward and utility")
        axes.set_ylabel("queries")
        frame(axes)


@dataclass(frozen=True)
class ComparisonsPlot:
    """Paired differences in captured share at the largest N.

    Attributes:
        names: of the pairs.
        difference: shape (pairs,), shares of the headroom.
        low: shape (pairs,), lower end of the interval, NaN where there is none.
        high: shape (pairs,), upper end.
        color: of the model that is compared.
    """

    names: tuple[str, ...]
    difference: FloatArray
    low: FloatArray
    high: FloatArray
    color: str = COLORS[0]

    @classmethod
    def of(cls, diagnosis: Diagnosis) -> ComparisonsPlot | None:
        """Take the comparisons at the largest N, or None where there are none."""
        pairs = decisive(diagnosis)
        if not pairs:
            return None
        value, low, high = (array(getattr(pair.difference, key) for pair in pairs) for key in ("value", "low", "high"))
        names = tuple(f"{pair.model} vs {pair.against}, N = {pair.n}" for pair in pairs)
        color = next((color_of(model) for model in shown_models(diagnosis) if model.name == pairs[0].model), COLORS[0])
        return cls(names, value, low, high, color)

    def draw(self, axes: Axes) -> None:
        """Draw one dot and whisker a comparison."""
        rows = np.arange(len(self.names))
        axes.hlines(rows, self.low, self.high, color=self.color, linewidth=1.6)
        axes.plot(self.difference, rows, "o", color=self.color, markersize=5)
        axes.axvline(0.0, color=INK, linewidth=0.8, linestyle=":")
        axes.set_yticks(rows, [plain(name) for name in self.names])
        axes.invert_yaxis()
        axes.set_xlabel("difference in captured share")
        frame(axes)


@dataclass(frozen=True)
class BeyondPlot:
    """The exact gain, and how it may go on.

    Attributes:
        n: shape (k,), candidates drawn, of the exact curve.
        observed: the exact gain.
        far: shape (j,), from the smallest pool to three times as many.
        predicted: a method's name -> gains, shape (j,).
        low: shape (j,), of order 2's interval.
        high: shape (j,).
        trusted_to: up to where order 2 and Gao agree, or None.
        name: of the utility.
    """

    n: IntArray
    observed: Line
    far: IntArray
    predicted: Mapping[str, FloatArray]
    low: FloatArray
    high: FloatArray
    trusted_to: int | None
    name: str = "utility"

    @classmethod
    def of(cls, model: ShownModel) -> BeyondPlot | None:
        """Take the model's predictions, or None where there are none."""
        gain, outlook = model.found.gain, model.found.outlook
        if outlook is None or not outlook.extrapolation.steps or not np.isfinite(gain.value).any():
            return None
        steps = outlook.extrapolation.steps
        methods = {key: array(predicted(step, key).value for step in steps) for key in NAMES}
        return cls(
            n=gain.n,
            observed=line_of(model, gain, gain.n),
            far=np.array([step.n for step in steps]),
            predicted={key: values for key, values in methods.items() if np.isfinite(values).any()},
            low=array(step.order_2.low for step in steps),
            high=array(step.order_2.high for step in steps),
            trusted_to=outlook.extrapolation.trusted_to or None,
            name=model.utility,
        )

    def draw(self, axes: Axes) -> None:
        """Draw the exact curve and its dashed continuations; a mark where trust ends."""
        fill(axes, self.n, self.observed)
        color = self.observed.color
        axes.plot(self.n, self.observed.value, color=color, marker="o", markersize=3.5, label="exact")
        for method, values in self.predicted.items():
            main = method in ("order_2", "gao")
            shade = {"order_2": color, "gao": INK}.get(method, QUIET)
            style = "--" if main else ":"
            axes.plot(
                self.far, values, linestyle=style, color=shade, linewidth=1.6 if main else 0.9, label=NAMES[method]
            )
        if np.isfinite(self.low).any():
            axes.fill_between(self.far, self.low, self.high, color=color, alpha=0.1, linewidth=0)
        if self.trusted_to is not None:
            axes.axvline(self.trusted_to, color=INK, linewidth=0.8, linestyle=":")
        axes.axhline(0.0, color=INK, linewidth=0.8, linestyle=":")
        samples_axis(axes, np.union1d(self.n, self.far[-1:]))
        axes.set_ylabel(gain_axis(self.name))
        axes.legend(frameon=False, fontsize=7.5)


@dataclass(frozen=True)
class ReliabilityPlot:
    """Observed error by predicted standard deviation; a believable prediction lies on the diagonal.

    Attributes:
        predicted: shape (bins,), root of the mean predicted variance, increasing.
        observed: shape (bins,), root of the mean squared error.
        low: shape (bins,), of observed's interval, NaN where there is none.
        high: shape (bins,).
        candidates: shape (bins,).
    """

    predicted: FloatArray
    observed: FloatArray
    low: FloatArray
    high: FloatArray
    candidates: IntArray
    color: str = COLORS[0]

    @classmethod
    def of(cls, model: ShownModel) -> ReliabilityPlot | None:
        """Take the model's bins, or None where it predicts no standard deviation."""
        found = model.found.calibration
        if found is None or not len(found.reliability.candidates) or np.isnan(found.reliability.predicted).any():
            return None
        bins = found.reliability
        return cls(bins.predicted, bins.observed, bins.low, bins.high, bins.candidates, color_of(model))

    @property
    def ends(self) -> tuple[float, float]:
        """Ends of both axes."""
        values = np.concatenate([self.predicted, self.observed, self.low, self.high])
        values = values[np.isfinite(values)]
        low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
        margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
        return max(low - margin, 0.0), high + margin

    def draw(self, axes: Axes) -> None:
        """Draw the bins with their whiskers and the diagonal."""
        axes.plot(self.ends, self.ends, color=INK, linewidth=0.8, linestyle=":", label="as predicted")
        axes.vlines(self.predicted, self.low, self.high, color=self.color, linewidth=1.4)
        axes.plot(self.predicted, self.observed, "o-", color=self.color, markersize=4, linewidth=1, label="bins")
        axes.set_xlim(self.ends)
        axes.set_ylim(self.ends)
        axes.set_xlabel("predicted standard deviation")
        axes.set_ylabel("root mean squared error")
        frame(axes)
        axes.legend(frameon=False, fontsize=7.5)


@dataclass(frozen=True)
class PitPlot:
    """Histogram of the probability integral transform; flat is right.

    Attributes:
        share: shape (bins,), shares of the candidates, which sum to 1.
        color: of the model.
    """

    share: FloatArray
    color: str = COLORS[0]

    @classmethod
    def of(cls, model: ShownModel) -> PitPlot | None:
        """Take the model's histogram, or None where it predicts no standard deviation."""
        found = model.found.calibration
        known = found is not None and len(found.pit) and not np.isnan(found.pit).any()
        return cls(found.pit, color_of(model)) if found is not None and known else None

    @property
    def edges(self) -> FloatArray:
        """Edges of the bins from 0 to 1, shape (bins + 1,)."""
        return np.linspace(0.0, 1.0, len(self.share) + 1)

    def draw(self, axes: Axes) -> None:
        """Draw the bars and the height that all of them should have."""
        axes.bar(self.edges[:-1], self.share, np.diff(self.edges), align="edge", color=self.color, edgecolor="white")
        axes.axhline(1 / len(self.share), color=INK, linewidth=0.8, linestyle=":")
        axes.set_xlim(0.0, 1.0)
        axes.set_xlabel("where the utility falls in its predicted distribution")
        axes.set_ylabel("share of candidates")
        percent_axis(axes)
        frame(axes)
