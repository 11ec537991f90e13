"""Record what requests to servers cost: the file ``usage.json`` of a run, which counts against its budgets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from bestfor.endpoint import Usage
from bestfor.files import write_json
from bestfor.pool import CandidatePool

USAGE = "usage.json"


@runtime_checkable
class Metered(Protocol):
    """Protocol of what asks a server and knows what that cost."""

    @property
    def usage(self) -> Usage:
        """Requests, tokens and cost so far."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """Observations about the server, a sentence each."""
        ...

    def charge(self, earlier: Usage) -> None:
        """Count what earlier calls have spent against the budget."""

    def close(self) -> None:
        """Close the connections."""


@runtime_checkable
class MeteredModel(Metered, Protocol):
    """Protocol of a reward model that asks a server."""

    def reach(self, endpoint: Mapping[str, Any]) -> object:
        """Ask this server from now on, given as a table of a run's file."""


@contextmanager
def record_usage(
    folder: Path, who: str, client: object, tell: Callable[[str], None], *, remember: bool = True
) -> Iterator[None]:
    """Add what is spent meanwhile to the run's ``usage.json``, whether or not it ends well, and close the connections.

    The file holds totals over all calls of a run, which count against its budget, and what was seen of the servers.

    Args:
        folder: the run's folder.
        who: ``policy``, ``judge``, or a reward model by name.
        client: what asks; others than those that ask servers are left alone.
        tell: called with the sum, and with what was seen.
        remember: whether what was seen goes to the file; not where it is kept elsewhere.
    """
    if not isinstance(client, Metered):
        yield
        return
    client.charge(Usage.from_dict(_read_usage(folder / USAGE).get(who, {})))
    before = client.usage
    try:
        yield
    finally:
        used = client.usage - before
        if used.requests:
            _record(folder, who, used, tuple(client.notes) if remember else ())
            for line in (str(used), *client.notes):
                tell(f"{who}: {line}")
        client.close()


def _record(folder: Path, who: str, usage: Usage, notes: tuple[str, ...]) -> None:
    path = folder / USAGE
    known = _read_usage(path)
    before = known.get(who, {})
    total = Usage.from_dict(before) + usage
    seen = list(dict.fromkeys([*before.get("notes", []), *notes]))
    write_json(path, {**known, who: {**total.to_dict(), "notes": seen}}, sync=False)


def notes_of(folder: Path) -> tuple[str, ...]:
    """Read what was seen of a run's candidates, and of servers while it was made."""
    servers = [note for part in _read_usage(folder / USAGE).values() for note in part.get("notes", [])]
    return (*CandidatePool(folder / "pool").notes, *servers)


def _read_usage(path: Path) -> dict[str, Any]:
    # A record that cannot be read is begun anew: it decides nothing.
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    fine = isinstance(known, dict) and all(isinstance(part, dict) for part in known.values())
    return known if fine else {}
