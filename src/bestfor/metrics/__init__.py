"""Metrics: what is truly cared about, measured for each candidate.

``METRICS`` names those that compare a text with the user's own; importing this package imports none of them.
"""

from __future__ import annotations

import importlib
from typing import Any

from bestfor.errors import InputError, nearest
from bestfor.metrics.base import Metric, Query

METRICS = {
    "rouge1": ("bestfor.metrics.overlap:Overlap", {"name": "rouge1"}),
    "rouge2": ("bestfor.metrics.overlap:Overlap", {"name": "rouge2"}),
    "rougeL": ("bestfor.metrics.overlap:Overlap", {"name": "rougeL"}),
    "meteor": ("bestfor.metrics.meteor:Meteor", {}),
    "bleu": ("bestfor.metrics.ngrams:Ngrams", {"name": "bleu"}),
    "chrf": ("bestfor.metrics.ngrams:Ngrams", {"name": "chrf"}),
    "embedding": ("bestfor.metrics.embedding:EmbeddingSimilarity", {}),
    "exact": ("bestfor.metrics.agreement:Exact", {}),
    "absolute_error": ("bestfor.metrics.agreement:AbsoluteError", {}),
}
"""Name -> where its class is, and what the class is told."""

__all__ = ["METRICS", "Metric", "Query", "make_metric"]


def make_metric(name: str, **options: Any) -> Metric:  # noqa: ANN401 - the metric's own
    """A metric by its name.

    Args:
        name: one of ``METRICS``.
        options: what its class takes.

    Raises:
        InputError: an unknown name.
        MissingDataError: data that the metric needs is not on this machine; the message says how to get it.
        MissingExtraError: the extra ``metrics`` (or ``models``) is not installed.
    """
    if name not in METRICS:
        raise InputError("metric", f"'{name}'", nearest(name, METRICS))
    (module, _, kind), given = METRICS[name][0].partition(":"), METRICS[name][1]
    return getattr(importlib.import_module(module), kind)(**given, **options)
