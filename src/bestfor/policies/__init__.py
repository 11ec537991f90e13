"""Policies: what writes candidates, language models conditioned on or tuned to a user.

A file, or a folder, holds one policy: a class that says ``kind = "mine"`` there is ``POLICIES["mine"]`` without being
named anywhere else. Plug-ins name theirs by entry points of the group ``bestfor.policies``, and a run's file may name
any class that can be imported as ``package.module:Class``. Importing this package imports none of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from bestfor.policies.base import Policy, Prompt, Sampled
from bestfor.policies.check import check_policy
from bestfor.policies.kinds import POLICIES
from bestfor.registry import make

__all__ = ["POLICIES", "WRITER_KEYS", "Policy", "Prompt", "Sampled", "make_policy", "policy_class"]

WRITER_KEYS = ("model", "temperature", "top_p", "max_new_tokens", "stop", "chunk", "dtype", "device")
"""Keys of ``[policy]`` that say who writes and how; a class gets those that its constructor names."""


def policy_class(kind: str, where: str = "policy") -> type[Any]:
    """Find the class of a policy.

    Args:
        kind: a key of ``POLICIES``, or ``package.module:Class`` as its user typed it: the module is imported.
        where: names the place in errors.

    Raises:
        InputError: no such kind (the message names the nearest), module or class.
    """
    return POLICIES.resolve(kind, where)


def make_policy(table: Any, where: str = "[policy]") -> Policy:  # noqa: ANN401 - a table of a run's file
    """Make the policy that a table describes.

    Args:
        table: has ``kind``, ``options`` and the keys ``WRITER_KEYS``. A class with a class method ``from_table(table)``
            is made by it; otherwise its constructor is given the keys that it names, and the options.
        where: names the table in errors.

    Raises:
        InputError: an unknown kind, an option that the class does not take, or a class that is no policy.
    """
    cls, options = policy_class(table.kind, where), dict(table.options)
    if hasattr(cls, "from_table"):
        policy = cls.from_table(table)
    else:
        policy = make(cls, {**_named(cls, table), **options}, f"{where[:-1]}.options]")
    check_policy(policy)
    return policy


def _named(cls: type[Any], table: Any) -> Mapping[str, Any]:  # noqa: ANN401 - a table of a run's file
    known = inspect.signature(cls).parameters
    return {name: getattr(table, name) for name in WRITER_KEYS if name in known}
