"""Metrics by name: those of this package, and plug-ins of the entry points ``bestfor.metrics``."""

from __future__ import annotations

from bestfor.registry import Registry

METRICS = Registry("bestfor.metrics", "a metric", ("name", "names"))
"""Name -> class; one that says ``name = "mine"`` in a file of this package is found without being named here."""
