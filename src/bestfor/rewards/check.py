"""Check a reward model's class and what it predicts: what is missing or wrong is one line that names the class."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import BaseModel

from bestfor.artifacts import Arrays
from bestfor.errors import InputError
from bestfor.types import FloatArray, RewardEstimate


def check_class(cls: type[Any]) -> None:
    """Refuse a class of a reward model that is not whole.

    Raises:
        InputError: a method that it has to have is missing, or ``Config`` or ``scale`` is not what it has to be.
    """
    where = f"reward model '{cls.__qualname__}'"
    absent = sorted(getattr(cls, "__abstractmethods__", ()))
    if absent:
        raise InputError(where, f"no '{absent[0]}'", f"a class with {', '.join(absent)} (or one of ArrayModel)")
    if not (isinstance(cls.Config, type) and issubclass(cls.Config, BaseModel)):
        raise InputError(f"{where}, Config", repr(cls.Config), "a class that inherits pydantic's BaseModel")
    if not isinstance(cls.scale, property) and cls.scale not in ("utility", "arbitrary"):
        raise InputError(f"{where}, scale", repr(cls.scale), "'utility' or 'arbitrary'")


def check_estimate(model: Any, estimate: object, count: int) -> None:  # noqa: ANN401 - a RewardModel
    """Refuse rewards of another shape or type than promised.

    Args:
        model: predicted them.
        estimate: what it returned.
        count: n, the rows that it was asked about.

    Raises:
        InputError: no estimate, another shape, NaN from a kind that is not ``partial``, or no std where it is promised.
    """
    where = f"predictions of '{type(model).__qualname__}'"
    if not isinstance(estimate, RewardEstimate):
        raise InputError(where, f"a value of type {type(estimate).__name__}", "a RewardEstimate")
    _check_array(where, "mean", estimate.mean, count)
    if not np.isfinite(estimate.mean).all():
        _check_mean(where, estimate.mean, partial=model.partial)
    if model.has_std and estimate.std is None:
        raise InputError(where, "no std", "one for each candidate: the class says has_std = True")
    for name, values in (("std", estimate.std), ("std_mean", estimate.std_mean)):
        if values is not None:
            _check_array(where, name, values, count)
            if np.isfinite(values).all() and values.min() >= 0:
                continue
            wrong = (values < 0) | (~np.isfinite(values) & np.isfinite(estimate.mean))
            if wrong.any():
                raise InputError(f"{where}, {name}", f"{values[wrong][0]}", "finite numbers, 0 or more")


def _check_array(where: str, name: str, values: object, count: int) -> None:
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        kind = f"an array of {values.dtype}" if isinstance(values, np.ndarray) else f"a {type(values).__name__}"
        raise InputError(f"{where}, {name}", kind, "an array of numbers")
    if values.shape != (count,):
        raise InputError(f"{where}, {name}", f"shape {values.shape}", f"({count},), one for each candidate")


def _check_mean(where: str, mean: FloatArray, *, partial: bool) -> None:
    wrong = np.isinf(mean) if partial else ~np.isfinite(mean)
    if wrong.any():
        found = f"{mean[wrong][0]} for {int(wrong.sum())} of {len(mean)} candidates"
        expected = "numbers, NaN where there is no reward" if partial else "finite numbers (or partial = True)"
        raise InputError(f"{where}, mean", found, expected)


def refuse_nan(arrays: Arrays) -> None:
    """Raise ValueError where an array holds NaN."""
    for name, values in arrays.items():
        if values.dtype.kind == "f" and np.isnan(values).any():
            raise ValueError(f"array '{name}' holds NaN")
