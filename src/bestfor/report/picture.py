"""Save a picture of a diagnosis by matplotlib: curves, captured shares, law over curve, within-query correlations.

The page draws the same plots by itself; these are for papers and for ``report.png``. matplotlib, of the extra
``pictures``, is imported only when something is drawn, never through pyplot, so no global figure or backend is touched.
"""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bestfor.diagnostics.public import Diagnosis
from bestfor.errors import InputError, nearest
from bestfor.extras import require
from bestfor.files import writing
from bestfor.report import words
from bestfor.report.charts.plots import (
    BeyondPlot,
    ComparisonsPlot,
    CorrelationPlot,
    CurvesPlot,
    LawPlot,
    PitPlot,
    ReliabilityPlot,
    UsersPlot,
    WaterfallPlot,
    plain,
)
from bestfor.report.shown import Given, ShownModel, choose_model, open_diagnosis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "BeyondPlot",
    "ComparisonsPlot",
    "CorrelationPlot",
    "CurvesPlot",
    "LawPlot",
    "PitPlot",
    "Plot",
    "ReliabilityPlot",
    "UsersPlot",
    "WaterfallPlot",
    "draw",
    "save",
]


class Plot(Protocol):
    """Anything here that can be drawn."""

    def draw(self, axes: Axes) -> None:
        """Draw on the axes given."""
        ...


def save(path: str | Path, diagnosis: Given, *, model: str | None = None, title: str = "") -> None:
    """Write the picture of a diagnosis: curves, captured shares, law over curve, within-query correlations.

    The same diagnosis gives the same bytes (one matplotlib version, one set of fonts).

    Args:
        path: ends in ``.png``, ``.svg`` or ``.pdf``.
        diagnosis: one from Python, the object of its JSON, a file ``diagnosis.json`` or a run's folder.
        model: whose law and correlations to show; the model with the largest captured share by default.
        title: stands above; the diagnosis' headline by default.

    Raises:
        InputError: it is no diagnosis, has no such model, or the ending is another one.
        MissingExtraError: matplotlib is not installed.
    """
    path = Path(path)
    report = open_diagnosis(diagnosis)
    chosen = choose_model(report, model)
    metadata: dict[str, dict[str, None]] = {
        ".png": {"Software": None},
        ".svg": {"Date": None},
        ".pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    }
    if path.suffix not in metadata:
        raise InputError(str(path), f"the ending '{path.suffix}'", ".png, .svg or .pdf")
    rc_context = require("matplotlib", "pictures").rc_context
    with (
        writing(path, sync=False) as partial,
        rc_context({"svg.hashsalt": "bestfor", "svg.fonttype": "none"}),
        warnings.catch_warnings(),
    ):
        # A name in a script that the default font lacks becomes boxes, which is no reason to fail.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = _figure(report, chosen, title)
        figure.savefig(partial, format=path.suffix[1:], metadata=metadata[path.suffix])


WHOLE: dict[str, Callable[[Diagnosis], Plot | None]] = {
    "utility": CurvesPlot.utility,
    "captured": CurvesPlot.captured,
    "comparisons": ComparisonsPlot.of,
}
"""Plots of all models by name."""

OF_MODEL: dict[str, Callable[[ShownModel], Plot | None]] = {
    "law": LawPlot.of,
    "ledger": WaterfallPlot.of,
    "users": UsersPlot.of,
    "correlations": CorrelationPlot.of,
    "beyond": BeyondPlot.of,
    "reliability": ReliabilityPlot.of,
    "pit": PitPlot.of,
}
"""Plots of one model by name."""


def draw(diagnosis: Given, what: str = "captured", *, model: str | None = None, axes: Axes | None = None) -> Axes:
    """Draw one plot of a diagnosis.

    Args:
        diagnosis: one from Python, the object of its JSON, a file ``diagnosis.json`` or a run's folder.
        what: a key of :data:`WHOLE` or :data:`OF_MODEL`.
        model: whose plot, where it is one model's; the model with the largest captured share by default.
        axes: to draw on; of a new figure where None, so that ``axes.figure.savefig(path)`` writes it.

    Returns:
        The axes.

    Raises:
        InputError: no such plot or model, or the diagnosis lacks what the plot shows.
        MissingExtraError: matplotlib is not installed.
    """
    if what not in WHOLE and what not in OF_MODEL:
        raise InputError("plot", f"'{what}'", nearest(what, [*WHOLE, *OF_MODEL]))
    report = open_diagnosis(diagnosis)
    plot = WHOLE[what](report) if what in WHOLE else OF_MODEL[what](choose_model(report, model))
    if plot is None:
        raise InputError("plot", f"nothing to show as '{what}'", "a diagnosis that has it")
    if axes is None:
        require("matplotlib", "pictures")
        from matplotlib.figure import Figure

        axes = Figure(layout="constrained").add_subplot()
    plot.draw(axes)
    return axes


def _figure(report: Diagnosis, model: ShownModel, title: str) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    parts: list[tuple[str, Plot | None]] = [
        ("Utility of the pick", CurvesPlot.utility(report)),
        ("Captured share of the headroom", CurvesPlot.captured(report)),
        (f"Law over curve: {model.name}", LawPlot.of(model)),
        (f"Within-query correlation: {model.name}", CorrelationPlot.of(model)),
    ]
    drawn = [(name, part) for name, part in parts if part is not None]
    rows = (len(drawn) + 1) // 2
    figure = Figure(figsize=(10.0, 3.6 * rows + 0.4), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    for place, (name, part) in enumerate(drawn, start=1):
        axes = figure.add_subplot(rows, 2, place)
        part.draw(axes)
        legend = axes.get_legend()
        if legend is not None and isinstance(part, CurvesPlot) and part.share:
            legend.remove()  # the panel beside it names the same lines
        axes.set_title(plain(_wrap(name, 60)), fontsize=10, loc="left")
    figure.suptitle(plain(_wrap(words.unquoted(title or report.headline))), fontsize=11)
    return figure


def _wrap(text: str, width: int = 110) -> str:
    """Break a title into lines, whole."""
    return "\n".join(textwrap.wrap(words.clip(text, 600), width))
