"""Read back from a diagnosis' JSON what lies beyond its curve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bestfor.moved import renamed
from bestfor.report._values import Series, count, index, mapping_or_none, number, records, series

__getattr__ = renamed(
    __name__,
    {
        "Fixed": "FixedView",
        "Needed": "NeededView",
        "Numbers": "NumbersView",
        "Other": "OtherRuleView",
        "Outlook": "OutlookView",
        "Soft": "SoftView",
        "Step": "StepView",
    },
)


METHODS = ("order_2", "gao", "order_1", "order_3")


@dataclass(frozen=True)
class SoftView:
    """Soft Best-of-N at one temperature, over the model's N."""

    temperature: float | None
    in_sd: float | None
    utility: Series
    difference: Series
    low: Series
    high: Series
    queries: int


@dataclass(frozen=True)
class OtherRuleView:
    """Another rule in place of the highest reward: its utility, and how it differs, over the model's N."""

    rule: str
    utility: Series
    difference: Series
    low: Series
    high: Series


@dataclass(frozen=True)
class StepView:
    """Predicted gains at one N; ``values`` holds the methods and, where known, their ``_low`` and ``_high``."""

    n: int
    values: Mapping[str, float | None]
    trusted: bool


@dataclass(frozen=True)
class FixedView:
    """The best fixed N at a cost of one candidate."""

    cost: float | None
    n: int | None
    net: float | None
    low: float | None
    high: float | None
    at_edge: bool


@dataclass(frozen=True)
class NeededView:
    """Count of more users or queries a quantity needs."""

    quantity: str
    half_width: float | None
    now: float | None
    users: int | None
    more_users: int | None
    more_queries: int | None


@dataclass(frozen=True)
class NumbersView:
    """A part that is one set of numbers: values, the distribution over N if any, and words."""

    values: Mapping[str, float | None]
    n: tuple[int, ...]
    share: tuple[float, ...]
    verdict: str
    reason: str


@dataclass(frozen=True)
class OutlookView:
    """One model's outlook; parts that the diagnosis lacks are empty or None."""

    three_draw: Series
    soft: tuple[SoftView, ...]
    others: tuple[OtherRuleView, ...]
    smallest_pool: int
    trusted_to: int | None
    verdict: str
    steps: tuple[StepView, ...]
    fixed: tuple[FixedView, ...]
    per_user: NumbersView | None
    stopping: NumbersView | None
    needed: tuple[NeededView, ...]

    @property
    def known(self) -> bool:
        """True where there is anything to show."""
        parts = (self.steps, self.verdict, self.fixed, self.soft, self.others, self.per_user, self.stopping)
        return any(parts)


def read_outlook(entry: Mapping[str, Any], n: tuple[int, ...], where: str) -> OutlookView:
    """Check a model's outlook; a diagnosis without one gives an empty one.

    Args:
        entry: the model's object.
        n: its values of N.
        where: its name, for errors.

    Raises:
        InputError: a list's length is not that of its N.
    """
    reach = mapping_or_none(entry, "extrapolation") or {}
    draws = mapping_or_none(entry, "three_draw") or {}
    return OutlookView(
        three_draw=series(draws.get("sd"), n, f"{where}.three_draw.sd"),
        soft=tuple(_soft(one, n, where) for one in records(entry, "soft", where)),
        others=tuple(_other(one, n, where) for one in records(entry, "rules", where)),
        smallest_pool=count(reach.get("smallest_pool")),
        trusted_to=index(reach.get("trusted_to")),
        verdict=str(reach.get("verdict") or ""),
        steps=tuple(_step(one) for one in records(reach, "steps", f"{where}.extrapolation")),
        fixed=tuple(_fixed(one) for one in records(entry, "best_fixed_n", where)),
        per_user=_numbers(mapping_or_none(entry, "per_user_n")),
        stopping=_numbers(mapping_or_none(entry, "stopping")),
        needed=tuple(_needed(one) for one in records(entry, "needed", where)),
    )


def _soft(item: Mapping[str, Any], n: tuple[int, ...], where: str) -> SoftView:
    curves = (
        series(item.get(key), n, f"{where}.soft.{key}")
        for key in ("utility", "difference", "difference_low", "difference_high")
    )
    temperatures = number(item.get("temperature")), number(item.get("temperature_in_sd"))
    return SoftView(*temperatures, *curves, queries=count(item.get("queries_used")))


def _other(item: Mapping[str, Any], n: tuple[int, ...], where: str) -> OtherRuleView:
    keys = ("utility", "difference", "difference_low", "difference_high")
    return OtherRuleView(str(item.get("rule", "")), *(series(item.get(key), n, f"{where}.rules.{key}") for key in keys))


def _step(item: Mapping[str, Any]) -> StepView:
    keys = [key for method in METHODS for key in (method, f"{method}_low", f"{method}_high")]
    return StepView(count(item.get("n")), {key: number(item.get(key)) for key in keys}, item.get("trusted") is True)


def _fixed(item: Mapping[str, Any]) -> FixedView:
    cost, n = number(item.get("cost_per_candidate")), index(item.get("n"))
    net, low, high = (number(item.get(key)) for key in ("net", "net_low", "net_high"))
    return FixedView(cost, n, net, low, high, item.get("at_edge") is True)


def _needed(item: Mapping[str, Any]) -> NeededView:
    width, now = number(item.get("half_width")), number(item.get("now"))
    counts = (index(item.get(key)) for key in ("users", "more_users", "more_queries"))
    return NeededView(str(item.get("quantity", "")), width, now, *counts)


def _numbers(item: Mapping[str, Any] | None) -> NumbersView | None:
    if item is None:
        return None
    sizes, shares = item.get("n") or (), item.get("share") or ()
    return NumbersView(
        values={str(key): number(value) for key, value in item.items()},
        n=tuple(count(size) for size in sizes),
        share=tuple(number(share) or 0.0 for share in shares),
        verdict=str(item.get("verdict") or ""),
        reason=str(item.get("reason") or ""),
    )
