"""Answers for people: pick for this person, keep what they say, and learn from it.

A fitted model is immutable; what people say afterwards is a journal; a person is a function of both. Needs the extra
``journal``; importing this package imports none of it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bestfor.extras import require

if TYPE_CHECKING:
    from bestfor.serving.journal import Journal

_PLACES = {"Journal": "bestfor.serving.journal"}

__all__ = ["Journal"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 (any of the names above)
    if name in _PLACES:
        for package in ("sqlalchemy", "alembic"):
            require(package, "journal")
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'bestfor.serving' has no attribute '{name}'")
