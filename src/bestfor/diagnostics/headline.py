"""Write the headline of a diagnosis: a verdict in at most twenty words, one number, one caveat."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bestfor.diagnostics.cautions import reward_is_utility, says_nothing, sure_mean
from bestfor.diagnostics.intervals.clustered import FEWEST_USERS
from bestfor.types import Estimate

if TYPE_CHECKING:
    from bestfor.diagnostics.result import BestN, DiagnosisResult, ModelDiagnosis

ONE_USER = "One user alone carries no interval and says nothing about other users."
NOTHING_TO_WIN = "Nothing to win: within every query all candidates have the same utility, so no choice can gain."
MANY_COLLAPSED = 0.2


def headline(diagnosis: DiagnosisResult, best: str) -> str:
    """Write the verdict on the best model; where its numbers are unknown the present headline stays.

    Args:
        diagnosis: complete but for the headline.
        best: name of the model.
    """
    model, n = diagnosis.models[best], int(diagnosis.n[-1])
    headroom = diagnosis.oracle.value[-1] - diagnosis.pool_mean.value
    if math.isnan(headroom) or not np.array_equal(model.utility.n, diagnosis.n) or math.isnan(model.gain.value[-1]):
        return diagnosis.headline
    if n == 1:
        return "One candidate a query: there is nothing to choose."
    if not np.isfinite(model.captured.value[-1]):
        return NOTHING_TO_WIN
    if reward_is_utility(diagnosis, model) is not None:
        return f"`{best}` captures all there is to win: a leak or an oracle, not a prediction."
    return f"{_verdict(diagnosis, model, best, float(headroom))}."


def number(value: float, scale: float, *, signed: bool = False) -> str:
    """Write a utility with the digits that three significant ones of a scale take.

    Args:
        value: to write.
        scale: such as the headroom.
        signed: with a plus sign where it is not negative.
    """
    size = abs(scale) if scale and math.isfinite(scale) else 1.0
    places = max(2 - math.floor(math.log10(size)) - (size < 1), 0)
    text = f"{value:{'+' if signed else ''}.{places}f}" if places < 7 else f"{value:{'+' if signed else ''}.2e}"
    return text


def share_range(estimate: Estimate, level: float) -> str:
    """Write the interval of a share, which cannot exceed 1 while its t interval can."""
    if estimate.low is None or estimate.high is None:
        return ""
    capped = ", capped" if estimate.high > 1 else ""
    return f" ({100 * level:g}% interval {100 * estimate.low:.0f}% to {100 * min(estimate.high, 1.0):.0f}%{capped})"


def rivals(diagnosis: DiagnosisResult, name: str) -> tuple[str, ...]:
    """Name the models, baselines apart, that a model is not shown to be better than at the largest N."""
    found = [pair for pair in diagnosis.comparisons if pair.n == int(diagnosis.n[-1]) and pair.model == name]
    open_pairs = [pair.against for pair in found if pair.difference.low is None or pair.difference.low <= 0]
    return tuple(other for other in open_pairs if other in diagnosis.models and not diagnosis.models[other].baseline)


def _verdict(diagnosis: DiagnosisResult, model: ModelDiagnosis, name: str, headroom: float) -> str:
    price = next(iter(model.best_n), None)
    gain = model.gain.at(int(diagnosis.n[-1]))
    n = int(diagnosis.n[-1])
    said = f"{number(gain.value, headroom, signed=True)} of {number(headroom, headroom)}"
    if diagnosis.users == 1:
        return f"Best-of-{n} with `{name}`: {said}; one user alone says nothing about others"
    if gain.high is not None and gain.high < 0:
        return f"Do not pick by `{name}`: Best-of-{n} is worse than a random answer, {said}"
    if diagnosis.users < FEWEST_USERS:
        few = f"Too few users to tell ({diagnosis.users})"
        return f"{few}: Best-of-{n} with `{name}` gains {said}{_span(gain, headroom)}"
    if says_nothing(model):
        nothing = f"`{name}` says nothing about the utility, its correlations are as chance gives"
        return f"{nothing}: {said}{_span(gain, headroom)}"
    if price is None or not price.verdict:
        return f"Best-of-{n} with `{name}`: {said}{_span(gain, headroom)}"
    if price.verdict == "pays":
        return _pays(diagnosis, price, name, headroom)
    if price.verdict == "does not pay":
        return f"Best-of-N with `{name}` does not pay at {price.stated.label} a {price.per}: {said}"
    if price.verdict == "undecided":
        return f"Undecided: `{name}` gains {said}, worth its price or not{_span(gain, headroom)}"
    return f"Best-of-{n} with `{name}` is not shown to gain: {said}{_span(gain, headroom)}"


def _pays(diagnosis: DiagnosisResult, price: BestN, name: str, headroom: float) -> str:
    gain = f"{number(price.gain.value, headroom, signed=True)} of {number(price.headroom, headroom)}"
    return f"Best-of-{price.n} with `{name}` pays: {gain}{_caveat(diagnosis, price, name, headroom)}"


def _caveat(diagnosis: DiagnosisResult, price: BestN, name: str, headroom: float) -> str:
    """Name one thing to know before acting: a rival, many collapsed users, or how sure the gain is."""
    others = rivals(diagnosis, name)
    if len(others) == 1:
        return f"; not shown better than `{others[0]}`"
    if others:
        return f"; not shown better than {len(others)} other models"
    model = diagnosis.models[name]
    alpha, flat = model.quantities.alpha.value, model.per_user.gain[model.per_user.collapsed]
    if alpha >= MANY_COLLAPSED and not sure_mean(flat, diagnosis.level):
        return f"; {100 * alpha:.0f}% of users have collapsed rewards"
    return _span(price.gain, headroom)


def _span(estimate: Estimate, scale: float) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f" ({number(estimate.low, scale)} to {number(estimate.high, scale)})"
