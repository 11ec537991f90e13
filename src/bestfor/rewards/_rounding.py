"""Rewards as they are written: rounded, so that jitter in matrix products breaks no tie."""

from __future__ import annotations

import numpy as np

from bestfor.types import FloatArray

DIGITS = 9


def rounded(values: FloatArray) -> FloatArray:
    """Nine significant digits: equal candidates tie although matrix products differ in their last bits."""
    values = np.asarray(values, dtype=np.float64)
    size = np.where(values == 0, 1.0, np.abs(values))
    exponent = np.floor(np.log10(size))
    factor = np.power(10.0, DIGITS - 1 - np.clip(exponent, -290, 290))
    return np.where(np.abs(exponent) > 290, 0.0, np.rint(values * factor) / factor)
