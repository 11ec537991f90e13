"""Backends by kind: those of this package, and plug-ins of the entry points ``bestfor.backends``."""

from __future__ import annotations

from bestfor.registry import Registry

BACKENDS = Registry("bestfor.backends", "a backend")
"""Kind -> class; one that says ``kind = "mine"`` in a file of this package is found without being named here."""
