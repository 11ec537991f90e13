"""How long a library user waits, on a quiet machine and beside a busy one: with one thread for small work, and without.

    python benchmarks/bench_threads.py [--users 100] [--labels 30] [--features 384] [--repeats 5] [--neighbours 2]

Nothing about threads is in the environment, as in a notebook: scoring 8 new headlines (encoder and a fitted
hierarchical model), encoding 32 texts, and a small fit. Each is done with the threads that the libraries take by
themselves and as bestfor does it, in turn within one process, first alone, then beside processes that do nothing but
take the cores. Medians, and the median of the ratios of neighbouring rounds.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

from bestfor import rng, threads
from bestfor.data.candidates import Candidates
from bestfor.encoders import load_encoder
from bestfor.rewards import build

SPOKEN = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
WORDS = ("council", "river", "vote", "model", "road", "school", "tax", "reader", "bridge", "strike", "minister", "rain")


def headlines(count: int, seed: str) -> list[str]:
    """Texts of 5 to 14 words that no call before has seen."""
    draw = rng.derive(0, "headlines", seed)
    return [f"{seed} {row} " + " ".join(draw.choice(WORDS, size=int(draw.integers(5, 14)))) for row in range(count)]


def examples(users: list[str], user: np.ndarray, text: np.ndarray, texts: list[str], utility: np.ndarray) -> Candidates:
    """Rated texts, one query a user."""
    names = tuple(users)
    inputs, nothing = ("",) * len(names), np.full(len(user), np.nan)
    order = np.arange(len(user))
    return Candidates(names, names, inputs, tuple(texts), user, user.copy(), text, order, utility, nothing)


class Given:
    """An encoder of known vectors: a fit is measured without encoding."""

    name = signature = "given"

    def __init__(self, vectors: dict[str, np.ndarray]) -> None:
        self.vectors, self.dim = vectors, len(next(iter(vectors.values())))

    def encode(self, texts: list[str]) -> np.ndarray:
        """Look the vectors up."""
        return np.array([self.vectors[text] for text in texts], dtype=np.float32)


def fitting(users: int, labels: int, features: int) -> Callable[[], None]:
    """A fit of ``users`` users with ``labels`` labels each."""
    draw = rng.derive(0, "fit")
    texts = [f"text {row}" for row in range(2 * features)]
    vectors = draw.normal(size=(len(texts), features)).astype(np.float32)
    user = np.repeat(np.arange(users), labels)
    text = draw.integers(0, len(texts), size=len(user))
    taste = draw.normal(size=(users, features)) / features**0.5
    utility = np.sum(vectors[text] * taste[user], axis=1) + draw.normal(size=len(user))
    rows = examples([f"u{code:06d}" for code in range(users)], user, text, texts, utility)
    encoder = Given(dict(zip(texts, vectors, strict=True)))
    options = {"components": features, "covariance": "isotropic", "variance_head": False}
    return lambda: build("hierarchical", encoder=encoder, **options).fit(rows, rng=0) and None


def scoring() -> Callable[[], None]:
    """Scores of 8 headlines that are new in every call."""
    encoder, draw = load_encoder(), rng.derive(0, "score")
    texts, users = headlines(40, "fit"), [f"u{code}" for code in range(8)]
    user, text = np.repeat(np.arange(8), 40), np.tile(np.arange(40), 8)
    model = build("hierarchical", encoder=encoder)
    model.fit(examples(users, user, text, texts, draw.normal(size=len(user))), rng=0)
    calls = iter(range(10**9))

    def score() -> None:
        fresh, zero = headlines(8, f"call{next(calls)}"), np.zeros(8, dtype=np.int64)
        model.predict(examples(users[:1], zero, np.arange(8), fresh, np.full(8, np.nan)))

    return score


def encoding() -> Callable[[], None]:
    """Vectors of 32 texts."""
    encoder, texts = load_encoder().encoder, headlines(32, "many")
    return lambda: encoder.encode(texts) is None


@contextmanager
def unlimited() -> Iterator[None]:
    """Let every library take the threads that it takes by itself."""
    encoder = load_encoder().encoder
    workers, threads._here.limited, encoder.workers = encoder.workers, True, 1
    try:
        yield
    finally:
        threads._here.limited, encoder.workers = False, workers


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """Processes that take a core each."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def seconds(work: Callable[[], None]) -> float:
    """Time of one call by the clock."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def compare(name: str, work: Callable[[], None], repeats: int) -> None:
    """Do the work both ways in turn, and print a row."""
    work()
    free, limited = [], []
    for _ in range(repeats):
        with unlimited():
            free.append(seconds(work))
        limited.append(seconds(work))
    ratio = statistics.median(one / other for one, other in zip(free, limited, strict=True))
    print(f"| {name} | {statistics.median(free):.3f} | {statistics.median(limited):.3f} | {ratio:.2f} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--labels", type=int, default=30)
    parser.add_argument("--features", type=int, default=384)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--neighbours", type=int, default=os.cpu_count() or 1, help="busy processes beside")
    given = parser.parse_args()
    if any(name in os.environ for name in SPOKEN):
        rest = {name: value for name, value in os.environ.items() if name not in SPOKEN}
        os.execve(sys.executable, [sys.executable, *sys.argv], rest)
    works = {
        "8 new headlines scored": scoring(),
        "32 headlines encoded": encoding(),
        f"fit of {given.users} users": fitting(given.users, given.labels, given.features),
    }
    print(f"{torch.get_num_threads()} threads of {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f},", end=" ")
    print(f"Python {platform.python_version()}, torch {torch.__version__}, NumPy {np.__version__}\n")
    print("| | s, threads as they come | s, as bestfor does it | ratio |\n|---|---:|---:|---:|")
    for name, work in works.items():
        compare(f"{name}, alone", work, given.repeats)
    with neighbours(given.neighbours):
        for name, work in works.items():
            compare(f"{name}, {given.neighbours} busy neighbours", work, given.repeats)


if __name__ == "__main__":
    main()
