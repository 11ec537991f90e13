"""Curves over N as data that draws itself: every model, and the laws beside one model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bestfor.report import _style, view
from bestfor.report._values import Band, Series
from bestfor.types import FloatArray, IntArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class CurvesPlot:
    """All models over N, in utility (with oracle and pool mean) or as captured share.

    Attributes:
        n: shape (k,), candidates drawn.
        lines: one a model.
        oracle: shape (k,), utility of a perfect picker, or None for captured shares.
        floor: the pool mean, or 0 for captured shares; None where unknown.
        share: whether values are shares of the headroom.
    """

    n: IntArray
    lines: tuple[_style.Line, ...]
    oracle: FloatArray | None
    floor: float | None
    share: bool

    @classmethod
    def utility(cls, report: view.Report) -> CurvesPlot:
        """Utility of the pick, beside the oracle and the pool mean."""
        lines = tuple(_style.line_of(model, model.utility, report.n) for model in report.models)
        return cls(np.array(report.n), lines, _style.array(report.oracle.value), report.pool_mean, share=False)

    @classmethod
    def captured(cls, report: view.Report) -> CurvesPlot:
        """Captured share of the headroom, N = 1 left out (nothing can be captured there), intervals capped at 1."""
        n = tuple(size for size in report.n if size > 1)
        lines = tuple(_style.line_of(model, model.captured, n) for model in report.models)
        capped = tuple(replace(line, high=np.minimum(line.high, 1.0)) for line in lines)
        return cls(np.array(n), capped, None, 0.0, share=True)

    def draw(self, axes: Axes) -> None:
        """Draw bands, curves and reference lines."""
        for line in self.lines:
            _style.fill(axes, self.n, line)
            style = {"linestyle": (0, (4, 2)), "linewidth": 1.1} if line.quiet else {"linewidth": 1.8, "marker": "o"}
            axes.plot(self.n, line.value, color=line.color, markersize=3.2, label=_style.plain(line.name), **style)
        if self.oracle is not None:
            axes.plot(self.n, self.oracle, color=_style.INK, linestyle="--", linewidth=1.1, label="oracle")
        if self.floor is not None:
            axes.axhline(
                self.floor, color=_style.INK, linewidth=0.8, linestyle=":", label=None if self.share else "pool mean"
            )
        _style.samples_axis(axes, self.n)
        axes.set_ylabel("captured share of the headroom" if self.share else "utility of the pick")
        if self.share:
            _style.percent_axis(axes)
        axes.legend(frameon=False, fontsize=7.5)


@dataclass(frozen=True)
class LawPlot:
    """Observed gain over the pool mean beside what the laws predict; shape (k,) each."""

    n: IntArray
    observed: _style.Line
    laws: Mapping[str, FloatArray]

    @classmethod
    def of(cls, report: view.Report, model: view.Model) -> LawPlot | None:
        """The laid-over laws, or None where the model has none or its gains are unknown."""
        known = model.gain if any(value is not None for value in model.gain.value) else _over(report, model)
        if not model.has_law or all(value is None for value in known.value):
            return None
        gain = _style.line_of(model, known, model.n)
        laws = {law: _style.array(series) for law, series in model.law.items() if any(v is not None for v in series)}
        return cls(np.array(model.n), gain, laws)

    def draw(self, axes: Axes) -> None:
        """Draw the observed curve with its band and one dashed line a law."""
        _style.fill(axes, self.n, self.observed)
        axes.plot(self.n, self.observed.value, color=self.observed.color, marker="o", markersize=3.5, label="observed")
        for law, values in self.laws.items():
            style, color = _style.LAW_STYLES[law]
            axes.plot(self.n, values, linestyle=style, color=color, linewidth=1.2, label=f"law: {law}")
        axes.axhline(0.0, color=_style.INK, linewidth=0.8, linestyle=":")
        _style.samples_axis(axes, self.n)
        axes.set_ylabel("gain over the pool mean")
        axes.legend(frameon=False, fontsize=7.5)


def _over(report: view.Report, model: view.Model) -> Band:
    """Gains where only utilities were written; their intervals would be another quantity's, so there are none."""
    mean = report.pool_mean
    nothing: Series = (None,) * len(model.n)
    values = tuple(None if value is None or mean is None else value - mean for value in model.utility.value)
    return Band(values, nothing, nothing)
