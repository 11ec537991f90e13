"""Define what is asked of an upstream and what came back, failures with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from bestfor.data.states import FILTERED, REFUSED, TOOL
from bestfor.endpoint.choices import CUT, FAILED, TEXT, Choice
from bestfor.gateway.errors import ApiError

LATE = "deadline_exceeded"
"""Code of an error where the deadline came before any candidate."""


@dataclass(frozen=True)
class Asked:
    """Request for candidates.

    Attributes:
        path: ``/chat/completions`` or ``/completions``.
        body: what the client sent, without what concerns the gateway alone.
        n: candidates.
        enough: so many are enough; None for all.
        deadline: seconds after which what came is taken; None for none.
        answer: id of the answer, which names the noise of a policy in this process.
        user: who asks; "" for nobody.
    """

    path: str
    body: Mapping[str, Any]
    n: int
    enough: int | None
    deadline: float | None
    answer: str
    user: str = ""


@dataclass(frozen=True)
class Came:
    """One candidate as it came.

    Attributes:
        choice: as the upstream sent it.
        answer: the whole answer that held it.
        read: its state and text.
    """

    choice: Mapping[str, Any]
    answer: Mapping[str, Any]
    read: Choice

    @cached_property
    def text(self) -> str:
        """Text that is scored; what a tool call says, or a refusal, where there is no other."""
        if self.read.text:
            return self.read.text
        message = self.choice.get("message") or {}
        calls = message.get("tool_calls") or ([message["function_call"]] if message.get("function_call") else [])
        said = [_call(one) for one in calls if isinstance(one, Mapping)]
        return "\n".join(said) or self.read.said or self.read.state


@dataclass(frozen=True)
class Fault:
    """Request to the upstream that failed.

    Attributes:
        status: as the client gets it: the upstream's own, or 502 and 504 where there is no whole answer.
        message: one line without secrets.
        code: the upstream's, or ours.
        param: the field that the upstream names.
        kind: the upstream's type of the error.
        after: its ``Retry-After``, as it came.
        lost: whether it speaks of the upstream rather than of this request.
    """

    status: int
    message: str
    code: str | None = None
    param: str | None = None
    kind: str = ""
    after: str | None = None
    lost: bool = False

    def error(self) -> ApiError:
        """Make the error that the client gets."""
        headers = {} if self.after is None else {"Retry-After": self.after}
        if self.code == LATE:
            # OpenAI's clients try a 504 again unless they are told: the client's own deadline has passed.
            headers["X-Should-Retry"] = "false"
        return ApiError(self.status, self.message, param=self.param, code=self.code, headers=headers, kind=self.kind)


@dataclass(frozen=True)
class Batch:
    """Candidates that came, and what did not.

    Attributes:
        came: in the order in which they were asked for.
        faults: of requests, and of choices within answers.
        requests: how many were sent.
        late: candidates that were not waited for.
        usage: tokens of all answers.
    """

    came: tuple[Came, ...]
    faults: tuple[Fault, ...] = ()
    requests: int = 1
    late: int = 0
    usage: Mapping[str, Any] | None = None

    def worst(self) -> Fault:
        """Choose the fault that speaks for all: the most frequent status, the first of several."""
        if not self.faults:
            return late()
        counts = Counter(one.status for one in self.faults)
        status = max(counts, key=lambda one: counts[one])
        return next(one for one in self.faults if one.status == status)

    def scored(self) -> tuple[Came, ...]:
        """Choose the candidates that compete: texts, or tool calls where these are more; what says nothing, last."""
        texts = tuple(one for one in self.came if one.read.state in (TEXT, CUT) or one.read.text)
        calls = tuple(one for one in self.came if one.read.state == TOOL)
        if len(calls) > len(texts):
            common = Counter(one.text for one in calls).most_common(1)[0][0]
            return tuple(one for one in calls if one.text == common)
        if texts:
            return texts
        said = tuple(one for one in self.came if one.read.state in (REFUSED, FILTERED))
        return (said or self.came)[:1]


class Upstream(Protocol):
    """Whoever writes candidates."""

    shown: str
    """Its address, or name, without secrets."""

    async def sample(self, asked: Asked) -> Batch:
        """Get the candidates of one request; cancelled where the client has gone."""
        ...

    async def models(self) -> list[dict[str, Any]]:
        """List its models as OpenAI does."""
        ...

    async def ready(self) -> str:
        """Say why no candidates are to be had; "" where they are."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


def add_usage(answers: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Add the tokens of several answers, details too; None where none says any."""
    said = [one["usage"] for one in answers if isinstance(one.get("usage"), Mapping)]
    return _added(said) if said else None


def _added(tables: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if len(tables) == 1:
        return dict(tables[0])
    total: dict[str, Any] = {}
    for name in dict.fromkeys(name for table in tables for name in table):
        values = [table[name] for table in tables if table.get(name) is not None]
        if values and all(isinstance(one, Mapping) for one in values):
            total[name] = _added(values)
        elif values and all(isinstance(one, int | float) and not isinstance(one, bool) for one in values):
            total[name] = sum(values)
        else:
            total[name] = values[0] if values else None
    return total


def late() -> Fault:
    """Give the fault of a deadline before which no candidate came."""
    return Fault(504, "no candidate came before the deadline", code=LATE)


def failed(read: Choice) -> Fault | None:
    """Give the fault of a choice that failed within an answer."""
    if read.state != FAILED:
        return None
    return Fault(502, f"the upstream answered without a text: {read.said}", code="upstream_empty", lost=True)


def _call(call: Mapping[str, Any]) -> str:
    function = call.get("function") if isinstance(call.get("function"), Mapping) else call
    return f"{function.get('name')}({function.get('arguments')})" if isinstance(function, Mapping) else ""
