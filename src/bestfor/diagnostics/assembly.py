"""From evidence to a diagnosis: intervals, comparisons, the best N, findings; over one data set or several folds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from bestfor.diagnostics.beyond.gather import Beyond
from bestfor.diagnostics.beyond.outlook import Outlook, Precision
from bestfor.diagnostics.evidence import EDGES, ModelFacts
from bestfor.diagnostics.intervals.clustered import Form, Panel
from bestfor.diagnostics.precision import AIM, precision, share_needed
from bestfor.diagnostics.prospects import Known, outlook, pools_used
from bestfor.diagnostics.quantities.mixture import negative_by_chance
from bestfor.diagnostics.reasons import reasons_for
from bestfor.diagnostics.resampling import Resampling
from bestfor.diagnostics.result import (
    BestN,
    Comparison,
    Curve,
    Diagnosis,
    Evidence,
    ModelDiagnosis,
    Needed,
    OtherRule,
    Quantities,
)
from bestfor.diagnostics.table.pools import Dropped
from bestfor.diagnostics.words import findings, headline
from bestfor.types import Averaging, Estimate, FloatArray, IntArray

COSTS = (0.005, 0.01, 0.02, 0.05)
"""Costs of doubling N, in utility units, for which the best N is told."""

HALF_WIDTHS = (0.1, 0.05, 0.02)
"""Half-widths of captured's interval for which the number of users is told."""

ONE: Form = {("one", 0): 1.0}
MEAN: Form = {("mean", 0): 1.0}


@dataclass(frozen=True)
class Frame:
    """What a diagnosis says about its data, before any model."""

    name: str
    signature: Mapping[str, Any]
    averaging: Averaging
    level: float
    queries: int
    users: int
    candidates: int
    dropped: Dropped
    resampling: Resampling | None = None
    rules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measured:
    """What every model's part is made of."""

    frame: Frame
    n: IntArray
    curves: Panel
    quantities: Panel
    beyond: tuple[Beyond, ...]


def assemble(frame: Frame, n: IntArray, evidence: tuple[Evidence, ...], facts: Mapping[str, ModelFacts]) -> Diagnosis:
    """Put intervals, comparisons, findings and a headline on what was measured.

    Args:
        frame: what the data are.
        n: shape (K,).
        evidence: one a fold.
        facts: each model's facts, already averaged over the folds.

    Returns:
        The diagnosis, without its folds.
    """
    curves = Panel([one.curves for one in evidence], frame.level, frame.resampling)
    quantities = Panel([one.quantities for one in evidence], frame.level, frame.resampling)
    measured = Measured(frame, n, curves, quantities, tuple(one.beyond for one in evidence if one.beyond is not None))
    models = {name: _model(name, measured, one) for name, one in facts.items()}
    best = max(models, key=lambda name: _rank(models[name]))
    diagnosis = Diagnosis(
        name=frame.name,
        signature=frame.signature,
        averaging=frame.averaging,
        level=frame.level,
        queries=frame.queries,
        users=frame.users,
        candidates=frame.candidates,
        dropped=frame.dropped,
        pool_mean=curves.interval(MEAN, ONE),
        oracle=_curve(n, [curves.interval({("oracle", drawn): 1.0}, ONE) for drawn in n.tolist()]),
        models=models,
        comparisons=_comparisons(best, models, n, curves),
        headline="",
        evidence=evidence,
        pools_used=pools_used(measured.beyond) if measured.beyond else None,
        resampling=frame.resampling,
    )
    told = {name: replace(model, findings=findings(diagnosis, name)) for name, model in models.items()}
    diagnosis = replace(diagnosis, models=told)
    return replace(diagnosis, headline=headline(diagnosis, best))


