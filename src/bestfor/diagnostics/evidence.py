"""Turn measured queries into evidence: means with users' and texts' influence on them, and each model's other facts.

Intervals are made of :class:`~bestfor.diagnostics.result.FoldInfluences`: for every mean over queries, each user's
share of it and the change when a text leaves. Laws, the ledger, corrected quantities and users' tables follow from sums
by user.

Queries where the reward model may be hacked are listed by the posterior probability of a negative correlation, since
the sample correlation of one query alone proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bestfor.diagnostics.ceiling import UtilitySpread
from bestfor.diagnostics.intervals.influence import (
    Influences,
    Texts,
    UserSpread,
    quantity_effects,
    shares_texts,
    text_effects,
)
from bestfor.diagnostics.intervals.laws import LawParts, law_parts
from bestfor.diagnostics.intervals.means import ONE, POOL, CurveMean, QuantityMean
from bestfor.diagnostics.quantities.collapse import Collapse, judge_spreads
from bestfor.diagnostics.quantities.laws import LawSums, Ledger, laws, ledger
from bestfor.diagnostics.quantities.mixture import SMALLEST_POOL as SMALLEST_CORRECTED
from bestfor.diagnostics.quantities.mixture import (
    Corrected,
    Mixture,
    correct,
    fisher,
    posterior_below_zero,
    prior_by_moments,
)
from bestfor.diagnostics.quantities.negative import NegativeShare, negative_share
from bestfor.diagnostics.quantities.pairs import PairCurve, pair_curve
from bestfor.diagnostics.quantities.queries import (
    Queries,
    SumsByUser,
    best_place,
    doubling_grid,
    measure_queries,
    user_weights,
)
from bestfor.diagnostics.result import FoldInfluences, PerUser, Suspect
from bestfor.diagnostics.table.pools import Pools
from bestfor.moved import renamed
from bestfor.selection import Rule
from bestfor.types import Averaging, FloatArray, IntArray, Scale

__getattr__ = renamed(__name__, {"Base": "SharedInputs", "Found": "DataSetFacts", "Ranked": "RankedSuspects"})


EDGES = np.linspace(-1.0, 1.0, 21)
MOST = 12
SMALLEST_POOL = 4
RESAMPLES = 100
"""How often users are drawn again to see how two models' shares of negative correlations go together."""

CHUNK = 1 << 16
"""Queries whose posteriors are found at a time."""

BlockEffects = Callable[[Pools, npt.NDArray[np.integer[Any]]], tuple[Texts, ...]]
"""Pools, and their users' codes among all users -> what their texts do to the means."""

TextEffects = Callable[[BlockEffects], tuple[Texts, ...] | None]
"""Finds the effects of all texts block by block, None where no two users share one."""

Collapses = dict[str, tuple[Collapse, Collapse]]


@dataclass(frozen=True)
class ModelFacts:
    """Facts of one model on one data set, besides its curve and intervals.

    Attributes:
        scale: of the rewards.
        law: a law's name -> gains, shape (K,).
        ledger: at the largest N.
        corrected: quantities freed from noise, or None.
        per_user: each user at the largest N.
        counts: shape (20,), active queries by correlation.
        suspects: queries whose pick is worse than a random one.
        active_queries: how many.
        unknown: name of a share of collapsed users -> why it cannot be judged.
        parts: sums by user that laws follow from; None of a mean over folds.
        resampled: shares of clearly negative correlations when users are drawn again, to compare models; else empty.
    """

    scale: Scale
    law: dict[str, FloatArray]
    ledger: Ledger
    corrected: Corrected | None
    per_user: PerUser
    counts: IntArray
    suspects: tuple[Suspect, ...]
    active_queries: int
    unknown: Mapping[str, str] = field(default_factory=dict[str, str])
    parts: LawParts | None = None
    resampled: FloatArray = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class RankedSuspects:
    """Suspects, the likeliest first; at most 12.

    Attributes:
        rows: shape (S,), their places among all queries.
        correlation: shape (S,).
        posterior: shape (S,), NaN where the pool holds fewer than 4 candidates.
    """

    rows: IntArray
    correlation: FloatArray
    posterior: FloatArray


