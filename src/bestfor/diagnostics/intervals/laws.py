"""Give the five laws and the pairwise accuracy intervals, by letting one user after the other leave.

Every law follows from weighted sums over users (:class:`LawParts`), so that it can be had without each of them: the
variance is the jackknife's over users, the quantile Student's. Queries that belong to one user vary with the user.
Texts that users share vary by themselves: standard errors are then larger by the factor by which texts enlarge that of
the exact gain at the same N, which rests on the same texts. The interval of a law's relative error is that of the ratio
itself, law and curve moving together. In the law of pairs the shape of the pools' utilities is taken as known: what
moves is how much Best-of-2 captures and what the oracle gains, which makes its intervals a little too wide. Coverage:
docs/results/verdicts.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from bestfor.diagnostics.intervals.clustered import FEWEST_USERS
from bestfor.diagnostics.intervals.jackknife import half_width, jackknife
from bestfor.diagnostics.quantities.collapse import Collapse
from bestfor.diagnostics.quantities.laws import LAWS, bound_growths, normal_growths
from bestfor.diagnostics.quantities.pairs import PairCurve
from bestfor.diagnostics.quantities.queries import SumsByUser, doubling_grid
from bestfor.types import Estimate, FloatArray, IntArray

_SINGLE = (
    "weight", "judged", "collapsed", "sigma", "active", "r", "gain_of_two", "oracle_of_two", "accuracy", "rated",
)  # fmt: skip
_SERIES = ("reward", "pool", "gain", "oracle")
_NOTHING = 1e-12
_NEAR = 1e-9


@dataclass(frozen=True)
class LawParts:
    """Sums by user that a model's laws follow from; U users, K values of N.

    Attributes:
        n: shape (K,).
        users: shape (U, 10 + 4 K), each user's part of the weighted sums: weights, users judged and collapsed, sigma;
            weight and correlation of active queries; gain and oracle's gain at 2; pairwise accuracy and whether there
            are pairs; then, at every N, the laws `reward` and `pool`, the gain and the oracle's.
        curve: the law of pairs.
    """

    n: IntArray
    users: FloatArray
    curve: PairCurve

    def values(self, sums: FloatArray) -> FloatArray:
        """Compute laws, the gain and the accuracy from sums.

        Args:
            sums: shape (R, columns).

        Returns:
            Shape (R, L K + K + 1): law by law at every N, the gain at every N, the accuracy.
        """
        one = {name: sums[:, place] for place, name in enumerate(_SINGLE)}
        width, first = len(self.n), len(_SINGLE)
        many = {
            name: sums[:, first + place * width : first + (place + 1) * width] / one["weight"][:, None]
            for place, name in enumerate(_SERIES)
        }
        alpha = _over(one["collapsed"], one["judged"])
        product = one["sigma"] / one["weight"] * (1 - alpha) * _over(one["r"], one["active"])
        laws = {
            "bound": product[:, None] * bound_growths(self.n),
            "normal": product[:, None] * normal_growths(self.n),
            "reward": many["reward"],
            "pool": many["pool"],
            "pairs": many["oracle"] * self.curve.at(_over(one["gain_of_two"], one["oracle_of_two"], np.nan)),
        }
        exact = np.abs(laws["pairs"] - many["gain"]) <= _NEAR * np.abs(many["gain"])  # at N = 2, which it is made from
        laws["pairs"] = np.where(exact, many["gain"], laws["pairs"])
        drawn = self.n > 1  # one candidate gains nothing, and rounding must not have an interval
        laws = {law: np.where(drawn, gains, 0.0) for law, gains in laws.items()}
        accuracy = _over(one["accuracy"], one["rated"], np.nan)
        return np.concatenate([*(laws[law] for law in LAWS), many["gain"], accuracy[:, None]], axis=1)

    @property
    def whole(self) -> FloatArray:
        """The values from all users, shape (L K + K + 1,)."""
        return self.values(self.users.sum(axis=0, keepdims=True))[0]

    def plain_pairs(self) -> FloatArray:
        """Compute the plain form of the law of pairs, shape (K,); NaN where it has no root."""
        sums = self.users.sum(axis=0)
        return self.curve.plain(float(sums[_SINGLE.index("gain_of_two")] / sums[_SINGLE.index("weight")]))

    def pairs(self) -> FloatArray:
        """Compute the law of pairs, shape (K,)."""
        width = len(self.n)
        return self.whole[LAWS.index("pairs") * width :][:width]


@dataclass(frozen=True)
class LawEnds:
    """Ends of intervals; NaN where there are none.

    Attributes:
        law: name of a law -> shape (2, K).
        error: name of a law -> shape (2, K), of its relative error.
    """

    law: dict[str, FloatArray]
    error: dict[str, FloatArray]


def law_parts(
    sums: SumsByUser, name: str, n: IntArray, weight: FloatArray, judged: tuple[Collapse, PairCurve]
) -> LawParts:
    """Collect the sums of one model.

    Args:
        sums: by user.
        name: the model's.
        n: shape (K,).
        weight: shape (U,), the weight of each query of a user.
        judged: who has collapsed, and the law of pairs.
    """
    own, curve = judged
    model, utility = sums.models[name], sums.utility
    grid = doubling_grid(n)
    two = int(np.searchsorted(grid, 2))
    known = two < len(grid)
    active = weight * ~own.collapsed
    mean = weight * utility.mean
    nothing = np.full(len(weight), np.nan)
    rated = utility.pairs > 0
    single = [
        weight * utility.queries,
        own.judged.astype(np.float64),
        (own.judged & own.collapsed).astype(np.float64),
        weight * utility.sigma,
        active * model.varying,
        active * (model.plus + model.minus),
        weight * model.curve[:, two] - mean if known else nothing,
        weight * utility.oracle[:, two] - mean if known else nothing,
        np.where(rated, model.right / np.maximum(utility.pairs, 1), 0.0),
        rated.astype(np.float64),
    ]
    series = [
        active[:, None] * model.reward,
        active[:, None] * model.pool,
        weight[:, None] * (model.gain + model.rest),
        weight[:, None] * utility.headroom,
    ]
    return LawParts(n, np.concatenate([np.stack(single, axis=1), *series], axis=1), curve)


FoldOfLaws: TypeAlias = tuple[tuple[str, ...], LawParts]
"""Ids of a fold's users, and their sums."""


