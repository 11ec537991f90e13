"""Compare models on the same queries: differences of captured and of alpha, beta and rho, each with its interval.

All differences are paired: one user's leaving moves both models at once, and the interval is that of the difference.
Corrected beta comes from a likelihood and not from sums over users. Its difference has the interval

    d - sqrt(A^2 + B^2 - 2 c A B)  to  d + sqrt(C^2 + D^2 - 2 c C D)
    A = b1 - l1,   B = u2 - b2,   C = u1 - b1,   D = b2 - l2

of two estimates b with intervals l to u (Zou & Donner 2008; Zou 2007 for paired ones), c their correlation when the
same users are drawn again for both. Where l is 0 it is the edge of what can be and no error of an estimate: c is 0
there, and also where it would be negative, so that the interval is rather too wide. Coverage: docs/results/verdicts.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from bestfor.diagnostics.intervals.clustered import Panel
from bestfor.diagnostics.intervals.means import (
    POOL,
    CurveMean,
    LinearForm,
    QuantityMean,
    Ratio,
    collapsed_share,
    mean_correlation,
    mean_negative,
    mean_positive,
    negative_ratio,
)
from bestfor.diagnostics.quantities.mixture import Corrected
from bestfor.diagnostics.result import Comparison, ModelDiagnosis, PerUser
from bestfor.types import Averaging, Estimate, FloatArray, IntArray

_NONE = np.zeros(0)
_EDGE = 1e-6


@dataclass(frozen=True)
class QuantityPanels:
    """Means behind alpha, beta and rho.

    Attributes:
        folds: of several folds, whose ratios are averaged.
        joined: the same as one, for ratios of sums over all folds.
        resampled: one a fold, each model's shares of clearly negative correlations when users are drawn again.
    """

    folds: Panel[QuantityMean]
    joined: Panel[QuantityMean]
    resampled: Sequence[Mapping[str, FloatArray]] = ()

    @classmethod
    def of(cls, folds: Panel[QuantityMean], resampled: Sequence[Mapping[str, FloatArray]] = ()) -> QuantityPanels:
        """Join the folds."""
        return cls(folds, folds if len(folds.folds) == 1 else folds.joined(), resampled)

    def together(self, model: str, other: str) -> float:
        """Correlate two models' shares of clearly negative correlations over the resamples; 0 if unknown or below."""
        pairs = [(one.get(model, _NONE), one.get(other, _NONE)) for one in self.resampled]
        if not pairs or any(len(first) != len(second) or len(first) < 2 for first, second in pairs):
            return 0.0
        covariance = np.sum([np.cov(first, second) for first, second in pairs], axis=0)
        scale = float(covariance[0, 0] * covariance[1, 1]) ** 0.5
        return min(max(float(covariance[0, 1]) / scale, 0.0), 1.0) if scale > 0 else 0.0


def shrunk_winner(models: Sequence[PerUser], averaging: Averaging) -> float:
    """Shrink what the first of several models captures towards what all of them do, as far as they differ by noise.

    With S^2 the variance of the K shares c and v the part of it that is noise, from each user's part of them less the
    mean over models, c_1 becomes m + max(1 - v / S^2, 0) (c_1 - m), m their mean (James & Stein 1961; the users of all
    models are the same, so that only differences count as noise).

    Args:
        models: each user's gain and headroom at the largest N, one a model, at least two.
        averaging: whether users or queries weigh the same.

    Returns:
        The share; NaN where users are not the same or there is nothing to win.
    """
    users = len(models[0].user)
    if users < 2 or any(one.user != models[0].user for one in models):
        return math.nan
    weight = models[0].queries.astype(np.float64) if averaging == "query" else np.ones(users)
    gain, headroom = weight * np.stack([one.gain for one in models]), weight * models[0].headroom
    whole = float(headroom.sum())
    if not whole > 0:
        return math.nan
    share = gain.sum(axis=1) / whole
    parts = (gain - share[:, None] * headroom) / whole
    parts -= parts.mean(axis=0)
    noise = float((parts**2).sum()) * users / (users - 1) / (len(models) - 1)
    spread = float(share.var(ddof=1))
    trust = max(1 - noise / spread, 0.0) if spread > 0 else 0.0
    return float(share.mean() + trust * (share[0] - share.mean()))


def headroom_at(drawn: int) -> LinearForm[CurveMean]:
    """Express the oracle's gain at one N."""
    return {CurveMean("oracle", drawn): 1.0, POOL: -1.0}


