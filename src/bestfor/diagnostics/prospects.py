"""From samples to an outlook: intervals and words for what lies beyond the curve, over one or several folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bestfor.diagnostics.beyond.extrapolate import FARTHEST, SMALLEST_POOL, judge, prediction
from bestfor.diagnostics.beyond.gather import COST, TEMPERATURES, Beyond, ModelBeyond
from bestfor.diagnostics.beyond.outlook import (
    BestFixed,
    Outlook,
    PerUserN,
    PoolsUsed,
    Precision,
    Reach,
    Soft,
    Step,
    Stopped,
    ThreeDraw,
)
from bestfor.diagnostics.intervals.clustered import Form, Panel
from bestfor.diagnostics.intervals.influence import Column
from bestfor.diagnostics.resampling import Resampling
from bestfor.types import Estimate, FloatArray, IntArray

DRAWS = 3
"""Random subsets a query that the usual protocol averages over."""

CANDIDATE_COSTS = (0.005, 0.01, 0.02, 0.05)
"""Costs of one candidate, in utility units, for which the best fixed N is told."""

REACHES = (1.0, 1.5, 2.0, 2.5, 3.0)
"""Values of N that are predicted, over the smallest pool."""

ROUNDING = 1e-6
"""Standard deviations below this share of the largest are rounding."""

ONE: Form = {("one", 0): 1.0}


@dataclass(frozen=True)
class Known:
    """What the curves have said already.

    Attributes:
        n: shape (K,).
        utility: shape (K,), the exact curve.
        mean: pool mean.
        level: nominal coverage.
        resampling: of bootstrap intervals; None for t intervals.
    """

    n: IntArray
    utility: FloatArray
    mean: float
    level: float
    resampling: Resampling | None = None


def outlook(name: str, beyond: Sequence[Beyond], known: Known, needed: tuple[Precision, ...]) -> Outlook:
    """Put together what one model's samples say.

    Args:
        name: of the model.
        beyond: one a fold.
        known: from the curves.
        needed: more data for the curves and quantities.
    """
    models = [one.models[name] for one in beyond]
    panel = Panel([model.values for model in models], known.level, known.resampling)
    smallest = min(one.smallest for one in beyond)
    return Outlook(
        three_draw=ThreeDraw(known.n, _protocol_sd([one.noise[name] for one in beyond])),
        soft=_soft(models, known, sum(one.soft_queries for one in beyond)),
        extrapolation=_reach(panel, known, smallest),
        best_fixed_n=tuple(_fixed(panel, cost) for cost in CANDIDATE_COSTS),
        per_user_n=_per_user(panel, models),
        stopping=_stopped(panel, models),
        needed=needed,
    )


def pools_used(beyond: Sequence[Beyond]) -> PoolsUsed:
    """How large the samples were, over all folds."""
    return PoolsUsed(
        sum(one.queries for one in beyond), sum(one.of for one in beyond), sum(one.users for one in beyond)
    )


def _protocol_sd(noise: list[FloatArray]) -> FloatArray:
    sd = np.sqrt(np.sum(noise, axis=0) / DRAWS) / len(noise)
    return np.where(sd > ROUNDING * sd.max(), sd, 0.0)  # where N is the whole pool there is nothing to draw


def _soft(models: list[ModelBeyond], known: Known, queries: int) -> tuple[Soft, ...]:
    if not all(model.spread > 0 for model in models):
        return ()
    panel = Panel([model.soft for model in models], known.level, known.resampling)
    measured = _shared(panel)
    told: list[Soft] = []
    for k, share in enumerate(TEMPERATURES):
        columns = [(f"soft_{k}", one) for one in known.n.tolist()]
        each = [
            panel.interval({column: 1.0}, ONE) if column in measured else Estimate(float("nan")) for column in columns
        ]
        difference = np.array([one.value for one in each])
        low, high = (np.array([np.nan if end is None else end for end in ends]) for ends in _ends(each))
        temperature = share * float(np.mean([model.spread for model in models]))
        told.append(Soft(share, temperature, known.utility + difference, difference, low, high, queries))
    return tuple(told)


def _shared(panel: Panel) -> set[Column]:
    """The means that every fold has."""
    shared = set(panel.folds[0].columns)
    for fold in panel.folds[1:]:
        shared &= set(fold.columns)
    return shared


def _ends(estimates: list[Estimate]) -> tuple[list[float | None], list[float | None]]:
    return [one.low for one in estimates], [one.high for one in estimates]


def _reach(panel: Panel, known: Known, smallest: int) -> Reach:
    farthest = FARTHEST * smallest
    if smallest < SMALLEST_POOL:
        verdict = f"not extrapolable: the smallest pool has {smallest} candidates; {SMALLEST_POOL} are needed"
        return Reach(smallest, farthest, None, verdict, ())
    steps = tuple(_step(panel, known, round(share * smallest), smallest) for share in REACHES)
    trusted = None
    for step in steps:
        if not step.trusted:
            break
        trusted = step.n
    if trusted is None or trusted == smallest:
        verdict = next(step.verdict for step in steps if not step.trusted)
        return Reach(smallest, farthest, None, verdict, steps)
    last = next(step for step in steps if step.n == trusted)
    verdict = (
        f"extrapolable to N = {trusted}: the two predictions of the gain, {last.order_2.value:.3f} and "
        f"{last.gao.value:.3f}, agree"
    )
    if trusted < steps[-1].n:
        verdict += f"; at N = {steps[-1].n} they do not"
    return Reach(smallest, farthest, trusted, verdict, steps)


def _step(panel: Panel, known: Known, n: int, smallest: int) -> Step:
    second, gao = (panel.interval(prediction(kind, n), ONE) for kind in ("order_2", "gao"))
    first, third = (panel.value(prediction(kind, n), ONE) for kind in ("order_1", "order_3"))
    judged = judge(second, gao, n, smallest)
    return Step(n, first, second, third, gao, known.mean + second.value, judged.trusted, judged.verdict)


def _fixed(panel: Panel, cost: float) -> BestFixed:
    tried = sorted(n for kind, n in _shared(panel) if kind == "fixed")
    net = [panel.value({("fixed", n): 1.0}, ONE) - cost * n for n in tried]
    best = tried[int(np.argmax(net))]
    estimate = panel.interval({("fixed", best): 1.0, ("one", 0): -cost * best}, ONE)
    return BestFixed(cost, best, estimate, best == tried[-1])


def _per_user(panel: Panel, models: list[ModelBeyond]) -> PerUserN:
    reason = next((model.personal.reason for model in models if model.personal.reason), "")
    nothing = float("nan")
    if reason:
        none = np.zeros(0, dtype=np.int64)
        return PerUserN(COST, 0, nothing, none, np.zeros(0), nothing, nothing, Estimate(nothing), reason)
    given = np.unique(np.concatenate([model.personal.n for model in models]))
    share = np.zeros(len(given))
    for model in models:
        share[np.searchsorted(given, model.personal.n)] += model.personal.share / len(models)
    judged: Form = {("judged", 0): 1.0}
    return PerUserN(
        cost_per_candidate=COST,
        users=max(model.personal.users for model in models),
        trust=float(np.mean([model.personal.trust for model in models])),
        n=given,
        share=share,
        own_n=panel.value({("own_n", 0): 1.0}, judged),
        common_n=panel.value({("common_n", 0): 1.0}, judged),
        gain=panel.interval({("own", 0): 1.0, ("common", 0): -1.0}, judged),
        reason="",
    )


def _stopped(panel: Panel, models: list[ModelBeyond]) -> Stopped:
    reason = next((model.unstopped for model in models if model.unstopped), "")
    nothing = float("nan")
    if reason:
        return Stopped(COST, nothing, nothing, nothing, None, nothing, Estimate(nothing), False, "", reason)
    fixed = _fixed(panel, COST)
    net: Form = {("stopped", 0): 1.0, ("drawn", 0): -COST}
    drawn = panel.value({("drawn", 0): 1.0}, ONE)
    advantage = panel.interval({**net, ("still", 0): -1.0}, ONE)
    pays = advantage.low is not None and advantage.low > 0
    return Stopped(
        cost_per_candidate=COST,
        drawn=drawn,
        utility=panel.value({("stopped", 0): 1.0}, ONE),
        net=panel.value(net, ONE),
        fixed_n=fixed.n,
        fixed_net=panel.value({("still", 0): 1.0}, ONE),
        advantage=advantage,
        pays=pays,
        verdict=_verdict(advantage, drawn, fixed.n),
        reason="",
    )


def _verdict(advantage: Estimate, drawn: float, fixed: int) -> str:
    seen = f"it draws {drawn:.1f} candidates on average where the best fixed N is {fixed}"
    if advantage.low is None or advantage.high is None:
        return f"Stopping early: {seen}; too few users to tell whether it earns more. Keep N fixed."
    if advantage.low > 0:
        return f"Stopping early pays: {seen}, and earns {advantage.value:.3f} more, the cost of candidates paid."
    if advantage.high < 0:
        return f"Stopping early loses {-advantage.value:.3f}, the cost of candidates paid: {seen}. Keep N fixed."
    return f"Stopping early earns nothing that can be told from zero: {seen}. Keep N fixed."
