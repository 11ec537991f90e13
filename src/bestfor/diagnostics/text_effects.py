"""What a text does to the quantities: how correlations, their signs and collapse change when it leaves the pools.

With deviations u_i, r_i from a pool's means and k = m / (m - 1), leaving candidate i out turns each sum of products S
into S - k times i's own product, so every correlation and variance without one candidate has a closed form. A sign or
a verdict that flips counts as a whole change; over many pools these jumps average to a slope. As for curves each
pool's part is scaled by sqrt((m - 1) / m) and centred, so that squares sum to the variance of a mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bestfor.diagnostics.curves.best_of_n import chunks
from bestfor.diagnostics.ids import pick
from bestfor.diagnostics.intervals.influence import ROWS, Texts
from bestfor.diagnostics.table.pools import Pools
from bestfor.diagnostics.within import COLLAPSE, Collapse
from bestfor.diagnostics.within import ROUNDING as NONE
from bestfor.types import BoolArray, FloatArray, IntArray

ROUNDING = 1e-12
"""Sums of squares that fall below this share are constant without the candidate."""


@dataclass(frozen=True)
class UserSpread:
    """Sums by user that tell who has collapsed; U users.

    Attributes:
        weight: shape (U,), the weight of each query of a user.
        judged: shape (U,), queries with two candidates or more.
        variance: shape (U,), sums of the within-query variances of the utility.
        rewards: name of a model -> the same of its rewards.
        collapses: name of a model -> its collapse, by the rule of its scale and by the other one.
        on_utility: name of a model -> whether its own scale is the utility's.
    """

    weight: FloatArray
    judged: FloatArray
    variance: FloatArray
    rewards: dict[str, FloatArray]
    collapses: dict[str, tuple[Collapse, Collapse]]
    on_utility: dict[str, bool]


def quantity_effects(pools: Pools, user: npt.NDArray[np.integer], spread: UserSpread) -> Texts:
    """The change of every mean behind alpha, beta and rho when one text leaves the pools.

    Args:
        pools: with texts.
        user: shape (Q,), the pools' users among all users.
        spread: of all users.

    Returns:
        Effects and products for the columns judged, collapsed, other, active, negative, plus and minus of each model.
    """
    assert pools.text is not None
    width = 7 * len(pools.rewards)
    effect, cells = np.zeros((len(pools.text_ids), width)), np.zeros((width, width))
    present = np.zeros(len(pools.text_ids), dtype=np.bool_)
    for rows, m in chunks(pools.size, ROWS):
        block = _block(pools, rows, m, (user[rows], spread))
        block -= block.mean(axis=1, keepdims=True)
        flat = (block * np.sqrt((m - 1) / m)).reshape(-1, width)
        cells += flat.T @ flat
        text = pools.text[rows, :m].ravel()
        np.add.at(effect, text, flat)
        present[text] = True
    kept = np.flatnonzero(present)
    return Texts(pick(pools.text_ids, kept), effect[kept], cells)


def _block(
    pools: Pools, rows: IntArray | slice, m: int, users: tuple[npt.NDArray[np.integer], UserSpread]
) -> FloatArray:
    """Shape (B, m, columns): what a pool adds to each mean, with the candidate minus without it."""
    user, spread = users
    utility = _Without(pools.utility[rows, :m])
    result = np.zeros((len(user), m, 7 * len(pools.rewards)))
    if m < 2:
        return result
    weight, each = spread.weight[user][:, None], 1.0 / max(float((spread.judged > 0).sum()), 1.0)
    for k, (name, reward) in enumerate(pools.rewards.items()):
        own, other = spread.collapses[name]
        scores = _Without(reward[rows, :m])
        collapsed = [
            each * _flips(scores, utility if on_utility else None, user, (spread, name, verdict))
            for verdict, on_utility in ((own, spread.on_utility[name]), (other, not spread.on_utility[name]))
        ]
        result[:, :, 7 * k + 1], result[:, :, 7 * k + 2] = collapsed
        awake = weight * ~own.collapsed[user][:, None]
        before, known = _correlation(scores.total, utility.total, (scores.unit * utility.unit).sum(axis=1))
        cross = (scores.unit * utility.unit).sum(axis=1)[:, None] - scores.factor * scores.unit * utility.unit
        after, still = _correlation(scores.left, utility.left, cross)
        parts = (
            (known[:, None].astype(np.float64), still.astype(np.float64)),
            (((before < 0) & known)[:, None].astype(np.float64), ((after < 0) & still).astype(np.float64)),
            (np.maximum(before, 0.0)[:, None], np.maximum(after, 0.0)),
            (np.minimum(before, 0.0)[:, None], np.minimum(after, 0.0)),
        )
        for place, (all_in, one_out) in enumerate(parts):
            result[:, :, 7 * k + 3 + place] = awake * (all_in - one_out)
    return result


class _Without:
    """Deviations of pools of one size in units of the largest one, and sums of squares with and without a candidate."""

    def __init__(self, values: FloatArray) -> None:
        m = int(values.shape[1])
        deviation = values - values.mean(axis=1, keepdims=True)
        deviation[values.max(axis=1) == values.min(axis=1)] = 0.0
        largest = np.abs(deviation).max(axis=1)
        self.scale = np.where(largest > 0, largest, 1.0)
        self.unit = deviation / self.scale[:, None]
        self.factor = m / max(m - 1, 1)
        self.total = (self.unit**2).sum(axis=1)
        self.left = self.total[:, None] - self.factor * self.unit**2
        self.left[self.left <= ROUNDING * self.total[:, None]] = 0.0
        self._m = m

    def variances(self) -> tuple[FloatArray, FloatArray]:
        """Of the whole pool, shape (B, 1), and without each candidate, shape (B, m); ddof 1."""
        square = self.scale[:, None] ** 2
        return square * self.total[:, None] / (self._m - 1), square * self.left / max(self._m - 2, 1)


def _correlation(first: FloatArray, second: FloatArray, cross: FloatArray) -> tuple[FloatArray, BoolArray]:
    """Correlations, 0 where either sum of squares is 0, and where neither is."""
    known = (first > 0) & (second > 0)
    result = np.zeros(cross.shape)
    np.divide(cross, np.sqrt(np.where(known, first * second, 1.0)), out=result, where=known)
    result[np.abs(result) < NONE] = 0.0
    return np.clip(result, -1.0, 1.0), known


def _flips(
    scores: _Without, utility: _Without | None, user: npt.NDArray[np.integer], found: tuple[UserSpread, str, Collapse]
) -> FloatArray:
    """Collapsed as found minus collapsed without each candidate, shape (B, m); an arbitrary scale's threshold stays."""
    spread, name, verdict = found
    judged = spread.judged[user][:, None]
    whole, left = scores.variances()
    without = np.maximum(spread.rewards[name][user][:, None] - whole + left, 0.0) / judged
    without[(left == 0) & (np.abs(spread.rewards[name][user][:, None] - whole) <= ROUNDING * whole)] = 0.0
    if utility is None:
        threshold = _threshold(spread.rewards[name], spread.judged, verdict)
        low = np.sqrt(without) < COLLAPSE * threshold
    else:
        whole, left = utility.variances()
        against = np.maximum(spread.variance[user][:, None] - whole + left, 0.0) / judged
        low = (against > 0) & (without < COLLAPSE**2 * against)
    return verdict.collapsed[user][:, None].astype(np.float64) - (low | (without == 0)).astype(np.float64)


def _threshold(variance: FloatArray, judged: FloatArray, verdict: Collapse) -> float:
    """What users' spreads are compared with on an arbitrary scale."""
    known = np.flatnonzero(np.isfinite(verdict.ratio) & (verdict.ratio > 0))
    if not len(known):
        return 0.0
    one = int(known[0])
    return float((variance[one] / judged[one]) ** 0.5 / verdict.ratio[one])