def law_ends(folds: Sequence[FoldOfLaws], level: float, by_texts: FloatArray | None = None) -> tuple[LawEnds, Estimate]:
    """Find the intervals of one model's laws, averaged over folds whose users are matched by id, and its accuracy.

    Args:
        folds: ids of the users and their sums, with the same N.
        level: nominal coverage.
        by_texts: shape (K,), factor by which shared texts enlarge the standard error of the gain; None without any.
    """
    names = sorted({user for users, _ in folds for user in users})
    place = {user: row for row, user in enumerate(names)}
    width = folds[0][1].users.shape[1]
    joined = np.zeros((len(names), width * len(folds)))
    for f, (users, parts) in enumerate(folds):
        joined[[place[user] for user in users], f * width : (f + 1) * width] = parts.users

    k = len(folds[0][1].n)

    def statistic(sums: FloatArray) -> FloatArray:
        parts = [one.values(sums[:, f * width : (f + 1) * width]) for f, (_, one) in enumerate(folds)]
        mean = np.mean(parts, axis=0)
        laws, gain = mean[:, : len(LAWS) * k], np.tile(mean[:, len(LAWS) * k : -1], len(LAWS))
        errors = np.full(laws.shape, np.nan)
        np.divide(laws - gain, gain, out=errors, where=np.abs(gain) > _NOTHING)
        return np.concatenate([laws, errors, mean[:, -1:]], axis=1)

    with np.errstate(divide="ignore", invalid="ignore"):
        values, errors, carried = jackknife(joined, statistic)
    users = len(names)
    moved = np.maximum(carried, 2)  # all users have weight, those that move nothing but rounding, too
    errors = errors * np.sqrt(moved / (moved - 1) * (users - 1) / users)
    half = np.array([half_width(float(one), users, level) for one in errors])
    if by_texts is not None:
        at_two = by_texts[min(int(np.searchsorted(folds[0][1].n, 2)), k - 1)]
        half = half * np.r_[np.tile(by_texts, 2 * len(LAWS)), at_two]
    if users < FEWEST_USERS:
        half[:] = np.nan
    ends = np.stack([values - half, values + half])
    law, error = ends[:, : len(LAWS) * k], ends[:, len(LAWS) * k : -1]
    low, high = (None if np.isnan(end) else float(end) for end in ends[:, -1])
    return LawEnds(_by_law(law, k), _by_law(error, k)), Estimate(float(values[-1]), low, high, level)


def _by_law(ends: FloatArray, k: int) -> dict[str, FloatArray]:
    return {law: ends[:, place * k : (place + 1) * k] for place, law in enumerate(LAWS)}


def _over(above: FloatArray, below: FloatArray, otherwise: float = 0.0) -> FloatArray:
    result = np.full(len(above), otherwise)
    np.divide(above, below, out=result, where=(below != 0) & np.isfinite(above) & np.isfinite(below))
    return result
