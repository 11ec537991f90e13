"""Run an event loop on a thread of its own."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from bestfor.extras import require

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

T = TypeVar("T")
Last = Callable[[], Coroutine[Any, Any, Any]]


class LoopThread:
    """Thread with an event loop for coroutines of other threads; ends with :meth:`close` or its last reference.

    Attributes:
        last: awaited within the loop before it ends; must not refer to the owner of the thread.

    Raises:
        MissingExtraError: anyio is not installed.
    """

    def __init__(self) -> None:
        self.last: list[Last] = []
        self._running: set[Future[Any]] = set()
        self._starting = threading.RLock()
        opened = require("anyio.from_thread", "endpoint").start_blocking_portal(name="bestfor-endpoint")
        self._portal: BlockingPortal = opened.__enter__()
        thread = self._portal.call(threading.get_ident)
        self.close = weakref.finalize(self, _end, opened, self._portal, thread, self.last)

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do work within the loop and wait for it; an interrupt cancels it."""
        # Under one lock: work that has begun is known to `cancel`.
        with self._starting:
            future = self._portal.start_task_soon(work)
            self._running.add(future)
        try:
            return future.result()
        finally:
            self._running.discard(future)
            future.cancel()

    def cancel(self) -> None:
        """Cancel all work under way: its callers see ``concurrent.futures.CancelledError``."""
        with self._starting:
            running = list(self._running)
        for future in running:
            future.cancel()


def _end(opened: AbstractContextManager[Any], portal: BlockingPortal, thread: int, last: list[Last]) -> None:
    """End the loop, work under way cancelled."""

    def finish() -> None:
        try:
            for one in last:
                portal.call(one)
        finally:
            portal.call(portal.stop, True)
            opened.__exit__(None, None, None)

    # The collector may run within the loop itself, which cannot wait for its own end.
    if threading.get_ident() == thread:
        threading.Thread(target=finish).start()
    else:
        finish()
