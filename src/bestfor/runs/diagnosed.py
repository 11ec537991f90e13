"""Read what a run left of its diagnosis, and nothing else: whoever serves it loads no diagnostics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bestfor.errors import InputError

RATING = "rating"
"""The metric of data that bring ratings: what people said."""


def load_diagnosis(folder: str | Path) -> dict[str, Any]:
    """Read the diagnosis that a run left.

    Raises:
        InputError: the folder or its diagnosis.json is not there, or is damaged.
    """
    path = Path(folder) / "diagnosis.json"
    if not path.is_file():
        raise InputError(str(path), "no file", f"the diagnosis of a finished run (bestfor run {folder})")
    try:
        diagnosis = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(str(path), f"what is not JSON ({error})", "a diagnosis") from error
    if not isinstance(diagnosis, dict) or "models" not in diagnosis:
        raise InputError(str(path), "JSON without 'models'", "a diagnosis")
    return diagnosis
