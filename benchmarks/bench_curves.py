"""How fast exact curves are: ratios within one run, since absolute times wander between machines and hours.

    python benchmarks/bench_curves.py [--pools 100000] [--candidates 32] [--repeats 7]

Exact Best-of-N at every N = 1 .. M, with and without ties and for ragged pools, against a bare stable argsort of the
same rewards and against the published protocol: for every N three random subsets of each pool, in chunks that stay in
the processor's cache, by partial sorts of single-precision keys. One core.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from bestfor.diagnostics import best_of_n
from bestfor.types import FloatArray, IntArray

DRAWS = 3
CHUNK = 4096


def three_subsets(reward: FloatArray, utility: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Mean utility of the best of a random N-subset, three subsets a pool and N, for N = 1 .. M."""
    pools, m = reward.shape
    curve = np.zeros(m)
    for low in range(0, pools, CHUNK):
        scores, values = reward[low : low + CHUNK], utility[low : low + CHUNK]
        rows = np.arange(len(scores))
        for n in range(1, m + 1):
            for _ in range(DRAWS):
                if n == m:
                    pick = scores.argmax(axis=1)
                else:
                    keys = rng.random(scores.shape, dtype=np.float32)
                    subset = keys.argpartition(n - 1, axis=1)[:, :n]
                    pick = subset[rows, np.take_along_axis(scores, subset, axis=1).argmax(axis=1)]
                curve[n - 1] += values[rows, pick].sum() / DRAWS / pools
    return curve


def nested_subsets(reward: FloatArray, utility: FloatArray, rng: np.random.Generator) -> FloatArray:
    """A quicker protocol of the same kind: three random orders a pool, whose first N are the subset for every N."""
    pools, m = reward.shape
    curve = np.zeros(m)
    for low in range(0, pools, CHUNK):
        for _ in range(DRAWS):
            order = rng.random((min(CHUNK, pools - low), m), dtype=np.float32).argsort(axis=1)
            scores = np.take_along_axis(reward[low : low + CHUNK], order, axis=1)
            best = np.maximum.accumulate(scores, axis=1)
            place = np.maximum.accumulate(np.where(scores == best, np.arange(m), 0), axis=1)
            values = np.take_along_axis(utility[low : low + CHUNK], order, axis=1)
            curve += np.take_along_axis(values, place, axis=1).sum(axis=0) / DRAWS / pools
    return curve


def fastest(task: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest run."""
    times: list[float] = []
    for _ in range(repeats):
        start = time.perf_counter()
        task()
        times.append(time.perf_counter() - start)
    return min(times)


def inputs(pools: int, candidates: int) -> tuple[FloatArray, FloatArray, IntArray, IntArray, IntArray]:
    """Rewards, utilities, full and ragged sizes, and every N."""
    rng = np.random.default_rng(0)
    shape = (pools, candidates)
    reward, utility = rng.standard_normal(shape), rng.standard_normal(shape)
    ragged = rng.integers(candidates // 2, candidates + 1, pools)
    return reward, utility, np.full(pools, candidates), ragged, np.arange(1, candidates + 1)


def peak(pools: int, candidates: int) -> float:
    """Megabytes of a process, inputs and all libraries included, that computes one ragged curve with ties."""
    command = [sys.executable, __file__, "--pools", str(pools), "--candidates", str(candidates), "--memory-only"]
    with subprocess.Popen(command) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit("the run that measures memory failed")
    return usage.ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Print a Markdown table and the three ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pools", type=int, default=100_000)
    parser.add_argument("--candidates", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--memory-only", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    megabytes = 0.0 if options.memory_only else peak(options.pools, options.candidates)
    reward, utility, size, ragged, every = inputs(options.pools, options.candidates)
    if options.memory_only:
        best_of_n(np.round(reward, 1, out=reward), utility, ragged, every)
        return
    rounded = np.round(reward, 1)
    exact: dict[str, Callable[[], object]] = {
        "exact, every N": lambda: best_of_n(reward, utility, size, every),
        "exact, every N, ties": lambda: best_of_n(rounded, utility, size, every),
        "exact, every N, ragged": lambda: best_of_n(reward, utility, ragged, every),
        "exact, every N, ties and ragged": lambda: best_of_n(rounded, utility, ragged, every),
    }
    seconds = {"bare stable argsort": fastest(lambda: np.argsort(reward, axis=1, kind="stable"), options.repeats)}
    seconds |= {name: fastest(task, options.repeats) for name, task in exact.items()}
    draws = {"three subsets for every N": three_subsets, "three nested orders": nested_subsets}
    seconds |= {name: fastest(lambda f=f: f(reward, utility, np.random.default_rng(1)), 1) for name, f in draws.items()}
    print(f"command: python benchmarks/bench_curves.py {' '.join(sys.argv[1:])}".rstrip())
    print(
        f"machine: {os.cpu_count()} cores (one used), {platform.machine()}, {platform.system()}, "
        f"Python {platform.python_version()}, NumPy {np.__version__}"
    )
    print(f"{options.pools:,} pools of {options.candidates} candidates; {megabytes:.0f} MB at most, all included\n")
    print("| | s | over the argsort | three subsets over it |")
    print("|---|---:|---:|---:|")
    base, drawn = seconds["bare stable argsort"], seconds["three subsets for every N"]
    for name, one in seconds.items():
        print(f"| {name} | {one:.3f} | {one / base:.2f} | {drawn / one:.0f} |")


if __name__ == "__main__":
    main()
