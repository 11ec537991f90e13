"""From a run's file to what asks servers, and the record of what that cost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from bestfor.endpoint import Usage
from bestfor.metrics.judge import JudgeConfig, JudgeMetric
from bestfor.policies.openai import OpenAIPolicy
from bestfor.runs.config import JudgeTable, PolicyEndpoint
from bestfor.runs.config import Policy as PolicyTable
from bestfor.runs.steps import write_json

USAGE = "usage.json"


def openai_policy(table: PolicyTable) -> OpenAIPolicy:
    """The policy of ``[policy]`` with ``kind = "openai"``."""
    server = table.endpoint or PolicyEndpoint()
    return OpenAIPolicy(
        table.model,
        temperature=table.temperature,
        top_p=table.top_p,
        max_new_tokens=table.max_new_tokens,
        stop=table.stop,
        chunk=table.chunk,
        api=server.api,
        logprobs=server.logprobs,
        context=server.context,
        extra_body=server.extra_body,
        identity=server.identity,
        user_model=server.user_model,
        server=server.config("[policy.endpoint]"),
    )


def judge_of(table: JudgeTable, cache: Path | None = None) -> JudgeMetric:
    """The judge of ``[utility.judge]``, and where its answers are kept."""
    return JudgeMetric(
        JudgeConfig(
            table.model,
            rubric=table.rubric or JudgeConfig.rubric,
            low=table.low,
            high=table.high,
            logprobs=table.logprobs,
            max_tokens=table.max_tokens,
            identity=table.identity,
            extra_body=table.endpoint.extra_body,
            server=table.endpoint.config("[utility.judge.endpoint]"),
        ),
        cache=cache,
    )


@runtime_checkable
class Asks(Protocol):
    """Anything that asks a server and knows what that cost."""

    @property
    def usage(self) -> Usage:
        """What was spent so far."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What was seen of the server."""
        ...

    def charge(self, earlier: Usage) -> None:
        """Count what earlier calls have spent against the budget."""

    def close(self) -> None:
        """Close the connections."""


@runtime_checkable
class AsksServer(Asks, Protocol):
    """A reward model that does."""

    def reach(self, endpoint: Mapping[str, Any]) -> object:
        """Ask this server from now on, given as a table of a run's file."""


@contextmanager
def accounted(
    folder: Path, who: str, asking: object, tell: Callable[[str], None], *, remember: bool = True
) -> Iterator[None]:
    """Add what is asked meanwhile to the run's ``usage.json``, whether or not it ends well, and close the connections.

    The file holds totals over all calls of a run, which count against its budget, and what was seen of the servers.

    Args:
        folder: the run's folder.
        who: ``policy``, ``judge``, or a reward model by name.
        asking: what asks; others than those that ask servers are left alone.
        tell: told the sum, and what was seen.
        remember: whether what was seen goes to the file; not where it is kept elsewhere.
    """
    if not isinstance(asking, Asks):
        yield
        return
    asking.charge(Usage.from_dict(_known(folder / USAGE).get(who, {})))
    before = asking.usage
    try:
        yield
    finally:
        used = asking.usage - before
        if used.requests:
            _record(folder, who, used, tuple(asking.notes) if remember else ())
            for line in (str(used), *asking.notes):
                tell(f"{who}: {line}")
        asking.close()


def _record(folder: Path, who: str, usage: Usage, notes: tuple[str, ...]) -> None:
    path = folder / USAGE
    known = _known(path)
    before = known.get(who, {})
    total = Usage.from_dict(before) + usage
    write_json(
        path, {**known, who: {**total.to_dict(), "notes": list(dict.fromkeys([*before.get("notes", []), *notes]))}}
    )


def notes_of(folder: Path) -> tuple[str, ...]:
    """What was seen of servers while a run was made."""
    return tuple(note for part in _known(folder / USAGE).values() for note in part.get("notes", []))


def _known(path: Path) -> dict[str, Any]:
    # A record that cannot be read is begun anew: it decides nothing.
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    fine = isinstance(known, dict) and all(isinstance(part, dict) for part in known.values())
    return known if fine else {}
