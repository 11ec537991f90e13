"""Run an event loop on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
Last = Callable[[], Coroutine[Any, Any, Any]]


class LoopThread:
    """Thread with an event loop for coroutines of other threads; ends with :meth:`close` or its last reference.

    Attributes:
        last: awaited within the loop before it ends; must not refer to the owner of the thread.
    """

    def __init__(self) -> None:
        self.last: list[Last] = []
        self._running: set[Future[Any]] = set()
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=_turn, args=(self._loop,), name="bestfor-endpoint", daemon=True)
        thread.start()
        self.close = weakref.finalize(self, _end, self._loop, thread, self.last)

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do work within the loop and wait for it; an interrupt cancels it."""
        future = asyncio.run_coroutine_threadsafe(work(), self._loop)
        self._running.add(future)
        try:
            return future.result()
        finally:
            self._running.discard(future)
            future.cancel()

    def cancel(self) -> None:
        """Cancel all work under way: its callers see ``concurrent.futures.CancelledError``."""
        for future in list(self._running):
            future.cancel()


def _turn(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


def _end(loop: asyncio.AbstractEventLoop, thread: threading.Thread, last: list[Last]) -> None:
    async def finish() -> None:
        for one in last:
            await one()
        # Transports end in callbacks of their own: one more turn of the loop lets them.
        await asyncio.sleep(0)
        loop.stop()

    asyncio.run_coroutine_threadsafe(finish(), loop)
    # The collector may run within the loop itself, which cannot wait for its own end.
    if threading.current_thread() is not thread:
        thread.join()