@dataclass(frozen=True)
class DataSetFacts:
    """Influences and facts of one data set.

    Attributes:
        evidence: what intervals are made of.
        models: each model's other facts, suspects left out.
        suspects: name of a model -> the queries to show, once their pools are fetched.
    """

    evidence: FoldInfluences
    models: dict[str, ModelFacts]
    suspects: dict[str, RankedSuspects]

    def suspected(self) -> IntArray:
        """List the places of all suspects, each once, increasing."""
        return np.unique(np.concatenate([one.rows for one in self.suspects.values()]))

    def with_suspects(self, pools: Pools) -> DataSetFacts:
        """Complete the facts with described suspects; pools: those of :meth:`suspected`, in that order."""
        rows = self.suspected()
        described = {
            name: describe_suspects(pools, np.searchsorted(rows, one.rows), name, one)
            for name, one in self.suspects.items()
        }
        models = {name: replace(facts, suspects=described[name]) for name, facts in self.models.items()}
        return replace(self, models=models)


@dataclass(frozen=True)
class SharedInputs:
    """Inputs that all models of a data set share.

    Attributes:
        n: shape (K,), the values of N that are reported.
        grid: shape (G,), 1 and these and every power of two up to the largest.
        weight: shape (U,), the weight of each query of a user.
        rules: other rules than the highest reward.
        curve: the law of pairs.
    """

    n: IntArray
    grid: IntArray
    weight: FloatArray
    rules: tuple[Rule, ...]
    curve: PairCurve


def facts_of_queries(
    queries: Queries, n: IntArray, averaging: Averaging, texts: TextEffects, rules: Sequence[Rule] = ()
) -> DataSetFacts:
    """Compute evidence and facts from measured queries.

    Args:
        queries: measured at the same n.
        n: shape (K,), increasing.
        averaging: whether users or queries weigh the same.
        texts: finds the effects of texts, which need the candidates.
        rules: other rules, that the queries were measured with.
    """
    shared, collapses = _shared_inputs(queries, n, averaging, rules), _collapses(queries)
    facts: dict[str, ModelFacts] = {}
    suspects: dict[str, RankedSuspects] = {}
    for name, (own, other) in collapses.items():
        one, suspects[name] = _facts(queries, name, shared, own)
        shares = {"alpha": own.unknown, "alpha_other_scale": other.unknown}
        facts[name] = replace(one, unknown={what: why for what, why in shares.items() if why})
    laws_of = {name: one.parts for name, one in facts.items() if one.parts is not None}
    found = _evidence(queries, shared, collapses, texts)
    drawn = {name: one.resampled for name, one in facts.items()}
    evidence = replace(found, laws=laws_of, spread=_spread(queries, shared), resampled=drawn)
    return DataSetFacts(evidence, facts, suspects)


def _spread(queries: Queries, shared: SharedInputs) -> UtilitySpread:
    """Describe the utilities; of queries with two candidates or more the variance, weighted as the curves."""
    utility = queries.sums.utility
    judged = float(shared.weight @ utility.judged)
    variance = float(shared.weight @ utility.variance) / judged if judged > 0 else 0.0
    return UtilitySpread(float(shared.weight @ utility.mean), variance, queries.values)


def facts_of_pools(pools: Pools, n: IntArray, averaging: Averaging) -> tuple[FoldInfluences, dict[str, ModelFacts]]:
    """Measure every model on the same pools.

    Args:
        pools: all with at least the largest N candidates.
        n: shape (K,), increasing.
        averaging: whether users or queries weigh the same.

    Returns:
        What intervals are made of, and each model's other facts.
    """
    found = facts_of_queries(measure_queries(pools, n), n, averaging, _texts_of(pools))
    rows = found.suspected()
    if len(rows):
        found = found.with_suspects(pools.take(rows))
    return found.evidence, found.models


def evidence_of_pools(pools: Pools, n: IntArray, averaging: Averaging) -> FoldInfluences:
    """Measure only what intervals are made of; arguments as for :func:`facts_of_pools`."""
    queries = measure_queries(pools, n)
    return _evidence(queries, _shared_inputs(queries, n, averaging), _collapses(queries), _texts_of(pools))


def _texts_of(pools: Pools) -> TextEffects:
    return lambda effects: effects(pools, pools.user) if shares_texts(pools) else None


def _shared_inputs(queries: Queries, n: IntArray, averaging: Averaging, rules: Sequence[Rule] = ()) -> SharedInputs:
    weight = user_weights(queries.sums.utility.queries, averaging)
    profiles = {size: profile / len(queries) for size, profile in queries.profiles.items()}
    return SharedInputs(n, doubling_grid(n), weight, tuple(rules), pair_curve(profiles, n))


