"""Plain sentences on what to do next: draw more, stop earlier, give users their own N."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bestfor.diagnostics.results import Diagnosis, ModelDiagnosis

COST = 0.01
"""Of one doubling, in utility units: the price that the headline speaks of."""


def larger_pools(diagnosis: Diagnosis, model: ModelDiagnosis) -> str | None:
    """Whether more candidates than the largest N would pay, where doubling still does."""
    largest, outlook = int(diagnosis.n[-1]), model.outlook
    still = next(one.n for one in model.best_n if one.cost_in_utility_units == COST) == largest
    if outlook is None or not still or largest == 1:
        return None
    reach, gain = outlook.extrapolation, model.gain.at(largest).value
    pays = f"Doubling N still pays at N = {largest}"
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