def _model(name: str, measured: Measured, facts: ModelFacts) -> ModelDiagnosis:
    n, curves, column = measured.n, measured.curves, f"model:{name}"
    drawn = n.tolist()
    gains = [curves.interval({(column, one): 1.0, ("mean", 0): -1.0}, ONE) for one in drawn]
    captured = [_captured(curves, {(column, one): 1.0, ("mean", 0): -1.0}, one, facts) for one in drawn]
    gain = _curve(n, gains)
    utility = _curve(n, [curves.interval({(column, one): 1.0}, ONE) for one in drawn])
    quantities = _quantities(name, measured, facts)
    needed = _needed(curves, column, n, captured[-1])
    peak = drawn[int(gain.value.argmax())]
    return ModelDiagnosis(
        scale=facts.scale,
        utility=utility,
        gain=gain,
        captured=_curve(n, captured),
        peak=peak,
        drop=curves.interval({(column, drawn[-1]): 1.0, (column, peak): -1.0} if peak != drawn[-1] else {}, ONE),
        interval=curves.clusters,
        quantities=quantities,
        law=facts.law,
        law_error={law: _relative(values, gain.value) for law, values in facts.law.items()},
        ledger=facts.ledger,
        best_n=tuple(BestN(cost, best_n(curves, column, cost)) for cost in COSTS),
        users_needed=needed,
        findings=(),
        per_user=facts.per_user,
        edges=EDGES,
        counts=facts.counts,
        suspects=facts.suspects,
        rules=tuple(_other_rule(curves, name, rule, n) for rule in measured.frame.rules),
        outlook=_outlook(name, measured, utility, _precisions(name, measured, quantities, captured[-1], needed)),
    )


def _other_rule(curves: Panel, name: str, rule: str, n: IntArray) -> OtherRule:
    column, best, drawn = f"rule {rule}:{name}", f"model:{name}", n.tolist()
    utility = [curves.interval({(column, one): 1.0}, ONE) for one in drawn]
    difference = [curves.interval({(column, one): 1.0, (best, one): -1.0}, ONE) for one in drawn]
    return OtherRule(rule, _curve(n, utility), _curve(n, difference))


def _outlook(name: str, measured: Measured, utility: Curve, needed: tuple[Precision, ...]) -> Outlook | None:
    if not measured.beyond:
        return None
    frame = measured.frame
    known = Known(measured.n, utility.value, measured.curves.value(MEAN, ONE), frame.level, frame.resampling)
    return outlook(name, measured.beyond, known, needed)


def _precisions(
    name: str, measured: Measured, quantities: Quantities, captured: Estimate, needed: tuple[Needed, ...]
) -> tuple[Precision, ...]:
    panel, present = measured.quantities, (measured.frame.users, measured.frame.queries)
    alpha, beta = share_needed(panel, _alpha(name), AIM), share_needed(panel, _beta(name), AIM)
    users = next((one.users for one in needed if one.half_width == AIM), None)
    return (
        precision("captured", captured, users, present),
        precision("alpha", quantities.alpha, alpha, present),
        precision("beta", quantities.beta, beta, present),
    )


def _needed(curves: Panel, column: str, n: IntArray, captured: Estimate) -> tuple[Needed, ...]:
    if captured.low is None:
        return tuple(Needed(half, None) for half in HALF_WIDTHS)
    drawn = int(n[-1])
    gain: Form = {(column, drawn): 1.0, ("mean", 0): -1.0}
    return tuple(Needed(half, curves.users_needed(gain, _headroom(drawn), half)) for half in HALF_WIDTHS)


def _alpha(name: str) -> tuple[Form, Form]:
    return {(f"collapsed:{name}", 0): 1.0}, {(f"judged:{name}", 0): 1.0}


def _beta(name: str) -> tuple[Form, Form]:
    return {(f"negative:{name}", 0): 1.0}, {(f"active:{name}", 0): 1.0}


