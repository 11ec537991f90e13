"""Tell what could be captured at best: utilities are noisy, and an oracle that sees them picks lucky noise.

The within-query reliability L = var(mu) / var(U) of the utilities comes from repeated ratings of the same texts, from a
declared noise, or, as a lower bound, from the errors of a model on the utility's scale: what it cannot explain is taken
for noise. Which one, and what it assumes, stands beside the figures. From L follows the attainable headroom
(:mod:`bestfor.diagnostics.quantities.chances`), and captured of the attainable is the gain over it. A lower bound of L
makes the attainable headroom too small and its share an upper bound. The intervals are those of captured: the ceiling
counts as known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from bestfor.diagnostics.ceiling import Ceiling, UtilitySpread
from bestfor.diagnostics.quantities.chances import chance_gains
from bestfor.types import FloatArray, IntArray

if TYPE_CHECKING:
    from bestfor.diagnostics.result import Curve, DiagnosisResult, ModelDiagnosis

    Told = TypeVar("Told", bound=DiagnosisResult)

SMALLEST = 0.02
"""A model that explains less of the variance within queries bounds nothing."""

ASSUMPTIONS = {
    "repeated ratings": "ratings of the same text differ by noise alone",
    "declared noise": "the declared noise is that of every rating",
    "model": "what the model cannot explain is noise, so that at least this much can be known",
}


def with_ceiling(diagnosis: Told, noise: float | None = None) -> Told:
    """Add the ceiling and each model's captured of the attainable, where anything is known of the noise.

    Args:
        diagnosis: with evidence and calibrations.
        noise: declared standard deviation of a rating, in utility units; None where none is declared.
    """
    spreads = [one.spread for one in diagnosis.evidence if one.spread is not None]
    if not spreads or len(spreads) < len(diagnosis.evidence):
        return diagnosis
    variance = float(np.mean([one.variance for one in spreads]))
    found = _noise(diagnosis.models, spreads, noise) if variance > 0 else None
    if found is None:
        return diagnosis
    source, model, amount = found
    reliability = min(1 - amount / variance, 1.0)
    if not reliability > (SMALLEST if source == "model" else 0.0):
        return diagnosis
    headroom = diagnosis.oracle.value - diagnosis.pool_mean.value
    known = [value for one in spreads if one.values is not None for value in one.values]
    few = sorted(set(known)) if all(one.values is not None for one in spreads) else []
    gain = _attainable(spreads, reliability * variance, (few[0], few[-1]), diagnosis.n) if len(few) > 1 else None
    gain = np.sqrt(reliability) * headroom if gain is None else np.minimum(gain, headroom)
    share = np.full(len(gain), np.nan)
    np.divide(gain, headroom, out=share, where=(diagnosis.n > 1) & (headroom > 0))
    bound = source == "model"
    ceiling = Ceiling(source, model, ASSUMPTIONS[source], reliability, bound, len(few) > 1, gain, share)
    models = {
        name: replace(one, captured_attainable=_over(one.captured, share)) for name, one in diagnosis.models.items()
    }
    return replace(diagnosis, ceiling=ceiling, models=models)


def with_rated(diagnosis: Told, rated: float) -> Told:
    """Set the noise by repeated ratings, a variance, in a diagnosis of one data set; NaN changes nothing."""
    if not math.isfinite(rated):
        return diagnosis
    evidence = tuple(
        one if one.spread is None else replace(one, spread=replace(one.spread, rated=rated))
        for one in diagnosis.evidence
    )
    return replace(diagnosis, evidence=evidence)


def _noise(
    models: Mapping[str, ModelDiagnosis], spreads: Sequence[UtilitySpread], declared: float | None
) -> tuple[str, str, float] | None:
    """Find the noise's variance by the best source there is: its name, the model, the variance."""
    rated = float(np.mean([one.rated for one in spreads]))
    if math.isfinite(rated):
        return "repeated ratings", "", rated
    if declared is not None:
        return "declared noise", "", declared**2
    known = {name: model.calibration.evidence for name, model in models.items() if model.calibration is not None}
    errors = {
        name: float(sums.parts.errors.sum() / sums.parts.count.sum())
        for name, sums in known.items()
        if sums is not None
    }
    if not errors:
        return None
    best = min(errors, key=lambda name: errors[name])
    return "model", best, errors[best]


def _attainable(
    spreads: Sequence[UtilitySpread], variance: float, ends: tuple[float, float], n: IntArray
) -> FloatArray:
    """Compute the expected maximum of the chances behind utilities between two ends, over their mean."""
    low, width = ends[0], ends[1] - ends[0]
    mean = float(np.mean([one.mean for one in spreads]))
    return width * chance_gains((mean - low) / width, variance / width**2, n)


def _over(captured: Curve, share: FloatArray) -> Curve:
    parts = [np.full(len(share), np.nan) for _ in range(3)]
    for part, values in zip(parts, (captured.value, captured.low, captured.high), strict=True):
        np.divide(values, share, out=part, where=share > 0)
    return replace(captured, value=parts[0], low=parts[1], high=parts[2])


def attainable(diagnosis: DiagnosisResult, model: ModelDiagnosis) -> str | None:
    """Say what a model captures of what can be known, beside what it captures of what an oracle sees."""
    ceiling, found = diagnosis.ceiling, model.captured_attainable
    if ceiling is None or found is None or len(diagnosis.n) < 2 or not math.isfinite(found.value[-1]):
        return None
    n, seen, known = int(diagnosis.n[-1]), float(model.captured.value[-1]), float(found.value[-1])
    source = f"the errors of '{ceiling.model}'" if ceiling.model else ceiling.source
    share = f"{100 * ceiling.share[-1]:.0f}%"
    most = "at most " if ceiling.bound and known > 0 else ""
    part = f"{most}{100 * known:.0f}%" if known < 1 else "perhaps all" if ceiling.bound else "all"
    return (
        f"At N = {n} it captures {100 * seen:.0f}% of what an oracle gains that sees the utilities with their noise, "
        f"and {part} of what can be known ({share} of the oracle's gain, by {source}: "
        f"{ceiling.assumption})."
    )
