"""The curve beyond the pool as data that draws itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bestfor.report import _style, view
from bestfor.report.outlook import METHODS
from bestfor.types import FloatArray, IntArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMES = {"order_1": "order 1", "order_2": "order 2", "order_3": "order 3", "gao": "Gao et al."}


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
    """

    n: IntArray
    observed: _style.Line
    far: IntArray
    predicted: Mapping[str, FloatArray]
    low: FloatArray
    high: FloatArray
    trusted_to: int | None

    @classmethod
    def of(cls, model: view.Model) -> BeyondPlot | None:
        """The model's predictions, or None where there are none."""
        steps = model.outlook.steps
        if not steps or not any(value is not None for value in model.gain.value):
            return None
        methods = {key: _style.array(step.values[key] for step in steps) for key in METHODS}
        return cls(
            n=np.array(model.n),
            observed=_style.line_of(model, model.gain, model.n),
            far=np.array([step.n for step in steps]),
            predicted={key: values for key, values in methods.items() if np.isfinite(values).any()},
            low=_style.array(step.values["order_2_low"] for step in steps),
            high=_style.array(step.values["order_2_high"] for step in steps),
            trusted_to=model.outlook.trusted_to,
        )

    def draw(self, axes: Axes) -> None:
        """Draw the exact curve and its dashed continuations; a mark where trust ends."""
        _style.fill(axes, self.n, self.observed)
        color = self.observed.color
        axes.plot(self.n, self.observed.value, color=color, marker="o", markersize=3.5, label="exact")
        for method, values in self.predicted.items():
            main = method in ("order_2", "gao")
            shade = {"order_2": color, "gao": _style.BAD}.get(method, _style.QUIET)
            style = "--" if main else ":"
            axes.plot(
                self.far, values, linestyle=style, color=shade, linewidth=1.6 if main else 0.9, label=NAMES[method]
            )
        if np.isfinite(self.low).any():
            axes.fill_between(self.far, self.low, self.high, color=color, alpha=0.1, linewidth=0)
        if self.trusted_to is not None:
            axes.axvline(self.trusted_to, color=_style.INK, linewidth=0.8, linestyle=":")
        axes.axhline(0.0, color=_style.INK, linewidth=0.8, linestyle=":")
        _style.samples_axis(axes, np.union1d(self.n, self.far[-1:]))
        axes.set_ylabel("gain over the pool mean")
        axes.legend(frameon=False, fontsize=7.5)