def _evidence(queries: Queries, shared: SharedInputs, collapses: Collapses, texts: TextEffects) -> FoldInfluences:
    curves, quantities = _curve_influences(queries, shared), _quantity_influences(queries, shared, collapses)
    utility = queries.sums.utility
    spread = UserSpread(
        weight=shared.weight,
        judged=utility.judged,
        variance=utility.variance,
        rewards={name: queries.sums.models[name].variance for name in collapses},
        collapses=collapses,
        on_utility={name: scale == "utility" for name, scale in queries.scales.items()},
    )
    found = texts(
        lambda pools, user: (
            text_effects(pools, shared.weight[user], curves.columns, shared.grid, shared.rules),
            quantity_effects(pools, user, quantities.columns, spread),
        )
    )
    if found is None:
        return FoldInfluences(curves, quantities)
    return FoldInfluences(replace(curves, texts=found[0]), replace(quantities, texts=found[1]))


def _collapses(queries: Queries) -> Collapses:
    """Judge every model's collapse by the rule of its own scale, and by the other one."""
    utility, judged = queries.sums.utility.variance, queries.sums.utility.judged
    result: Collapses = {}
    for name, scale in queries.scales.items():
        reward = queries.sums.models[name].variance
        other: Scale = "arbitrary" if scale == "utility" else "utility"
        result[name] = judge_spreads(reward, utility, judged, scale), judge_spreads(reward, utility, judged, other)
    return result


def _curve_influences(queries: Queries, shared: SharedInputs) -> Influences[CurveMean]:
    utility, grid = queries.sums.utility, shared.grid.tolist()
    columns = [ONE, POOL, *(CurveMean("oracle", one) for one in grid)]
    parts = [utility.queries[:, None], utility.mean[:, None], utility.oracle]
    for name, model in queries.sums.models.items():
        columns += [CurveMean("pick", one, name) for one in grid]
        parts.append(model.curve)
    for name, model in queries.sums.models.items():
        columns += [CurveMean("pick", one, name, rule) for rule in model.rules for one in grid]
        parts += model.rules.values()
    users = shared.weight[:, None] * np.concatenate(parts, axis=1)
    return Influences(tuple(columns), users.sum(axis=0), queries.user_ids, users, None)


def _quantity_influences(queries: Queries, shared: SharedInputs, collapses: Collapses) -> Influences[QuantityMean]:
    parts: dict[QuantityMean, FloatArray] = {}
    for name, (own, other) in collapses.items():
        model = queries.sums.models[name]
        each = own.judged / max(int(own.judged.sum()), 1)
        told, told_by_other = (0.0 if one.unknown else 1.0 for one in (own, other))
        active = shared.weight * ~own.collapsed
        parts |= {
            QuantityMean("judged", name): told * each,
            QuantityMean("collapsed", name): told * each * own.collapsed,
            QuantityMean("other", name): told_by_other * each * other.collapsed,
            QuantityMean("other_judged", name): told_by_other * each,
            QuantityMean("active", name): active * model.varying,
            QuantityMean("negative", name): active * model.negative,
            QuantityMean("plus", name): active * model.plus,
            QuantityMean("minus", name): active * model.minus,
        }
    users = np.stack(list(parts.values()), axis=1)
    return Influences(tuple(parts), users.sum(axis=0), queries.user_ids, users, None)


def _facts(queries: Queries, name: str, shared: SharedInputs, own: Collapse) -> tuple[ModelFacts, RankedSuspects]:
    sums = _law_sums(queries.sums, name, shared, own)
    active = np.flatnonzero(np.isfinite(queries.models[name].correlation) & ~own.collapsed[queries.user])
    r = queries.models[name].correlation[active]
    fitted = correct(r, queries.distinct[active].astype(np.int64), shared.weight[queries.user[active]])
    negative = None if fitted is None else _negative_share(queries, name, active, shared)
    parts = law_parts(queries.sums, name, shared.n, shared.weight, (own, shared.curve))
    facts = ModelFacts(
        scale=queries.scales[name],
        law={**laws(sums), "pairs": parts.pairs()},
        ledger=ledger(sums),
        corrected=None if fitted is None or negative is None else with_interval(fitted[0], negative),
        per_user=_per_user(queries, name, shared, own),
        counts=np.histogram(r, EDGES)[0].astype(np.int64),
        suspects=(),
        active_queries=len(active),
        parts=parts,
        resampled=np.zeros(0) if negative is None else negative.resampled,
    )
    return facts, find_suspects(queries, name, active, None if fitted is None else fitted[1])


