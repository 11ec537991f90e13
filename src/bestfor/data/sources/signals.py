"""Combine several signals of a row, such as a thumb, an edit and seconds of reading, into one rating, as declared.

With the share s_k = (x_k - low_k) / (high_k - low_k) of signal k, kept within [0, 1], and its weight w_k,

    rating = sum_k |w_k| t_k / sum_k |w_k|,   t_k = s_k where w_k > 0, else 1 - s_k

over the signals that the row has: 1 is the best, 0 the worst, and a row without any is not rated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from bestfor.errors import InputError
from bestfor.types import FloatArray


@dataclass(frozen=True)
class Signal:
    """Weight of a column in a rating.

    Attributes:
        weight: its part in the rating; below 0 where more of it is worse.
        low: value that is the least of it.
        high: value that is the most of it.
    """

    weight: float = 1.0
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InputError: a weight of 0, or a scale that is empty or not finite.
        """
        if not np.isfinite([self.weight, self.low, self.high]).all() or self.weight == 0:
            raise InputError("signals", f"weight {self.weight:g}", "finite numbers, and a weight other than 0")
        if self.low >= self.high:
            raise InputError("signals", f"{self.low:g} to {self.high:g}", "low below high")


def combine_signals(table: pa.Table, signals: Mapping[str, Signal]) -> tuple[FloatArray, tuple[str, ...]]:
    """Combine signals row by row.

    Args:
        table: a column ``signal NAME`` of numbers for each.
        signals: name of a column -> how it counts.

    Returns:
        Ratings in [0, 1], NaN where a row has no signal, and notes on values beyond a signal's scale.
    """
    total, weight = np.zeros(table.num_rows), np.zeros(table.num_rows)
    notes: list[str] = []
    for name, signal in signals.items():
        values = table.column(f"signal {name}").to_numpy().astype(np.float64)
        known = np.isfinite(values)
        share = (values - signal.low) / (signal.high - signal.low)
        beyond = int((known & ((share < 0) | (share > 1))).sum())
        if beyond:
            notes.append(f"{beyond} values of '{name}' lie beyond {signal.low:g} to {signal.high:g}: its ends count")
        share = np.clip(share, 0.0, 1.0)
        good = share if signal.weight > 0 else 1 - share
        total += np.where(known, abs(signal.weight) * good, 0.0)
        weight += np.where(known, abs(signal.weight), 0.0)
    rating = np.divide(total, weight, out=np.full(table.num_rows, np.nan), where=weight > 0)
    return rating, tuple(notes)
