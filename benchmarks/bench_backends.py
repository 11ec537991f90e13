"""Measure backends: what a task costs the asking process, and how much faster two workers are than one.

    OMP_NUM_THREADS=1 python benchmarks/bench_backends.py [--ray] [--seconds 60]

The work counts in plain Python and touches little memory, so that processes share no memory bandwidth. Beside the
speed-up stands that of two processes that know nothing of each other: what the machine gives at most.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from bestfor.backends import Backend, Local, Plan, PlanTask, make_backend

TASKS = 120


def count(held: int, number: int) -> int:
    """Count by a recurrence that no library takes a short cut for."""
    value = number + 1
    for _ in range(held):
        value = (value * 1103515245 + 12345) % 2147483648
    return value


def nothing(held: object, number: int) -> int:
    """Return at once."""
    return number


def timed(backend: Backend, plan: Plan) -> tuple[list[int], float, float]:
    """Do a plan; its values, wall time and this process's processor time."""
    wall, used = time.perf_counter(), time.process_time()
    values = [value for _, value in backend.run(plan)]
    return values, time.perf_counter() - wall, time.process_time() - used


def steps_of(seconds: float) -> int:
    """Choose the steps of a task so that all of them take about so long in one process."""
    began = time.process_time()
    count(2_000_000, 1)
    return int(2_000_000 * seconds / TASKS / (time.process_time() - began))


def independent(steps: int, processes: int) -> float:
    """Wall time of processes that each do their share of the tasks."""
    code = "import sys; from bench_backends import count; [count(int(sys.argv[1]), n) for n in range(int(sys.argv[2]))]"
    folder = str(Path(__file__).parent)
    began = time.perf_counter()
    command = [sys.executable, "-c", code, str(steps), str(TASKS // processes)]
    running = [subprocess.Popen(command, cwd=folder) for _ in range(processes)]
    for one in running:
        one.wait()
    return time.perf_counter() - began


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    backends: dict[str, Backend] = {"local, 2 processes": Local(2)}
    if given.ray:
        backends["ray, 2 workers"] = make_backend("ray", workers=2)
    empty = [PlanTask(str(number), (number,)) for number in range(2000)]
    for name, backend in backends.items():
        for when in ("first", "next"):
            _, wall, _ = timed(backend, Plan("start", nothing, empty[:8], 1, portable=True))
            print(f"{name}: {wall:.2f} s for the {when} plan, of eight tasks that do nothing")
        few, many = (timed(backend, Plan("empty", nothing, empty[:size], 1, portable=True)) for size in (200, 2000))
        wall, used = (1e3 * (many[place] - few[place]) / 1800 for place in (1, 2))
        print(f"{name}: {wall:.2f} ms a task, {used:.2f} ms of the asking process's processor time")
    steps = steps_of(given.seconds)
    tasks = [PlanTask(str(number), (number,)) for number in range(TASKS)]
    alone, two = independent(steps, 1), independent(steps, 2)
    print(f"independent processes: {alone:.1f} s in one, {two:.1f} s in two: {alone / two:.2f} times as fast")
    expected, one, _ = timed(Local(), Plan("count", count, tasks, steps, portable=True))
    print(f"local, this process: {one:.1f} s")
    for name, backend in backends.items():
        found, wall, _ = timed(backend, Plan("count", count, tasks, steps, portable=True))
        print(f"{name}: {wall:.1f} s, {one / wall:.2f} times as fast, equal values: {found == expected}")
        backend.close()


if __name__ == "__main__":
    main()
