"""Check a metric's class and what it measures: what is missing or wrong is one line that names the class."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from bestfor.errors import InputError
from bestfor.types import FloatArray

SIGNATURE = "a property: a dictionary of plain values, all that decides what it measures"


def check_metric(metric: Any) -> None:  # noqa: ANN401 - somebody's object
    """Refuse an object that is no metric; its signature, which may load an encoder, is not asked for.

    Raises:
        InputError: it has no name, no signature or no ``measure``.
    """
    where = f"metric '{type(metric).__qualname__}'"
    name = getattr(metric, "name", None)
    if not isinstance(name, str) or not name or "/" in name:
        found = "no 'name'" if name is None else f"name {name!r}"
        raise InputError(where, found, 'name = "...": what files and tables of utilities say')
    if inspect.getattr_static(metric, "signature", None) is None:
        raise InputError(where, "no 'signature'", SIGNATURE)
    for method in ("measure", *(("measure_many",) if getattr(metric, "many", False) else ())):
        if not callable(getattr(metric, method, None)):
            raise InputError(where, f"no '{method}'", "a method measure(query, texts) with a number for each text")


def signature_of(metric: Any) -> dict[str, str | int | float | bool]:  # noqa: ANN401 - a Metric
    """Collect all that decides what a metric measures.

    Raises:
        InputError: something else than plain values by name.
    """
    found = metric.signature
    if not isinstance(found, dict) or not all(isinstance(one, str | int | float | bool) for one in found.values()):
        where = f"metric '{type(metric).__qualname__}'"
        raise InputError(where, f"signature {str(found)[:60]} of type {type(found).__name__}", SIGNATURE)
    return found


def check_values(metric: Any, values: object, query: str, count: int) -> FloatArray:  # noqa: ANN401 - a Metric
    """Utilities of a query's texts, if they are what a metric promises.

    Args:
        metric: measured them.
        values: what it returned.
        query: the query's id.
        count: n, the texts that it was asked about.

    Returns:
        Shape (n,).

    Raises:
        InputError: another type or shape, infinity, or NaN from a metric that is not ``partial``.
    """
    where = f"metric '{metric.name}', query '{query}'"
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        kind = f"an array of {values.dtype}" if isinstance(values, np.ndarray) else f"a {type(values).__name__}"
        raise InputError(where, kind, "an array of numbers")
    if values.shape != (count,):
        raise InputError(where, f"utilities of shape {values.shape}", f"({count},), one for each text")
    wrong = np.isinf(values) if getattr(metric, "partial", False) else ~np.isfinite(values)
    if wrong.any():
        raise InputError(where, "a value that is not finite", "finite numbers")
    return values
