"""What the pictures share: colours, axes, one line of a curve."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bestfor.report import view, words
from bestfor.types import FloatArray, IntArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("#2563b8", "#c2410c", "#0f7b6c", "#8b3fb5", "#b4690e", "#be185d", "#4d7c0f", "#0e7490", "#7c5a3c", "#5b5bd6")
QUIET = "#8a8f98"
INK = "#3c4250"
GOOD = "#0f7b6c"
BAD = "#c2410c"
LAW_STYLES: dict[str, tuple[Any, str]] = {
    "bound": (":", QUIET),
    "normal": ("--", INK),
    "reward": ("-.", "#b4690e"),
    "pool": ((0, (1, 1)), GOOD),
}


@dataclass(frozen=True)
class Line:
    """One curve: shape (number of N,) each, NaN where there is no value; quiet lines are baselines."""

    name: str
    index: int
    quiet: bool
    value: FloatArray
    low: FloatArray
    high: FloatArray

    @property
    def color(self) -> str:
        """Grey for a baseline, else the palette's entry."""
        return QUIET if self.quiet else COLORS[self.index % len(COLORS)]


def array(values: Iterable[float | None]) -> FloatArray:
    """Numbers with NaN in the place of None."""
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def line_of(model: view.Model, band: view.Band, n: tuple[int, ...]) -> Line:
    """A model's curve on a grid of N that need not be the model's own."""
    place = {size: index for index, size in enumerate(model.n)}

    def aligned(series: view.Series) -> FloatArray:
        return array(series[place[size]] if size in place else None for size in n)

    return Line(model.name, model.index, model.quiet, aligned(band.value), aligned(band.low), aligned(band.high))


def fill(axes: Axes, n: IntArray, line: Line) -> None:
    """The confidence band; baselines and curves without intervals have none."""
    if np.isfinite(line.low).any() and not line.quiet:
        axes.fill_between(n, line.low, line.high, color=line.color, alpha=0.13, linewidth=0)


def frame(axes: Axes) -> None:
    """Two spines and small type."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.xaxis.label.set_fontsize(8.5)
    axes.yaxis.label.set_fontsize(8.5)


def samples_axis(axes: Axes, n: IntArray) -> None:
    """N on a logarithmic axis, labelled at the powers of two and at the end."""
    axes.set_xscale("log", base=2)
    ticks = [int(size) for size in n if size & (size - 1) == 0 or size == n[-1]] or [int(size) for size in n]
    axes.set_xticks(ticks, [str(size) for size in ticks])
    axes.minorticks_off()
    axes.set_xlabel("N, candidates drawn")
    axes.grid(axis="y", color="#e6e8ec", linewidth=0.7)
    axes.set_axisbelow(True)
    frame(axes)


def percent_axis(axes: Axes) -> None:
    """Shares as percentages on the vertical axis."""
    from matplotlib.ticker import PercentFormatter

    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def plain(text: str) -> str:
    """Text that matplotlib does not read as mathematics."""
    return words.clean(text).replace("$", r"\$")
