"""Combine the diagnoses of folds into their mean: users come again in every fold, texts do not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bestfor.diagnostics.calibration import pool_calibrations
from bestfor.diagnostics.diagnose import Diagnosis, Header, assemble, under_ceiling
from bestfor.diagnostics.evidence import MOST, ModelFacts
from bestfor.diagnostics.quantities.collapse import ALIKE
from bestfor.diagnostics.quantities.laws import LAWS, Ledger
from bestfor.diagnostics.quantities.mixture import Corrected
from bestfor.diagnostics.result import ModelDiagnosis, PerUser
from bestfor.diagnostics.table.pools import Dropped
from bestfor.errors import InputError
from bestfor.types import FloatArray

_TERMS = ("law", "growth", "alpha", "sigma", "covariance", "shape", "leakage", "observed")


def combine_folds(
    folds: Sequence[Diagnosis], *, name: str | None = None, signature: Mapping[str, Any] | None = None
) -> Diagnosis:
    """Average folds, each weighing the same.

    Curves, captured, laws, the ledger and the quantities are means of the folds' values. Intervals come from each
    user's and each text's influence on that mean: users shared by folds are matched by id, so are texts.

    Args:
        folds: diagnoses with the same N, models, scales and averaging.
        name: of the whole; the first fold's where None.
        signature: of the whole; what the folds' signatures agree on where None, and ``folds`` with their ``data``.

    Returns:
        A diagnosis whose ``folds`` are these.

    Raises:
        InputError: no folds, folds that were read from JSON, or that differ in N, models, scales, averaging or level.
    """
    if not folds:
        raise InputError("folds", "none", "at least one diagnosis")
    for place, fold in enumerate(folds, start=1):
        if not fold.evidence:
            raise InputError(f"fold {place}", "a diagnosis read from JSON, which holds no influences", "one made here")
    for place, fold in enumerate(folds[1:], start=2):
        _check_same(folds[0], fold, place)
    first = folds[0]
    header = Header(
        name=first.name if name is None else name,
        signature=_agreed(folds) if signature is None else {**_settings(first), **signature},
        averaging=first.averaging,
        level=first.level,
        queries=sum(fold.queries for fold in folds),
        users=len({user for fold in folds for user in fold.evidence[0].curves.user_ids}),
        candidates=sum(fold.candidates for fold in folds),
        dropped=Dropped(
            sum(fold.dropped.too_few_candidates for fold in folds), sum(fold.dropped.not_finite for fold in folds)
        ),
        resampling=first.resampling,
        rules=_rules(first),
        prices=first.prices,
    )
    facts = {model: _mean_facts([fold.models[model] for fold in folds]) for model in first.models}
    evidence = tuple(one for fold in folds for one in fold.evidence)
    whole = assemble(header, first.n, evidence, facts)
    notes = {
        model: tuple(dict.fromkeys(note for fold in folds for note in fold.models[model].notes)) for model in facts
    }
    calibrations = {
        model: pool_calibrations([fold.models[model].calibration for fold in folds], header.level) for model in facts
    }
    whole = under_ceiling(whole.with_notes(notes).with_calibration(calibrations), header.signature.get("noise"))
    return replace(whole, folds=tuple(folds))


def _check_same(first: Diagnosis, other: Diagnosis, place: int) -> None:
    pairs = {
        "N": (first.n.tolist(), other.n.tolist()),
        "models": (sorted(first.models), sorted(other.models)),
        "scales": _scales(first, other),
        "averaging": (first.averaging, other.averaging),
        "level": (first.level, other.level),
        "interval": (first.resampling, other.resampling),
        "rules": (_rules(first), _rules(other)),
        "folds of folds": (len(first.evidence), len(other.evidence)),
    }
    for what, (expected, found) in pairs.items():
        if expected != found:
            raise InputError(f"fold {place}", f"{what} {found}", f"{expected}, as in fold 1")


def _rules(diagnosis: Diagnosis) -> tuple[str, ...]:
    return tuple(one.rule for one in next(iter(diagnosis.models.values())).rules)


def _scales(first: Diagnosis, other: Diagnosis) -> tuple[object, object]:
    shared = sorted(set(first.models) & set(other.models))
    return [first.models[name].scale for name in shared], [other.models[name].scale for name in shared]


def _settings(diagnosis: Diagnosis) -> dict[str, Any]:
    keep = ("version", "rule", "averaging", "level", "interval", "resamples", "bootstrap_seed", "rules", "noise")
    return {key: diagnosis.signature[key] for key in keep if key in diagnosis.signature}


def _agreed(folds: Sequence[Diagnosis]) -> dict[str, Any]:
    first = folds[0].signature
    agreed = {key: value for key, value in first.items() if all(fold.signature.get(key) == value for fold in folds)}
    return {**agreed, "folds": [fold.signature.get("data") for fold in folds]}


def _mean_facts(models: list[ModelDiagnosis]) -> ModelFacts:
    suspects = sorted(
        (suspect for model in models for suspect in model.suspects),
        key=lambda one: (math.isnan(one.posterior), -one.posterior, one.correlation),
    )
    return ModelFacts(
        scale=models[0].scale,
        law={law: np.mean([model.law[law] for model in models], axis=0) for law in LAWS},
        ledger=_mean_ledger([model.ledger for model in models]),
        corrected=_mean_corrected([model.quantities.corrected for model in models]),
        per_user=pool_users([model.per_user for model in models]),
        counts=np.sum([model.counts for model in models], axis=0),
        suspects=tuple(suspects[:MOST]),
        active_queries=sum(model.quantities.active_queries for model in models),
        unknown={
            what: model.quantities.reasons[what]
            for model in models
            for what in ("alpha", "alpha_other_scale")
            if model.quantities.reasons.get(what) == ALIKE
        },
    )


def _mean_ledger(ledgers: list[Ledger]) -> Ledger:
    terms = {term: float(np.mean([getattr(one, term) for one in ledgers])) for term in _TERMS}
    return Ledger(n=ledgers[0].n, **terms)


def _mean_corrected(folds: Sequence[Corrected | None]) -> Corrected | None:
    known = [fold for fold in folds if fold is not None]
    if len(known) < len(folds):
        return None
    return Corrected(
        beta=float(np.mean([one.beta for one in known])),
        beta_05=float(np.mean([one.beta_05 for one in known])),
        rho_plus=float(np.mean([one.rho_plus for one in known])),
        rho_minus=float(np.mean([one.rho_minus for one in known])),
        queries_used=sum(one.queries_used for one in known),
        beta_05_low=float(np.mean([one.beta_05_low for one in known])),
        beta_05_high=float(np.mean([one.beta_05_high for one in known])),
        visible=float(np.mean([one.visible for one in known])),
        heavy_tails=float(np.mean([one.heavy_tails for one in known])),
    )


def pool_users(tables: Sequence[PerUser]) -> PerUser:
    """Pool each user over all folds, every fold in which the user stands weighing the same.

    Returns:
        Queries summed, gain and headroom averaged, captured their ratio; collapsed in at least half of the folds.
    """
    names = sorted({user for table in tables for user in table.user})
    place = {user: code for code, user in enumerate(names)}
    queries = np.zeros(len(names), dtype=np.int64)
    sums = {key: np.zeros(len(names)) for key in ("folds", "gain", "headroom", "collapsed", "known", "kappa", "chosen")}
    for table in tables:
        at = np.array([place[user] for user in table.user], dtype=np.int64)
        queries[at] += table.queries
        sums["folds"][at] += 1
        sums["gain"][at] += table.gain
        sums["headroom"][at] += table.headroom
        sums["collapsed"][at] += table.collapsed
        sums["known"][at] += np.isfinite(table.kappa)
        known = np.isfinite(table.kappa)
        sums["kappa"][at[known]] += table.kappa[known]
        sums["chosen"][at] += np.isfinite(table.captured)
    return PerUser(
        user=tuple(names),
        queries=queries,
        gain=sums["gain"] / sums["folds"],
        headroom=sums["headroom"] / sums["folds"],
        captured=_ratio(sums["gain"], sums["headroom"], sums["chosen"]),
        kappa=_ratio(sums["kappa"], sums["known"], sums["known"]),
        collapsed=2 * sums["collapsed"] >= sums["folds"],
    )


def _ratio(above: FloatArray, below: FloatArray, known: FloatArray) -> FloatArray:
    result = np.full(len(above), np.nan)
    np.divide(above, below, out=result, where=(known > 0) & (below != 0))
    return result
