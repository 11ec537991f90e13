"""Crews on this machine: threads of this process, and processes of which each may end without the others."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable, Collection
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for
from typing import Any

from bestfor.backends.base import LostWorkerError, Plan, PlanTask, opened
from bestfor.backends.scheduling import Crew
from bestfor.errors import BestforError, InputError

AHEAD = 2
"""Tasks that a process has at once: one under way, one that it goes on with."""
_REASON = "killed, out of memory, or started by a script without if __name__ == '__main__'"


class ThreadCrew(Crew):
    """Threads of this process.

    Args:
        plan: what is done; ``plan.threads`` tasks at once.
        held: what it works with, opened.
        name: prefix of the threads' names.
    """

    def __init__(self, plan: Plan, held: object, name: str) -> None:
        # Work that can be interrupted is begun late: what an earlier task says may make it pointless.
        self.ahead = plan.threads * (1 if plan.interrupt is not None else AHEAD)
        self._work, self._held = plan.work, held
        self._executor = ThreadPoolExecutor(plan.threads, thread_name_prefix=name)

    def open(self) -> str:
        """Count all threads as one worker with room for as many tasks."""
        return "threads"

    def send(self, worker: object, task: PlanTask) -> Future[Any]:
        """Give a task to the threads."""
        return self._executor.submit(self._work, self._held, *task.inputs)

    def wait(self, handles: Collection[Any], *, block: bool) -> Collection[Any]:
        """Tell which tasks are done."""
        return _waited(handles, block=block)

    def take(self, handle: Any) -> Any:  # noqa: ANN401 - of concurrent.futures, and what the function returns
        """Give what a task has made."""
        return handle.result()

    def end(self, worker: object) -> None:
        """Do nothing: threads are not lost."""

    def close(self) -> None:
        """End the threads after the tasks that they do."""
        self._executor.shutdown(cancel_futures=True)


class ProcessCrew(Crew):
    """Processes, each an executor of its own: one that is killed takes no other with it.

    Args:
        plan: what is done.
        most: processes at most.
    """

    def __init__(self, plan: Plan, most: int) -> None:
        self.most, self.ahead = most, AHEAD
        self._plan = plan
        # Spawned, not forked: libraries with threads (torch, arrow, BLAS) may hang in a forked copy.
        self._context = multiprocessing.get_context("spawn")
        self._open: set[ProcessPoolExecutor] = set()

    def open(self) -> ProcessPoolExecutor:
        """Make an executor; its process starts with its first task."""
        executor = ProcessPoolExecutor(1, self._context, _receive, (self._plan.held,))
        self._open.add(executor)
        return executor

    def send(self, worker: Any, task: PlanTask) -> Future[Any]:  # noqa: ANN401 - an executor
        """Give a task to a process."""
        try:
            return worker.submit(attempted, self._plan.work, task.inputs)
        except BrokenProcessPool as error:
            raise LostWorkerError(f"a process was ended before its work was done ({_REASON})") from error

    def wait(self, handles: Collection[Any], *, block: bool) -> Collection[Any]:
        """Tell which tasks are done."""
        return _waited(handles, block=block)

    def take(self, handle: Any) -> Any:  # noqa: ANN401 - of concurrent.futures, and what the function returns
        """Give what a task has made."""
        try:
            return unpacked(handle.result())
        except BrokenProcessPool as error:
            raise LostWorkerError(f"a process was ended before its work was done ({_REASON})") from error

    def end(self, worker: Any) -> None:  # noqa: ANN401 - an executor
        """Forget a process that is gone."""
        self._open.discard(worker)
        worker.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """End the processes after the tasks that they do."""
        for executor in self._open:
            executor.shutdown(wait=False, cancel_futures=True)
        for executor in self._open:
            executor.shutdown(wait=True)


def _waited(handles: Collection[Any], *, block: bool) -> Collection[Any]:
    if not block:
        return [handle for handle in handles if handle.done()]
    return wait(handles, return_when=FIRST_COMPLETED).done


@dataclass(frozen=True)
class _Refused:
    """Error about the input as plain values: exceptions of several arguments do not travel between processes."""

    where: str
    found: str
    expected: str


_held: Any = None


def _receive(held: object) -> None:
    global _held
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _held = opened(held)


def _end_with_parent() -> None:
    """End this process with the one that asked: killed, that one cannot say so."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)


def attempted(work: Callable[..., Any], inputs: tuple[Any, ...]) -> Any:  # noqa: ANN401 - what the function returns
    """Do a task in a worker process; an error about the input comes back as a value (:func:`unpacked` raises it)."""
    return attempted_with(_held, work, inputs)


def attempted_with(held: object, work: Callable[..., Any], inputs: tuple[Any, ...]) -> Any:  # noqa: ANN401 - likewise
    """Do a task with what its plan works with, see :func:`attempted`.

    Raises:
        BestforError: in the place of an exception that cannot travel.
    """
    try:
        return work(held, *inputs)
    except InputError as error:
        return _Refused(error.where, error.found, error.expected)
    except Exception as error:
        if _travels(error):
            raise
        raise BestforError(f"{type(error).__name__}: {error}") from None


def unpacked(answer: Any) -> Any:  # noqa: ANN401 - what the function returns
    """Give the value of a task.

    Raises:
        InputError: the task did.
    """
    if isinstance(answer, _Refused):
        raise InputError(answer.where, answer.found, answer.expected)
    return answer


def _travels(error: Exception) -> bool:
    try:
        return type(pickle.loads(pickle.dumps(error))) is type(error)
    except Exception:  # whatever an exception's class does when it is made again
        return False
