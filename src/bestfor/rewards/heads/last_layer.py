"""Learn from further labels with the last layer of a trained network: the body stays, the user's head is a posterior.

    m = phi(x)'w,   w ~ N(v + v_u, C),   C^-1 = P + sum over the user's labels of the fit of phi phi' / s^2

The head that was trained is the mean, the prior that it was trained under and the curvature of the loss at the user's
labels are the precision: Laplace's approximation on the last layer (Daxberger et al. 2021), exact for squared error and
a fixed body. Rows that are only compared have a logistic loss, taken for a probit of width 1.702 (Camilli 1994).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from bestfor.data.labels import Labels
from bestfor.rewards.base_rows import BaseRows
from bestfor.rewards.heads.settings import LEVEL_PRECISION, LOG_LIMITS, UNIT_PRECISION, TrainingOptions
from bestfor.rewards.heads.user_heads import UserHeads
from bestfor.rewards.learner import BaseLabels, LabelTexts, Units, label_rows
from bestfor.rewards.posterior import (
    Belief,
    ComparedTexts,
    PreferredRows,
    RatedRows,
    condition,
    no_preferences,
    no_ratings,
)
from bestfor.types import FloatArray, IntArray

LOGISTIC = 1.702
"""Width of the probit that is most like the logistic function."""
PARTNERS = 16
"""Other labels that each is compared with at most, where ratings are only compared."""
LEAST_PRECISION = 1e-3


@dataclass(frozen=True)
class LastLayer:
    """Heads of all users with what is needed to learn on.

    Attributes:
        heads: as trained.
        training: the settings.
        base: labels of the fit, None where they are not kept.
        scale: centre and unit of the utility.
    """

    heads: UserHeads
    training: TrainingOptions
    base: BaseRows | None
    scale: tuple[float, float]

    @property
    def units(self) -> Units:
        """Scales on which labels are learned."""
        if self.training.pairwise:
            return Units(0.0, 1.0)
        return Units(*self.scale, self.heads.noise / LEVEL_PRECISION)

    @cached_property
    def newcomer(self) -> Belief:
        """The head of somebody without labels under the prior of users' deviations."""
        k = self.heads.mean.shape[1]
        precision = np.full(k, max(self.training.deviation, LEAST_PRECISION) * k)
        precision[-1] = LEVEL_PRECISION
        unit = 1.0 if self.training.pairwise else self.heads.noise
        mean = self.heads.mean[-1] if self.training.shared else np.zeros(k)
        return Belief(mean, np.diag(unit / precision))

    def columns(self, features: npt.NDArray[np.floating], code: int) -> FloatArray:
        """Compute what a mean is linear in, shape (n, k)."""
        found = self.heads.columns(features)
        if not self.heads.natural:
            return found
        second = found @ self.heads.spread[code]
        return found / np.maximum(np.logaddexp(0.0, second + UNIT_PRECISION), np.exp(-LOG_LIMITS[1]))[:, None]

    def noise(self, columns: FloatArray, code: int) -> FloatArray:
        """Variance of a label's noise, shape (n,)."""
        if self.heads.natural:
            return self.heads.noise * np.clip(columns[:, -1], *np.exp(LOG_LIMITS))
        if not self.heads.spread.shape[1]:
            return np.full(len(columns), self.heads.noise)
        return self.heads.noise * np.exp(np.clip(columns @ self.heads.spread[code], *LOG_LIMITS))

    def belief(self, code: int) -> Belief:
        """Posterior of a user's head after the fit."""
        if code < 0 or self.base is None:
            return self.newcomer if code < 0 else Belief(self.heads.mean[code], self.newcomer.covariance)
        mean, (rated, preferred) = self.heads.mean[code], self.base_rows(code)
        if self.training.pairwise:
            chance = 1 / (1 + np.exp(-preferred.x @ mean))
            curvature = np.maximum(chance * (1 - chance), 1e-6) * LOGISTIC**2 / preferred.noise
            rated = RatedRows(preferred.x, np.zeros(len(curvature)), 1 / curvature, np.arange(len(curvature)))
        return Belief(mean, condition(self.newcomer, rated).covariance)

    def base_rows(self, code: int) -> tuple[RatedRows, PreferredRows]:
        """Rows of a user's labels of the fit."""
        assert self.base is not None
        features, target, query = self.base.of(code)
        columns = self.columns(features, code)
        if self.training.pairwise:
            return no_ratings(columns.shape[1]), self._compared(columns, target, query, np.ones(len(target)))
        return RatedRows(columns, target, self.noise(columns, code), query, self.units.level), no_preferences(
            columns.shape[1]
        )

    def base_labels(self, code: int) -> BaseLabels | None:
        """Labels of the fit as evidence about a user who abstains."""
        if self.base is None or code < 0:
            return None
        level = np.zeros(len(self.newcomer.mean))
        level[-1] = self.newcomer.covariance[-1, -1]
        shared = Belief(self.heads.mean[-1], np.diag(level))
        return BaseLabels(*self.base_rows(code), self.newcomer, shared)

    def rows(self, labels: Labels, texts: LabelTexts, code: int) -> tuple[RatedRows, PreferredRows]:
        """Turn sorted labels into rows; where rows are only compared, ratings become preferences."""
        columns = self.columns(texts.features, code)
        if not self.training.pairwise:
            return label_rows(labels, texts, columns, self.noise(columns, code), self.units)
        rated, preferred = label_rows(labels, texts, columns, np.full(len(columns), LOGISTIC**2 / 2), self.units)
        weight = np.array([one.weight for one in labels.rated])
        compared = self._compared(rated.x, rated.y, rated.query, weight)
        x, noise = np.vstack([compared.x, preferred.x]), np.concatenate([compared.noise, preferred.noise])
        both = compared.texts, preferred.texts
        joined = None if both[0] is None or both[1] is None else both[0].join(both[1])
        return no_ratings(columns.shape[1]), PreferredRows(x, noise, joined)

    def _compared(self, columns: FloatArray, target: FloatArray, query: IntArray, weight: FloatArray) -> PreferredRows:
        group = query if self.training.pairs == "query" else np.zeros_like(query)
        better, worse, share = rating_pairs(target, group)
        both = share * (weight[better] + weight[worse]) / 2
        texts = ComparedTexts(columns, better, worse)
        return PreferredRows(texts.difference(columns), LOGISTIC**2 / both, texts)


