"""Read numbers and lists from JSON: whatever is not finite becomes None."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from bestfor.errors import InputError

Series = tuple[float | None, ...]
EXPECTED = "an object as docs/diagnosis.md describes it"


@dataclass(frozen=True)
class Band:
    """Values over N with their interval; ``None`` where there is none."""

    value: Series
    low: Series
    high: Series


def band(entry: Mapping[str, Any], value: str, prefix: str, n: tuple[int, ...], where: str) -> Band:
    """Read a curve with its interval under the keys ``<prefix>low`` and ``<prefix>high``."""
    keys = (value, f"{prefix}low", f"{prefix}high")
    return Band(*(series(entry.get(key), n, f"{where}.{key}") for key in keys))


def series(values: Sequence[Any] | None, n: tuple[int, ...], where: str) -> Series:
    """Read one value for each N; all None where the list is absent or empty."""
    if not values:
        return (None,) * len(n)
    if len(values) != len(n):
        raise InputError(where, f"{len(values)} values", f"one for each of the {len(n)} values of n")
    return tuple(number(value) for value in values)


def grid(entry: Mapping[str, Any], where: str) -> tuple[int, ...]:
    """Read the values of N, from few candidates to many."""
    n = entry.get("n")
    if not isinstance(n, Sequence) or isinstance(n, str):
        raise InputError(f"{where}.n", type(n).__name__, "a list of whole numbers")
    sizes = tuple(index(value) or 0 for value in n)
    if any(after <= before for before, after in pairwise((0, *sizes))):
        raise InputError(f"{where}.n", str(list(n)), "whole numbers from 1 upwards, each larger than the one before")
    return sizes


def records(entry: Mapping[str, Any], key: str, where: str) -> list[Mapping[str, Any]]:
    """Read a list of objects; an absent one is empty."""
    found = entry.get(key) or []
    if isinstance(found, str | Mapping) or not all(isinstance(item, Mapping) for item in found):
        raise InputError(f"{where}.{key}", "something else than objects", "a list of objects")
    return list(found)


def mapping(entry: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    """Read a required object."""
    value = entry.get(key)
    if not isinstance(value, Mapping):
        raise InputError(where, f"no '{key}'" if value is None else f"'{key}' of another kind", EXPECTED)
    return value


def numbers(entry: object) -> dict[str, float | None] | None:
    """Read an object of numbers, or None."""
    return None if not isinstance(entry, Mapping) else {str(key): number(value) for key, value in entry.items()}


def number(value: object) -> float | None:
    """Read a finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def count(value: object) -> int:
    """Read a whole number, 0 where there is none."""
    known = number(value)
    return 0 if known is None else int(known)


def index(value: object) -> int | None:
    """Read a whole number, or None."""
    known = number(value)
    return None if known is None else int(known)


def mapping_or_none(entry: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    """Read an optional object; anything else counts as absent."""
    value = entry.get(key)
    return value if isinstance(value, Mapping) else None
