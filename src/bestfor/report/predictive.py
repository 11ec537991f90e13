"""Read back from a diagnosis' JSON how far a model's predicted standard deviations can be believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bestfor.errors import InputError
from bestfor.moved import renamed
from bestfor.report._values import Series, count, index, mapping_or_none, number, records

__getattr__ = renamed(
    __name__,
    {
        "Covered": "CoverageView",
        "Predictive": "CalibrationView",
    },
)


@dataclass(frozen=True)
class CoverageView:
    """The share of utilities inside a central predictive interval, and the level it should have."""

    level: float
    share: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class CalibrationView:
    """One model's calibration; ``numbers`` holds temperature, ence, nll and gains with their ``_low`` and ``_high``."""

    candidates: int
    users: int
    left_out: int
    values: int | None
    numbers: Mapping[str, float | None]
    coverage: tuple[CoverageView, ...]
    sizes: tuple[int, ...]
    predicted: Series
    observed: Series
    low: Series
    high: Series
    pit: tuple[float, ...]
    verdict: str


def read_predictive(entry: Mapping[str, Any], where: str) -> CalibrationView | None:
    """Check a model's calibration; None where the diagnosis has none.

    Args:
        entry: the model's object.
        where: its name, for errors.

    Raises:
        InputError: the bins' lists differ in length.
    """
    found = mapping_or_none(entry, "calibration")
    if found is None:
        return None
    bins = mapping_or_none(found, "reliability") or {}
    lists = {key: tuple(bins.get(key) or ()) for key in ("candidates", "predicted", "observed", "low", "high")}
    lengths = {len(values) for values in lists.values()}
    if len(lengths) > 1:
        raise InputError(f"{where}.calibration.reliability", f"lists of {sorted(lengths)} values", "equally many bins")
    return CalibrationView(
        candidates=count(found.get("candidates")),
        users=count(found.get("users")),
        left_out=count(found.get("left_out")),
        values=index(found.get("values")),
        numbers={str(key): number(value) for key, value in found.items()},
        coverage=tuple(_covered(one) for one in records(found, "coverage", f"{where}.calibration")),
        sizes=tuple(count(size) for size in lists["candidates"]),
        predicted=tuple(number(value) for value in lists["predicted"]),
        observed=tuple(number(value) for value in lists["observed"]),
        low=tuple(number(value) for value in lists["low"]),
        high=tuple(number(value) for value in lists["high"]),
        pit=tuple(number(share) or 0.0 for share in found.get("pit") or ()),
        verdict=str(found.get("verdict") or ""),
    )


def _covered(item: Mapping[str, Any]) -> CoverageView:
    share, low, high = (number(item.get(key)) for key in ("share", "low", "high"))
    return CoverageView(number(item.get("level")) or 0.0, share, low, high)
