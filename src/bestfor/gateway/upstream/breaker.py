"""Leave an upstream alone for a while after several requests in a row were lost: a circuit breaker."""

from __future__ import annotations

import math
import time

LONGEST = 60.0
"""Seconds of a pause at most."""


class Breaker:
    """Counts lost requests in a row; one request a pause is let through to try.

    Args:
        failures: lost requests after which it opens.
        pause: seconds of the first pause; doubled while the upstream stays lost.
    """

    def __init__(self, failures: int, pause: float) -> None:
        self._failures, self._pause = failures, pause
        self._lost = 0
        self._until = 0.0
        self._trying = False

    @property
    def open(self) -> bool:
        """True while requests are held back."""
        return self._lost >= self._failures

    def wait(self) -> float | None:
        """Seconds until another request makes sense; None where one may be sent now."""
        if not self.open:
            return None
        left = self._until - time.monotonic()
        if left > 0 or self._trying:
            return max(1.0, math.ceil(left))
        self._trying = True
        return None

    def good(self) -> None:
        """Note an answer, a refusal too: the upstream is there."""
        self._lost, self._trying = 0, False

    def lost(self) -> None:
        """Note a request that was lost."""
        self._lost += 1
        self._trying = False
        over = self._lost - self._failures
        if over >= 0:
            self._until = time.monotonic() + min(LONGEST, self._pause * 2.0 ** min(over, 10))

    def left(self) -> None:
        """Note a request that was cancelled and says nothing."""
        self._trying = False
