"""Hold a diagnosis with its ways in and out: sentences, JSON, a line, a small table, a page and plots."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from bestfor.diagnostics.result import DiagnosisResult
from bestfor.diagnostics.wire import Json, diagnosis_from_json, diagnosis_json
from bestfor.diagnostics.words import one_line, small_table, summary
from bestfor.files import read_object

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_REPORT = "bestfor.report"
"""Stands above this floor, so it is looked up by name when a page or a plot is asked for."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Diagnosis(DiagnosisResult):
    """Diagnosis of Best-of-N: does it pay, for which model, for whom, why; attributes of :class:`DiagnosisResult`."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read a diagnosis back: the reverse of :meth:`to_dict`.

        Influences (``evidence``), the intervals of the pool mean and of the drop from the peak, which JSON does not
        hold, are absent; so is what an older diagnosis lacks (NaN, None or empty). Keys that are unknown are ignored.

        Args:
            values: the object of docs/diagnosis.md.

        Raises:
            InputError: it is no diagnosis, or a value is of another kind; the place is named.
        """
        return diagnosis_from_json(cls, values)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read the diagnosis in a file ``diagnosis.json`` or in the folder of a finished run.

        Raises:
            InputError: there is no such file, or it holds no diagnosis.
        """
        path = Path(path)
        if path.suffix != ".json" or path.is_dir():
            path = path / "diagnosis.json"
        wanted = f"the diagnosis of a finished run (bestfor run {path.parent})"
        return cls.from_dict(read_object(path, "models", "a diagnosis", wanted))

    def to_dict(self) -> Json:
        """Convert to the object of docs/diagnosis.md: plain values, None for what cannot be had, never NaN."""
        return diagnosis_json(self)

    def report(
        self,
        path: str | Path,
        *,
        texts: Mapping[tuple[str, int], str] | None = None,
        inputs: Mapping[str, str] | None = None,
        title: str = "",
    ) -> None:
        """Write a page, as :func:`bestfor.write_html` does."""
        importlib.import_module(_REPORT).write_html(path, self, texts=texts, inputs=inputs, title=title)

    def plot(self, what: str = "captured", model: str | None = None, axes: Axes | None = None) -> Axes:
        """Draw one plot by matplotlib, as :func:`bestfor.report.picture.draw` does.

        Args:
            what: ``utility``, ``captured``, ``comparisons``, or of one model ``law``, ``ledger``, ``users``,
                ``correlations``, ``beyond``, ``reliability`` or ``pit``.
            model: by name; the one that a report shows first where None.
            axes: to draw on; of a new figure where None.

        Returns:
            The axes.
        """
        return importlib.import_module(f"{_REPORT}.picture").draw(self, what, model=model, axes=axes)

    def __str__(self) -> str:
        return summary(self)

    def __repr__(self) -> str:
        return one_line(self)

    def _repr_html_(self) -> str:
        return small_table(self)