def _negative_share(queries: Queries, name: str, active: IntArray, shared: SharedInputs) -> NegativeShare:
    """Estimate the share of clearly negative correlations; users are drawn again where there are models to compare."""
    one = queries.models[name]
    used = active[queries.distinct[active] >= SMALLEST_CORRECTED]
    size, user = queries.distinct[used].astype(np.int64), queries.user[used].astype(np.int64)
    z, _ = fisher(one.correlation[used], size)
    again = RESAMPLES if len(queries.models) > 1 else 0
    return negative_share(z, size, one.tails[used].astype(np.float64), shared.weight[user], user, resamples=again)


def with_interval(corrected: Corrected, found: NegativeShare) -> Corrected:
    """Give the share of clearly negative correlations its interval."""
    return replace(
        corrected,
        beta_05_low=found.low,
        beta_05_high=found.high,
        visible=found.visible,
        heavy_tails=found.heavy_tails,
    )


def _law_sums(sums: SumsByUser, name: str, shared: SharedInputs, own: Collapse) -> LawSums:
    w, judged, model = shared.weight, int(own.judged.sum()), sums.models[name]
    active, collapsed = w * ~own.collapsed, w * own.collapsed
    return LawSums(
        n=shared.n,
        alpha=float(own.collapsed.sum()) / judged if judged else 0.0,
        sigma=float(w @ sums.utility.sigma),
        active=float(active @ model.varying),
        r=float(active @ model.plus + active @ model.minus),
        sigma_active=float(active @ model.sigma),
        growth=active @ model.growth,
        reward=active @ model.reward,
        pool=active @ model.pool,
        gain=active @ model.gain,
        leakage=collapsed @ model.gain + w @ model.rest,
    )


def _per_user(queries: Queries, name: str, shared: SharedInputs, own: Collapse) -> PerUser:
    utility, model = queries.sums.utility, queries.sums.models[name]
    count = utility.queries
    gain = (model.gain + model.rest)[:, -1] / count
    headroom = utility.headroom[:, -1] / count
    captured = np.full(len(count), np.nan)
    np.divide(gain, headroom, out=captured, where=(utility.sigma > 0) & (shared.n[-1] > 1))
    return PerUser(queries.user_ids, count.astype(np.int64), gain, headroom, captured, own.ratio, own.collapsed)


def find_suspects(queries: Queries, model: str, active: IntArray, mixture: Mixture | None) -> RankedSuspects:
    """List active queries whose pick is worse than a random candidate, the likeliest hacked first, at most 12.

    Args:
        queries: what is known of them.
        model: whose picks.
        active: shape (A,), places of the active queries.
        mixture: the fitted distribution of zeta; one normal by moments takes its place where there is none.
    """
    one = queries.models[model]
    large = active[queries.distinct[active] >= SMALLEST_POOL]
    if mixture is None and len(large):
        mixture = prior_by_moments(*fisher(one.correlation[large], queries.distinct[large].astype(np.int64)))
    rows = active[one.worse[active]]
    chance = np.full(len(rows), np.nan)
    for low in range(0, len(rows), CHUNK):
        here = rows[low : low + CHUNK]
        use = queries.distinct[here] >= SMALLEST_POOL
        if mixture is not None and use.any():
            z, v = fisher(one.correlation[here[use]], queries.distinct[here[use]].astype(np.int64))
            chance[low : low + CHUNK][use] = posterior_below_zero(mixture, z, v)
    order = np.lexsort((queries.key[rows], one.correlation[rows], -chance))[:MOST]  # NaN comes last
    return RankedSuspects(rows[order], one.correlation[rows[order]], chance[order])


def describe_suspects(pools: Pools, place: IntArray, model: str, ranked: RankedSuspects) -> tuple[Suspect, ...]:
    """Describe suspects in full.

    Args:
        pools: that hold them, whole.
        place: shape (S,), where each is among the pools.
        model: whose picks.
        ranked: the same suspects.
    """
    pick, best = best_place(pools, pools.rewards[model]), best_place(pools, pools.utility)
    described: list[Suspect] = []
    rows: list[int] = place.tolist()
    for k, row in enumerate(rows):
        size, chosen, top = int(pools.size[row]), int(pick[row]), int(best[row])
        described.append(
            Suspect(
                query=pools.query_ids[row],
                user=pools.user_ids[int(pools.user[row])],
                size=size,
                correlation=float(ranked.correlation[k]),
                posterior=float(ranked.posterior[k]),
                pick=int(pools.candidate[row, chosen]),
                pick_utility=float(pools.utility[row, chosen]),
                best=int(pools.candidate[row, top]),
                best_utility=float(pools.utility[row, top]),
                mean_utility=float(pools.utility[row, :size].mean()),
            )
        )
    return tuple(described)
