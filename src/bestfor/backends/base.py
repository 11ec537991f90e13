"""Plans of tasks, and the base class of backends that do them.

A plan is one function, what it works with (a metric, a policy, an encoder: sent to each worker once) and tasks, each a
key and the function's further arguments. What a task makes comes back as a value: whoever made the plan writes it, so
that workers need no folder in common with the process that asked.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from bestfor.errors import BestforError, InputError

TRIES = 3
"""Workers that may be lost over one task before it is given up."""


@dataclass(frozen=True)
class PlanTask:
    """Part of some work.

    Attributes:
        key: names the part, for errors and logs.
        inputs: further arguments of the plan's function.
    """

    key: str
    inputs: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """Call that makes what a plan works with where it is needed, instead of sending it there.

    Attributes:
        make: a function at the top of a module.
        inputs: its arguments.
    """

    make: Callable[..., Any]
    inputs: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Tasks of one function.

    Attributes:
        name: of the work, for errors.
        work: called as ``work(held, *task.inputs)``; at the top of a module where it goes to other processes.
        tasks: read one by one as there is room for them, so an iterator may stop when there is no point in more.
        held: what each worker gets once; a :class:`Recipe` is called there.
        portable: whether it works in other processes.
        threads: tasks that run at once in threads of this process, for work that waits for a server or leaves the
            interpreter; then it goes nowhere else.
        ordered: whether values come in the order of the tasks, or as each is done.
        interrupt: called first when the work ends, however it ends: calls under way return.
    """

    name: str
    work: Callable[..., Any]
    tasks: Iterable[PlanTask]
    held: Any = None
    portable: bool = False
    threads: int = 1
    ordered: bool = True
    interrupt: Callable[[], None] | None = None


class Backend(ABC):
    """Base class of backends.

    No backend changes a value: a task is done by the same function with the same arguments wherever it is done, and one
    whose worker is lost is done again.
    """

    kind: ClassVar[str]
    extras: ClassVar[tuple[str, ...]] = ()
    """Optional parts of this package without which it does not work."""

    workers: int
    """Tasks that are done at once."""

    @abstractmethod
    def run(self, plan: Plan) -> Generator[tuple[PlanTask, Any]]:
        """Do the tasks of a plan.

        Yields:
            Each task with what the function made of it.

        Raises:
            BestforError: a task's worker was lost :data:`TRIES` times.
            Exception: whatever the function raises.
        """

    def close(self) -> None:  # noqa: B027 - most backends keep nothing
        """Let go what the backend keeps between plans."""


class LostWorkerError(BestforError):
    """Error of a worker that ended before its work was done: killed, out of memory, or on a machine that is gone."""


def opened(held: object) -> Any:  # noqa: ANN401 - whatever the plan works with
    """Give what a plan works with: a recipe's product, anything else as it is."""
    return held.make(*held.inputs) if isinstance(held, Recipe) else held


def at_least(name: str, value: float, least: float) -> None:
    """Check an option of a backend.

    Raises:
        InputError: it is too small.
    """
    if value < least:
        raise InputError(f"[backend] {name}", str(value), f"{least} or more")
