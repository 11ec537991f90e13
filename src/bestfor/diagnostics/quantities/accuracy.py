"""Count how many pairs of a query's candidates a reward puts in the order of their utilities."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bestfor.diagnostics.table.pools import Pools
from bestfor.types import FloatArray

CELLS = 1 << 20
"""Utilities whose pairs are compared at a time."""


def ordered_pairs(pools: Pools) -> tuple[FloatArray, dict[str, FloatArray]]:
    """Count pairs of candidates whose utilities differ, and those that each model orders as they do.

    Args:
        pools: Q of them.

    Returns:
        Shape (Q,), the pairs; name of a model -> shape (Q,), the pairs in the right order, those of equal rewards half.
    """
    pairs = np.zeros(len(pools))
    right = {name: np.zeros(len(pools)) for name in pools.rewards}
    rows = max(CELLS // max(int(pools.utility.shape[1]), 1), 1)
    for low in range(0, len(pools), rows):
        part = slice(low, low + rows)
        width = int(pools.size[part].max())
        known = pools.mask[part, :width]
        utility = np.where(known, pools.utility[part, :width], np.nan).T.copy()
        rewards = {name: values[part, :width].T.copy() for name, values in pools.rewards.items()}
        pairs[part] = _count(utility, rewards, {name: values[part] for name, values in right.items()})
    return pairs, right


def _count(utility: FloatArray, rewards: Mapping[str, FloatArray], right: dict[str, FloatArray]) -> FloatArray:
    """Add right pairs to views of shape (B,), and return the pairs; utility and rewards of shape (m, B)."""
    pairs = np.zeros(utility.shape[1])
    for lag in range(1, len(utility)):
        rises, falls = utility[lag:] > utility[:-lag], utility[lag:] < utility[:-lag]
        differ = (rises | falls).sum(axis=0)
        pairs += differ
        for name, reward in rewards.items():
            up, down = reward[lag:] > reward[:-lag], reward[lag:] < reward[:-lag]
            good = ((rises & up) | (falls & down)).sum(axis=0)
            bad = ((rises & down) | (falls & up)).sum(axis=0)
            right[name] += (differ + good - bad) / 2
    return pairs
