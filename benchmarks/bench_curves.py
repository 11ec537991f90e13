"""How fast exact curves are: ratios within one run, since absolute times wander between machines and hours.

    python benchmarks/bench_curves.py [--pools 100000] [--candidates 32] [--repeats 5]

Compares exact Best-of-N at every N = 1 .. M with a bare stable argsort of the same rewards, and with the published
protocol of three random subsets for each N in powers of two, on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from bestfor.diagnostics import best_of_n, diagnose_arrays
from bestfor.types import FloatArray


def three_subsets(reward: FloatArray, utility: FloatArray, n: list[int], rng: np.random.Generator) -> FloatArray:
    """Mean utility of the best of a random N-subset, three subsets a pool, for every N in the list."""
    rows = np.arange(len(reward))
    curve = np.zeros(len(n))
    for _ in range(3):
        order = rng.random(reward.shape).argsort(axis=1)
        for k, drawn in enumerate(n):
            chosen = order[:, :drawn]
            pick = chosen[rows, np.take_along_axis(reward, chosen, axis=1).argmax(axis=1)]
            curve[k] += utility[rows, pick].mean() / 3
    return curve


def fastest(task: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest run."""
    times: list[float] = []
    for _ in range(repeats):
        start = time.perf_counter()
        task()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pools", type=int, default=100_000)
    parser.add_argument("--candidates", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    shape = (options.pools, options.candidates)
    reward, utility = rng.standard_normal(shape), rng.standard_normal(shape)
    rounded, size = np.round(reward, 1), np.full(options.pools, options.candidates)
    ragged = rng.integers(options.candidates // 2, options.candidates + 1, options.pools)
    every = np.arange(1, options.candidates + 1)
    powers = [2**k for k in range(options.candidates.bit_length())]
    query = np.repeat(np.arange(options.pools), options.candidates)
    tasks: dict[str, Callable[[], object]] = {
        "stable argsort": lambda: np.argsort(reward, axis=1, kind="stable"),
        "exact, every N": lambda: best_of_n(reward, utility, size, every),
        "exact, every N, ties": lambda: best_of_n(rounded, utility, size, every),
        "exact, every N, ragged": lambda: best_of_n(reward, utility, ragged, every),
        "three subsets, powers of two": lambda: three_subsets(reward, utility, powers, np.random.default_rng(1)),
    }
    seconds = {name: fastest(task, options.repeats) for name, task in tasks.items()}
    seconds["whole diagnosis"] = fastest(
        lambda: diagnose_arrays(query // 10, query, utility.ravel(), {"x": reward.ravel()}), 1
    )
    base = seconds["stable argsort"]
    ratios = {name: round(value / base, 2) for name, value in seconds.items()}
    print(json.dumps({"shape": shape, "seconds": {k: round(v, 3) for k, v in seconds.items()}, "ratios": ratios}))


if __name__ == "__main__":
    main()
