"""Count what may be used in a minute over all processes of a journal: buckets that fill at a constant rate.

A bucket is one whole number, the microsecond since 1970 at which it is full again (the generic cell rate algorithm):

    full again = max(full again, now) + count * minute / most,    at most one minute from now

so that processes need no lock of their own: each taking is one statement of a transaction. Clocks of several machines
have to agree as well as the limit has to hold.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, case, select
from sqlalchemy.dialects import postgresql, sqlite

from bestfor.serving.journal.records import digest
from bestfor.serving.journal.tables import counters

MINUTE = 60_000_000
"""Microseconds that a bucket takes to fill."""


@dataclass(frozen=True)
class Take:
    """A taking from a bucket.

    Attributes:
        name: of the bucket, of :func:`bucket_name`.
        count: how much is taken.
        most: what a full bucket holds, and what a minute brings.
        forced: whether it is taken though it is not there; later takings then wait.
    """

    name: str
    count: int
    most: int
    forced: bool = False


def bucket_name(tenant: str, kind: str) -> str:
    """Name a tenant's bucket by a hash; its row says nothing of the tenant."""
    return digest(tenant, "bucket", kind).hex()[:16]


def wait_of(full: int | None, most: int, count: int = 1) -> float:
    """Seconds until so much is in a bucket; 0 where it is there.

    Args:
        full: the bucket's number, None where nobody has taken from it.
        most: what a full bucket holds.
        count: how much.
    """
    now = time.time_ns() // 1000
    left = max(full or now, now) + _step(count, most) - MINUTE - now
    return max(0.0, left / 1e6)


def take(connection: Connection, calls: Sequence[Take]) -> list[float]:
    """Take from buckets; each result is 0, or the seconds to wait where nothing was taken."""
    return [_take(connection, call) for call in calls]


def _take(connection: Connection, call: Take) -> float:
    now, step = time.time_ns() // 1000, _step(call.count, call.most)
    value = counters.c.value
    moved = case((value > now, value), else_=now) + step
    maker = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = maker(counters).values(name=call.name, value=now + step)
    fits = None if call.forced else moved <= now + MINUTE
    statement = statement.on_conflict_do_update(index_elements=["name"], set_={"value": moved}, where=fits)
    taken = connection.execute(statement.returning(value)).scalar()
    if taken is not None:
        return 0.0
    known = connection.execute(select(value).where(counters.c.name == call.name)).scalar()
    # Above 0 whatever the clock does meanwhile.
    return max(1e-6, wait_of(known, call.most, call.count))


def _step(count: int, most: int) -> int:
    return -(-MINUTE * count // most)
