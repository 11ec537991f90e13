import asyncio
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from bestfor.endpoint._thread import LoopThread


@pytest.fixture
def thread():
    one = LoopThread()
    yield one
    one.close()


def of(one):
    """The thread itself, in which the loop runs."""

    async def current():
        return threading.current_thread()

    return one.run(current)


def ended(one):
    one.join(timeout=5)
    return not one.is_alive()


async def asleep(started):
    started.set()
    await asyncio.sleep(30)


def test_values_and_errors_come_back(thread):
    async def value():
        return threading.current_thread().name

    async def error():
        raise LookupError("gone")

    assert thread.run(value) == "bestfor-endpoint"
    with pytest.raises(LookupError, match="gone"):
        thread.run(error)
    assert thread.run(value) == "bestfor-endpoint"


@pytest.mark.parametrize("how", ["cancel", "close"])
def test_work_under_way_is_cancelled_and_its_callers_know(how):
    thread, started = LoopThread(), threading.Event()
    loop = of(thread)
    with ThreadPoolExecutor(1) as pool:
        caller = pool.submit(thread.run, lambda: asleep(started))
        assert started.wait(5)
        getattr(thread, how)()
        with pytest.raises(CancelledError):
            caller.result(timeout=5)
    thread.close()
    assert ended(loop)


def test_work_that_began_before_its_caller_noted_it_is_cancelled_too(thread, monkeypatch):
    started = threading.Event()
    start = thread._portal.start_task_soon

    def slow(work):
        future = start(work)
        assert started.wait(5)
        canceller.start()
        canceller.join(timeout=0.1)
        return future

    canceller = threading.Thread(target=thread.cancel)
    monkeypatch.setattr(thread._portal, "start_task_soon", slow)
    with pytest.raises(CancelledError):
        thread.run(lambda: asleep(started))
    canceller.join(timeout=5)
    assert not canceller.is_alive()


def test_the_last_works_are_done_once_and_an_error_among_them_ends_the_thread_too():
    thread, done = LoopThread(), []
    loop = of(thread)

    async def last():
        done.append(threading.current_thread().name)
        raise OSError("broken")

    thread.last.append(last)
    with pytest.raises(OSError, match="broken"):
        thread.close()
    thread.close()
    assert done == ["bestfor-endpoint"]
    assert ended(loop)


def test_it_may_be_ended_within_its_own_loop():
    thread = LoopThread()
    loop = of(thread)

    async def within():
        thread.close()
        return 1

    assert thread.run(within) == 1
    assert ended(loop)
