"""Time and memory of every kind of reward model: fits of large tables, many distinct texts, scores and persons.

    python benchmarks/bench_kinds.py table    [--kinds tastes auto]   5,000 users rate 72 of 100 texts each (360,000)
    python benchmarks/bench_kinds.py shared   [--kinds ...]           10,000 users rate 30 of 500 texts each
    python benchmarks/bench_kinds.py own      [--kinds ...]           10,000 users, 30 texts of their own each
    python benchmarks/bench_kinds.py texts    [--kinds ...]           500 to 10,000 distinct texts, 30,000 ratings
    python benchmarks/bench_kinds.py scores   [--kinds ...]           30 candidates of one user, and a person of 50

Candidates that are known were in the fit; new ones were not, and have been scored before, as where several users are
asked about the same; those never met come for the first time, and their style and letters are counted.

Each fit has a process of its own, whose processor seconds (all threads) and most memory are printed; memory includes
the interpreter, the libraries and the table. Embeddings (384 numbers a text) are at hand: no encoder is timed. Users
are drawn from a known world: what all share, four tastes, what vectors do not tell, levels and noise. One thread,
unless told otherwise by OMP_NUM_THREADS and OPENBLAS_NUM_THREADS.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import numpy as np

from bestfor.data.candidates import Candidates
from bestfor.data.labels import Labels, Rated
from bestfor.rewards import build, load
from bestfor.rewards.model import RewardModel

DIM, TASTES, QUESTIONS = 384, 4, 3
KINDS = (
    "length",
    "similarity",
    "pooled",
    "ridge",
    "hierarchical",
    "tastes",
    "point",
    "gaussian",
    "bradley_terry",
    "ensemble",
    "auto",
)
TEXTS = (500, 1_000, 2_500, 5_000, 10_000)
SHAPES = {"table": (5_000, 72, 100), "shared": (10_000, 30, 500), "own": (10_000, 30, 0)}
CANDIDATES, SAID, REPEATS = 30, 50, 201
BLOCK = 4096
SPREADS = {"shared": 0.5, "tastes": 0.7, "text": 0.3, "level": 0.3, "noise": 0.6}


HEADS = {
    "table": ("kind", "processor s", "s", "MB at most", "MB before"),
    "texts": ("kind", "texts", "processor s", "ms a text", "MB at most", "MB before"),
    "scores": ("kind", "known, ms", "new", "never met", "person of 50", "its score, known", "its score, new"),
}


class Vectors:
    """An encoder whose vectors are at hand: those of the world's texts by their number."""

    name, dim = "numbers", DIM
    signature = "numbers-of-a-world"

    def __init__(self, *worlds: World) -> None:
        self.vectors = worlds[0].vectors if len(worlds) == 1 else np.vstack([world.vectors for world in worlds])
        self.place = {text: code for code, text in enumerate(text for world in worlds for text in world.texts)}
        self.place[""] = 0

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Look the vectors up."""
        return self.vectors[np.fromiter(map(self.place.__getitem__, texts), np.int64, len(texts))]


class World:
    """Texts in loose groups of meaning, and what users make of them."""

    def __init__(self, texts: int) -> None:
        draw = np.random.default_rng(0)
        middles = draw.normal(size=(40, DIM))
        group, vectors = draw.integers(40, size=texts), np.empty((texts, DIM), dtype=np.float32)
        for start in range(0, texts, BLOCK):
            # all at once in double precision would be most of what a fit's process holds
            part = group[start : start + BLOCK]
            vectors[start : start + BLOCK] = middles[part] + draw.normal(size=(len(part), DIM))
            vectors[start : start + BLOCK] /= np.linalg.norm(vectors[start : start + BLOCK], axis=1, keepdims=True)
        self.vectors = vectors
        words = np.array([f"w{code}" + "aeiou"[code % 5] * (code % 7) for code in range(2_000)])
        sizes = draw.integers(6, 24, size=texts)
        self.texts = [f"{code} {' '.join(words[draw.integers(2_000, size=size)])}." for code, size in enumerate(sizes)]
        heads = draw.normal(size=(DIM, TASTES + 1)).astype(np.float32) * 1.0
        self.tells = self.vectors @ heads
        self.beyond = draw.normal(size=texts) * SPREADS["text"]

    def rated(self, users: int, each: int, draw: np.random.Generator, *, own: bool = False) -> Candidates:
        """Ratings of ``each`` texts by every user, drawn for them, or their own ones in turn."""
        count = len(self.texts)
        if own:
            text = np.arange(users * each).reshape(users, each) % count
        else:
            text = np.argsort(draw.random((users, count), dtype=np.float32), axis=1)[:, :each]
        likes = draw.normal(size=(users, TASTES)) / np.sqrt(TASTES)
        utility = SPREADS["shared"] * self.tells[text, 0] + self.beyond[text]
        utility += SPREADS["tastes"] * np.einsum("uek,uk->ue", self.tells[text, 1:], likes)
        utility += SPREADS["level"] * draw.normal(size=(users, 1)) + SPREADS["noise"] * draw.normal(size=text.shape)
        questions = QUESTIONS if own else 1
        queries = [f"{user}-{ask}" for user in range(users) for ask in range(questions)]
        query = np.arange(users)[:, None] * questions + np.arange(each) * questions // each
        return Candidates(
            users=tuple(f"user {code}" for code in range(users)),
            queries=tuple(queries),
            inputs=("",) * len(queries),
            texts=tuple(self.texts),
            user=np.repeat(np.arange(users), each),
            query=query.ravel(),
            text=text.ravel().astype(np.int64),
            candidate=np.tile(np.arange(each), users),
            utility=utility.ravel().astype(np.float64),
            logprob=np.full(users * each, np.nan),
        )


def main() -> None:
    """Start a process for each figure and print what it says."""
    options = parse()
    if options.one:
        print(ONE[options.what](options.one, options.size), flush=True)
        return
    print(f"NumPy {np.__version__}, Python {platform.python_version()}, {os.environ['OMP_NUM_THREADS']} thread(s)\n")
    heads = HEADS.get(options.what, HEADS["table"])
    print(f"| {' | '.join(heads)} |\n|---{'|---:' * (len(heads) - 1)}|")
    sizes = (options.sizes or TEXTS) if options.what == "texts" else [0]
    for kind in options.kinds or (["tastes"] if options.what == "texts" else KINDS):
        for size in sizes:
            command = [sys.executable, __file__, options.what, "--one", kind, "--size", str(size)]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            print(done.stdout.strip() or f"| {kind} | {(done.stderr.strip().splitlines() or ['?'])[-1]} |", flush=True)


def fitted(kind: str, world: World, rows: Candidates) -> tuple[RewardModel, float, float, float]:
    """A fitted model, its processor and wall seconds, and the memory before."""
    model = build(kind, encoder=Vectors(world)) if kind != "length" else build(kind)
    model.ready()
    before, busy, start = peak(), time.process_time(), time.perf_counter()
    model.fit(rows, rng=0)
    return model, time.process_time() - busy, time.perf_counter() - start, before


def one_table(kind: str, size: int, shape: str) -> str:
    """Fit a table of one of the shapes."""
    users, each, texts = SHAPES[shape]
    world = World(texts or users * each)
    rows = world.rated(users, each, np.random.default_rng(1), own=not texts)
    _, busy, clock, before = fitted(kind, world, rows)
    return f"| `{kind}` | {busy:.1f} | {clock:.1f} | {peak():,.0f} | {before:,.0f} |"


def one_texts(kind: str, size: int) -> str:
    """Fit 30,000 ratings of some distinct texts."""
    world = World(size)
    rows = world.rated(300, 100, np.random.default_rng(1))
    _, busy, _, before = fitted(kind, world, rows)
    return f"| `{kind}` | {size:,} | {busy:.1f} | {1000 * busy / size:.2f} | {peak():,.0f} | {before:,.0f} |"


def one_scores(kind: str, size: int) -> str:
    """Score 30 candidates of one user by a loaded model, and make a person of 50 ratings."""
    world = World(400)
    rows = world.rated(300, 60, np.random.default_rng(1))
    rows = rows.take(rows.text < 300)
    model, *_ = fitted(kind, world, rows)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder))
        fresh = World(REPEATS * CANDIDATES)
        model = load(Path(folder), encoder=Vectors(world, fresh))
    unmet = iter(range(0, len(fresh.texts), CANDIDATES))
    known, new = world.texts[100 : 100 + CANDIDATES], world.texts[310 : 310 + CANDIDATES]
    said = Labels(tuple(Rated("", world.texts[code], float(code % 5)) for code in range(200, 200 + SAID)))
    times = [least(lambda texts=texts: model.score("user 7", "", texts)) for texts in (known, new)]
    times.append(least(lambda: model.score("user 7", "", fresh.texts[(at := next(unmet)) : at + CANDIDATES])))
    times.append(least(lambda: model.person("user 7", said)))
    person = model.person("user 7", said)
    times += [least(lambda texts=texts: person.score("", texts)) for texts in (known, new)]
    return f"| `{kind}` | {' | '.join(f'{value:.2f}' for value in times)} |"


ONE: dict[str, Callable[[str, int], str]] = {
    **{shape: (lambda kind, size, shape=shape: one_table(kind, size, shape)) for shape in SHAPES},
    "texts": one_texts,
    "scores": one_scores,
}


def least(work: Callable[[], object]) -> float:
    """Least of the processor's milliseconds, since other processes take the caches."""
    times = []
    for _ in range(REPEATS):
        busy = time.process_time()
        work()
        times.append(time.process_time() - busy)
    return 1000 * min(times)


def peak() -> float:
    """Most memory that the process held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def parse() -> argparse.Namespace:
    """What to measure, from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(ONE))
    parser.add_argument("--kinds", nargs="*")
    parser.add_argument("--sizes", nargs="*", type=int)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
