"""Change keys of a run's file from outside it, one by one: ``--set reward.0.tastes=8``."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from bestfor.errors import InputError, nearest

_FORM = "KEY=VALUE, such as seed=1, policy.n=8 or reward.0.tastes=8"


def changed(raw: Mapping[str, Any], changes: Sequence[str], option: str = "--set") -> dict[str, Any]:
    """Set keys of a run that was read from TOML.

    A key is written as TOML's dotted keys are. Entries of a list of tables are named by their number, from 0, or by
    their ``name`` or ``kind`` (``reward.tastes.noise=...``); the number after the last adds an entry. A value is TOML;
    what is not TOML is text, so quotes can be left out.

    Args:
        raw: the run, nested mappings and lists; left as it is.
        changes: each ``KEY=VALUE``, applied in order.
        option: how errors call them.

    Returns:
        A copy with the changes; that keys exist and values fit is for :func:`bestfor.runs.config.parse_config` to say.

    Raises:
        InputError: no ``=``, a key that cannot be read, an entry that a list does not have, or a key below a value.
    """
    made = deepcopy(dict(raw))
    for change in changes:
        where = f"{option} {change}"
        _merge(made, _parsed(change, where), where)
    return made


def _parsed(change: str, where: str) -> dict[str, Any]:
    key, equals, value = change.partition("=")
    if not equals or not key.strip():
        raise InputError(where, "no key and value", _FORM)
    path = _key(key)
    if not path:
        raise InputError(where, "a key that cannot be read", _FORM)
    found: Any = _value(value)
    for name in reversed(path):
        found = {name: found}
    return found


def _key(key: str) -> list[str]:
    """Read a dotted key of TOML; empty where it is none."""
    try:
        table = tomllib.loads(f"{key}=0")
    except tomllib.TOMLDecodeError:
        return []
    path: list[str] = []
    while isinstance(table, dict):
        if len(table) != 1:  # a comment, or several lines
            return []
        ((name, table),) = table.items()
        path.append(name)
    return path


def _value(written: str) -> Any:  # noqa: ANN401 - whatever TOML holds
    """Read a value of TOML; what is none is text."""
    try:
        table = tomllib.loads(f"value={written}")
    except tomllib.TOMLDecodeError:
        return written.strip()
    return table["value"] if len(table) == 1 else written.strip()


def _merge(into: dict[str, Any], given: Mapping[str, Any], where: str) -> None:
    for key, value in given.items():
        held = into.get(key)
        if isinstance(value, dict) and isinstance(held, list):
            _merge_entries(held, value, where, key)
        elif isinstance(value, dict) and isinstance(held, dict):
            _merge(held, value, where)
        elif isinstance(value, dict) and held is not None:
            raise InputError(where, f"a key below '{key}', which is {json.dumps(held, default=str)}", f"{key}=VALUE")
        elif isinstance(value, dict):
            into[key] = {}
            _merge(into[key], value, where)
        else:
            into[key] = value


def _merge_entries(held: list[Any], given: Mapping[str, Any], where: str, key: str) -> None:
    for name, value in given.items():
        place = _place(held, name, where, key)
        if not isinstance(value, dict):
            if place == len(held):
                held.append(value)
            else:
                held[place] = value
            continue
        if place == len(held):
            held.append({})
        if not isinstance(held[place], dict):
            raise InputError(where, f"a key below '{key}.{name}', which is no table", f"{key}.{name}=VALUE")
        _merge(held[place], value, where)


def _place(held: Sequence[Any], name: str, where: str, key: str) -> int:
    """Find the entry of a list that a number or a name means; one more than there are is a new one."""
    if name.isdecimal():
        if int(name) <= len(held):
            return int(name)
        last = f"0 to {len(held) - 1}, or {len(held)} to add one" if held else "0 to add one"
        raise InputError(where, f"entry {name} of '{key}', which has {len(held)}", last)
    names = [_label(entry) for entry in held]
    if names.count(name) == 1:
        return names.index(name)
    if name in names:
        numbers = " and ".join(str(i) for i, one in enumerate(names) if one == name)
        raise InputError(where, f"'{name}', which entries {numbers} of '{key}' are", "the entry's number")
    raise InputError(where, f"'{name}', which no entry of '{key}' is", nearest(name, [one for one in names if one]))


def _label(entry: object) -> str:
    """Name an entry by its name, or its kind, of a dotted one the class: as reward models are named in tables."""
    if not isinstance(entry, Mapping):
        return ""
    return str(entry.get("name") or str(entry.get("kind", "")).rpartition(":")[2])
