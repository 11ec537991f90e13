"""Read a diagnosis back from its JSON: checked once, then the same for page, picture and terminal.

Absent and null numbers are None throughout; lists that a model lacks are empty. Nothing is estimated here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bestfor.errors import InputError
from bestfor.moved import renamed
from bestfor.report._values import (
    EXPECTED,
    Band,
    Series,
    band,
    count,
    grid,
    index,
    mapping,
    mapping_or_none,
    number,
    numbers,
    records,
    series,
)
from bestfor.report.outlook import OutlookView, read_outlook
from bestfor.report.predictive import CalibrationView, read_predictive
from bestfor.rewards.kinds import KINDS

__getattr__ = renamed(
    __name__,
    {
        "Comparison": "ComparisonView",
        "Model": "ModelView",
        "Suspect": "SuspectView",
        "User": "UserView",
    },
)


LAWS = ("bound", "normal", "reward", "pool")
LEDGER = ("growth", "alpha", "sigma", "covariance", "shape", "leakage")
NAIVE = frozenset({"random", "constant", "baseline", "first", "shortest", "longest"})
"""What tables call rewards that learn nothing, beside kinds that say so: drawn quietly, never the headline model."""


@dataclass(frozen=True)
class UserView:
    """One user's share of the gain."""

    user: str
    queries: int
    gain: float | None
    headroom: float | None
    captured: float | None
    collapsed: bool


@dataclass(frozen=True)
class SuspectView:
    """A query whose reward probably points away from its utility."""

    query: str
    user: str
    size: int
    correlation: float | None
    posterior: float | None
    pick: int | None
    pick_utility: float | None
    best: int | None
    best_utility: float | None
    mean_utility: float | None


@dataclass(frozen=True)
class ModelView:
    """One reward model's part of a diagnosis; ``index`` is its colour and its anchor."""

    name: str
    index: int
    quiet: bool
    scale: str
    n: tuple[int, ...]
    utility: Band
    gain: Band
    captured: Band
    interval: str
    quantities: Mapping[str, float | None]
    reasons: Mapping[str, str]
    corrected: Mapping[str, float | None] | None
    law: Mapping[str, Series]
    law_error: Mapping[str, Series]
    ledger: Mapping[str, float | None] | None
    best_n: tuple[tuple[float, int | None], ...]
    findings: tuple[str, ...]
    notes: tuple[str, ...]
    users: tuple[UserView, ...]
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    suspects: tuple[SuspectView, ...]
    outlook: OutlookView
    predictive: CalibrationView | None

    @property
    def has_law(self) -> bool:
        """True where any law has a value at any N."""
        return any(value is not None for series in self.law.values() for value in series)


@dataclass(frozen=True)
class ComparisonView:
    """A paired difference in captured share."""

    model: str
    against: str
    n: int
    difference: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Report:
    """A whole diagnosis, its models with baselines last, and its folds (empty where there are none).

    ``sampled`` is how many queries what lies beyond the curves rests on, and of how many; 0 of 0 where unknown.
    """

    name: str
    headline: str
    queries: int
    users: int
    candidates: int
    dropped: Mapping[str, int]
    pool_mean: float | None
    n: tuple[int, ...]
    oracle: Band
    models: tuple[ModelView, ...]
    comparisons: tuple[ComparisonView, ...]
    signature: Mapping[str, Any]
    level: float
    sampled: tuple[int, int]
    folds: tuple[Report, ...] = field(default=())

    @property
    def chosen(self) -> ModelView | None:
        """The model shown first: the largest captured share at the largest N, baselines only where nothing else is."""
        loud = [model for model in self.models if not model.quiet] or list(self.models)
        return max(loud, key=lambda model: _last(model.captured.value), default=None)

    @property
    def decisive(self) -> tuple[ComparisonView, ...]:
        """The first (that is, the best) model's comparisons that have a value, at the largest N among them."""
        known = [pair for pair in self.comparisons if pair.difference is not None]
        known = [pair for pair in known if pair.model == known[0].model]
        largest = max((pair.n for pair in known), default=0)
        return tuple(pair for pair in known if pair.n == largest)

    @property
    def shared_notes(self) -> tuple[str, ...]:
        """Notes that all of several models have: they are about the data, not about a model."""
        if len(self.models) < 2:
            return ()
        return tuple(note for note in self.models[0].notes if all(note in model.notes for model in self.models))

    def own_notes(self, model: ModelView) -> tuple[str, ...]:
        """A model's notes without those that all have."""
        return tuple(note for note in model.notes if note not in self.shared_notes)

    def model(self, name: str) -> ModelView | None:
        """The model of this name, or None."""
        return next((model for model in self.models if model.name == name), None)


