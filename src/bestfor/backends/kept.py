"""Keep what tasks made in a folder, so that machines that know nothing of each other do parts of one piece of work."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bestfor.backends.base import Backend, Plan, PlanTask
from bestfor.backends.local import Local
from bestfor.backends.parts import WorkPart
from bestfor.backends.values import pack, unpack
from bestfor.errors import BestforError, InputError
from bestfor.files import write_bytes


class PartEndsError(BestforError):
    """End of what a part can do.

    Attributes:
        awaited: what other parts have to do before it goes on, in words; "" where it has nothing left to do.
    """

    def __init__(self, awaited: str) -> None:
        super().__init__(awaited or "the part is done")
        self.awaited = awaited


@dataclass
class Kept(Backend):
    """Does the tasks of a sequence of plans that are not kept yet, and keeps them.

    The plans must be the same in every call, in the same order: a folder stands for one piece of work with all its
    settings.

    Attributes:
        folder: where values are kept.
        part: does these tasks alone; None does all.
        plans: of which parts are done by parts; later plans are left to the call without a part.
        inner: does the tasks.
        count: plans that were begun.
    """

    folder: Path
    part: WorkPart | None = None
    plans: int = 2
    inner: Backend = field(default_factory=Local)
    count: int = 0

    def run(self, plan: Plan) -> Generator[tuple[PlanTask, Any]]:
        """Do the tasks of a plan that are owed and this part's, and give all.

        Raises:
            PartEndsError: tasks of other parts are not done, or there are no more parts to do.
            InputError: a task found work that has no parts.
        """
        number, self.count = self.count, self.count + 1
        if self.part is not None and number >= self.plans:
            raise PartEndsError("")
        tasks = list(plan.tasks)
        paths = [self.folder / f"{number}-{place}.npz" for place in range(len(tasks))]
        self._do_owed(plan, tasks, paths)
        absent = [place for place, path in enumerate(paths) if not path.is_file()]
        if absent and self.part is not None and number + 1 == self.plans:
            raise PartEndsError("")
        if absent and self.part is not None:
            others = sorted({place % self.part.count for place in absent})
            raise PartEndsError(", ".join(f"{other}/{self.part.count}" for other in others))
        for task, path in zip(tasks, paths, strict=True):
            yield task, _read(path)

    def _do_owed(self, plan: Plan, tasks: list[PlanTask], paths: list[Path]) -> None:
        owed = {
            task.key: path
            for place, (task, path) in enumerate(zip(tasks, paths, strict=True))
            if not path.is_file() and (self.part is None or self.part.has(place))
        }
        left: Iterator[PlanTask] = (task for task in tasks if task.key in owed)
        for task, value in self.inner.run(replace(plan, tasks=left)):
            if value is None and self.part is not None:
                found = f"'{task.key}', in which something is wrong or a query's rows lie apart"
                raise InputError("--part", found, "the command without --part, which finds out what")
            write_bytes(owed[task.key], pack(value), sync=False)

    def close(self) -> None:
        """Let go what the inner backend keeps."""
        self.inner.close()


def _read(path: Path) -> Any:  # noqa: ANN401 - what a task made
    try:
        return unpack(path.read_bytes())
    except BestforError as error:
        path.unlink(missing_ok=True)
        raise InputError(str(path), "sums that are damaged, and removed now", "the same command again") from error
