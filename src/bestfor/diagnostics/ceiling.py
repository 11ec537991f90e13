"""Hold what could be captured at best, and the spread of utilities that it is computed from."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bestfor.types import FloatArray


@dataclass(frozen=True)
class UtilitySpread:
    """Utilities of one data set, less its offset.

    Attributes:
        mean: a random candidate's.
        variance: within queries, weighted as the curves.
        values: the distinct ones where they are few, else None.
        rated: variance of the noise by repeated ratings; NaN without any.
    """

    mean: float
    variance: float
    values: tuple[float, ...] | None
    rated: float = math.nan


@dataclass(frozen=True)
class Ceiling:
    """Headroom that could be captured at best; K values of N.

    Attributes:
        source: ``"repeated ratings"``, ``"declared noise"`` or ``"model"``.
        model: the model whose errors bound the noise, else empty.
        assumption: under which it holds.
        reliability: L, within queries.
        bound: whether L is a lower bound, so that captured of the attainable is an upper one.
        chances: whether utilities take few values and the chances behind them were fitted; else sqrt(L).
        gain: shape (K,), the attainable headroom.
        share: shape (K,), of the clairvoyant one; NaN at N = 1.
    """

    source: str
    model: str
    assumption: str
    reliability: float
    bound: bool
    chances: bool
    gain: FloatArray
    share: FloatArray
