"""Say in words what a run measured and when, for its page."""

from __future__ import annotations

import os
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SOURCES = {
    "polis": "votes (1 agree, 0 pass, \N{MINUS SIGN}1 disagree) of the Polis conversation {name}",
    "table": "ratings of {name}",
    "pairs": "pairs of {name}",
    "prism": "PRISM, {name}",
    "world": "made-up people whose taste is known",
    "lamp": "LaMP, {name}",
    "longlamp": "LongLaMP, {name}",
    "histories": "histories of {name}",
}
"""Source of a run's data -> what is said of it."""


def data_in_words(folder: Path) -> str:
    """Say which data a run measured, as its ``run.toml`` names them; empty where it does not.

    Args:
        folder: the run's, or that of one of its folds.
    """
    for path in (folder / "run.toml", folder.parent / "run.toml"):
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8")).get("data")
        except (OSError, ValueError):
            continue
        if isinstance(data, dict) and data.get("source") in SOURCES:
            return SOURCES[data["source"]].format(name=_name(data))
    return ""


def day_of(path: Path) -> str:
    """Write the day, in UTC, on which a file was written: ``"30 November 2026"``; empty where there is none.

    Where the environment has ``SOURCE_DATE_EPOCH`` (seconds since 1970) it is that day, so that pages made anew later
    have equal bytes.
    """
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    try:
        when = datetime.fromtimestamp(int(given) if given.isdigit() else path.stat().st_mtime, UTC)
    except (OSError, ValueError, OverflowError):
        return ""
    return f"{when.day} {when:%B %Y}"


def _name(data: dict[str, Any]) -> str:
    given = next((data[key] for key in ("path", "questions", "histories") if data.get(key)), "")
    name = Path(str(given)).name
    return f"{name}, task {data['task']}" if data.get("task") and name else name
