"""Journal of answers and labels: a database that keeps what was shown and what people said about it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bestfor.extras import require
from bestfor.serving.journal.records import (
    AskedTexts,
    Forgotten,
    JournalError,
    Label,
    Learned,
    LoggedAnswer,
    SaidOfText,
    Standing,
    check_id,
)

if TYPE_CHECKING:
    from bestfor.serving.journal.store import Journal

__all__ = [
    "AskedTexts",
    "Forgotten",
    "Journal",
    "JournalError",
    "Label",
    "Learned",
    "LoggedAnswer",
    "SaidOfText",
    "Standing",
    "check_id",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module or a class
    if name == "Journal":
        for package in ("sqlalchemy", "alembic"):
            require(package, "journal")
        return importlib.import_module("bestfor.serving.journal.store").Journal
    raise AttributeError(f"module 'bestfor.serving.journal' has no attribute '{name}'")
