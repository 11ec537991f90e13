"""A diagnosis as JSON values, exactly as docs/diagnosis.md lays them out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from bestfor.diagnostics.calibration_json import calibration_json
from bestfor.diagnostics.outlook_json import outlook_json

if TYPE_CHECKING:
    from bestfor.diagnostics.results import Comparison, Diagnosis, ModelDiagnosis, PerUser, Quantities

Json = dict[str, Any]


def diagnosis_json(diagnosis: Diagnosis) -> Json:
    """A diagnosis as JSON values."""
    oracle = diagnosis.oracle
    result = {
        "signature": dict(diagnosis.signature),
        "name": diagnosis.name,
        "queries": diagnosis.queries,
        "users": diagnosis.users,
        "candidates": diagnosis.candidates,
        "dropped": asdict(diagnosis.dropped),
        "pool_mean": diagnosis.pool_mean.value,
        "oracle": {"n": oracle.n, "utility": oracle.value, "low": oracle.low, "high": oracle.high},
        "models": {name: _model(model) for name, model in diagnosis.models.items()},
        "comparisons": [_comparison(comparison) for comparison in diagnosis.comparisons],
        "headline": diagnosis.headline,
        "pools_used": None if diagnosis.pools_used is None else asdict(diagnosis.pools_used),
    }
    if diagnosis.folds:
        result["folds"] = [diagnosis_json(fold) for fold in diagnosis.folds]
    return plain(result)


def _model(model: ModelDiagnosis) -> Json:
    return {
        "scale": model.scale,
        "n": model.utility.n,
        "utility": model.utility.value,
        "low": model.utility.low,
        "high": model.utility.high,
        "gain": model.gain.value,
        "gain_low": model.gain.low,
        "gain_high": model.gain.high,
        "captured": model.captured.value,
        "captured_low": model.captured.low,
        "captured_high": model.captured.high,
        "interval": model.interval,
        "quantities": _quantities(model.quantities),
        "law": model.law,
        "law_error": model.law_error,
        "ledger": asdict(model.ledger),
        "best_n": [asdict(best) for best in model.best_n],
        "users_needed": [asdict(needed) for needed in model.users_needed],
        "findings": model.findings,
        "per_user": _per_user(model.per_user),
        "correlations": {"edges": model.edges, "counts": model.counts},
        "suspects": [asdict(suspect) for suspect in model.suspects],
        "notes": model.notes,
        "calibration": calibration_json(model.calibration),
        **outlook_json(model.outlook),
    }


def _quantities(q: Quantities) -> Json:
    return {
        "alpha": q.alpha.value,
        "alpha_low": q.alpha.low,
        "alpha_high": q.alpha.high,
        "alpha_other_scale": q.alpha_other_scale,
        "beta": q.beta.value,
        "beta_low": q.beta.low,
        "beta_high": q.beta.high,
        "rho_plus": q.rho_plus,
        "rho_minus": q.rho_minus,
        "rho": q.rho.value,
        "rho_low": q.rho.low,
        "rho_high": q.rho.high,
        "leakage_gain": q.leakage_gain,
        "beta_by_chance": q.beta_by_chance,
        "active_queries": q.active_queries,
        "corrected": None if q.corrected is None else asdict(q.corrected),
    }


def _per_user(table: PerUser) -> list[Json]:
    columns = ("user", "queries", "gain", "headroom", "captured", "kappa", "collapsed")
    values = [plain(getattr(table, column)) for column in columns]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


def _comparison(comparison: Comparison) -> Json:
    difference = comparison.difference
    return {
        "model": comparison.model,
        "against": comparison.against,
        "n": comparison.n,
        "captured_difference": difference.value,
        "low": difference.low,
        "high": difference.high,
    }


def plain(value: object) -> Any:  # noqa: ANN401
    """Arrays as lists, tuples as lists, and what is not finite as None, all the way down."""
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value)
        return {str(key): plain(inner) for key, inner in items.items()}
    if isinstance(value, np.ndarray):
        return plain(cast("object", value.tolist()))
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in cast("Sequence[object]", value)]
    if isinstance(value, np.generic):
        return plain(cast("object", value.item()))
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
