import os
import signal
import threading
import time
from multiprocessing import parent_process
from pathlib import Path

import pytest

from bestfor.backends import Local, Plan, PlanTask, Recipe, make_backend
from bestfor.errors import BestforError, InputError
from bestfor.registry import make


def square(held, number):
    return held * number * number


def tasks(count):
    return [PlanTask(str(number), (number,)) for number in range(count)]


def values(backend, plan):
    return [value for _, value in backend.run(plan)]


def in_worker():
    return parent_process() is not None


@pytest.mark.parametrize("threads", [1, 3])
def test_values_come_in_the_order_of_their_tasks(threads):
    def slow_first(held, number):
        if threads > 1 and number == 0:
            later.wait(10)
        if number == 5:
            later.set()
        return square(held, number)

    later = threading.Event()
    found = values(Local(), Plan("w", slow_first, tasks(20), 2, threads=threads))
    assert found == [2 * n * n for n in range(20)]


def test_unordered_values_come_as_they_are_done():
    def first_waits(held, number):
        if number == 0:
            later.wait(10)
        return number

    later = threading.Event()
    found = []
    for task, value in Local().run(Plan("w", first_waits, tasks(6), threads=2, ordered=False)):
        assert task.key == str(value)
        found.append(value)
        if len(found) == 5:
            later.set()
    assert found[-1] == 0
    assert sorted(found) == list(range(6))


def test_an_error_comes_in_its_turn_and_ends_the_work():
    def bad(held, number):
        if number == 3:
            raise InputError("here", "a 3", "another number")
        return number

    for threads in (1, 4):
        found = []
        work = (found.append(value) for _, value in Local().run(Plan("w", bad, tasks(9), threads=threads)))
        with pytest.raises(InputError, match="found a 3"):
            list(work)
        assert found == [0, 1, 2]


def test_no_more_is_under_way_than_may_be():
    lock, now, most = threading.Lock(), [0], [0]

    def counted(held, number):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        barrier.wait(10)
        with lock:
            now[0] -= 1

    barrier = threading.Barrier(3)
    values(Local(), Plan("w", counted, tasks(9), threads=3))
    assert most[0] == 3


def test_tasks_are_read_as_there_is_room_and_a_reader_that_stops_is_heard():
    read, stopped = [], []

    def source():
        for task in tasks(100):
            read.append(task.key)
            yield task

    plan = Plan("w", square, source(), 1, threads=2, ordered=False, interrupt=lambda: stopped.append(True))
    work = Local().run(plan)
    next(work)
    work.close()
    assert len(read) <= 4
    assert stopped == [True]


@pytest.mark.slow
def test_processes_give_the_same_values_and_errors():
    plan = Plan("w", square, tasks(30), Recipe(int, ("2",)), portable=True)
    assert values(Local(3), plan) == values(Local(), plan) == [2 * n * n for n in range(30)]
    with pytest.raises(InputError, match="here: found x; expected y"):
        values(Local(2), Plan("w", refuse, tasks(4), portable=True))
    with pytest.raises(BestforError, match="Odd: "):
        values(Local(2), Plan("w", oddly, tasks(4), portable=True))


def refuse(held, number):
    raise InputError("here", "x", "y")


class Odd(Exception):
    """Cannot be made again from its arguments."""

    def __init__(self, one, two):
        super().__init__("both")


def oddly(held, number):
    raise Odd(1, 2)


def noted(folder, number):
    """Say who works on what, and stay at the task that the test kills until it has."""
    place = Path(folder) / f"{number}-{os.getpid()}-{'worker' if in_worker() else 'here'}"
    place.touch()
    while number == 5 and len(list(Path(folder).glob("5-*"))) == 1:
        time.sleep(0.01)
    return number * 7


@pytest.mark.slow
def test_a_process_killed_in_the_middle_costs_its_task_alone(tmp_path):
    class Pids(threading.Thread):
        def run(self):
            while not (found := list(tmp_path.glob("5-*-worker"))):
                time.sleep(0.01)
            os.kill(int(found[0].name.split("-")[1]), signal.SIGKILL)

    # Here nothing is done beyond what the worker does: the one that is killed is a worker's.
    numbers = [5, *range(5), *range(6, 40)]
    work = [PlanTask(str(number), (number,)) for number in numbers]
    killer = Pids()
    killer.start()
    found = values(Local(3), Plan("w", noted, work, str(tmp_path), portable=True))
    killer.join()
    assert found == [number * 7 for number in numbers]
    begun = [int(path.name.split("-")[0]) for path in tmp_path.iterdir()]
    assert sorted(begun) == sorted([*numbers, 5])


def deadly(held, number):
    if in_worker():
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.slow
def test_work_that_ends_every_process_is_an_error():
    with pytest.raises(BestforError, match="w: a process was ended before its work was done"):
        values(Local(2), Plan("w", deadly, tasks(5), portable=True))


def test_options_are_checked():
    with pytest.raises(InputError, match=r"\[backend\] workers: found 0"):
        Local(0)
    with pytest.raises(InputError, match="found kind 'locl'; expected 'local'"):
        make_backend("locl")
    with pytest.raises(InputError, match="unknown key 'worker'"):
        make_backend("local", worker=2)
    assert make(Local, {"workers": 3}, "x") == make_backend("local", workers=3) == Local(3)
