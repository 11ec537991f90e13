"""Measure what is truly cared about for each candidate: metrics by name, from plug-ins, or by dotted path.

A file holds one metric, or several of one class: a class that says ``name = "mine"`` there is ``METRICS["mine"]``
without being named anywhere else. Plug-ins name theirs by entry points of the group ``bestfor.metrics``, and a run's
file may name any class that can be imported as ``package.module:Class``. Importing this package imports none of them.
"""

from __future__ import annotations

from typing import Any

from bestfor.errors import InputError
from bestfor.metrics.base import Metric, Query, RunSetting
from bestfor.metrics.check import check_metric
from bestfor.metrics.kinds import METRICS
from bestfor.registry import make

__all__ = ["METRICS", "Metric", "Query", "RunSetting", "make_metric", "metric_class", "metric_label"]


def metric_class(name: str, where: str = "metric") -> type[Any]:
    """Find the class of a metric.

    Args:
        name: a key of ``METRICS``, or ``package.module:Class`` as its user typed it: the module is imported.
        where: names the place in errors.

    Raises:
        InputError: no such metric (the message names the nearest), module or class.
    """
    return METRICS.resolve(name, where, "")


def metric_label(name: str) -> str:
    """Name of a metric in files and tables; the class's own name where it is named by a dotted path.

    Raises:
        InputError: as :func:`metric_class`; or the class has no name.
    """
    if ":" not in name:
        return name
    label = getattr(metric_class(name), "name", None)
    if not isinstance(label, str):
        expected = 'name = "..." in the class: what files and tables of utilities say'
        raise InputError(f"metric '{name.rpartition(':')[2]}'", "no 'name'", expected)
    return label


def make_metric(name: str, run: RunSetting | None = None, *, where: str = "metric", **options: Any) -> Metric:  # noqa: ANN401 - the metric's own
    """Make a metric by its name.

    Args:
        name: as for :func:`metric_class`.
        run: what a run knows, for metrics that are made of it.
        where: names the place in errors.
        options: what its class takes.

    Raises:
        InputError: an unknown name, or a class that is no metric.
        MissingDataError: data that the metric needs is not on this machine; the message says how to get it.
        MissingExtraError: the extra ``metrics`` (or ``models``) is not installed.
    """
    cls = metric_class(name, where)
    if name in getattr(cls, "names", ()):
        options = {"name": name, **options}
    if run is not None and not options and hasattr(cls, "of_run"):
        metric = cls.of_run(run)
    else:
        metric = make(cls, options, f"metric '{name}'")
    check_metric(metric)
    return metric
