"""What follows from a diagnosis besides its curve: other rules, other budgets, larger pools, more data.

How many more users, or queries, it takes to know a number well enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bestfor.diagnostics.intervals.clustered import Form, Panel, wilson
from bestfor.types import Estimate, FloatArray, IntArray


@dataclass(frozen=True)
class PoolsUsed:
    """On how many queries what is told beyond the curves rests: a sample by the hash of their ids where less than all.

    Attributes:
        queries: sampled.
        of: all queries.
        users: with a sampled query.
    """

    queries: int
    of: int
    users: int


@dataclass(frozen=True)
class ThreeDraw:
    """How much the usual protocol (three random N-subsets a query, averaged) wobbles around the exact curve.

    Attributes:
        n: shape (K,).
        sd: shape (K,), standard deviation that the draws add to the curve's value, in utility units.
    """

    n: IntArray
    sd: FloatArray


@dataclass(frozen=True)
class Soft:
    """Soft Best-of-N at one temperature.

    Attributes:
        temperature_in_sd: over the spread of rewards within a query.
        temperature: in the rewards' units.
        utility: shape (K,), expected; the exact curve plus the difference below.
        difference: shape (K,), against the highest reward, measured on some queries.
        low: shape (K,), of the difference.
        high: shape (K,).
        queries: that the difference rests on.
    """

    temperature_in_sd: float
    temperature: float
    utility: FloatArray
    difference: FloatArray
    low: FloatArray
    high: FloatArray
    queries: int


@dataclass(frozen=True)
class Step:
    """Predicted gain at one N.

    Attributes:
        n: candidates drawn.
        order_1, order_2, order_3: by concomitants.
        gao: by d (a - b d).
        utility: pool mean plus order 2.
        trusted: whether order 2 and Gao agree and N is at most three times the smallest pool.
        verdict: the same in words.
    """

    n: int
    order_1: float
    order_2: Estimate
    order_3: float
    gao: Estimate
    utility: float
    trusted: bool
    verdict: str


@dataclass(frozen=True)
class Reach:
    """The curve beyond the pool.

    Attributes:
        smallest_pool: candidates of the smallest pool.
        farthest: three times as many.
        trusted_to: the largest N up to which the predictions agree; None where they never do.
        verdict: in words.
        steps: from the smallest pool to the farthest N.
    """

    smallest_pool: int
    farthest: int
    trusted_to: int | None
    verdict: str
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class BestFixed:
    """The fixed N that earns most when every candidate costs something.

    Attributes:
        cost_per_candidate: in utility units.
        n: candidates.
        net: utility minus N x cost.
        at_edge: whether the pools end here, so that more might pay still.
    """

    cost_per_candidate: float
    n: int
    net: Estimate
    at_edge: bool


@dataclass(frozen=True)
class PerUserN:
    """One N for each user instead of one for all, judged on queries that did not choose it.

    Attributes:
        cost_per_candidate: in utility units.
        users: with two queries or more, who were judged.
        trust: mean weight of a user's own slope against the mean slope, 0 to 1.
        n: shape (D,), values of N that users get.
        share: shape (D,), of the users.
        own_n: mean N with one N for each.
        common_n: mean N with one N for all.
        gain: net utility, one N for each minus one N for all.
        reason: why there is none of this; empty where there is.
    """

    cost_per_candidate: float
    users: int
    trust: float
    n: IntArray
    share: FloatArray
    own_n: float
    common_n: float
    gain: Estimate
    reason: str


@dataclass(frozen=True)
class Stopped:
    """Expected improvement replayed on the pools, against the best fixed N at the same cost.

    Attributes:
        cost_per_candidate: in utility units.
        drawn: mean candidates.
        utility: of the picks.
        net: utility minus drawn x cost.
        fixed_n: the best fixed N.
        fixed_net: what it earns, its N chosen on the other half of the users.
        advantage: net minus fixed net, paired.
        pays: whether the advantage is above 0 by more than its interval.
        verdict: in words.
        reason: why there is none of this; empty where there is.
    """

    cost_per_candidate: float
    drawn: float
    utility: float
    net: float
    fixed_n: int | None
    fixed_net: float
    advantage: Estimate
    pays: bool
    verdict: str
    reason: str


@dataclass(frozen=True)
class Precision:
    """How much more is needed to know a quantity to within a half-width.

    Attributes:
        quantity: ``"captured"``, ``"alpha"`` or ``"beta"``.
        half_width: aimed at.
        now: half of the present interval, None where there is none.
        users: needed in all, each with as many queries; None where no number is enough or nothing is known.
        more_users: beyond the present ones.
        more_queries: that these users would bring.
    """

    quantity: str
    half_width: float
    now: float | None
    users: int | None
    more_users: int | None
    more_queries: int | None


@dataclass(frozen=True)
class Outlook:
    """What one model's rewards say beyond the curve.

    Attributes:
        three_draw: the noise of the usual protocol.
        soft: soft Best-of-N at a few temperatures; empty where rewards do not vary.
        extrapolation: beyond the pool.
        best_fixed_n: at several costs of a candidate.
        per_user_n: one N for each user.
        stopping: the replay of a stopping rule.
        needed: how many more users or queries.
    """

    three_draw: ThreeDraw
    soft: tuple[Soft, ...]
    extrapolation: Reach
    best_fixed_n: tuple[BestFixed, ...]
    per_user_n: PerUserN
    stopping: Stopped
    needed: tuple[Precision, ...]


AIM = 0.05
"""Half-width of the interval that is aimed at."""

_MOST = 10_000_000


def share_needed(panel: Panel, forms: tuple[Form, Form], half_width: float) -> int | None:
    """Users needed to bring the interval of a share to a half-width, if more are like these.

    Wilson's interval on the effective number of users, which grows in proportion to the users.

    Args:
        panel: that the share comes from.
        forms: its numerator and denominator.
        half_width: aimed at.

    Returns:
        The number, at least 2; None where fewer than two users are there to tell, or no number would do.
    """
    spread = panel.spread(*forms)
    if not np.isfinite(spread.variance):
        return None
    p = min(max(spread.value, 0.0), 1.0)
    each = p * (1 - p) / (spread.users - 1) / spread.variance if spread.variance > 0 and 0 < p < 1 else 1.0
    low, high = 2, _MOST
    while low < high:
        middle = (low + high) // 2
        ends = wilson(p, each * middle, panel.level)
        low, high = (low, middle) if ends[1] - ends[0] <= 2 * half_width else (middle + 1, high)
    return low if low < _MOST else None


def precision(quantity: str, estimate: Estimate, users: int | None, present: tuple[int, int]) -> Precision:
    """What is needed in all as what is needed in addition.

    Args:
        quantity: its name.
        estimate: as it is known now.
        users: needed in all for the half-width :data:`AIM`.
        present: users and queries that there are.
    """
    now = None if estimate.low is None or estimate.high is None else (estimate.high - estimate.low) / 2
    if users is None:
        return Precision(quantity, AIM, now, None, None, None)
    more = max(users - present[0], 0)
    return Precision(quantity, AIM, now, users, more, round(more * present[1] / present[0]))
