"""Kinds of reward models by name: those of this package, and plug-ins of the entry points ``bestfor.rewards``."""

from __future__ import annotations

from bestfor.registry import Registry

KINDS = Registry("bestfor.rewards", "a reward model")
"""Kind -> class; a class that says ``kind = "mine"`` in a file of this package is found without being named here."""
