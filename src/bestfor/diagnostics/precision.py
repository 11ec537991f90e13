"""How many more users, or queries, it takes to know a number well enough."""

from __future__ import annotations

import numpy as np

from bestfor.diagnostics.beyond.outlook import Precision
from bestfor.diagnostics.intervals.clustered import Form, Panel, wilson
from bestfor.types import Estimate

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
