"""Say whether a predicted standard deviation can be believed, by the intervals of what was measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bestfor.diagnostics.calibration import Calibration

NATS = 0.002
"""Differences in mean log-likelihood below this are not worth a word."""

CLOSE = 1.05
"""Errors within 5 % of the predicted standard deviation are as predicted."""

WIDE = 1.25
"""An interval whose ends are further than this factor from 1 does not say that the size is right."""

_JUDGED_AT = 0.9


def calibrated(found: Calibration) -> str:
    """Say whether a predicted standard deviation can be believed, and what to do where it cannot; "" if unknown."""
    if not found.temperature.value >= 0:
        return ""
    few_values = found.values is not None and any(one.share.low is not None for one in found.coverage)
    size = _covers(found) if few_values else _size(found)
    return f"{size}; {_knows(found)}. Picks use the mean alone, so this changes no curve."


def _size(found: Calibration) -> str:
    factor, t = math.sqrt(found.temperature.value), found.temperature
    if t.low is None or t.high is None:
        carries = "one user alone carries" if found.users == 1 else "so few users carry"
        return f"errors are {factor:.2f} times what its std says; {carries} no interval"
    low, high = math.sqrt(max(t.low, 0.0)), math.sqrt(max(t.high, 0.0))
    errors = f"errors are {factor:.2f} times what its std says ({low:.2f} to {high:.2f})"
    if low > 1 and factor > CLOSE:
        return f"it is too sure: {errors}; multiply its std by that"
    if high < 1 and factor < 1 / CLOSE:
        return f"it is not sure enough: {errors}; multiply its std by that"
    if high > WIDE or low < 1 / WIDE:
        return f"whether its std has the right size cannot be told: {errors}"
    return f"its std has the right size within its interval: {errors}"


def _covers(found: Calibration) -> str:
    """Judge by coverage, which knows that utilities of few values are rounded and cannot leave their range."""
    known = [one for one in found.coverage if one.share.low is not None and one.share.high is not None]
    wrong = [one for one in known if not (one.share.low or 0.0) <= one.level <= (one.share.high or 0.0)]
    shown = min(wrong or known, key=lambda one: abs(one.level - _JUDGED_AT))
    low, high = 100 * (shown.share.low or 0.0), 100 * (shown.share.high or 0.0)
    held = f"its {100 * shown.level:g}% intervals hold {100 * shown.share.value:.1f}% ({low:.1f}% to {high:.1f}%)"
    if not wrong:
        return f"its std is right within its interval: {held} of the utilities"
    factor = math.sqrt(found.temperature.value)
    errors = f"errors are {factor:.2f} times what its std says"
    if shown.share.value < shown.level:
        step = f"{errors}; multiply its std by that" if factor > CLOSE else "widen it"
        return f"it is too sure: {step}; {held}"
    step = f"{errors}; multiply its std by that" if factor < 1 / CLOSE else "narrow it"
    return f"it is not sure enough: {step}; {held}"


def _knows(found: Calibration) -> str:
    gain = found.tempered_gain
    if len(found.reliability.candidates) == 1:
        return "it is the same for nearly all candidates, so it cannot tell sure predictions from unsure ones"
    if math.isnan(gain.value):
        return "whether it tells sure predictions from unsure ones is unknown"
    if abs(gain.value) < NATS:
        return "it tells sure predictions from unsure ones no better than one constant std"
    if gain.low is not None and gain.low > 0:
        return f"it tells sure predictions from unsure ones ({gain.value:.3f} nats better than one constant std)"
    if gain.high is not None and gain.high < 0:
        return f"one constant std would be better ({-gain.value:.3f} nats): it points at the wrong candidates"
    return "it is not shown to tell sure predictions from unsure ones better than one constant std"
