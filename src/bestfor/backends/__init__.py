"""Backends: who does the tasks of a plan, this machine's processes or the workers of a cluster.

A file holds one backend: a class that says ``kind = "mine"`` there is ``BACKENDS["mine"]`` without being named anywhere
else. Plug-ins name theirs by entry points of the group ``bestfor.backends``. Importing this package imports none of
them but ``local``.
"""

from __future__ import annotations

from typing import Any

from bestfor.backends.base import Backend, Plan, PlanTask, Recipe
from bestfor.backends.kinds import BACKENDS
from bestfor.backends.local import Local
from bestfor.registry import make

__all__ = ["BACKENDS", "Backend", "Local", "Plan", "PlanTask", "Recipe", "make_backend"]


def make_backend(kind: str = "local", where: str = "[backend]", **options: Any) -> Backend:  # noqa: ANN401 - the backend's own
    """Make a backend by its kind.

    Args:
        kind: a key of ``BACKENDS``, or ``package.module:Class``.
        where: names the place in errors.
        options: what its class takes.

    Raises:
        InputError: an unknown kind, or an option that it does not take.
        MissingExtraError: the extra of the kind is not installed.
    """
    return make(BACKENDS.resolve(kind, where), options, where)
