"""Estimate what lies beyond the curve: soft picks, larger pools, one N at a cost, stopping early, more users.

Means of :mod:`bestfor.diagnostics.beyond.measure`, over one or several folds, become estimates with intervals and
verdicts in words; and the users needed to know a number to within a half-width follow from its present variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bestfor.diagnostics.beyond.extrapolate import (
    FARTHEST,
    SMALLEST_POOL,
    Kind,
    both_ends,
    compare_predictions,
    prediction,
)
from bestfor.diagnostics.beyond.measure import TEMPERATURES, ModelMeasurements, SampleMeasurements
from bestfor.diagnostics.intervals.clustered import Panel, Resampling, wilson
from bestfor.diagnostics.intervals.means import ALL_SAMPLED, ALL_SOFT, LinearForm, Mean, SampleMean, SoftMean
from bestfor.diagnostics.price import CANDIDATE_PRICES, Price
from bestfor.diagnostics.words_beyond import Exchange, goes_on, matters, pool_too_small, stopping
from bestfor.moved import renamed
from bestfor.types import Estimate, FloatArray, IntArray

__getattr__ = renamed(
    __name__,
    {
        "Known": "ExactCurve",
        "Precision": "PrecisionNeeded",
        "Reach": "ExtrapolatedCurve",
        "Soft": "SoftCurve",
        "Step": "ExtrapolationStep",
        "Stopped": "StoppingReplay",
    },
)


DRAWS = 3
"""Random subsets a query that the usual protocol averages over."""

REACHES = (1.0, 1.5, 2.0, 2.5, 3.0)
"""Values of N that are predicted, over the smallest pool."""

LEARNT = 1.2
"""Factor on intervals of cross-fitted advantages: users vary by less than the advantage does, whose choices are learnt
from the same users; measured, see docs/results/verdicts.md."""

ROUNDING = 1e-6
"""Standard deviations below this share of the largest are rounding."""

AIM = 0.05
"""Half-width of the interval that is aimed at."""

_MOST = 10_000_000
_MAIN: tuple[Kind, Kind] = ("order_2", "gao")
_OTHERS: tuple[Kind, Kind] = ("order_1", "order_3")
WHOLE: LinearForm[SampleMean] = {ALL_SAMPLED: 1.0}
WHOLE_SOFT: LinearForm[SoftMean] = {ALL_SOFT: 1.0}


@dataclass(frozen=True)
class PoolsUsed:
    """Number of queries that the estimates beyond the curves rest on: a sample by the hash of ids where less than all.

    Attributes:
        queries: sampled.
        of: all queries.
        users: with a sampled query.
    """

    queries: int
    of: int
    users: int


@dataclass(frozen=True)
class ThreeDraw:
    """Noise of the usual protocol (three random N-subsets a query, averaged) around the exact curve.

    Attributes:
        n: shape (K,).
        sd: shape (K,), standard deviation that the draws add to the curve's value, in utility units.
    """

    n: IntArray
    sd: FloatArray


@dataclass(frozen=True)
class SoftCurve:
    """Soft Best-of-N at one temperature.

    Attributes:
        temperature_in_sd: over the spread of rewards within a query.
        temperature: in the rewards' units.
        utility: shape (K,), expected; the exact curve plus the difference below.
        difference: shape (K,), against the highest reward, measured on some queries.
        low: shape (K,), of the difference.
        high: shape (K,).
        queries: that the difference rests on.
    """

    temperature_in_sd: float
    temperature: float
    utility: FloatArray
    difference: FloatArray
    low: FloatArray
    high: FloatArray
    queries: int


@dataclass(frozen=True)
class ExtrapolationStep:
    """Predicted gain at one N.

    Attributes:
        n: candidates drawn.
        order_1, order_2, order_3: by concomitants.
        gao: by d (a - b d).
        utility: pool mean plus order 2.
        trusted: whether order 2 and Gao agree and N is at most three times the smallest pool.
        verdict: the same in words.
    """

    n: int
    order_1: float
    order_2: Estimate
    order_3: float
    gao: Estimate
    utility: float
    trusted: bool
    verdict: str


@dataclass(frozen=True)
class ExtrapolatedCurve:
    """Gains beyond the pool, and how far they can be trusted.

    Attributes:
        smallest_pool: candidates of the smallest pool.
        farthest: three times as many.
        trusted_to: the largest N up to which the predictions agree; None where they never do.
        verdict: in words.
        steps: from the smallest pool to the farthest N.
    """

    smallest_pool: int
    farthest: int
    trusted_to: int | None
    verdict: str
    steps: tuple[ExtrapolationStep, ...]


@dataclass(frozen=True)
class BestFixed:
    """The fixed N that earns most when every candidate costs something.

    Attributes:
        cost_per_candidate: in utility units.
        n: candidates.
        net: utility minus N x cost.
        at_edge: whether the pools end here, so that more might pay still.
        price: the same as it was stated, in its unit.
        unit: of the price.
    """

    cost_per_candidate: float
    n: int
    net: Estimate
    at_edge: bool
    price: float = float("nan")
    unit: str = ""


@dataclass(frozen=True)
class PerUserN:
    """One N for each user instead of one for all, judged on queries that did not choose it.

    Attributes:
        cost_per_candidate: in utility units.
        users: with two queries or more, who were judged.
        trust: mean weight of a user's own slope against the mean slope, 0 to 1.
        n: shape (D,), values of N that users get.
        share: shape (D,), of the users.
        own_n: mean N with one N for each.
        common_n: mean N with one N for all.
        gain: net utility, one N for each minus one N for all.
        reason: why there is none of this; empty where there is.
    """

    cost_per_candidate: float
    users: int
    trust: float
    n: IntArray
    share: FloatArray
    own_n: float
    common_n: float
    gain: Estimate
    reason: str


@dataclass(frozen=True)
class StoppingReplay:
    """Expected improvement replayed on the pools, against the best fixed N at the same cost.

    Attributes:
        cost_per_candidate: in utility units.
        drawn: mean candidates.
        utility: of the picks.
        net: utility minus drawn x cost.
        fixed_n: the best fixed N.
        fixed_net: what it earns, its N chosen on the other half of the users.
        advantage: net minus fixed net, paired.
        pays: whether the advantage is above 0 by more than its interval, and at least 2 % of what can be won.
        verdict: in words.
        reason: why there is none of this; empty where there is.
    """

    cost_per_candidate: float
    drawn: float
    utility: float
    net: float
    fixed_n: int | None
    fixed_net: float
    advantage: Estimate
    pays: bool
    verdict: str
    reason: str


@dataclass(frozen=True)
class PrecisionNeeded:
    """Users and queries needed to know a quantity to within a half-width.

    Attributes:
        quantity: ``"captured"``, ``"alpha"`` or ``"beta"``.
        half_width: aimed at.
        now: half of the present interval, None where there is none.
        users: needed in all, each with as many queries; None where no number is enough or nothing is known.
        more_users: beyond the present ones.
        more_queries: that these users would bring.
    """

    quantity: str
    half_width: float
    now: float | None
    users: int | None
    more_users: int | None
    more_queries: int | None


@dataclass(frozen=True)
class Outlook:
    """Estimates for one model beyond its curve.

    Attributes:
        three_draw: the noise of the usual protocol.
        soft: soft Best-of-N at a few temperatures; empty where rewards do not vary.
        extrapolation: beyond the pool.
        best_fixed_n: at several costs of a candidate.
        per_user_n: one N for each user.
        stopping: the replay of a stopping rule.
        needed: how many more users or queries.
    """

    three_draw: ThreeDraw
    soft: tuple[SoftCurve, ...]
    extrapolation: ExtrapolatedCurve
    best_fixed_n: tuple[BestFixed, ...]
    per_user_n: PerUserN
    stopping: StoppingReplay
    needed: tuple[PrecisionNeeded, ...]


@dataclass(frozen=True)
class ExactCurve:
    """A model's exact curve, and how intervals are made.

    Attributes:
        n: shape (K,).
        utility: shape (K,), the exact curve.
        mean: pool mean, less the offset.
        level: nominal coverage.
        resampling: of bootstrap intervals; None for t intervals.
        offset: what was subtracted from the utilities that were measured.
    """

    n: IntArray
    utility: FloatArray
    mean: float
    level: float
    resampling: Resampling | None = None
    offset: float = 0.0


def outlook(
    name: str,
    beyond: Sequence[SampleMeasurements],
    curve: ExactCurve,
    needed: tuple[PrecisionNeeded, ...],
    prices: Sequence[Price] = (),
) -> Outlook:
    """Estimate what lies beyond one model's curve.

    Args:
        name: of the model.
        beyond: one a fold.
        curve: the model's exact one.
        needed: more data for the curves and quantities.
        prices: as stated; those of a candidate take the place of :data:`CANDIDATE_PRICES`.
    """
    models = [one.models[name] for one in beyond]
    panel = Panel([model.values for model in models], curve.level, curve.resampling)
    smallest = min(one.smallest for one in beyond)
    cost, headroom, sd = np.mean([(one.price, one.headroom, one.sd) for one in beyond], axis=0).tolist()
    each = tuple(price for price in prices if price.per == "candidate") or CANDIDATE_PRICES
    fixed = [_fixed(panel, one.in_utility(headroom, sd), curve.offset) for one in each]
    stated = zip(fixed, each, strict=True)
    return Outlook(
        three_draw=ThreeDraw(curve.n, _protocol_sd([one.noise[name] for one in beyond])),
        soft=_soft_estimates(models, curve, sum(one.soft_queries for one in beyond)),
        extrapolation=_reach(panel, curve, smallest),
        best_fixed_n=tuple(replace(found, price=one.amount, unit=one.unit) for found, one in stated),
        per_user_n=_per_user(panel, models, cost),
        stopping=_stopped(panel, models, curve.offset, cost, headroom),
        needed=needed,
    )


def pools_used(beyond: Sequence[SampleMeasurements]) -> PoolsUsed:
    """Add up how large the samples were, over all folds."""
    return PoolsUsed(
        sum(one.queries for one in beyond), sum(one.of for one in beyond), sum(one.users for one in beyond)
    )


def _protocol_sd(noise: list[FloatArray]) -> FloatArray:
    sd = np.sqrt(np.sum(noise, axis=0) / DRAWS) / len(noise)
    return np.where(sd <= ROUNDING * sd.max(), 0.0, sd)  # where N is the whole pool there is nothing to draw


def _soft_estimates(models: list[ModelMeasurements], curve: ExactCurve, queries: int) -> tuple[SoftCurve, ...]:
    if not all(model.spread > 0 for model in models):
        return ()
    panel = Panel([model.soft for model in models], curve.level, curve.resampling)
    shared = _shared(panel)
    curves: list[SoftCurve] = []
    for k, share in enumerate(TEMPERATURES):
        columns = [SoftMean(k, one) for one in curve.n.tolist()]
        each = [
            panel.interval({column: 1.0}, WHOLE_SOFT) if column in shared else Estimate(float("nan"))
            for column in columns
        ]
        difference = np.array([one.value for one in each])
        low, high = (np.array([np.nan if end is None else end for end in ends]) for ends in _ends(each))
        temperature = share * float(np.mean([model.spread for model in models]))
        curves.append(SoftCurve(share, temperature, curve.utility + difference, difference, low, high, queries))
    return tuple(curves)


def _shared(panel: Panel[Mean]) -> set[Mean]:
    """Names of the means that every fold has."""
    shared = set(panel.folds[0].columns)
    for fold in panel.folds[1:]:
        shared &= set(fold.columns)
    return shared


def _ends(estimates: list[Estimate]) -> tuple[list[float | None], list[float | None]]:
    return [one.low for one in estimates], [one.high for one in estimates]


def _reach(panel: Panel[SampleMean], curve: ExactCurve, smallest: int) -> ExtrapolatedCurve:
    farthest = FARTHEST * smallest
    if smallest < SMALLEST_POOL:
        verdict = pool_too_small(smallest, SMALLEST_POOL)
        return ExtrapolatedCurve(smallest, farthest, None, verdict, ())
    steps = tuple(_step(panel, curve, round(share * smallest), smallest) for share in REACHES)
    trusted = None
    for step in steps:
        if not step.trusted:
            break
        trusted = step.n
    if trusted is None or trusted == smallest:
        verdict = next(step.verdict for step in steps if not step.trusted)
        return ExtrapolatedCurve(smallest, farthest, None, verdict, steps)
    last = next(step for step in steps if step.n == trusted)
    verdict = goes_on(trusted, both_ends(last.order_2, last.gao), curve.level, steps[-1].n)
    return ExtrapolatedCurve(smallest, farthest, trusted, verdict, steps)


def _step(panel: Panel[SampleMean], curve: ExactCurve, n: int, smallest: int) -> ExtrapolationStep:
    second, gao = (panel.interval(prediction(kind, n), WHOLE) for kind in _MAIN)
    first, third = (panel.value(prediction(kind, n), WHOLE) for kind in _OTHERS)
    judged = compare_predictions(second, gao, n, smallest)
    return ExtrapolationStep(
        n, first, second, third, gao, curve.offset + curve.mean + second.value, judged.trusted, judged.verdict
    )


def _fixed(panel: Panel[SampleMean], cost: float, offset: float) -> BestFixed:
    tried = sorted(one.place for one in _shared(panel) if one.of == "fixed")
    net = [panel.value({SampleMean("fixed", n): 1.0}, WHOLE) - cost * n for n in tried]
    best = tried[int(np.argmax(net))]
    estimate = panel.interval({SampleMean("fixed", best): 1.0, ALL_SAMPLED: -cost * best}, WHOLE)
    return BestFixed(cost, best, estimate.moved(offset), best == tried[-1])


def _per_user(panel: Panel[SampleMean], models: list[ModelMeasurements], cost: float) -> PerUserN:
    reason = next((model.personal.reason for model in models if model.personal.reason), "")
    nothing = float("nan")
    if reason:
        none = np.zeros(0, dtype=np.int64)
        return PerUserN(cost, 0, nothing, none, np.zeros(0), nothing, nothing, Estimate(nothing), reason)
    given = np.unique(np.concatenate([model.personal.n for model in models]))
    share = np.zeros(len(given))
    for model in models:
        share[np.searchsorted(given, model.personal.n)] += model.personal.share / len(models)
    judged: LinearForm[SampleMean] = {SampleMean("judged"): 1.0}
    return PerUserN(
        cost_per_candidate=cost,
        users=max(model.personal.users for model in models),
        trust=float(np.mean([model.personal.trust for model in models])),
        n=given,
        share=share,
        own_n=panel.value({SampleMean("own_n"): 1.0}, judged),
        common_n=panel.value({SampleMean("common_n"): 1.0}, judged),
        gain=panel.interval({SampleMean("own"): 1.0, SampleMean("common"): -1.0}, judged),
        reason="",
    )


def _stopped(
    panel: Panel[SampleMean], models: list[ModelMeasurements], offset: float, cost: float, headroom: float
) -> StoppingReplay:
    reason = next((model.unstopped for model in models if model.unstopped), "")
    nothing = float("nan")
    if reason:
        return StoppingReplay(cost, nothing, nothing, nothing, None, nothing, Estimate(nothing), False, "", reason)
    fixed = _fixed(panel, cost, offset)
    net: LinearForm[SampleMean] = {SampleMean("stopped"): 1.0, SampleMean("drawn"): -cost}
    drawn = panel.value({SampleMean("drawn"): 1.0}, WHOLE)
    utility = panel.value({SampleMean("stopped"): 1.0}, WHOLE) + offset
    advantage = _learnt(panel.interval({**net, SampleMean("still"): -1.0}, WHOLE))
    return StoppingReplay(
        cost_per_candidate=cost,
        drawn=drawn,
        utility=utility,
        net=panel.value(net, WHOLE) + offset,
        fixed_n=fixed.n,
        fixed_net=panel.value({SampleMean("still"): 1.0}, WHOLE) + offset,
        advantage=advantage,
        pays=matters(advantage, headroom),
        verdict=stopping(
            advantage, headroom, Exchange(drawn, fixed.n, utility - fixed.net.value - fixed.n * cost, cost)
        ),
        reason="",
    )


def _learnt(estimate: Estimate) -> Estimate:
    """Widen the interval of what was earned by choices that other parts of the same users taught."""
    if estimate.low is None or estimate.high is None:
        return estimate
    low, high = (estimate.value + LEARNT * (end - estimate.value) for end in (estimate.low, estimate.high))
    return Estimate(estimate.value, low, high, estimate.level)


def share_needed(panel: Panel[Mean], forms: tuple[LinearForm[Mean], LinearForm[Mean]], half_width: float) -> int | None:
    """Count the users needed to bring the interval of a share to a half-width, if more are like these.

    Wilson's interval on the effective number of users, which grows in proportion to the users.

    Args:
        panel: that the share comes from.
        forms: its numerator and denominator.
        half_width: aimed at.

    Returns:
        The number, at least 2; None where fewer than two users are there to tell, or no number would do.
    """
    spread = panel.spread(*forms)
    if not np.isfinite(spread.variance):
        return None
    p = min(max(spread.value, 0.0), 1.0)
    each = p * (1 - p) / (spread.users - 1) / spread.variance if spread.variance > 0 and 0 < p < 1 else 1.0
    low, high = 2, _MOST
    while low < high:
        middle = (low + high) // 2
        ends = wilson(p, each * middle, panel.level)
        low, high = (low, middle) if ends[1] - ends[0] <= 2 * half_width else (middle + 1, high)
    return low if low < _MOST else None


def precision(quantity: str, estimate: Estimate, users: int | None, present: tuple[int, int]) -> PrecisionNeeded:
    """State what is needed in all as what is needed in addition.

    Args:
        quantity: its name.
        estimate: as it is known now.
        users: needed in all for the half-width :data:`AIM`.
        present: users and queries that there are.
    """
    now = None if estimate.low is None or estimate.high is None else (estimate.high - estimate.low) / 2
    if users is None:
        return PrecisionNeeded(quantity, AIM, now, None, None, None)
    more = max(users - present[0], 0)
    return PrecisionNeeded(quantity, AIM, now, users, more, round(more * present[1] / present[0]))
