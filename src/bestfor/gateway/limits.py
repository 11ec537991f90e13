"""Limit requests and tokens of each tenant, over all gateway processes that share a journal."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Mapping

from bestfor.gateway.config import LimitsTable
from bestfor.gateway.errors import ApiError
from bestfor.serving.journal import JournalError
from bestfor.serving.journal.buckets import Take, bucket_name
from bestfor.serving.journal.store import Journal

AHEAD = 120
"""A process takes a minute's requests from the journal by this share, half a second's worth at once."""


class OwnLimits:
    """Buckets of this process alone, that fill at a constant rate; they hold where the journal cannot be reached."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._buckets: dict[tuple[str, str], tuple[float, float]] = {}

    def take(self, name: tuple[str, str], most: int, count: float, *, forced: bool = False) -> float:
        """Take from a bucket.

        Returns:
            0, or the seconds to wait where it is not there; what is forced is taken all the same.
        """
        with self._lock:
            level, then = self._buckets.get(name, (float(most), time.monotonic()))
            level = min(float(most), level + (time.monotonic() - then) * most / 60)
            if not forced and level < max(count, 1.0):
                return (max(count, 1.0) - level) * 60 / most
            self._buckets[name] = (level - count, time.monotonic())
            return 0.0


class Limits:
    """Requests and tokens of each tenant by the minute.

    Args:
        usual: limits of tenants that have none of their own.
        own: limits of single tenants.
        journal: counts for all processes.
    """

    def __init__(self, usual: LimitsTable, own: Mapping[str, LimitsTable], journal: Journal) -> None:
        self._usual, self._own, self._journal = usual, own, journal
        self._here = OwnLimits()
        self._ahead: dict[str, int] = {}
        self._shut: dict[str, float] = {}

    async def request(self, tenant: str) -> None:
        """Count a request.

        Raises:
            ApiError: there were too many, or too many tokens (429, with ``Retry-After``).
        """
        table = self._own.get(tenant, self._usual)
        if table.tokens_per_minute is not None:
            _check(await self._tokens_wait(tenant, table.tokens_per_minute), table.tokens_per_minute, "tokens")
        if table.requests_per_minute is not None:
            _check(await self._requests_wait(tenant, table.requests_per_minute), table.requests_per_minute, "requests")

    def tokens(self, tenant: str, count: int) -> None:
        """Count the tokens of an answer; where they are more than are left, later requests wait."""
        most = self._own.get(tenant, self._usual).tokens_per_minute
        if most is None or not count:
            return
        self._here.take((tenant, "tokens"), most, count, forced=True)
        try:
            self._journal.take(Take(bucket_name(tenant, "tokens"), count, most, forced=True))
        except JournalError:
            return

    async def _tokens_wait(self, tenant: str, most: int) -> float:
        # What this process has just given may not have been committed yet; others' tokens only add to it.
        own = self._here.take((tenant, "tokens"), most, 0.0)
        try:
            return max(own, await asyncio.to_thread(self._journal.bucket_wait, bucket_name(tenant, "tokens"), most))
        except JournalError:
            return own

    async def _requests_wait(self, tenant: str, most: int) -> float:
        if self._ahead.get(tenant, 0) > 0:
            self._ahead[tenant] -= 1
            return 0.0
        left = self._shut.get(tenant, 0.0) - time.monotonic()
        if left > 0:
            return left
        name = bucket_name(tenant, "requests")
        try:
            for count in sorted({max(1, most // AHEAD), 1}, reverse=True):
                wait = await asyncio.wrap_future(self._journal.take(Take(name, count, most)))
                if not wait:
                    self._ahead[tenant] = self._ahead.get(tenant, 0) + count - 1
                    return 0.0
        except JournalError:
            return self._here.take((tenant, "requests"), most, 1.0)
        self._shut[tenant] = time.monotonic() + wait
        return wait


def _check(wait: float, most: int, what: str) -> None:
    if wait > 0:
        seconds = math.ceil(wait)
        said = f"more than {most} {what} a minute; try again in {seconds} s"
        raise ApiError(429, said, code="rate_limit_exceeded", headers={"Retry-After": str(seconds)})
