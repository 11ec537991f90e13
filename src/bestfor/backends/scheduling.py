"""Give tasks to workers: a bounded number under way, values in order, and again what a lost worker had.

This is the one scheduler of the project: threads, processes and the actors of a cluster are crews that it is given.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Collection, Generator, Hashable, Iterator
from typing import Any

from bestfor.backends.base import TRIES, LostWorkerError, Plan, PlanTask
from bestfor.errors import BestforError

Worker = Hashable
Handle = Hashable
"""A task under way."""
Numbered = tuple[int, PlanTask]


class Crew(ABC):
    """Workers of one plan.

    Attributes:
        most: workers at most; one is opened when there is a task that no other has room for.
        ahead: tasks that a worker has at once; those behind the first wait at the worker.
    """

    most: int = 1
    ahead: int = 1

    @abstractmethod
    def open(self) -> Worker:
        """Start a worker."""

    @abstractmethod
    def send(self, worker: Worker, task: PlanTask) -> Handle:
        """Give a task to a worker; returns at once.

        Raises:
            LostWorkerError: the worker is gone.
        """

    @abstractmethod
    def wait(self, handles: Collection[Handle], *, block: bool) -> Collection[Handle]:
        """Tell which tasks are done; with ``block``, wait until there is one."""

    @abstractmethod
    def take(self, handle: Handle) -> Any:  # noqa: ANN401 - what the plan's function returns
        """Give what a task that is done has made.

        Raises:
            LostWorkerError: its worker was lost.
            Exception: what the task raised.
        """

    @abstractmethod
    def end(self, worker: Worker) -> None:
        """Let go a worker that was lost."""

    @abstractmethod
    def close(self) -> None:
        """End all workers; tasks that did not begin are not done."""


def done_here(plan: Plan, held: Any) -> Generator[tuple[PlanTask, Any]]:  # noqa: ANN401 - whatever the plan works with
    """Do the tasks of a plan one after the other, here."""
    for task in plan.tasks:
        yield task, plan.work(held, *task.inputs)


def scheduled(
    plan: Plan, crew: Crew, *, here: object = None, takes_part: bool = False
) -> Generator[tuple[PlanTask, Any]]:
    """Do the tasks of a plan by a crew.

    Args:
        plan: what is done.
        crew: who does it; it is closed at the end, however that comes.
        here: what the plan works with, for ``takes_part``.
        takes_part: whether this thread does tasks too, while it would have to wait.

    Yields:
        Each task and its value.

    Raises:
        BestforError: a task's worker was lost :data:`TRIES` times.
        Exception: what a task raised, in its turn where values come in order.
    """
    schedule = _Schedule(plan, crew, here, takes_part)
    try:
        yield from schedule.run()
    finally:
        if plan.interrupt is not None:
            plan.interrupt()
        crew.close()


class _Schedule:
    """Tasks of a plan: waiting, under way, and done but not given out."""

    def __init__(self, plan: Plan, crew: Crew, here: object, takes_part: bool) -> None:
        self._plan, self._crew, self._here, self._takes_part = plan, crew, here, takes_part
        self._source: Iterator[Numbered] = enumerate(plan.tasks)
        self._waiting: deque[Numbered] = deque()
        self._again: deque[Numbered] = deque()
        self._workers: dict[Worker, list[Handle]] = {}
        self._running: dict[Handle, tuple[Numbered, Worker]] = {}
        self._done: dict[int, tuple[PlanTask, Any, Exception | None]] = {}
        self._lost: Counter[int] = Counter()
        self._place = 0

    def run(self) -> Generator[tuple[PlanTask, Any]]:
        while True:
            self._feed()
            if not self._running and not self._again and not self._has_waiting(1):
                return
            spare = self._takes_part and self._has_waiting(1)
            ready = self._crew.wait(self._running, block=not spare) if self._running else ()
            for handle in list(ready):
                self._collect(handle)
            if not ready and spare:
                self._do(self._waiting.popleft())
            yield from self._given_out()

    def _given_out(self) -> Generator[tuple[PlanTask, Any]]:
        while self._done:
            number = self._place if self._plan.ordered else next(iter(self._done))
            if number not in self._done:
                return
            task, value, error = self._done.pop(number)
            self._place += 1
            if error is not None:
                raise error
            yield task, value

    def _has_waiting(self, count: int) -> bool:
        while len(self._waiting) < count and (numbered := next(self._source, None)) is not None:
            self._waiting.append(numbered)
        return len(self._waiting) >= count

    def _feed(self) -> None:
        """Give every worker a task, then further ones behind it, as long as one is left for this thread.

        What a lost worker had goes to workers alone: it may be what ended that one.
        """
        for load in range(self._crew.ahead):
            while self._has_room(load) and (self._again or self._has_waiting(2 if self._takes_part else 1)):
                queue = self._again or self._waiting
                self._send(self._worker(load), queue.popleft())

    def _has_room(self, load: int) -> bool:
        fewest = min(map(len, self._workers.values()), default=load + 1)
        return fewest <= load or len(self._workers) < self._crew.most

    def _worker(self, load: int) -> Worker:
        """Find a worker with so few tasks, or start one."""
        for worker, handles in self._workers.items():
            if len(handles) <= load:
                return worker
        worker = self._crew.open()
        self._workers[worker] = []
        return worker

    def _send(self, worker: Worker, numbered: Numbered) -> None:
        try:
            handle = self._crew.send(worker, numbered[1])
        except LostWorkerError as error:
            self._again.appendleft(numbered)
            self._replace(worker, error)
            return
        self._workers[worker].append(handle)
        self._running[handle] = numbered, worker

    def _collect(self, handle: Handle) -> None:
        if handle not in self._running:  # its worker was lost meanwhile
            return
        (number, task), worker = self._running[handle]
        try:
            value, error = self._crew.take(handle), None
        except LostWorkerError as lost:
            self._replace(worker, lost)
            return
        except Exception as raised:  # given out in its turn
            value, error = None, raised
        self._settle(handle)
        self._done[number] = task, value, error

    def _settle(self, handle: Handle) -> None:
        _, worker = self._running.pop(handle)
        self._workers[worker].remove(handle)

    def _replace(self, worker: Worker, lost: LostWorkerError) -> None:
        """Take back what a lost worker had; its first task was under way, and counts."""
        finished = [handle for handle in self._workers[worker] if handle in self._crew.wait([handle], block=False)]
        for handle in finished:
            self._keep_finished(handle)
        left = [self._running.pop(handle)[0] for handle in self._workers.pop(worker)]
        self._crew.end(worker)
        self._again.extendleft(reversed(left))
        number = self._again[0][0]
        self._lost[number] += 1
        if self._lost[number] >= TRIES:
            raise BestforError(f"{self._plan.name}: {lost}") from lost

    def _keep_finished(self, handle: Handle) -> None:
        """Keep what a worker had finished before it was lost."""
        (number, task), _ = self._running[handle]
        try:
            self._done[number] = task, self._crew.take(handle), None
        except LostWorkerError:
            return
        except Exception as raised:
            self._done[number] = task, None, raised
        self._settle(handle)

    def _do(self, numbered: Numbered) -> None:
        number, task = numbered
        try:
            self._done[number] = task, self._plan.work(self._here, *task.inputs), None
        except Exception as raised:
            self._done[number] = task, None, raised
