"""Write the sentences about models that are level: which they are, and what the largest figure is worth.

Models are level where the best of them is not shown to be better than the others; the largest of their figures is then
somewhat too large.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bestfor.diagnostics.compare import shrunk_winner
from bestfor.diagnostics.headline import rivals

if TYPE_CHECKING:
    from bestfor.diagnostics.result import DiagnosisResult, ModelDiagnosis

NAMED = 6
"""Models that a sentence names at most."""

LARGEST_OF = "The largest of "
"""How the sentence on the shrunk figure begins."""


def level_models(diagnosis: DiagnosisResult, model: ModelDiagnosis) -> str | None:
    """Name the models that gain for sure and are not told apart from the best one; None of a model that is not best."""
    names = _level(diagnosis, model)
    if len(names) < 2:
        return None
    two = len(names) == 2
    others, cheapest = ("the other", "cheaper") if two else ("the others", "cheapest")
    return (
        f"{_listed(names)} are level here (the first is not shown better than {others}): take the {cheapest} of them; "
        "costs are not measured."
    )


def shrunk_share(diagnosis: DiagnosisResult, model: ModelDiagnosis) -> str | None:
    """Say what the largest of several level figures is worth, where that differs in the digits that are shown."""
    names = _level(diagnosis, model)
    if len(names) < 3:
        return None
    shares = [float(diagnosis.models[name].captured.value[-1]) for name in names]
    judged = shrunk_winner([diagnosis.models[name].per_user for name in names], diagnosis.averaging)
    if math.isnan(judged) or _percent(judged) == _percent(shares[0]):
        return None
    return (
        f"{LARGEST_OF}{len(names)} level figures is too large on average: captured {_percent(shares[0])}, where all of "
        f"them capture {_percent(float(np.mean(shares)))} on average; shrunk by its noise it is {_percent(judged)}."
    )


def _level(diagnosis: DiagnosisResult, model: ModelDiagnosis) -> tuple[str, ...]:
    best = diagnosis.best
    if best is None or diagnosis.models[best] is not model or not len(diagnosis.n):
        return ()
    names = (best, *rivals(diagnosis, best))
    return tuple(name for name in names if _gains(diagnosis.models[name])) if _gains(model) else ()


def _gains(model: ModelDiagnosis) -> bool:
    return len(model.gain.low) > 0 and bool(model.gain.low[-1] > 0) and bool(np.isfinite(model.captured.value[-1]))


def _listed(names: Sequence[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    if len(quoted) > NAMED:
        return f"{', '.join(quoted[: NAMED - 1])} and {len(quoted) - NAMED + 1} more"
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"
