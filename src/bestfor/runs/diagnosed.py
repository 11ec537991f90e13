"""Read what a run left of its diagnosis, and nothing else: whoever serves it loads no diagnostics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bestfor.files import read_object

RATING = "rating"
"""The metric of data that bring ratings: what people said."""


def load_diagnosis(folder: str | Path) -> dict[str, Any]:
    """Read the diagnosis that a run left, as the object of its JSON.

    :meth:`bestfor.diagnostics.Diagnosis.read` gives the diagnosis itself, and is the way for whoever works with one;
    this is for those who look up a few of its values and load no diagnostics for that.

    Raises:
        InputError: the folder or its diagnosis.json is not there, or is damaged.
    """
    missing = f"the diagnosis of a finished run (bestfor run {folder})"
    return read_object(Path(folder) / "diagnosis.json", "models", "a diagnosis", missing)
