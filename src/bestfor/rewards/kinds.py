"""Kinds of reward models by name: those of this package, and plug-ins of the entry points ``bestfor.rewards``."""

from __future__ import annotations

from typing import Any

from bestfor.registry import Registry

KINDS = Registry("bestfor.rewards", "a reward model")
"""Kind -> class; a class that says ``kind = "mine"`` in a file of this package is found without being named here."""


def is_kind(cls: type[Any], stored: str) -> bool:
    """True where a saved model's kind is this class; one at a dotted path may have moved to another module since."""
    known = KINDS.name_of(cls)
    dotted = ":" in stored and ":" in known
    return stored == known or (dotted and stored.partition(":")[2] == known.partition(":")[2])
