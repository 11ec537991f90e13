"""From queries to evidence: means over queries with what users and texts do to them, and each model's other facts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from bestfor.diagnostics.influence import (
    Column,
    Influences,
    Texts,
    shares_texts,
    sum_by_user,
    text_effects,
    user_influences,
)
from bestfor.diagnostics.laws import LawInputs, Ledger, laws, ledger
from bestfor.diagnostics.mixture import Corrected, correct
from bestfor.diagnostics.pools import Pools
from bestfor.diagnostics.queries import ModelQueries, Queries, doubling_grid, measure_queries
from bestfor.diagnostics.results import Evidence, PerUser, Suspect
from bestfor.diagnostics.suspects import find_suspects
from bestfor.diagnostics.within import Collapse, Within, collapse, query_weights
from bestfor.types import Averaging, BoolArray, FloatArray, IntArray, Scale

TextEffects = Callable[[FloatArray, tuple[Column, ...], IntArray], Texts | None]
"""Query weights, the means and the grid -> what texts do to the means, None where no two users share one."""

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
    """

    n: IntArray
    grid: IntArray
    weight: FloatArray


@dataclass(frozen=True)
class _Measured:
    """One model's per-query and per-user measurements."""

    one: ModelQueries
    own: Collapse
    other: Collapse
    active: BoolArray


def gather(pools: Pools, n: IntArray, averaging: Averaging) -> tuple[Evidence, dict[str, ModelFacts]]:
    """Measure every model on the same pools.

    Args:
        pools: all with at least the largest N candidates.
        n: shape (K,), increasing.
        averaging: whether users or queries weigh the same.

    Returns:
        What intervals are made of, and each model's other facts.
    """
    return conclude(measure_queries(pools, n), n, averaging, _texts_of(pools))


def gather_evidence(pools: Pools, n: IntArray, averaging: Averaging) -> Evidence:
    """Only what intervals are made of; arguments as for :func:`gather`."""
    queries = measure_queries(pools, n)
    base = _base(queries, n, averaging)
    return _evidence(queries, base, _measured(queries), _texts_of(pools))


def conclude(
    queries: Queries, n: IntArray, averaging: Averaging, texts: TextEffects
) -> tuple[Evidence, dict[str, ModelFacts]]:
    """What follows from the queries.

    Args:
        queries: measured at the same n.
        n: shape (K,), increasing.
        averaging: whether users or queries weigh the same.
        texts: finds the effects of texts, which need the candidates.

    Returns:
        What intervals are made of, and each model's other facts.
    """
    base = _base(queries, n, averaging)
    measured = _measured(queries)
    facts = {name: _facts(queries, name, base, one) for name, one in measured.items()}
    return _evidence(queries, base, measured, texts), facts


def _texts_of(pools: Pools) -> TextEffects:
    def effects(weight: FloatArray, columns: tuple[Column, ...], grid: IntArray) -> Texts | None:
        return text_effects(pools, weight, columns, grid) if shares_texts(pools) else None

    return effects


def _base(queries: Queries, n: IntArray, averaging: Averaging) -> Base:
    return Base(n, doubling_grid(n), query_weights(queries.user, len(queries.user_ids), averaging))


def _evidence(queries: Queries, base: Base, measured: dict[str, _Measured], texts: TextEffects) -> Evidence:
    return Evidence(_curve_influences(queries, base, texts), _quantity_influences(queries, base, measured))


def _measured(queries: Queries) -> dict[str, _Measured]:
    users = len(queries.user_ids)
    result: dict[str, _Measured] = {}
    for name, one in queries.models.items():
        within = Within(one.correlation, one.reward_sd, queries.utility_sd)
        scale = queries.scales[name]
        own = collapse(within, queries.user, users, scale)
        other = collapse(within, queries.user, users, "arbitrary" if scale == "utility" else "utility")
        result[name] = _Measured(one, own, other, np.isfinite(one.correlation) & ~own.collapsed[queries.user])
    return result


def _curve_influences(queries: Queries, base: Base, texts: TextEffects) -> Influences:
    values: dict[Column, FloatArray] = {("one", 0): np.ones(len(queries)), ("mean", 0): queries.mean}
    curves = {"oracle": queries.oracle} | {f"model:{name}": one.curve for name, one in queries.models.items()}
    for name, curve in curves.items():
        for k, drawn in enumerate(base.grid.tolist()):
            values[name, drawn] = curve[:, k]
    influences = user_influences(values, base.weight, queries.user, queries.user_ids)
    return replace(influences, texts=texts(base.weight, influences.columns, base.grid))


def _quantity_influences(queries: Queries, base: Base, measured: dict[str, _Measured]) -> Influences:
    values = _quantity_columns(queries, base, measured)
    return sum_by_user(values, base.weight, queries.user, queries.user_ids)


def _quantity_columns(
    queries: Queries, base: Base, measured: dict[str, _Measured]
) -> Iterator[tuple[Column, FloatArray]]:
    count = np.bincount(queries.user)[queries.user]
    each = 1.0 / (len(queries.user_ids) * count * base.weight)
    yield ("each", 0), each
    for name, found in measured.items():
        yield (f"collapsed:{name}", 0), each * found.own.collapsed[queries.user]
        yield (f"other:{name}", 0), each * found.other.collapsed[queries.user]
        yield (f"active:{name}", 0), found.active.astype(np.float64)
        r = np.where(found.active, found.one.correlation, 0.0)
        yield (f"negative:{name}", 0), (r < 0).astype(np.float64)
        yield (f"plus:{name}", 0), np.maximum(r, 0.0)
        yield (f"minus:{name}", 0), np.minimum(r, 0.0)


def _facts(queries: Queries, name: str, base: Base, found: _Measured) -> ModelFacts:
    at = np.searchsorted(base.grid, base.n)
    inputs = LawInputs(
        n=base.n,
        weight=base.weight,
        active=found.active,
        alpha=float(found.own.collapsed.mean()),
        correlation=found.one.correlation,
        sigma=queries.utility_sd,
        growth=found.one.growth,
        gain=found.one.curve[:, at] - queries.mean[:, None],
        oracle_gain=queries.oracle[:, at] - queries.mean[:, None],
    )
    r = found.one.correlation[found.active]
    fitted = correct(r, queries.size[found.active], base.weight[found.active])
    return ModelFacts(
        scale=queries.scales[name],
        law=laws(inputs),
        ledger=ledger(inputs),
        corrected=None if fitted is None else fitted[0],
        per_user=_per_user(queries, inputs, found.own),
        counts=np.histogram(r, EDGES)[0].astype(np.int64),
        suspects=find_suspects(queries, name, found.active, None if fitted is None else fitted[1]),
        active_queries=int(found.active.sum()),
    )


def _per_user(queries: Queries, inputs: LawInputs, own: Collapse) -> PerUser:
    users = len(queries.user_ids)
    count = np.bincount(queries.user, minlength=users).astype(np.int64)
    gain = np.bincount(queries.user, inputs.gain[:, -1], users) / count
    headroom = np.bincount(queries.user, inputs.oracle_gain[:, -1], users) / count
    spread = np.bincount(queries.user, inputs.sigma, users)
    captured = np.full(users, np.nan)
    np.divide(gain, headroom, out=captured, where=(spread > 0) & (inputs.n[-1] > 1))
    return PerUser(queries.user_ids, count, gain, headroom, captured, own.ratio, own.collapsed)
