"""Take out of labels what everybody makes of a text beyond its features, where people share texts.

    y = z'(theta_0 + d_u) + v_t + ...,   v_t ~ N(0, m s2)

Many people's labels of one text err together. Without v_t a few hundred texts count as many thousand facts about
theta_0, and what is peculiar to a text is learned as what people differ in. v_t and the doubt about theta_0 are those
of the pooled ridge (:mod:`bestfor.rewards.linear.pooled`); the mean of v_t is taken off every label, and of an unseen
text its variance remains.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from bestfor.rewards.hierarchical.users import UserPosteriors
from bestfor.rewards.linear.pooled import solve_ridge, text_means
from bestfor.rewards.rows import FeatureRows, share_texts
from bestfor.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class TextEffects:
    """Rows without their texts' effects.

    Attributes:
        rows: n rows, v_t's mean taken off each label.
        text: shape (n,), codes of their texts; empty where nothing was taken off.
        variance: of v_t; 0 where no texts are shared.
        covariance: shape (p, p), of theta_0, texts counted as texts; None where none are shared.
    """

    rows: FeatureRows
    text: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    variance: float = 0.0
    covariance: FloatArray | None = None

    def take(self, rows: FeatureRows, kept: BoolArray) -> TextEffects:
        """Some of the rows, coded anew; theta_0's doubt stays that of all."""
        return replace(self, rows=rows, text=self.text[kept])

    def correct(self, posteriors: UserPosteriors) -> UserPosteriors:
        """Put the doubt about theta_0 in the place of that of independent rows."""
        if self.covariance is None:
            return posteriors
        normal = np.linalg.inv(self.covariance)
        normal = (normal + normal.T) / 2
        right = normal @ posteriors.shared
        return replace(posteriors, normal=normal, right=right, shared_covariance=self.covariance)


def without_text_effects(rows: FeatureRows, text: IntArray) -> TextEffects:
    """Take texts' effects out of labels.

    Args:
        rows: n standardised rows; the last column of ``z`` is the intercept.
        text: shape (n,), codes of their texts.
    """
    if not share_texts(text):
        return TextEffects(rows)
    ridge = solve_ridge(rows, text)
    if not ridge.text:
        return TextEffects(rows)
    covariance = (ridge.covariance + ridge.covariance.T) / 2
    less = replace(rows, y=rows.y - text_means(ridge, rows.query, text))
    return TextEffects(less, text, ridge.text, covariance)
