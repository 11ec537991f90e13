"""Keep in a journal which refits were begun, by whom, and what became of them: several gateways agree by it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from bestfor.serving.journal.recent import totals
from bestfor.serving.journal.records import JournalError, digest, pack
from bestfor.serving.journal.tables import refits, tombstones

if TYPE_CHECKING:
    from bestfor.serving.journal.store import Journal

LEASE = 3600.0
"""Seconds after which a refit that said nothing more is taken for dead."""


@dataclass(frozen=True)
class RefitRecord:
    """A refit that was begun.

    Attributes:
        number: counts the refits of a tenant and a base from 1.
        tenant: whose labels.
        base: content hash of the model that a gateway was started with.
        state: ``fitting``, ``swapped``, ``kept`` or ``failed``.
        labels: labels of the tenant when it was begun.
        folder: of the new model; "" where there is none.
        report: the decision's figures.
        begun: seconds since 1970.
        ended: seconds since 1970, None while it is under way.
    """

    number: int
    tenant: str
    base: str
    state: str
    labels: int
    folder: str
    report: dict[str, Any]
    begun: float
    ended: float | None


@dataclass(frozen=True)
class _Claim:
    tenant: str
    base: str
    labels: int
    now: float


def claim_refit(journal: Journal, tenant: str, base: str) -> int | None:
    """Begin a refit, unless somebody else has begun one and may still be at it.

    Returns:
        Its number, to be given to :func:`end_refit`; None where it is somebody else's.

    Raises:
        JournalError: the journal could not be written.
    """
    call = _Claim(tenant, base, count_labels(journal, tenant), time.time())
    try:
        return journal.write(_claim, call)
    except JournalError as error:
        # Two servers of one PostgreSQL began the same one in the same moment.
        if isinstance(error.__cause__, IntegrityError):
            return None
        raise


def end_refit(journal: Journal, tenant: str, base: str, number: int, state: str, folder: str, report: Any) -> None:  # noqa: ANN401 - JSON
    """Say what became of a refit."""
    values = {"state": state, "folder": folder, "report": pack(report), "ended": time.time()}
    journal.write(_end, (_row(tenant, base, number), values))


def refits_of(journal: Journal, base: str | None = None, tenant: str | None = None) -> list[RefitRecord]:
    """List refits by tenant and number, of one base and tenant or of all."""
    chosen = select(refits).order_by(refits.c.tenant, refits.c.base, refits.c.number)
    if base is not None:
        chosen = chosen.where(refits.c.base == base)
    if tenant is not None:
        chosen = chosen.where(refits.c.tenant == tenant)
    with journal.read() as connection:
        return [_record(row) for row in connection.execute(chosen).mappings()]


def count_labels(journal: Journal, tenant: str) -> int:
    """Count a tenant's labels that hold."""
    return totals(journal, tenant)[2]


def last_forgotten(journal: Journal) -> float:
    """Seconds since 1970 at which somebody was last forgotten; 0 where nobody was."""
    with journal.read() as connection:
        return float(connection.scalar(select(func.max(tombstones.c.time))) or 0.0)


def _row(tenant: str, base: str, number: int) -> bytes:
    return digest(tenant, base, str(number))


def _claim(connection: Connection, calls: Sequence[_Claim]) -> list[int | None]:
    results: list[int | None] = []
    for call in calls:
        last = connection.execute(
            select(refits.c.number, refits.c.state, refits.c.begun)
            .where(refits.c.tenant == call.tenant, refits.c.base == call.base)
            .order_by(refits.c.number.desc())
            .limit(1)
        ).one_or_none()
        if last is not None and last.state == "fitting":
            if last.begun > call.now - LEASE:
                results.append(None)
                continue
            dead = update(refits).where(refits.c.row == _row(call.tenant, call.base, last.number))
            connection.execute(dead.values(state="failed", ended=call.now, report=pack({"reason": "it never ended"})))
        number = 1 if last is None else last.number + 1
        connection.execute(
            insert(refits).values(
                row=_row(call.tenant, call.base, number),
                tenant=call.tenant,
                base=call.base,
                number=number,
                state="fitting",
                labels=call.labels,
                folder="",
                report=pack({}),
                begun=call.now,
                ended=None,
            )
        )
        results.append(number)
    return results


def _end(connection: Connection, calls: Sequence[tuple[bytes, dict[str, Any]]]) -> list[None]:
    for row, values in calls:
        connection.execute(update(refits).where(refits.c.row == row).values(**values))
    return [None] * len(calls)


def _record(row: Any) -> RefitRecord:  # noqa: ANN401 - a row of the driver
    names = ("number", "tenant", "base", "state", "labels", "folder", "begun", "ended")
    return RefitRecord(report=json.loads(row["report"]), **{name: row[name] for name in names})
