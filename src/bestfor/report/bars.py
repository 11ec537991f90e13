"""Ledger, users, correlations and comparisons as data that draws itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bestfor.report import _style, view
from bestfor.types import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class WaterfallPlot:
    """The ledger from law to observed: ``start``, then steps that add up to ``end``."""

    names: tuple[str, ...]
    steps: FloatArray
    start: float
    end: float
    n: int

    @classmethod
    def of(cls, model: view.Model) -> WaterfallPlot | None:
        """The ledger's terms in their order, or None where one is unknown."""
        ledger = model.ledger or {}
        values = [ledger.get(name) for name in view.LEDGER]
        start, end = ledger.get("law"), ledger.get("observed")
        if start is None or end is None or any(value is None for value in values):
            return None
        n = ledger.get("n")
        return cls(view.LEDGER, _style.array(values), start, end, int(n) if n else max(model.n, default=0))

    @property
    def before(self) -> FloatArray:
        """Shape (terms,), the running total before each step."""
        return self.start + np.concatenate([[0.0], np.cumsum(self.steps)[:-1]])

    def draw(self, axes: Axes) -> None:
        """Draw horizontal steps, the law on top and the observed gain below."""
        places = len(self.names) + 2
        rows = np.arange(1, places - 1)
        colors = [_style.GOOD if step >= 0 else _style.BAD for step in self.steps]
        axes.barh(rows, self.steps, left=self.before, color=colors, height=0.62)
        axes.plot([self.start], [0], "D", color=_style.INK, markersize=5)
        axes.plot([self.end], [places - 1], "D", color=_style.COLORS[0], markersize=5)
        axes.set_yticks(range(places), ["law", *self.names, "observed"])
        axes.invert_yaxis()
        axes.set_xlabel(f"gain over the pool mean at N = {self.n}")
        _style.frame(axes)


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

    @classmethod
    def of(cls, model: view.Model) -> UsersPlot:
        """Users ordered by share, then by name."""
        users = sorted(
            ((user.captured, user.user, user.collapsed) for user in model.users if user.captured is not None),
            key=lambda user: user[:2],
        )
        return cls(
            tuple(name for _, name, _ in users),
            np.array([share for share, _, _ in users], dtype=np.float64),
            np.array([collapsed for _, _, collapsed in users], dtype=np.bool_),
            len(model.users) - len(users),
        )

    def histogram(self, bins: int = 20) -> tuple[FloatArray, IntArray, IntArray]:
        """Edges, counts and counts of collapsed users over [-1, 1]; the outermost bins hold whatever lies beyond."""
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
            (~self.collapsed, _style.COLORS[0], "user"),
            (self.collapsed, "none", "collapsed user"),
        ):
            if mask.any():
                axes.scatter(rank[mask], share[mask], s=9, facecolors=face, edgecolors=_style.COLORS[0], label=label)
        axes.axhline(0.0, color=_style.INK, linewidth=0.8, linestyle=":")
        axes.set_xlabel("users, sorted")
        axes.set_ylabel("captured share")
        _style.percent_axis(axes)
        _style.frame(axes)
        if self.collapsed.any():
            axes.legend(frameon=False, fontsize=7.5)


@dataclass(frozen=True)
class CorrelationPlot:
    """Histogram of within-query correlations: ``edges`` shape (bins + 1,), ``counts`` shape (bins,)."""

    edges: FloatArray
    counts: IntArray

    @classmethod
    def of(cls, model: view.Model) -> CorrelationPlot | None:
        """The model's histogram, or None where no query is active."""
        if not model.counts or len(model.edges) != len(model.counts) + 1 or not sum(model.counts):
            return None
        return cls(np.array(model.edges), np.array(model.counts))

    @property
    def negative(self) -> BoolArray:
        """Shape (bins,), whether a bin lies below zero."""
        return self.edges[1:] <= 1e-9

    def draw(self, axes: Axes) -> None:
        """Draw the bars, those below zero in another colour."""
        colors = np.where(self.negative, _style.BAD, _style.COLORS[0])
        axes.bar(self.edges[:-1], self.counts, np.diff(self.edges), align="edge", color=colors, edgecolor="white")
        axes.axvline(0.0, color=_style.INK, linewidth=0.8)
        axes.set_xlabel("within-query correlation of reward and utility")
        axes.set_ylabel("queries")
        _style.frame(axes)


@dataclass(frozen=True)
class ComparisonsPlot:
    """Paired differences in captured share; shape (comparisons,), NaN where there is no interval."""

    names: tuple[str, ...]
    difference: FloatArray
    low: FloatArray
    high: FloatArray

    @classmethod
    def of(cls, report: view.Report) -> ComparisonsPlot | None:
        """The comparisons at the largest N, or None where there are none."""
        pairs = report.decisive
        if not pairs:
            return None
        columns = (_style.array([getattr(pair, key) for pair in pairs]) for key in ("difference", "low", "high"))
        return cls(tuple(f"{pair.model} vs {pair.against}, N = {pair.n}" for pair in pairs), *columns)

    def draw(self, axes: Axes) -> None:
        """Draw one dot and whisker a comparison."""
        rows = np.arange(len(self.names))
        axes.hlines(rows, self.low, self.high, color=_style.COLORS[0], linewidth=1.6)
        axes.plot(self.difference, rows, "o", color=_style.COLORS[0], markersize=5)
        axes.axvline(0.0, color=_style.INK, linewidth=0.8, linestyle=":")
        axes.set_yticks(rows, [_style.plain(name) for name in self.names])
        axes.invert_yaxis()
        axes.set_xlabel("difference in captured share")
        _style.frame(axes)
