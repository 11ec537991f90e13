"""Plain sentences on what to do next: draw more, stop earlier, give users their own N."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bestfor.diagnostics.calibration import Calibration
    from bestfor.diagnostics.result import Diagnosis, ModelDiagnosis

COST = 0.01
"""In utility units: the price that the headline speaks of, of one doubling and of one candidate."""

NATS = 0.002
"""Differences in mean log-likelihood below this are not worth a word."""

CLOSE = 1.05
"""Errors within 5 % of the predicted standard deviation are as predicted."""


def larger_pools(diagnosis: Diagnosis, model: ModelDiagnosis) -> str | None:
    """Whether more candidates than the largest N would pay, where doubling still does."""
    largest, outlook = int(diagnosis.n[-1]), model.outlook
    still = next(one.n for one in model.best_n if one.cost_in_utility_units == COST) == largest
    if outlook is None or not still or largest == 1:
        return None
    reach, gain = outlook.extrapolation, model.gain.at(largest).value
    pays = f"The last doubling, to N = {largest}, gained more than {COST}"
    if reach.smallest_pool >= 2 * largest:
        return f"{pays}, and every pool holds {reach.smallest_pool} candidates: ask for a larger N."
    if reach.trusted_to is None or reach.trusted_to <= largest:
        why = reach.verdict.removeprefix("not extrapolable: ")
        return f"{pays}, but what lies beyond is not extrapolable ({why}). Sample larger pools for some queries first."
    step = next(step for step in reach.steps if step.n == reach.trusted_to)
    low, high = sorted((step.order_2.value, step.gao.value))
    return (
        f"{pays}: the gain of {gain:.3f} should grow to between {low:.3f} and {high:.3f} at N = {reach.trusted_to}, "
        "by two predictions that agree. Draw more if that is worth their cost."
    )


def stop_early(diagnosis: Diagnosis, model: ModelDiagnosis) -> str | None:
    """Whether a stopping rule earned more than the best fixed N."""
    if model.outlook is None or not model.outlook.stopping.pays:
        return None
    told = model.outlook.stopping
    return (
        f"{told.verdict[:-1]} ({told.cost_per_candidate:g} each). Candidates differ enough early on; "
        "replay the rule on fresh logs before turning it on."
    )


def own_n(diagnosis: Diagnosis, model: ModelDiagnosis) -> str | None:
    """Whether users should get their own N."""
    chosen = None if model.outlook is None else model.outlook.per_user_n
    if chosen is None or chosen.gain.low is None or chosen.gain.low <= 0:
        return None
    return (
        f"Users differ in what a candidate is worth to them: one N for each ({chosen.own_n:.1f} on average) earns "
        f"{chosen.gain.value:.3f} more than N = {chosen.common_n:.0f} for all, on queries that did not choose it. "
        "Give users with weak rewards fewer candidates."
    )


def calibrated(found: Calibration) -> str:
    """Whether a predicted standard deviation can be believed, and what to do where it cannot."""
    factor, t = math.sqrt(found.temperature.value), found.temperature
    if t.low is None or t.high is None:
        size = f"errors are {factor:.2f} times what its std says; one user alone carries no interval"
    elif t.low > 1 and factor > CLOSE:
        size = f"it is too sure: errors are {factor:.2f} times what its std says; multiply its std by that"
    elif t.high < 1 and factor < 1 / CLOSE:
        size = f"it is not sure enough: errors are only {factor:.2f} times what its std says; multiply its std by that"
    else:
        size = f"its std has the right size (errors are {factor:.2f} times what it says)"
    return f"{size}; {_knows(found)}. Picks use the mean alone, so this changes no curve."


def _knows(found: Calibration) -> str:
    gain = found.tempered_gain
    if len(found.reliability.candidates) == 1:
        return "it is the same for nearly all candidates, so it cannot tell sure predictions from unsure ones"
    if abs(gain.value) < NATS:
        return "it tells sure predictions from unsure ones no better than one constant std"
    if gain.low is not None and gain.low > 0:
        return f"it tells sure predictions from unsure ones ({gain.value:.3f} nats better than one constant std)"
    if gain.high is not None and gain.high < 0:
        return f"one constant std would be better ({-gain.value:.3f} nats): it points at the wrong candidates"
    return "it is not shown to tell sure predictions from unsure ones better than one constant std"
