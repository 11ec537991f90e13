"""Answers for people: pick for this person, keep what they say, and learn from it.

A fitted model is immutable; what people say afterwards is a journal; a person is a function of both. Needs the extra
``journal``; importing this package imports none of it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bestfor.serving.journal import Forgotten, Journal, JournalError, Learned
    from bestfor.serving.labels import LabelScale, Statement
    from bestfor.serving.refit import Refitted
    from bestfor.serving.service import ServedAnswer, Service

_PLACES = {
    "Forgotten": "bestfor.serving.journal",
    "Journal": "bestfor.serving.journal",
    "JournalError": "bestfor.serving.journal",
    "LabelScale": "bestfor.serving.labels",
    "Learned": "bestfor.serving.journal",
    "Refitted": "bestfor.serving.refit",
    "Statement": "bestfor.serving.labels",
    "ServedAnswer": "bestfor.serving.service",
    "Service": "bestfor.serving.service",
}

__all__ = [
    "Forgotten",
    "Journal",
    "JournalError",
    "LabelScale",
    "Learned",
    "Refitted",
    "ServedAnswer",
    "Service",
    "Statement",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 (any of the names above)
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'bestfor.serving' has no attribute '{name}'")
