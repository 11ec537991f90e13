"""Policies by kind: those of this package, and plug-ins of the entry points ``bestfor.policies``."""

from __future__ import annotations

from bestfor.registry import Registry

POLICIES = Registry("bestfor.policies", "a policy")
"""Kind -> class; one that says ``kind = "mine"`` in a file of this package is found without being named here."""
