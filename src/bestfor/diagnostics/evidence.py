"""From pools to evidence: exact per-query curves and statistics, and what users and texts do to their means."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bestfor.diagnostics.curves import best_of_n
from bestfor.diagnostics.influence import Column, Influences, shares_texts, text_effects, user_influences
from bestfor.diagnostics.laws import LawInputs, Ledger, laws, ledger
from bestfor.diagnostics.mixture import Corrected, correct
from bestfor.diagnostics.pools import Pools
from bestfor.diagnostics.results import Evidence, PerUser, Suspect
from bestfor.diagnostics.suspects import find_suspects
from bestfor.diagnostics.within import Collapse, Within, collapse, query_weights, within_queries
from bestfor.types import Averaging, BoolArray, FloatArray, IntArray, Scale

EDGES = np.linspace(-1.0, 1.0, 21)


@dataclass(frozen=True)
class ModelFacts:
    """What one data set says about one model, besides its curve.

    Attributes:
        scale: of the rewards.
        law: a law's name -> gains, shape (K,).
        ledger: at the largest N.
        corrected: quantities freed from noise, or None.
        per_user: each user at the largest N.
        counts: shape (20,), active queries by correlation.
        suspects: queries whose pick is worse than a random one.
        active_queries: how many.
    """

    scale: Scale
    law: dict[str, FloatArray]
    ledger: Ledger
    corrected: Corrected | None
    per_user: PerUser
    counts: IntArray
    suspects: tuple[Suspect, ...]
    active_queries: int


@dataclass(frozen=True)
class Base:
    """What all models of a data set share.

    Attributes:
        n: shape (K,), the values of N that are reported.
        grid: shape (G,), 1 and these and every power of two up to the largest.
        weight: shape (Q,), each query's weight.
        mean: shape (Q,), pool means.
        oracle: shape (Q, G), Best-of-N by the utility.
    """

    n: IntArray
    grid: IntArray
    weight: FloatArray
    mean: FloatArray
    oracle: FloatArray


@dataclass(frozen=True)
class _Measured:
    """One model's per-query and per-user measurements."""

    curve: FloatArray
    within: Within
    own: Collapse
    other: Collapse
    active: BoolArray


def doubling_grid(n: IntArray) -> IntArray:
    """The values of N and every power of two up to the largest."""
    powers = 2 ** np.arange(int(n[-1]).bit_length(), dtype=np.int64)
    return np.union1d(n, powers)


def gather(pools: Pools, n: IntArray, averaging: Averaging) -> tuple[Evidence, dict[str, ModelFacts]]:
    """Measure every model on the same pools.

    Args:
        pools: all with at least the largest N candidates.
        n: shape (K,), increasing.
        averaging: whether users or queries weigh the same.

    Returns:
        What intervals are made of, and each model's other facts.
    """
    base = _base(pools, n, averaging)
    measured = {name: _measure(pools, name, base) for name in pools.rewards}
    facts = {name: _facts(pools, name, base, one) for name, one in measured.items()}
    return _evidence(pools, base, measured), facts


def gather_evidence(pools: Pools, n: IntArray, averaging: Averaging) -> Evidence:
    """Only what intervals are made of; arguments as for :func:`gather`."""
    base = _base(pools, n, averaging)
    return _evidence(pools, base, {name: _measure(pools, name, base) for name in pools.rewards})


def _base(pools: Pools, n: IntArray, averaging: Averaging) -> Base:
    grid = doubling_grid(n)
    weight = query_weights(pools.user, len(pools.user_ids), averaging)
    mean = np.where(pools.mask, pools.utility, 0.0).sum(axis=1) / pools.size
    oracle = best_of_n(pools.utility, pools.utility, pools.size, grid)
    oracle[:, 0] = mean
    return Base(n, grid, weight, mean, oracle)


def _evidence(pools: Pools, base: Base, measured: dict[str, _Measured]) -> Evidence:
    return Evidence(_curve_influences(pools, base, measured), _quantity_influences(pools, base, measured))


