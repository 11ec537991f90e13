"""Combine members: rewards, variances and their factor, from weights that cross-fitted predictions gave.

    R = c + (1 + a_u) sum_j w_j (shared_j - m_j) + (1 + b_u) sum_j w'_j own_j
    std_mean^2 = T sum_j q_j std_mean_j^2,   std^2 = T sum_j q_j std_j^2

q are the members' shares among those with standard deviations, and T makes squared errors of held-out labels what std
says (an upper bound of the doubt where members err in different directions).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bestfor.rewards.auto.members import MemberParts
from bestfor.types import FloatArray, RewardEstimate


@dataclass(frozen=True)
class Combination:
    """Weights of the members, in their order.

    Attributes:
        kinds: names of the members.
        shared: shape (members,), w.
        own: shape (members,), w'.
        middle: shape (members,), m, mean of the cross-fitted shared part.
        share: shape (members,), part in the spread of the combined prediction.
        spread: shape (members,), q.
        centre: c, mean utility of the fit.
        temperature: T.
    """

    kinds: tuple[str, ...]
    shared: FloatArray
    own: FloatArray
    middle: FloatArray
    share: FloatArray
    spread: FloatArray
    centre: float
    temperature: float

    def means(self, parts: Sequence[MemberParts]) -> tuple[FloatArray, FloatArray]:
        """Combined shared and own part, without the centre, each (n,)."""
        shared = sum(
            (w * (part.shared - m) for w, m, part in zip(self.shared, self.middle, parts, strict=True)),
            np.zeros(len(parts[0].shared)),
        )
        own = sum((w * part.own for w, part in zip(self.own, parts, strict=True)), np.zeros(len(parts[0].own)))
        return shared, own

    def variances(self, parts: Sequence[MemberParts]) -> tuple[FloatArray, FloatArray]:
        """Variance of the mean and predictive variance, each (n,)."""
        used = [(q, part) for q, part in zip(self.spread, parts, strict=True) if q > 0]
        none = np.zeros(len(parts[0].shared))
        doubt = sum((q * part.doubt for q, part in used), none)
        noise = sum((q * part.noise for q, part in used), none)
        return self.temperature * doubt, self.temperature * (doubt + noise)

    def estimate(self, parts: Sequence[MemberParts], factor: FloatArray, notes: tuple[str, ...] = ()) -> RewardEstimate:
        """Rewards of n rows.

        Args:
            parts: of each member.
            factor: shape (n, 2), 1 + a_u and 1 + b_u of each row's user.
            notes: of the estimate.
        """
        shared, own = self.means(parts)
        doubt, whole = self.variances(parts)
        mean = self.centre + factor[:, 0] * shared + factor[:, 1] * own
        return RewardEstimate(mean, np.sqrt(whole), np.sqrt(doubt), notes)

    def covariance(self, covers: Sequence[FloatArray | None]) -> FloatArray | None:
        """Posterior covariance of one query's means from those of the members."""
        used = [(q, cover) for q, cover in zip(self.spread, covers, strict=True) if q > 0]
        if not used or any(cover is None for _, cover in used):
            return None
        total = sum(q * cover for q, cover in used if cover is not None)
        return self.temperature * np.asarray((total + np.transpose(total)) / 2, dtype=np.float64)

    def state(self) -> dict[str, Any]:
        """JSON values."""
        return {"kinds": list(self.kinds), "centre": self.centre, "temperature": self.temperature}

    def array(self) -> FloatArray:
        """Weights, shape (5, members)."""
        return np.array([self.shared, self.own, self.middle, self.share, self.spread])


def restore_combination(state: dict[str, Any], weights: FloatArray) -> Combination:
    """Restore what ``state`` and ``array`` gave."""
    kinds = tuple(str(kind) for kind in state["kinds"])
    if weights.shape != (5, len(kinds)):
        raise ValueError(f"weights of shape {weights.shape} of {len(kinds)} members")
    shared, own, middle, share, spread = weights
    scalars = float(state["centre"]), float(state["temperature"])
    return Combination(kinds, shared, own, middle, share, spread, *scalars)


def describe(kinds: Sequence[str], share: FloatArray) -> str:
    """Say what each member contributes: "62 % tastes, 30 % pooled, 8 % length"."""
    order = np.argsort(-share, kind="stable")
    return ", ".join(f"{share[at]:.0%} {kinds[at]}".replace("%", " %") for at in order if share[at] > 0)
