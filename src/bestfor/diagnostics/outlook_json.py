"""An outlook as JSON values, exactly as docs/diagnosis.md lays them out."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bestfor.types import Estimate

if TYPE_CHECKING:
    from bestfor.diagnostics.outlook import BestFixed, Outlook, PerUserN, Reach, Soft, Step, Stopped

Json = dict[str, Any]

KEYS = ("three_draw", "soft", "extrapolation", "best_fixed_n", "per_user_n", "stopping", "needed")


def outlook_json(outlook: Outlook | None) -> Json:
    """The keys that an outlook adds to its model; each is None where there was no sample."""
    if outlook is None:
        return dict.fromkeys(KEYS)
    return {
        "three_draw": {"draws": 3, "n": outlook.three_draw.n, "sd": outlook.three_draw.sd},
        "soft": [_soft(one) for one in outlook.soft],
        "extrapolation": _reach(outlook.extrapolation),
        "best_fixed_n": [_fixed(one) for one in outlook.best_fixed_n],
        "per_user_n": _per_user(outlook.per_user_n),
        "stopping": _stopped(outlook.stopping),
        "needed": [asdict(one) for one in outlook.needed],
    }


def _soft(soft: Soft) -> Json:
    return {
        "temperature_in_sd": soft.temperature_in_sd,
        "temperature": soft.temperature,
        "utility": soft.utility,
        "difference": soft.difference,
        "difference_low": soft.low,
        "difference_high": soft.high,
        "queries_used": soft.queries,
    }


def _reach(reach: Reach) -> Json:
    return {
        "smallest_pool": reach.smallest_pool,
        "farthest": reach.farthest,
        "trusted_to": reach.trusted_to,
        "verdict": reach.verdict,
        "steps": [_step(step) for step in reach.steps],
    }


def _step(step: Step) -> Json:
    return {
        "n": step.n,
        "order_1": step.order_1,
        **_estimate("order_2", step.order_2),
        "order_3": step.order_3,
        **_estimate("gao", step.gao),
        "utility": step.utility,
        "trusted": step.trusted,
        "verdict": step.verdict,
    }


def _fixed(best: BestFixed) -> Json:
    return {
        "cost_per_candidate": best.cost_per_candidate,
        "n": best.n,
        **_estimate("net", best.net),
        "at_edge": best.at_edge,
    }


def _per_user(chosen: PerUserN) -> Json | None:
    if chosen.reason:
        return {"cost_per_candidate": chosen.cost_per_candidate, "gain": None, "reason": chosen.reason}
    return {
        "cost_per_candidate": chosen.cost_per_candidate,
        "users": chosen.users,
        "trust": chosen.trust,
        "n": chosen.n,
        "share": chosen.share,
        "own_n": chosen.own_n,
        "common_n": chosen.common_n,
        **_estimate("gain", chosen.gain),
        "reason": None,
    }


def _stopped(stopped: Stopped) -> Json:
    if stopped.reason:
        return {"cost_per_candidate": stopped.cost_per_candidate, "advantage": None, "reason": stopped.reason}
    return {
        "rule": "expected improvement",
        "cost_per_candidate": stopped.cost_per_candidate,
        "drawn": stopped.drawn,
        "utility": stopped.utility,
        "net": stopped.net,
        "fixed_n": stopped.fixed_n,
        "fixed_net": stopped.fixed_net,
        **_estimate("advantage", stopped.advantage),
        "pays": stopped.pays,
        "verdict": stopped.verdict,
        "reason": None,
    }


def _estimate(name: str, estimate: Estimate) -> Json:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