def comparisons(
    best: str, models: Mapping[str, ModelDiagnosis], n: IntArray, panels: tuple[Panel[CurveMean], QuantityPanels]
) -> tuple[Comparison, ...]:
    """Compare every pair of models at every N above 1, the better one first and the best one's pairs leading.

    Of each quantity, and of captured at each N, the intervals of all pairs hold together (Sidak's levels).

    Args:
        best: name of the best model.
        models: by name.
        n: shape (K,).
        panels: of curves and of quantities.

    Returns:
        Nothing where there is no headroom.
    """
    count = len(models) * (len(models) - 1) // 2
    curves, quantities = panels[0].at_level(panels[0].level ** (1 / max(count, 1))), panels[1]
    level = panels[0].level
    quantities = replace(quantities, folds=quantities.folds.at_level(curves.level))
    quantities = replace(quantities, joined=quantities.joined.at_level(curves.level))
    if not np.isfinite(next(iter(models.values())).captured.value).any():
        return ()
    ranked = [best, *sorted((name for name in models if name != best), key=lambda name: -models[name].rank)]
    found: list[Comparison] = []
    for better, other in combinations(ranked, 2):
        differences = {
            name: replace(one, level=level)
            for name, one in quantity_differences(better, other, models, quantities).items()
        }
        found += [
            Comparison(
                better, other, drawn, replace(_captured(curves, better, other, drawn), level=level), **differences
            )
            for drawn in n.tolist()
            if drawn > 1
        ]
    return tuple(found)


def _captured(curves: Panel[CurveMean], model: str, other: str, drawn: int) -> Estimate:
    ahead, behind = CurveMean("pick", drawn, model), CurveMean("pick", drawn, other)
    return curves.interval({ahead: 1.0, behind: -1.0}, headroom_at(drawn))


def quantity_differences(
    model: str, other: str, models: Mapping[str, ModelDiagnosis], panels: QuantityPanels
) -> dict[str, Estimate]:
    """Compute the differences of alpha, beta, rho, rho_plus, rho_minus and corrected beta_05 of two models."""

    def apart(panel: Panel[QuantityMean], first: Ratio, second: Ratio) -> Estimate:
        return panel.interval_of(((1.0, *first), (-1.0, *second)))

    folds, joined = panels.folds, panels.joined
    beta = apart(folds, negative_ratio(model), negative_ratio(other))
    if beta.low is None or beta.low == beta.high:
        beta = folds.share_difference(negative_ratio(model), negative_ratio(other))
    return {
        "alpha": folds.share_difference(collapsed_share(model), collapsed_share(other)),
        "beta": beta,
        "rho": apart(folds, mean_correlation(model), mean_correlation(other)),
        "rho_plus": apart(joined, mean_positive(model), mean_positive(other)),
        "rho_minus": apart(joined, mean_negative(model), mean_negative(other)),
        "beta_05": corrected_difference(
            models[model].quantities.corrected,
            models[other].quantities.corrected,
            folds.level,
            panels.together(model, other),
        ),
    }


def corrected_difference(
    first: Corrected | None, second: Corrected | None, level: float, together: float = 0.0
) -> Estimate:
    """Estimate the difference of two corrected shares; NaN where one of them or its interval is not known.

    Args:
        first: quantities of one model.
        second: of the one that is taken off.
        level: nominal coverage of their intervals.
        together: how their errors correlate, 0 to 1.
    """
    nothing = Estimate(math.nan, None, None, level)
    if first is None or second is None:
        return nothing
    ends = [(one.beta_05_low, one.beta_05_high) for one in (first, second)]
    if any(math.isnan(end) for pair in ends for end in pair):
        return nothing
    (low, high), (low_2, high_2) = ends
    b, b_2 = min(max(first.beta_05, low), high), min(max(second.beta_05, low_2), high_2)
    down = _joined(b - low, high_2 - b_2, together if low > _EDGE and high_2 < 1 - _EDGE else 0.0)
    up = _joined(high - b, b_2 - low_2, together if low_2 > _EDGE and high < 1 - _EDGE else 0.0)
    return Estimate(b - b_2, b - b_2 - down, b - b_2 + up, level)


def _joined(one: float, other: float, together: float) -> float:
    return math.sqrt(max(one**2 + other**2 - 2 * together * one * other, 0.0))
