"""Read what is newest in a journal: answers, and people by when they last said something."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from bestfor.labels.records import LoggedAnswer
from bestfor.serving.journal import rows
from bestfor.serving.journal.records import digest
from bestfor.serving.journal.tables import answers, people

if TYPE_CHECKING:
    from bestfor.serving.journal.store import Journal


def recent_answers(journal: Journal, tenant: str, count: int, user: str | None = None) -> list[LoggedAnswer]:
    """Read a tenant's newest answers, the newest first, of everybody or of one user."""
    chosen = select(answers, people.c.user).join(people, people.c.person == answers.c.person)
    chosen = chosen.where(people.c.tenant == tenant).order_by(answers.c.time.desc(), answers.c.id.desc()).limit(count)
    if user is not None:
        chosen = chosen.where(answers.c.person == digest(tenant, user))
    with journal.read() as connection:
        return [rows.read_answer(row, row["user"]) for row in connection.execute(chosen).mappings()]


def recent_people(journal: Journal, tenant: str, count: int, like: str = "") -> list[str]:
    """List users of a tenant, those of whom something was learned last first; ``like`` is part of their id."""
    chosen = select(people.c.user).where(people.c.tenant == tenant).order_by(people.c.revision.desc(), people.c.user)
    if like:
        chosen = chosen.where(people.c.user.contains(like, autoescape=True))
    with journal.read() as connection:
        return list(connection.scalars(chosen.limit(count)))


def totals(journal: Journal, tenant: str) -> tuple[int, int, int]:
    """Sum up a tenant's people, answers and labels that hold, of what is counted by person."""
    sums = [func.coalesce(func.sum(people.c[name]), 0) for name in ("answers", "labels")]
    with journal.read() as connection:
        found = connection.execute(select(func.count(), *sums).where(people.c.tenant == tenant)).one()
    known, given, said = (int(number) for number in found)
    return known, given, said