def _quantities(name: str, measured: Measured, facts: ModelFacts) -> Quantities:
    panel, frame = measured.quantities, measured.frame
    active, negative = (f"active:{name}", 0), (f"negative:{name}", 0)
    plus, minus = (f"plus:{name}", 0), (f"minus:{name}", 0)
    rho, alpha = panel.interval({plus: 1.0, minus: 1.0}, {active: 1.0}), panel.share(*_alpha(name))
    rho_plus = panel.pooled({plus: 1.0}, {active: 1.0, negative: -1.0})
    rho_minus = panel.pooled({minus: 1.0}, {negative: 1.0})
    missing = {"alpha": alpha.value, "rho": rho.value, "rho_plus": rho_plus, "rho_minus": rho_minus}
    return Quantities(
        alpha=alpha,
        alpha_other_scale=panel.value({(f"other:{name}", 0): 1.0}, _alpha(name)[1]),
        beta=panel.share(*_beta(name)),
        rho_plus=rho_plus,
        rho_minus=rho_minus,
        rho=rho,
        reasons=reasons_for({what for what, value in missing.items() if np.isnan(value)}, facts),
        leakage_gain=facts.ledger.leakage,
        active_queries=facts.active_queries,
        corrected=facts.corrected,
        beta_by_chance=negative_by_chance(rho.value, frame.candidates / frame.queries),
    )


def best_n(curves: Panel, column: str, cost: float) -> int:
    """The N beyond which doubling gains less than a cost, or its interval holds 0.

    Walks 1, 2, 4, ... (and from the last power of two to the largest N) and stops at the first step that does not pay.

    Args:
        curves: with the column at every power of two up to the largest N.
        column: ``"model:<name>"``.
        cost: of one doubling, in utility units.

    Returns:
        The last N that pays; 1 where nothing does.
    """
    grid = sorted(drawn for name, drawn in curves.folds[0].columns if name == column)
    steps = [drawn for drawn in grid if drawn & (drawn - 1) == 0 or drawn == grid[-1]]
    for before, after in pairwise(steps):
        step = curves.interval({(column, after): 1.0, (column, before): -1.0}, ONE)
        if step.value <= cost or (step.low is not None and step.low <= 0):
            return before
    return steps[-1]


def _comparisons(best: str, models: Mapping[str, ModelDiagnosis], n: IntArray, curves: Panel) -> tuple[Comparison, ...]:
    if not _headroom_known(next(iter(models.values()))):
        return ()
    ranked = [best, *sorted((name for name in models if name != best), key=lambda name: -_rank(models[name]))]
    return tuple(
        Comparison(better, other, drawn, _difference(curves, better, other, drawn))
        for better, other in combinations(ranked, 2)
        for drawn in n.tolist()
        if drawn > 1
    )


def _difference(curves: Panel, model: str, other: str, drawn: int) -> Estimate:
    return curves.interval({(f"model:{model}", drawn): 1.0, (f"model:{other}", drawn): -1.0}, _headroom(drawn))


def _headroom(drawn: int) -> Form:
    return {("oracle", drawn): 1.0, ("mean", 0): -1.0}


def _headroom_known(model: ModelDiagnosis) -> bool:
    return bool(np.isfinite(model.captured.value).any())


def _captured(curves: Panel, gain: Form, drawn: int, facts: ModelFacts) -> Estimate:
    if drawn == 1 or not (facts.per_user.headroom[np.isfinite(facts.per_user.captured)] > 0).any():
        return Estimate(float("nan"))
    return curves.interval(gain, _headroom(drawn))


def _rank(model: ModelDiagnosis) -> float:
    value = float(model.captured.value[-1])
    return value if np.isfinite(value) else float(model.gain.value[-1])


def _relative(law: FloatArray, observed: FloatArray) -> FloatArray:
    error = np.full(len(law), np.nan)
    np.divide(law - observed, observed, out=error, where=np.abs(observed) > 1e-12)
    return error


def _curve(n: IntArray, estimates: list[Estimate]) -> Curve:
    value, low, high = (
        np.array([np.nan if x is None else x for x in column], dtype=np.float64)
        for column in zip(*((one.value, one.low, one.high) for one in estimates), strict=True)
    )
    return Curve(n, value, low, high)
