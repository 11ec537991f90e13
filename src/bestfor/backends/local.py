"""The backend of one machine: this process, threads of it, or several processes."""

from __future__ import annotations

import os
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar

from bestfor.backends.base import Backend, Plan, PlanTask, at_least, opened
from bestfor.backends.processes import ProcessCrew, ThreadCrew
from bestfor.backends.scheduling import done_here, scheduled
from bestfor.errors import InputError

MOST = 16
"""Processes for each of the machine's processors, at most: more take its memory and gain nothing."""


@dataclass(frozen=True)
class Local(Backend):
    """Does tasks on this machine, in this process or in several.

    Attributes:
        workers: processes, this one among them: it works while the others start and while it would have to wait.
    """

    kind: ClassVar[str] = "local"

    workers: int = 1

    def __post_init__(self) -> None:
        at_least("workers", self.workers, 1)
        most = MOST * (os.cpu_count() or 1)
        if self.workers > most:
            found = f"{self.workers} processes"
            raise InputError(
                "[backend] workers", found, f"{most} at most, {MOST} for each of this machine's processors"
            )

    def run(self, plan: Plan) -> Generator[tuple[PlanTask, Any]]:
        """Do the tasks of a plan: in threads where it asks for them, in processes where it can go there, else here."""
        if plan.threads > 1 or plan.interrupt is not None:
            return in_threads(plan)
        if self.workers < 2 or not plan.portable:
            return done_here(plan, opened(plan.held))
        crew = ProcessCrew(plan, self.workers - 1)
        return scheduled(plan, crew, here=opened(plan.held), takes_part=True)


def in_threads(plan: Plan) -> Generator[tuple[PlanTask, Any]]:
    """Do the tasks of a plan in threads of this process."""
    held = opened(plan.held)
    return scheduled(plan, ThreadCrew(plan, held, "bestfor-task"))
