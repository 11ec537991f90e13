"""Say in one sentence which growth term fits a curve, and why."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bestfor.diagnostics.cautions import says_nothing
from bestfor.diagnostics.quantities.laws import LAWS

if TYPE_CHECKING:
    from bestfor.diagnostics.result import DiagnosisResult, ModelDiagnosis

FITS = 0.15
"""A law whose error is larger for sure explains nothing."""

FITTING = ("Of the growth terms", "No growth term fits")
"""How the sentence begins."""

WHY = {
    "normal": "rewards and utilities are about normal",
    "reward": "utility is about linear in the reward, whose own maximum grows at this pace",
    "pool": "what can be won is bounded as the pools' own utilities are",
    "pairs": "the order of two candidates and the spread of the utilities tell the rest",
}


def fitting_law(diagnosis: DiagnosisResult, model: ModelDiagnosis) -> str | None:
    """Name the growth term that is closest to the curve at the largest N; None where there is no gain to predict."""
    n = int(diagnosis.n[-1]) if len(diagnosis.n) else 1
    ends = model.law_ends
    if n < 2 or ends is None or not len(model.gain.low) or not model.gain.low[-1] > 0 or says_nothing(model):
        return None
    error = {law: float(model.law_error[law][-1]) for law in LAWS if law in WHY and len(model.law_error[law])}
    error = {law: one for law, one in error.items() if math.isfinite(one) and (law != "pairs" or n > 2)}
    if not error:
        return None
    best = min(error, key=lambda law: abs(error[law]))
    low, high = (float(end) for end in ends.error[best][:, -1])
    between = "" if math.isnan(low) else f" ({100 * low:+.0f}% to {100 * high:+.0f}%)"
    off = f"{round(100 * error[best]) + 0:+d}% off{between}"
    if abs(error[best]) > FITS and (low > 0 or high < 0):
        return f"{FITTING[1]} at N = {n}: the closest, '{best}', is {off}. Go by the exact curve, not by a law."
    others = [law for law in error if law != best and ends.error[law][0, -1] <= 0 <= ends.error[law][1, -1]]
    more = f"; {_listed(others)} cannot be told from the curve either" if others else ""
    return f"{FITTING[0]} '{best}' is closest at N = {n}, {off}: {WHY[best]}{more}."


def _listed(laws: list[str]) -> str:
    names = [f"'{law}'" for law in laws]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
