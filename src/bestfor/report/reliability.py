"""Predicted standard deviations against observed errors, and the PIT, as data that draws itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bestfor.report import _style, view
from bestfor.types import FloatArray, IntArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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

    @classmethod
    def of(cls, model: view.Model) -> ReliabilityPlot | None:
        """The model's bins, or None where it predicts no standard deviation."""
        found = model.predictive
        if found is None or not found.sizes:
            return None
        columns = (_style.array(column) for column in (found.predicted, found.observed, found.low, found.high))
        return cls(*columns, candidates=np.array(found.sizes, dtype=np.int64))

    @property
    def ends(self) -> tuple[float, float]:
        """Where both axes begin and end."""
        values = np.concatenate([self.predicted, self.observed, self.low, self.high])
        values = values[np.isfinite(values)]
        low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
        margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
        return max(low - margin, 0.0), high + margin

    def draw(self, axes: Axes) -> None:
        """Draw the bins with their whiskers and the diagonal."""
        axes.plot(self.ends, self.ends, color=_style.INK, linewidth=0.8, linestyle=":", label="as predicted")
        axes.vlines(self.predicted, self.low, self.high, color=_style.COLORS[0], linewidth=1.4)
        axes.plot(self.predicted, self.observed, "o-", color=_style.COLORS[0], markersize=4, linewidth=1, label="bins")
        axes.set_xlim(self.ends)
        axes.set_ylim(self.ends)
        axes.set_xlabel("predicted standard deviation")
        axes.set_ylabel("root mean squared error")
        _style.frame(axes)
        axes.legend(frameon=False, fontsize=7.5)


@dataclass(frozen=True)
class PitPlot:
    """Histogram of the probability integral transform: shape (bins,), shares that sum to 1; flat is right."""

    share: FloatArray

    @classmethod
    def of(cls, model: view.Model) -> PitPlot | None:
        """The model's histogram, or None where it predicts no standard deviation."""
        return None if model.predictive is None or not model.predictive.pit else cls(np.array(model.predictive.pit))

    @property
    def edges(self) -> FloatArray:
        """Shape (bins + 1,), from 0 to 1."""
        return np.linspace(0.0, 1.0, len(self.share) + 1)

    def draw(self, axes: Axes) -> None:
        """Draw the bars and the height that all of them should have."""
        axes.bar(
            self.edges[:-1], self.share, np.diff(self.edges), align="edge", color=_style.COLORS[0], edgecolor="white"
        )
        axes.axhline(1 / len(self.share), color=_style.INK, linewidth=0.8, linestyle=":")
        axes.set_xlim(0.0, 1.0)
        axes.set_xlabel("where the utility falls in its predicted distribution")
        axes.set_ylabel("share of candidates")
        _style.percent_axis(axes)
        _style.frame(axes)
