"""Write a diagnosis as JSON values and read it back, exactly as docs/diagnosis.md lays it out.

Both ways follow the tables of fields at the end of this file, one a record. What is absent or null is read as NaN, None
or empty; what is of another kind is refused with its place; unknown keys are ignored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

import numpy as np

from bestfor.diagnostics.beyond.outlook import (
    DRAWS,
    BestFixed,
    ExtrapolatedCurve,
    ExtrapolationStep,
    Outlook,
    PerUserN,
    PoolsUsed,
    PrecisionNeeded,
    SoftCurve,
    StoppingReplay,
    ThreeDraw,
)
from bestfor.diagnostics.calibrated import calibrated
from bestfor.diagnostics.calibration import Calibration, Coverage, Reliability
from bestfor.diagnostics.ceiling import Ceiling
from bestfor.diagnostics.codec import (
    ANYTHING,
    EXPECTED,
    FLAG,
    MAYBE,
    MAYBE_WHOLE,
    NUMBER,
    NUMBERS,
    REASONS,
    REQUIRED,
    REQUIRED_NUMBER,
    SERIES,
    TEXT,
    TEXT_OR_NULL,
    TEXTS,
    VALUE,
    WHOLE,
    WHOLES,
    Among,
    CurveKeys,
    EndKeys,
    EstimateKeys,
    GridKey,
    Json,
    JsonObject,
    Key,
    Ready,
    Table,
    ValueKind,
    Within,
    Written,
    by_name,
    json_records,
    number,
    or_reason,
    plain,
    record,
    records,
    texts,
    whole,
)
from bestfor.diagnostics.intervals.clustered import Resampling
from bestfor.diagnostics.intervals.laws import LawEnds
from bestfor.diagnostics.price import UTILITY
from bestfor.diagnostics.quantities.laws import LAWS, Ledger
from bestfor.diagnostics.quantities.mixture import Corrected
from bestfor.diagnostics.result import (
    BestN,
    Comparison,
    Curve,
    DiagnosisResult,
    ModelDiagnosis,
    Needed,
    OtherRule,
    PerUser,
    Quantities,
    Suspect,
)
from bestfor.diagnostics.table.pools import Dropped
from bestfor.errors import InputError
from bestfor.types import Estimate, FloatArray

Read = TypeVar("Read", bound=DiagnosisResult)


def diagnosis_json(diagnosis: DiagnosisResult) -> Json:
    """Convert a diagnosis to JSON values."""
    return plain(DIAGNOSIS.write(diagnosis))


def diagnosis_from_json(make: type[Read], values: Mapping[str, Any], where: str = "") -> Read:
    """Read a diagnosis from JSON values.

    Args:
        make: the class that it becomes.
        values: what :func:`diagnosis_json` gave, of this version or an older one.
        where: its place, for errors.

    Raises:
        InputError: it is no diagnosis, or a value is of another kind.
    """
    if not isinstance(cast("object", values), Mapping):
        raise InputError(where or "diagnosis", type(values).__name__, EXPECTED)
    entry = JsonObject(values, where, make=make)
    signature = entry.inner("signature", values.get("signature"))
    level = number(signature.values.get("level"), signature.place("level"))
    mean = number(values.get("pool_mean"), entry.place("pool_mean"))
    entry = replace(entry, level=0.95 if math.isnan(level) else level, mean=mean)
    return make(**_settings(signature, entry.level), **DIAGNOSIS.attributes(entry))


def calibration_json(calibration: Calibration | None) -> Json | None:
    """Lay out a calibration as docs/diagnosis.md does, arrays and NaN still in it."""
    return None if calibration is None else CALIBRATION.write(calibration)


def _settings(signature: JsonObject, level: float) -> Json:
    """Collect what a diagnosis knows of its settings from its signature."""
    known, resampling = signature.values, None
    if known.get("interval") == "bootstrap":
        counts = (whole(known.get(key), signature.place(key)) for key in ("resamples", "bootstrap_seed"))
        resampling = Resampling(*counts)
    averaging = "query" if known.get("averaging") == "query" else "user"
    rules = texts(known.get("rules"), signature.place("rules"))
    return {"averaging": averaging, "level": level, "resampling": resampling, "rules": rules}


def _write_users(users: PerUser) -> Ready:
    columns = [plain(getattr(users, row.name)) for row in USER_COLUMNS]
    names = [row.name for row in USER_COLUMNS]
    return Ready([dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)])


def _read_users(value: object, entry: JsonObject, key: str) -> PerUser:
    where = entry.place(key)
    found = json_records(value, where)
    columns = {row.name: [row.kind.read(one.get(row.name), entry, key) for one in found] for row in USER_COLUMNS}
    names = tuple(columns.pop("user"))
    kinds = {"queries": np.int64, "collapsed": np.bool_}
    arrays: Json = {name: np.array(values, dtype=kinds.get(name, np.float64)) for name, values in columns.items()}
    return PerUser(user=names, **arrays)


def _write_laws(laws: Mapping[str, FloatArray]) -> Json:
    """Lay out laws; that of pairs only where it is known, as older diagnoses do not hold it."""
    return {law: values for law, values in laws.items() if law != "pairs" or np.isfinite(values).any()}


def _write_ends(ends: LawEnds | None) -> Json:
    if ends is None:
        return {}
    both = ((law, ends.law[law], ends.error[law]) for law in ends.law)
    return {
        law: {"low": one[0], "high": one[1], "error_low": error[0], "error_high": error[1]} for law, one, error in both
    }


def _read_ends(value: object, entry: JsonObject, key: str) -> LawEnds | None:
    if value is None:
        return None
    inner = entry.inner(key, value)
    laws = [(law, inner.inner(law, inner.values.get(law))) for law in LAWS]
    return LawEnds(
        {law: np.stack([one.series("low"), one.series("high")]) for law, one in laws},
        {law: np.stack([one.series("error_low"), one.series("error_high")]) for law, one in laws},
    )


def _read_laws(value: object, entry: JsonObject, key: str) -> dict[str, FloatArray]:
    inner = entry.inner(key, value)
    return {law: inner.series(law) for law in LAWS}


def _finish_ledger(found: Json, entry: JsonObject) -> Json:
    return found if found["n"] or not len(entry.n) else {**found, "n": int(entry.n[-1])}


def _finish_bins(found: Json, entry: JsonObject) -> Json:
    """Check that all lists are of one length; those that are absent hold nothing known."""
    lengths = {len(values) for values in found.values()} - {0}
    if len(lengths) > 1:
        raise InputError(entry.where, f"lists of {sorted(lengths)} values", "equally many bins")
    size = max(lengths, default=0)
    unknown = {"candidates": np.zeros(size, dtype=np.int64)}
    return {key: values if len(values) else unknown.get(key, np.full(size, np.nan)) for key, values in found.items()}


def _finish_model(found: Json, entry: JsonObject) -> Json:
    """Add the peak of the curve and the drop after it; gains that only utilities tell have no interval."""
    utility, gain = cast("Curve", found["utility"]), cast("Curve", found["gain"])
    if np.isnan(gain.value).all():
        gain = replace(gain, value=utility.value - entry.mean)
    known = np.isfinite(gain.value).any()
    place = int(np.nanargmax(gain.value)) if known else -1
    peak = int(utility.n[place]) if len(utility.n) else 0
    drop = float(utility.value[-1] - utility.value[place]) if len(utility.n) else math.nan
    return {**found, "gain": gain, "peak": peak, "drop": Estimate(drop, None, None, entry.level)}


def _finish_price(found: Json, entry: JsonObject) -> Json:
    """Complete what an older diagnosis says: a cost of a doubling in utility units, without a verdict."""
    if math.isnan(found["price"]):
        if math.isnan(found["cost_in_utility_units"]):
            raise InputError(entry.place("price"), "nothing", "a number")
        found = {**found, "price": found["cost_in_utility_units"], "unit": UTILITY}
    known = {"per": found["per"] or "doubling", "worth": 1.0 if math.isnan(found["worth"]) else found["worth"]}
    return {**found, "unit": found["unit"] or UTILITY, **known}


def _write_folds(folds: Sequence[DiagnosisResult]) -> list[Json]:
    return [DIAGNOSIS.write(fold) for fold in folds]


def _read_folds(value: object, entry: JsonObject, key: str) -> tuple[DiagnosisResult, ...]:
    found = json_records(value, entry.place(key))
    return tuple(diagnosis_from_json(entry.make, one, entry.place(f"{key}.{place}")) for place, one in enumerate(found))


def _table(make: type[Any], *rows: Key | GridKey | EstimateKeys | EndKeys | CurveKeys | Written) -> Table:
    return Table(make, rows)


USER_COLUMNS = (
    Key("user", TEXT),
    Key("queries", WHOLE),
    Key("gain", NUMBER),
    Key("headroom", NUMBER),
    Key("captured", NUMBER),
    Key("kappa", NUMBER),
    Key("collapsed", FLAG),
)
USERS, LAW = ValueKind(_write_users, _read_users), ValueKind(_write_laws, _read_laws)

BINS = Table(
    Reliability,
    (
        Key("candidates", WHOLES),
        Key("predicted", NUMBERS),
        Key("observed", NUMBERS),
        Key("low", NUMBERS),
        Key("high", NUMBERS),
    ),
    _finish_bins,
)

CORRECTED = _table(
    Corrected,
    Key("beta", NUMBER),
    Key("beta_05", NUMBER),
    Key("rho_plus", NUMBER),
    Key("rho_minus", NUMBER),
    Key("queries_used", WHOLE),
    Key("beta_05_low", NUMBER),
    Key("beta_05_high", NUMBER),
    Key("visible", NUMBER),
    Key("heavy_tails", NUMBER),
)

_STEPS = ("law", "growth", "alpha", "sigma", "covariance", "shape", "leakage", "observed")
LEDGER = Table(Ledger, (*(Key(term, NUMBER) for term in _STEPS), Key("n", WHOLE)), _finish_ledger)

BEST_N = Table(
    BestN,
    (
        Key("price", NUMBER),
        Key("unit", TEXT),
        Key("n", REQUIRED),
        Key("verdict", TEXT),
        Key("per", TEXT),
        Key("cost_in_utility_units", NUMBER),
        Key("further", TEXT),
        EstimateKeys("gain"),
        Key("headroom", NUMBER),
        Key("worth", NUMBER),
    ),
    _finish_price,
)
NEEDED = _table(Needed, Key("half_width", NUMBER), Key("users", MAYBE_WHOLE))
DROPPED = _table(Dropped, Key("too_few_candidates", WHOLE), Key("not_finite", WHOLE))
POOLS_USED = _table(PoolsUsed, Key("queries", WHOLE), Key("of", WHOLE), Key("users", WHOLE))

SUSPECT = _table(
    Suspect,
    Key("query", TEXT),
    Key("user", TEXT),
    Key("size", WHOLE),
    Key("correlation", NUMBER),
    Key("posterior", NUMBER),
    Key("pick", MAYBE_WHOLE),
    Key("pick_utility", NUMBER),
    Key("best", MAYBE_WHOLE),
    Key("best_utility", NUMBER),
    Key("mean_utility", NUMBER),
)

OTHER_RULE = _table(
    OtherRule,
    Key("rule", TEXT),
    GridKey("utility"),
    CurveKeys("utility", "utility_"),
    CurveKeys("difference", "difference_"),
)

COMPARISON = _table(
    Comparison,
    Key("model", TEXT),
    Key("against", TEXT),
    Key("n", REQUIRED),
    EstimateKeys("difference", "captured_difference"),
    Written("low", lambda pair: pair.difference.low),
    Written("high", lambda pair: pair.difference.high),
    *(
        EstimateKeys(name, f"{name}_difference", omit=True)
        for name in ("alpha", "beta", "rho", "rho_plus", "rho_minus", "beta_05")
    ),
)

SOFT = _table(
    SoftCurve,
    Key("temperature_in_sd", NUMBER),
    Key("temperature", NUMBER),
    Key("utility", SERIES),
    Key("difference", SERIES),
    Key("low", SERIES, "difference_low"),
    Key("high", SERIES, "difference_high"),
    Key("queries", WHOLE, "queries_used"),
)

STEP = _table(
    ExtrapolationStep,
    Key("n", REQUIRED),
    Key("order_1", NUMBER),
    EstimateKeys("order_2"),
    Key("order_3", NUMBER),
    EstimateKeys("gao"),
    Key("utility", NUMBER),
    Key("trusted", FLAG),
    Key("verdict", TEXT),
)

FIXED = _table(
    BestFixed,
    Key("cost_per_candidate", REQUIRED_NUMBER),
    Key("n", REQUIRED),
    EstimateKeys("net"),
    Key("at_edge", FLAG),
    Key("price", NUMBER),
    Key("unit", TEXT),
)

PRECISION = _table(
    PrecisionNeeded,
    Key("quantity", TEXT),
    Key("half_width", NUMBER),
    Key("now", MAYBE),
    Key("users", MAYBE_WHOLE),
    Key("more_users", MAYBE_WHOLE),
    Key("more_queries", MAYBE_WHOLE),
)

CALIBRATION = _table(
    Calibration,
    Key("candidates", WHOLE),
    Key("users", WHOLE),
    Key("left_out", WHOLE),
    Key("values", MAYBE_WHOLE),
    EstimateKeys("temperature"),
    EstimateKeys("ence"),
    EstimateKeys("nll"),
    EstimateKeys("gain"),
    EstimateKeys("tempered_gain"),
    Key("ence_by_noise", NUMBER),
    Key("nll_constant", NUMBER),
    Key("coverage", records(_table(Coverage, Key("level", NUMBER), EstimateKeys("share", low="low", high="high")))),
    Key("reliability", record(BINS)),
    Key("pit", NUMBERS),
    Written("verdict", calibrated),
)

QUANTITIES = _table(
    Quantities,
    EstimateKeys("alpha"),
    Key("alpha_other_scale", NUMBER),
    EstimateKeys("beta"),
    Key("rho_plus", NUMBER),
    Key("rho_minus", NUMBER),
    EndKeys("rho_plus_ends", "rho_plus"),
    EndKeys("rho_minus_ends", "rho_minus"),
    EstimateKeys("rho"),
    Key("leakage_gain", NUMBER),
    Key("active_queries", WHOLE),
    Key("corrected", record(CORRECTED, none=True)),
    Key("beta_by_chance", NUMBER),
    Key("reasons", REASONS),
)

EXTRAPOLATION = _table(
    ExtrapolatedCurve,
    Key("smallest_pool", WHOLE),
    Key("farthest", WHOLE),
    Key("trusted_to", MAYBE_WHOLE),
    Key("verdict", TEXT),
    Key("steps", records(STEP)),
)

PER_USER_N = _table(
    PerUserN,
    Key("cost_per_candidate", NUMBER),
    Key("users", WHOLE),
    Key("trust", NUMBER),
    Key("n", WHOLES),
    Key("share", NUMBERS),
    Key("own_n", NUMBER),
    Key("common_n", NUMBER),
    EstimateKeys("gain"),
    Key("reason", TEXT_OR_NULL),
)

STOPPING = _table(
    StoppingReplay,
    Key("cost_per_candidate", NUMBER),
    Key("drawn", NUMBER),
    Key("utility", NUMBER),
    Key("net", NUMBER),
    Key("fixed_n", MAYBE_WHOLE),
    Key("fixed_net", NUMBER),
    EstimateKeys("advantage"),
    Key("pays", FLAG),
    Key("verdict", TEXT),
    Key("reason", TEXT_OR_NULL),
    Written("rule", lambda stopping: "expected improvement"),
)

OUTLOOK = _table(
    Outlook,
    Key("three_draw", record(_table(ThreeDraw, Written("draws", lambda noise: DRAWS), GridKey(), Key("sd", SERIES)))),
    Key("soft", records(SOFT)),
    Key("extrapolation", record(EXTRAPOLATION)),
    Key("best_fixed_n", records(FIXED)),
    Key("per_user_n", or_reason(PER_USER_N, "cost_per_candidate", "gain")),
    Key("stopping", or_reason(STOPPING, "cost_per_candidate", "advantage")),
    Key("needed", records(PRECISION)),
)

MODEL = Table(
    ModelDiagnosis,
    (
        Key("scale", TEXT),
        GridKey("utility", required=True),
        CurveKeys("utility"),
        CurveKeys("gain", "gain_"),
        CurveKeys("captured", "captured_"),
        Key("interval", TEXT),
        Key("quantities", record(QUANTITIES)),
        Key("law", LAW),
        Key("law_error", LAW),
        Key("law_ends", ValueKind(_write_ends, _read_ends), "law_intervals", omit=True),
        EstimateKeys("pair_accuracy", omit=True),
        CurveKeys("captured_attainable", "captured_attainable_", omit=True),
        Key("ledger", record(LEDGER)),
        Key("best_n", records(BEST_N)),
        Key("users_needed", records(NEEDED)),
        Key("findings", TEXTS),
        Key("per_user", USERS),
        Within("correlations", (Key("edges", NUMBERS), Key("counts", WHOLES))),
        Key("suspects", records(SUSPECT)),
        Key("rules", records(OTHER_RULE)),
        Key("notes", TEXTS),
        Key("calibration", record(CALIBRATION, none=True)),
        Among("outlook", OUTLOOK),
        Key("baseline", FLAG, omit=True),
    ),
    _finish_model,
)

CEILING = _table(
    Ceiling,
    Key("source", TEXT),
    Key("model", TEXT),
    Key("assumption", TEXT),
    Key("reliability", NUMBER),
    Key("bound", FLAG),
    Key("chances", FLAG),
    Key("gain", NUMBERS),
    Key("share", NUMBERS),
)

FOLDS = ValueKind(_write_folds, _read_folds)

DIAGNOSIS = Table(
    DiagnosisResult,
    (
        Key("signature", ANYTHING),
        Key("name", TEXT),
        Key("queries", WHOLE),
        Key("users", WHOLE),
        Key("candidates", WHOLE),
        Key("dropped", record(DROPPED)),
        Key("pool_mean", VALUE),
        Within("oracle", (GridKey("oracle", required=True), CurveKeys("oracle", key="utility")), required=True),
        Key("models", by_name(MODEL)),
        Key("comparisons", records(COMPARISON)),
        Key("headline", TEXT),
        Key("pools_used", record(POOLS_USED, none=True)),
        Key("ceiling", record(CEILING, none=True), omit=True),
        Key("folds", FOLDS, omit=True),
    ),
)