def read(diagnosis: Mapping[str, Any]) -> Report:
    """Check a diagnosis and give its parts names.

    Args:
        diagnosis: the object of ``diagnosis.json``, also with ``folds``.

    Raises:
        InputError: it is no diagnosis, or a curve's length is not that of its N.
    """
    if not isinstance(diagnosis, Mapping):
        raise InputError("diagnosis", type(diagnosis).__name__, EXPECTED)
    models = mapping(diagnosis, "models", "diagnosis")
    oracle = mapping(diagnosis, "oracle", "diagnosis")
    signature = diagnosis.get("signature") or {}
    used = mapping_or_none(diagnosis, "pools_used") or {}
    names = sorted(models, key=lambda name: _is_quiet(name, models[name]))
    n = grid(oracle, "oracle")
    return Report(
        name=str(diagnosis.get("name") or ""),
        headline=str(diagnosis.get("headline") or ""),
        queries=count(diagnosis.get("queries")),
        users=count(diagnosis.get("users")),
        candidates=count(diagnosis.get("candidates")),
        dropped={str(key): count(value) for key, value in (diagnosis.get("dropped") or {}).items()},
        pool_mean=number(diagnosis.get("pool_mean")),
        n=n,
        oracle=band(oracle, "utility", "", n, "oracle"),
        models=tuple(_model(name, index, models[name]) for index, name in enumerate(names)),
        comparisons=tuple(_comparison(entry) for entry in records(diagnosis, "comparisons", "diagnosis")),
        signature=signature,
        level=number(signature.get("level")) or 0.95,
        sampled=(count(used.get("queries")), count(used.get("of"))),
        folds=tuple(read(fold) for fold in records(diagnosis, "folds", "diagnosis")),
    )


def _model(name: str, index: int, entry: Mapping[str, Any]) -> ModelView:
    where = f"models.{name}"
    if not isinstance(entry, Mapping):
        raise InputError(where, type(entry).__name__, EXPECTED)
    n = grid(entry, where)
    quantities = entry.get("quantities") or {}
    corrected = quantities.get("corrected")
    ledger = entry.get("ledger")
    correlations = entry.get("correlations") or {}
    return ModelView(
        name=str(name),
        index=index,
        quiet=_is_quiet(name, entry),
        scale=str(entry.get("scale") or "arbitrary"),
        n=n,
        utility=band(entry, "utility", "", n, where),
        gain=band(entry, "gain", "gain_", n, where),
        captured=band(entry, "captured", "captured_", n, where),
        interval=str(entry.get("interval") or ""),
        quantities={key: number(value) for key, value in quantities.items() if key not in ("corrected", "reasons")},
        reasons={str(key): str(why) for key, why in (mapping_or_none(quantities, "reasons") or {}).items()},
        corrected=numbers(corrected),
        law=_laws(entry, "law", n, where),
        law_error=_laws(entry, "law_error", n, where),
        ledger=numbers(ledger),
        best_n=tuple(_best_n(item) for item in records(entry, "best_n", where)),
        findings=tuple(map(str, entry.get("findings") or ())),
        notes=tuple(map(str, entry.get("notes") or ())),
        users=tuple(_user(item) for item in records(entry, "per_user", where)),
        edges=tuple(float(edge) for edge in correlations.get("edges") or ()),
        counts=tuple(count(each) for each in correlations.get("counts") or ()),
        suspects=tuple(_suspect(item) for item in records(entry, "suspects", where)),
        outlook=read_outlook(entry, n, where),
        predictive=read_predictive(entry, where),
    )


def _user(item: Mapping[str, Any]) -> UserView:
    return UserView(
        user=str(item.get("user", "")),
        queries=count(item.get("queries")),
        gain=number(item.get("gain")),
        headroom=number(item.get("headroom")),
        captured=number(item.get("captured")),
        collapsed=bool(item.get("collapsed")),
    )


def _suspect(item: Mapping[str, Any]) -> SuspectView:
    return SuspectView(
        query=str(item.get("query", "")),
        user=str(item.get("user", "")),
        size=count(item.get("size")),
        correlation=number(item.get("correlation")),
        posterior=number(item.get("posterior")),
        pick=index(item.get("pick")),
        pick_utility=number(item.get("pick_utility")),
        best=index(item.get("best")),
        best_utility=number(item.get("best_utility")),
        mean_utility=number(item.get("mean_utility")),
    )


def _comparison(item: Mapping[str, Any]) -> ComparisonView:
    return ComparisonView(
        model=str(item.get("model", "")),
        against=str(item.get("against", "")),
        n=count(item.get("n")),
        difference=number(item.get("captured_difference")),
        low=number(item.get("low")),
        high=number(item.get("high")),
    )


def _best_n(item: Mapping[str, Any]) -> tuple[float, int | None]:
    return number(item.get("cost_in_utility_units")) or 0.0, index(item.get("n"))


def _laws(entry: Mapping[str, Any], key: str, n: tuple[int, ...], where: str) -> dict[str, Series]:
    given = entry.get(key) or {}
    return {law: series(given.get(law), n, f"{where}.{key}.{law}") for law in LAWS}


def _last(series: Series) -> float:
    value = series[-1] if series else None
    return -math.inf if value is None else value


def _is_quiet(name: str, entry: object) -> bool:
    kind = KINDS.builtin.get(name.lower())
    learns_nothing = name.lower() in NAIVE or (kind is not None and KINDS[name.lower()].baseline)
    return learns_nothing or (isinstance(entry, Mapping) and entry.get("baseline") is True)
