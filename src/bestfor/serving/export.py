"""Write all that a journal knows of a person as JSON lines: answers, then labels, by time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bestfor.serving.journal import check_id

if TYPE_CHECKING:
    from bestfor.serving.journal import Journal


def export_records(journal: Journal, tenant: str, user: str) -> Iterator[dict[str, Any]]:
    """List all records of a person, withdrawn labels among them; the first says whose they are."""
    standing = journal.standing(tenant, user)
    yield {"type": "person", "tenant": tenant, "user": user, "forgotten": standing.forgotten}
    for answer in journal.answers_of(tenant, user):
        yield {"type": "answer", **_plain(asdict(answer))}
    for label, _ in sorted(journal.labels_of(tenant, user), key=lambda one: (one[0].time, one[0].key)):
        yield {"type": "label", **_plain(asdict(label))}


def export_lines(journal: Journal, tenant: str, user: str) -> str:
    """Write a person's records, a line each."""
    check_id("tenant", tenant)
    check_id("user", user)
    return "".join(json.dumps(one, allow_nan=False) + "\n" for one in export_records(journal, tenant, user))


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in record.items()}
