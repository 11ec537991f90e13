"""Diagnose reward models on a log of shown answers: curves by three estimators, what supports them, and refusals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bestfor.diagnostics.logs.curves import LogCurve, LogDifference, LoggedPools, log_curve, log_difference
from bestfor.errors import InputError
from bestfor.types import Averaging, FloatArray, IntArray

FEWEST_ANSWERED = 0.9
"""Share of shown answers that need an outcome, where no chance of answering is given."""

LARGEST_UNSUPPORTED = 0.01
"""Chance of picking what is never shown beyond which a point of a curve is not printed."""

SMALLEST_ESS = 30.0
"""Effective answers below which a point of a curve is called thin."""

WANTED = 0.05
"""Half-width for which the number of answers is stated."""

UNKNOWN = (
    "not known from logs of one answer a pool: headroom and captured share, the spread of utilities within a query, "
    "a query's correlation, beta"
)


@dataclass(frozen=True)
class LogDiagnosis:
    """Curves of reward models from one log.

    Attributes:
        name: of the log.
        pools: shown answers with an outcome.
        users: of these.
        shown: all shown answers.
        logged: mean outcome of what was shown, which is what the logger earned.
        models: name -> its curve.
        comparisons: the best model against each other one.
        needed: name -> logged answers like these that give the gain at the largest N to +-.05, by the doubly robust
            estimate.
        notes: what limits the figures.
        unit: what +-.05 is in.
    """

    name: str
    pools: int
    users: int
    shown: int
    logged: float
    models: Mapping[str, LogCurve]
    comparisons: tuple[LogDifference, ...] = ()
    needed: Mapping[str, int | None] = field(default_factory=dict[str, int | None])
    notes: tuple[str, ...] = ()
    unit: str = "utility"

    def to_dict(self) -> dict[str, Any]:
        """Lay it out as JSON values; what is not known is None."""
        return {
            "name": self.name,
            "pools": self.pools,
            "users": self.users,
            "shown": self.shown,
            "logged": self.logged,
            "models": {name: _model(curve) | {"needed": self.needed.get(name)} for name, curve in self.models.items()},
            "comparisons": [
                {
                    "model": one.model,
                    "against": one.against,
                    "n": one.n,
                    "difference": one.difference.value,
                    "low": one.difference.low,
                    "high": one.difference.high,
                }
                for one in self.comparisons
            ],
            "notes": list(self.notes),
        }


def diagnose_logs(
    pools: LoggedPools,
    rewards: Mapping[str, FloatArray],
    n: IntArray | None = None,
    *,
    shown: int | None = None,
    averaging: Averaging = "query",
    level: float = 0.95,
    name: str = "log",
) -> LogDiagnosis:
    """Diagnose reward models on a log.

    Args:
        pools: those whose shown answer has an outcome.
        rewards: name of a model -> shape (Q, M).
        n: where curves are drawn; powers of two up to the largest pool by default.
        shown: shown answers in all, also those without an outcome.
        averaging: whether pools or users weigh the same.
        level: nominal coverage of the intervals.
        name: of the log.

    Raises:
        InputError: too few of the shown answers have an outcome, or rewards that are not finite.
    """
    shown = len(pools) if shown is None else shown
    modelled = bool((pools.answered < 1).any())
    if len(pools) < FEWEST_ANSWERED * shown and not modelled:
        found = f"outcomes for {len(pools)} of {shown} shown answers ({len(pools) / shown:.0%})"
        expected = f"{FEWEST_ANSWERED:.0%}, or a column with the chance that such an answer gets one (--answered)"
        raise InputError("the log", found, f"{expected}: who says nothing differs from who answers")
    for model, reward in rewards.items():
        if not np.isfinite(np.where(pools.mask, reward, 0.0)).all():
            raise InputError(
                f"rewards of '{model}'", "a number that is not finite", "one for every candidate of a pool"
            )
    grid = _grid(pools) if n is None else n
    curves = {
        model: _printable(log_curve(pools, reward, grid, averaging=averaging, level=level))
        for model, reward in rewards.items()
    }
    notes = [UNKNOWN, *_notes(curves)]
    if len(pools) < shown:
        notes.append(f"{shown - len(pools)} of {shown} shown answers have no outcome")
    return LogDiagnosis(
        name=name,
        pools=len(pools),
        users=len(np.unique(pools.user)),
        shown=shown,
        logged=float(pools.outcome.mean()),
        models=curves,
        comparisons=_compare(pools, rewards, curves, level),
        needed={model: _needed(curve, len(pools)) for model, curve in curves.items()},
        notes=tuple(notes),
    )


def _grid(pools: LoggedPools) -> IntArray:
    largest = int(pools.size.max())
    powers = 2 ** np.arange(largest.bit_length(), dtype=np.int64)
    return np.union1d(powers[powers <= largest], [largest])


def _printable(curve: LogCurve) -> LogCurve:
    """Take the points away that rest on what was never shown."""
    beyond = curve.unsupported > LARGEST_UNSUPPORTED
    for one in (*curve.utility.values(), *curve.gain.values()):
        for values in (one.value, one.low, one.high):
            values[beyond] = np.nan
    return curve


def _notes(curves: Mapping[str, LogCurve]) -> list[str]:
    notes: list[str] = []
    for name, curve in curves.items():
        beyond = curve.n[curve.unsupported > LARGEST_UNSUPPORTED]
        if len(beyond):
            share = float(curve.unsupported.max())
            notes.append(
                f"{name}: no figures from N = {beyond[0]} on: up to {share:.0%} of its picks are candidates that the "
                "logger never shows (chance 0, or next to it)"
            )
        thin = curve.n[(curve.ess < SMALLEST_ESS) & (curve.unsupported <= LARGEST_UNSUPPORTED)]
        if len(thin):
            notes.append(f"{name}: from N = {thin[0]} on the log is worth fewer than {SMALLEST_ESS:.0f} answers")
    return notes


def _compare(
    pools: LoggedPools, rewards: Mapping[str, FloatArray], curves: Mapping[str, LogCurve], level: float
) -> tuple[LogDifference, ...]:
    """Compare the model with the largest gain at the largest common N with each other one."""
    if len(rewards) < 2:
        return ()
    known = [
        k for k in range(len(next(iter(curves.values())).n)) if all(np.isfinite(_dr(one)[k]) for one in curves.values())
    ]
    if not known:
        return ()
    k = known[-1]
    best = max(curves, key=lambda name: float(_dr(curves[name])[k]))
    n = int(curves[best].n[k])
    others = [name for name in rewards if name != best]
    return tuple(log_difference(pools, (best, name), (rewards[best], rewards[name]), n, level=level) for name in others)


def _dr(curve: LogCurve) -> FloatArray:
    return curve.gain["dr"].value


def _needed(curve: LogCurve, pools: int) -> int | None:
    """Count the logged answers that give the gain at the largest printed N to +-.05: widths shrink with their root."""
    gain = curve.gain["dr"]
    known = np.flatnonzero(np.isfinite(gain.high))
    if not len(known):
        return None
    half = float(gain.high[known[-1]] - gain.low[known[-1]]) / 2
    return int(np.ceil(pools * (half / WANTED) ** 2))


def _model(curve: LogCurve) -> dict[str, Any]:
    found: dict[str, Any] = {"n": curve.n.tolist(), "ess": _plain(curve.ess), "unsupported": _plain(curve.unsupported)}
    for what, curves in (("utility", curve.utility), ("gain", curve.gain)):
        for estimator, one in curves.items():
            found[f"{what}_{estimator}"] = {
                "value": _plain(one.value),
                "low": _plain(one.low),
                "high": _plain(one.high),
            }
    return found


def _plain(values: FloatArray) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]
