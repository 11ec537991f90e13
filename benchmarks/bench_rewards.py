"""Fit and predict speed of the hierarchical model, against a loop of scikit-learn's BayesianRidge over the same users.

    python benchmarks/bench_rewards.py [--users 10000] [--labels 30] [--features 384] [--loop 200]

Users are drawn from a known prior: rewards are linear in the features, with a part that all share, a part of their own,
a level and noise. scikit-learn fits ``--loop`` users spread over all; its time for all of them is extrapolated. The
captured share is that of Best-of-8 among 30 fresh candidates, over these users. One thread, unless told otherwise by
OMP_NUM_THREADS and OPENBLAS_NUM_THREADS.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

# small products: threads that wait for one another by spinning cost more than they bring, in the loop above all
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import sklearn
from sklearn.linear_model import BayesianRidge

from bestfor.diagnostics import best_of_n
from bestfor.rewards.features import FeatureConfig, Space
from bestfor.rewards.hierarchical import Config, HierarchicalFit, Scorer, fit_rows, judge_users, predict_rows
from bestfor.rewards.hierarchical.users import means
from bestfor.rewards.rows import FeatureRows

CANDIDATES, N = 30, 8
SHARED, PERSONAL, LEVEL, NOISE = 0.25, 0.35, 0.1, 0.3
CHUNK = 500
T = TypeVar("T")


def main() -> None:
    """Simulate, fit, score and print."""
    options = parse()
    world = World(options.users, options.features)
    rows = world.labels(options.labels)
    print(f"NumPy {np.__version__}, scikit-learn {sklearn.__version__}, Python {platform.python_version()}")
    print(f"{options.users} users x {options.labels} labels x {options.features} features, single precision\n")
    print(f"simulation: {peak():.0f} MB at most so far")
    config = Config(covariance="isotropic", variance_head=False)
    groups = np.array([0] * options.features + [1])
    fit, fitted = timed(lambda: fit_rows(rows, groups, config, rng=0))
    print(f"fit, isotropic:              {fit}, {peak():.0f} MB at most, the labels included")
    chosen, free = timed(lambda: fit_rows(rows, groups, Config(variance_head=False), rng=0))
    print(f"fit, structure chosen:       {chosen}, {peak():.0f} MB at most: {free.structure.covariance}")
    del free
    judged, _ = timed(lambda: judge_users(rows, fitted))
    print(f"leave-one-out of every user: {judged}")
    alone: dict[int, BayesianRidge] = {}
    for precision in (np.float32, np.float64):
        loop, alone = alone_users(rows, options.loop, precision)
        print(f"BayesianRidge user by user, {precision.__name__}: {loop}, extrapolated from {len(alone)} users")
        print(f"  {loop.clock / fit.clock:.1f} times as long ({loop.busy / fit.busy:.1f} times the processor)")
    print()
    compare(world, fitted, alone)
    score(world, fitted)


class Cost(NamedTuple):
    """Seconds on the clock, and of the processor (of all threads: on a busy machine the fairer figure)."""

    clock: float
    busy: float

    def __str__(self) -> str:
        return f"{self.clock:7.2f} s ({self.busy:.2f} s of the processor)"


class World:
    """Users with known rewards, whose labels and candidates are drawn when they are asked for."""

    def __init__(self, users: int, features: int) -> None:
        self.draw = np.random.default_rng(0)
        self.shared = self.draw.normal(size=features) * np.sqrt(SHARED / features)
        own = self.draw.standard_normal((users, features), dtype=np.float32)
        self.own = own * np.float32(np.sqrt(PERSONAL / features))
        self.level = self.draw.normal(size=users) * np.sqrt(LEVEL)

    def candidates(self, users: np.ndarray, each: int) -> tuple[np.ndarray, np.ndarray]:
        """Features with an intercept (users, each, p) and noisy utilities (users, each)."""
        z = np.empty((len(users), each, len(self.shared) + 1), dtype=np.float32)
        z[:, :, :-1] = self.draw.standard_normal((len(users), each, len(self.shared)), dtype=np.float32)
        z[:, :, -1] = 1
        y = np.einsum("ucp,up->uc", z[:, :, :-1], self.own[users] + self.shared.astype(np.float32))
        return z, y + self.level[users][:, None] + self.draw.normal(size=y.shape) * np.sqrt(NOISE)

    def labels(self, each: int) -> FeatureRows:
        """Labelled rows of all users, made some users at a time."""
        users, p = len(self.own), len(self.shared) + 1
        z, y = np.empty((users * each, p), dtype=np.float32), np.empty(users * each)
        for start in range(0, users, CHUNK):
            some = np.arange(start, min(start + CHUNK, users))
            part = slice(start * each, (start + len(some)) * each)
            rows, utilities = self.candidates(some, each)
            z[part], y[part] = rows.reshape(-1, p), utilities.ravel()
        user = np.repeat(np.arange(users), each)
        return FeatureRows(z, (y - y.mean()) / y.std(), user, user)


def alone_users(rows: FeatureRows, count: int, precision: type) -> tuple[Cost, dict[int, BayesianRidge]]:
    """Cost for all users, extrapolated, and the models of those fitted."""
    offsets = rows.segments()
    users = np.unique(np.linspace(0, len(offsets) - 2, count).astype(int)).tolist()
    spans = [slice(offsets[user], offsets[user + 1]) for user in users]
    parts = [(rows.z[span, :-1].astype(precision), rows.y[span].astype(precision)) for span in spans]
    cost, models = timed(lambda: [BayesianRidge().fit(z, y) for z, y in parts])
    factor = (len(offsets) - 1) / len(users)
    return Cost(cost.clock * factor, cost.busy * factor), dict(zip(users, models, strict=True))


def compare(world: World, fitted: HierarchicalFit, alone: dict[int, BayesianRidge]) -> None:
    """Captured share of both on fresh candidates of the users whom the loop fitted."""
    users = np.array(list(alone))
    z, utility = world.candidates(users, CANDIDATES)
    flat = z.reshape(-1, z.shape[2])
    mean, _, whole = predict_rows(fitted, flat, np.repeat(users, CANDIDATES))
    single = np.concatenate([model.predict(part[:, :-1]) for model, part in zip(alone.values(), z, strict=True)])
    names = {"hierarchical": mean, "BayesianRidge": single, "mean of all": flat @ fitted.posteriors.shared}
    print(f"captured share of Best-of-{N} among {CANDIDATES} fresh candidates of {len(users)} users:")
    for name, reward in names.items():
        print(f"  {name:<14} {captured(reward, utility):.3f}")
    error = (utility.ravel() - mean) / np.std(utility)
    print(f"  predicted std {np.sqrt(np.mean(whole)):.3f}, error {np.sqrt(np.mean(error**2)):.3f}\n")


def captured(reward: np.ndarray, utility: np.ndarray) -> float:
    """Gain over headroom."""
    size, n = np.full(len(utility), utility.shape[1]), np.array([N])
    reward = reward.reshape(utility.shape).astype(np.float64)
    picked, best = (float(np.mean(best_of_n(values, utility, size, n))) for values in (reward, utility))
    base = float(np.mean(utility))
    return (picked - base) / (best - base)


def score(world: World, fitted: HierarchicalFit) -> None:
    """One user's candidates as a service scores them, and everybody's at once."""
    users, p = len(world.own), len(world.shared)
    one, _ = world.candidates(np.array([users // 2]), CANDIDATES)
    weights = fitted.posteriors.weights[users // 2]
    features = one[0, :, :-1].astype(np.float64)
    scorer = Scorer("someone", weights[:-1], float(weights[-1]), identity(p, p), None)
    print(f"{CANDIDATES} candidates of one user, features given: {median(lambda: scorer.score(features)):.4f} ms")
    for kept in (min(32, p), p):
        scorer = Scorer("someone", weights[:kept], 0.0, identity(p, kept), None)
        seconds = median(lambda: scorer.score_embeddings(one[0, :, :-1]))  # noqa: B023 - called at once
        print(f"{CANDIDATES} candidates of one user, embeddings given: {seconds:.4f} ms ({p} -> {kept} components)")
    some = np.arange(min(users, 10_000))
    z = np.concatenate([world.candidates(some[at : at + CHUNK], CANDIDATES)[0] for at in range(0, len(some), CHUNK)])
    flat, codes = z.reshape(-1, p + 1), np.repeat(some, CANDIDATES)
    costs = [timed(lambda: means(fitted.posteriors.weights, flat, codes))[0] for _ in range(3)]
    rates = [len(flat) / min(times) / 1e6 for times in zip(*costs, strict=True)]
    print(f"{len(some)} users x {CANDIDATES} candidates: {rates[0]:.2f} million scores a second")
    print(f"  by processor time: {rates[1]:.2f} million")
    part = slice(0, 1000 * CANDIDATES)
    cost, _ = timed(lambda: predict_rows(fitted, flat[part], codes[part]))
    print(f"the same with both stds: {len(flat[part]) / cost.clock / 1e6:.2f} million a second")


def identity(dim: int, kept: int) -> Space:
    """A feature space of the first coordinates."""
    config, none = FeatureConfig(components=kept, style=False), np.zeros(0)
    return Space(config, "", np.zeros(dim), np.eye(dim)[:, :kept], np.ones(kept), none, none, False)


def timed(work: Callable[[], T]) -> tuple[Cost, T]:
    """What some work cost, and its result."""
    start, busy = time.perf_counter(), time.process_time()
    found = work()
    return Cost(time.perf_counter() - start, time.process_time() - busy), found


def median(work: Callable[[], object], repeats: int = 301) -> float:
    """Median of the wall-clock milliseconds."""
    return 1000 * float(np.median([timed(work)[0].clock for _ in range(repeats)]))


def peak() -> float:
    """Most memory that the process held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def parse() -> argparse.Namespace:
    """Sizes from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--labels", type=int, default=30)
    parser.add_argument("--features", type=int, default=384)
    parser.add_argument("--loop", type=int, default=200)
    return parser.parse_args()


if __name__ == "__main__":
    main()
