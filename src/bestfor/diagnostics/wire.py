"""Convert a diagnosis to JSON values, exactly as docs/diagnosis.md lays them out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from bestfor.diagnostics.words import calibrated
from bestfor.types import Estimate

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from bestfor.diagnostics.beyond.outlook import Outlook, PerUserN, StoppingReplay
    from bestfor.diagnostics.calibration import Calibration
    from bestfor.diagnostics.result import Comparison, DiagnosisResult, ModelDiagnosis, OtherRule, PerUser, Quantities

Json = dict[str, Any]
OUTLOOK = ("three_draw", "soft", "extrapolation", "best_fixed_n", "per_user_n", "stopping", "needed")


def diagnosis_json(diagnosis: DiagnosisResult) -> Json:
    """Convert a diagnosis to JSON values."""
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
        "rules": [_other_rule(one) for one in model.rules],
        "notes": model.notes,
        "calibration": calibration_json(model.calibration),
        **_outlook(model.outlook),
    }


def flat(record: DataclassInstance, **renamed: str) -> Json:
    """Collect a record's fields by name; an estimate becomes its value and, under ``_low`` and ``_high``, its interval.

    Args:
        record: a dataclass.
        renamed: a field's name -> the key that it gets.
    """
    result: Json = {}
    for field in fields(record):
        key, value = renamed.get(field.name, field.name), getattr(record, field.name)
        if isinstance(value, Estimate):
            result |= {key: value.value, f"{key}_low": value.low, f"{key}_high": value.high}
        else:
            result[key] = value
    return result


def _quantities(q: Quantities) -> Json:
    return {**flat(q), "corrected": None if q.corrected is None else asdict(q.corrected)}


def _per_user(table: PerUser) -> Ready:
    columns = ("user", "queries", "gain", "headroom", "captured", "kappa", "collapsed")
    values = [plain(getattr(table, column)) for column in columns]
    return Ready([dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)])


def _other_rule(one: OtherRule) -> Json:
    entry: Json = {"rule": one.rule, "n": one.utility.n}
    for key, curve in (("utility", one.utility), ("difference", one.difference)):
        entry |= {key: curve.value, f"{key}_low": curve.low, f"{key}_high": curve.high}
    return entry


def _comparison(comparison: Comparison) -> Json:
    one = flat(comparison, difference="captured_difference")
    return {**one, "low": one.pop("captured_difference_low"), "high": one.pop("captured_difference_high")}


def _outlook(outlook: Outlook | None) -> Json:
    """Collect the keys that an outlook adds to its model; each is None where there was no sample."""
    if outlook is None:
        return dict.fromkeys(OUTLOOK)
    reach, renamed = outlook.extrapolation, {"low": "difference_low", "high": "difference_high"}
    return {
        "three_draw": {"draws": 3, **flat(outlook.three_draw)},
        "soft": [flat(one, queries="queries_used", **renamed) for one in outlook.soft],
        "extrapolation": {**flat(reach), "steps": [flat(step) for step in reach.steps]},
        "best_fixed_n": [flat(one) for one in outlook.best_fixed_n],
        "per_user_n": _or_reason(outlook.per_user_n, "gain"),
        "stopping": {**_or_reason(outlook.stopping, "advantage"), "rule": "expected improvement"},
        "needed": [asdict(one) for one in outlook.needed],
    }


def _or_reason(found: PerUserN | StoppingReplay, what: str) -> Json:
    if found.reason:
        return {"cost_per_candidate": found.cost_per_candidate, what: None, "reason": found.reason}
    return {**flat(found), "reason": None}


def calibration_json(calibration: Calibration | None) -> dict[str, Any] | None:
    """Lay out a calibration as docs/diagnosis.md does, arrays and NaN still in it."""
    if calibration is None:
        return None
    numbers: dict[str, Any] = {}
    for name in ("temperature", "ence", "nll", "gain", "tempered_gain"):
        one: Estimate = getattr(calibration, name)
        numbers |= {name: one.value, f"{name}_low": one.low, f"{name}_high": one.high}
    return {
        "candidates": calibration.candidates,
        "users": calibration.users,
        "left_out": calibration.left_out,
        "values": calibration.values,
        **numbers,
        "ence_by_noise": calibration.ence_by_noise,
        "nll_constant": calibration.nll_constant,
        "coverage": [
            {"level": one.level, "share": one.share.value, "low": one.share.low, "high": one.share.high}
            for one in calibration.coverage
        ],
        "reliability": asdict(calibration.reliability),
        "pit": calibration.pit,
        "verdict": calibrated(calibration),
    }


class Ready:
    """Values that are plain already: large tables are walked through once."""

    def __init__(self, values: list[Json]) -> None:
        self.values = values


def plain(value: object) -> Any:  # noqa: ANN401
    """Convert arrays and tuples to lists and what is not finite to None, all the way down."""
    if isinstance(value, Ready):
        return value.values
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