def rating_pairs(utility: FloatArray, group: IntArray) -> tuple[IntArray, IntArray, FloatArray]:
    """Compare each rating with some of its group: better and worse rows, and what each comparison counts.

    As in training, a rating's comparisons count for one label together; equal utilities make none.
    """
    parts: list[tuple[IntArray, IntArray, FloatArray]] = []
    for one in np.unique(group):
        rows = np.flatnonzero(group == one)
        rows = rows[np.argsort(utility[rows], kind="stable")]
        if len(rows) < 2:
            continue
        steps = np.unique(np.rint(np.linspace(1, len(rows) - 1, min(len(rows) - 1, PARTNERS))).astype(np.int64))
        first = np.repeat(rows, len(steps))
        other = rows[(np.arange(len(rows))[:, None] + steps) % len(rows)].ravel()
        higher = utility[first] > utility[other]
        differ = utility[first] != utility[other]
        better, worse = np.where(higher, first, other)[differ], np.where(higher, other, first)[differ]
        parts.append((better, worse, np.full(len(better), 1 / len(steps))))
    if not parts:
        none = np.zeros(0, dtype=np.int64)
        return none, none, np.zeros(0)
    better, worse = (np.concatenate([part[place] for part in parts]).astype(np.int64) for place in (0, 1))
    return better, worse, np.concatenate([part[2] for part in parts])
