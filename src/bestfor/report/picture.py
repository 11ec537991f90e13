"""Save a picture of a diagnosis by matplotlib: curves, captured shares, law over curve, within-query correlations.

The page draws the same plots by itself; these are for papers and for ``report.png``. matplotlib, of the extra
``pictures``, is imported only when something is drawn, never through pyplot, so no global figure or backend is touched.
"""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bestfor.errors import InputError
from bestfor.extras import require
from bestfor.files import writing
from bestfor.report import view, words
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
    "save",
]


class Plot(Protocol):
    """Anything here that can be drawn."""

    def draw(self, axes: Axes) -> None:
        """Draw on the axes given."""
        ...


def save(path: str | Path, diagnosis: Mapping[str, Any], *, model: str | None = None, title: str = "") -> None:
    """Write the picture of a diagnosis: curves, captured shares, law over curve, within-query correlations.

    The same diagnosis gives the same bytes (one matplotlib version, one set of fonts).

    Args:
        path: ends in ``.png``, ``.svg`` or ``.pdf``.
        diagnosis: the object of ``diagnosis.json``.
        model: whose law and correlations to show; the model with the largest captured share by default.
        title: stands above; the diagnosis' headline by default.

    Raises:
        InputError: it is no diagnosis, has no such model, or the ending is another one.
        MissingExtraError: matplotlib is not installed.
    """
    path = Path(path)
    report = view.read(diagnosis)
    chosen = report.chosen if model is None else report.model(model)
    if chosen is None:
        raise InputError("report", f"no model '{model}'" if model else "no models", "one of its models")
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


def _figure(report: view.Report, model: view.ModelView, title: str) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    parts: list[tuple[str, Plot | None]] = [
        ("Utility of the pick", CurvesPlot.utility(report)),
        ("Captured share of the headroom", CurvesPlot.captured(report)),
        (f"Law over curve: {words.clip(model.name, 32)}", LawPlot.of(report, model)),
        (f"Within-query correlation: {words.clip(model.name, 28)}", CorrelationPlot.of(model)),
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
        axes.set_title(plain(name), fontsize=10, loc="left")
    figure.suptitle(plain(_wrap(title or report.headline)), fontsize=11)
    return figure


def _wrap(text: str) -> str:
    return "\n".join(textwrap.wrap(words.clip(text, 260), 110))