def _measure(pools: Pools, name: str, base: Base) -> _Measured:
    within = within_queries(pools, name)
    users = len(pools.user_ids)
    scale = pools.scales[name]
    own = collapse(within, pools.user, users, scale)
    other = collapse(within, pools.user, users, "arbitrary" if scale == "utility" else "utility")
    active = np.isfinite(within.correlation) & ~own.collapsed[pools.user]
    curve = best_of_n(pools.rewards[name], pools.utility, pools.size, base.grid)
    curve[:, 0] = base.mean
    return _Measured(curve, within, own, other, active)


def _curve_influences(pools: Pools, base: Base, measured: dict[str, _Measured]) -> Influences:
    values: dict[Column, FloatArray] = {("one", 0): np.ones(len(pools)), ("mean", 0): base.mean}
    curves = {"oracle": base.oracle} | {f"model:{name}": one.curve for name, one in measured.items()}
    for name, curve in curves.items():
        for k, drawn in enumerate(base.grid.tolist()):
            values[name, drawn] = curve[:, k]
    influences = user_influences(values, base.weight, pools.user, pools.user_ids)
    if not shares_texts(pools):
        return influences
    return replace(influences, texts=text_effects(pools, base.weight, influences.columns, base.grid))


def _quantity_influences(pools: Pools, base: Base, measured: dict[str, _Measured]) -> Influences:
    count = np.bincount(pools.user)[pools.user]
    each = 1.0 / (len(pools.user_ids) * count * base.weight)
    values: dict[Column, FloatArray] = {("each", 0): each}
    for name, one in measured.items():
        r = np.where(one.active, one.within.correlation, 0.0)
        values[f"collapsed:{name}", 0] = each * one.own.collapsed[pools.user]
        values[f"other:{name}", 0] = each * one.other.collapsed[pools.user]
        values[f"active:{name}", 0] = one.active.astype(np.float64)
        values[f"negative:{name}", 0] = (r < 0).astype(np.float64)
        values[f"plus:{name}", 0] = np.maximum(r, 0.0)
        values[f"minus:{name}", 0] = np.minimum(r, 0.0)
    return user_influences(values, base.weight, pools.user, pools.user_ids)


def _facts(pools: Pools, name: str, base: Base, one: _Measured) -> ModelFacts:
    at = np.searchsorted(base.grid, base.n)
    reward = pools.rewards[name]
    sd = np.where(one.within.reward_sd > 0, one.within.reward_sd, 1.0)
    highest = best_of_n(reward, reward, pools.size, base.n)
    reward_mean = np.where(pools.mask, reward, 0.0).sum(axis=1) / pools.size
    inputs = LawInputs(
        n=base.n,
        weight=base.weight,
        active=one.active,
        alpha=float(one.own.collapsed.mean()),
        correlation=one.within.correlation,
        sigma=one.within.utility_sd,
        growth=(highest - reward_mean[:, None]) / sd[:, None],
        gain=one.curve[:, at] - base.mean[:, None],
        oracle_gain=base.oracle[:, at] - base.mean[:, None],
    )
    r = one.within.correlation[one.active]
    fitted = correct(r, pools.size[one.active], base.weight[one.active])
    return ModelFacts(
        scale=pools.scales[name],
        law=laws(inputs),
        ledger=ledger(inputs),
        corrected=None if fitted is None else fitted[0],
        per_user=_per_user(pools, inputs, one.own),
        counts=np.histogram(r, EDGES)[0].astype(np.int64),
        suspects=find_suspects(pools, name, one.active, one.within, None if fitted is None else fitted[1]),
        active_queries=int(one.active.sum()),
    )


def _per_user(pools: Pools, inputs: LawInputs, own: Collapse) -> PerUser:
    users = len(pools.user_ids)
    queries = np.bincount(pools.user, minlength=users).astype(np.int64)
    gain = np.bincount(pools.user, inputs.gain[:, -1], users) / queries
    headroom = np.bincount(pools.user, inputs.oracle_gain[:, -1], users) / queries
    spread = np.bincount(pools.user, inputs.sigma, users)
    captured = np.full(users, np.nan)
    np.divide(gain, headroom, out=captured, where=(spread > 0) & (inputs.n[-1] > 1))
    return PerUser(pools.user_ids, queries, gain, headroom, captured, own.ratio, own.collapsed)
