"""How often what is said beyond a curve is right: larger pools, and stopping early.

    python benchmarks/beyond_coverage.py --sets 200

Simulated data sets (40 users x 3 queries, pools of 16 or 32). *Larger pools*: how often a prediction beyond the pool is
given (the two ways agree), and how often the interval told for it holds the true gain there, in worlds that go on as
they begin and in two that do not (a cliff, a ceiling behind the pool's top). *Stopping early*: the advantage over the
best fixed N that is reported, beside the one that rule and fixed N, learnt from the whole data set, earn on fresh
pools.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np
import typer

from bestfor.diagnostics import Settings, beliefs_from, best_of_n, diagnose_arrays, pools_from_rows
from bestfor.diagnostics.beyond.budget import draws_until
from bestfor.diagnostics.beyond.extrapolate import both_ends
from bestfor.diagnostics.intervals.clustered import wilson

USERS, QUERIES = 40, 3
FRESH = 8_000

World = Callable[[tuple[int, ...], np.random.Generator], tuple[np.ndarray, np.ndarray]]


def normal(shape: tuple[int, ...], draw: np.random.Generator, rho: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """Rewards and utilities of correlation rho."""
    a, e = draw.standard_normal((2, *shape))
    return a, rho * a + np.sqrt(1 - rho**2) * e


def votes(shape: tuple[int, ...], draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Votes -1, 0, 1."""
    a, b = normal(shape, draw, 0.5)
    return a, np.digitize(b, (-0.6, 0.3)) - 1.0


def skewed(shape: tuple[int, ...], draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Log-normal utilities."""
    a, b = normal(shape, draw)
    return a, np.exp(b)


def bounded(shape: tuple[int, ...], draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rewards with a short upper tail."""
    a = -draw.exponential(size=shape)
    return a, 0.4 * a + 0.9 * draw.standard_normal(shape)


def bending(shape: tuple[int, ...], draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Utilities that bend down towards high rewards, at every reward."""
    a, e = draw.standard_normal((2, *shape))
    return a, 0.4 * a - 0.08 * a**2 + 0.9 * e


def cliff(shape: tuple[int, ...], draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Utilities that fall at rewards which few pools reach."""
    a, b = normal(shape, draw)
    return a, b - 2.0 * (a > 2.6)


def ceiling(shape: tuple[int, ...], draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Utilities that stop rising at rewards which few pools reach."""
    a, e = draw.standard_normal((2, *shape))
    return a, 0.5 * np.minimum(a, 1.8) + 0.85 * e


WORLDS: dict[str, World] = {one.__name__: one for one in (normal, votes, skewed, bounded, bending, cliff, ceiling)}


def gains(world: World, n: int, draw: np.random.Generator) -> float:
    """True gain at N, from fresh draws."""
    picked, rows = 0.0, 400_000 // n
    for _ in range(8):
        reward, utility = world((rows, n), draw)
        picked += float((utility[np.arange(rows), reward.argmax(axis=1)] - utility.mean(axis=1)).mean()) / 8
    return picked


def fresh(world: World, size: int, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fresh pools: rewards, utilities, and their exact curve at every N."""
    reward, utility = world((FRESH, size), draw)
    sizes = np.full(FRESH, size)
    return reward, utility, best_of_n(reward, utility, sizes, np.arange(1, size + 1)).mean(axis=0)


def truly_earned(data: tuple[np.ndarray, np.ndarray], pools: tuple[np.ndarray, ...], cost: float) -> float:
    """Advantage on fresh pools of the rule over the fixed N, both learnt from all of the data."""
    reward, utility = data
    rows, size = reward.shape
    query = np.repeat(np.arange(rows), size)
    learnt = pools_from_rows(query, query, utility.ravel(), {"x": reward.ravel()})
    a, b = reward - reward.mean(axis=1, keepdims=True), utility - utility.mean(axis=1, keepdims=True)
    drawn = draws_until(pools[0], cost, beliefs_from(learnt, "x"), float((a * b).sum() / (a**2).sum()))
    seen = np.where(np.arange(size) < drawn[:, None], pools[0], -np.inf).argmax(axis=1)
    stopped = float((pools[1][np.arange(len(drawn)), seen] - cost * drawn).mean())
    n = np.arange(1, size + 1)
    curve = best_of_n(reward, utility, np.full(rows, size), n).mean(axis=0)
    return stopped - float((pools[2] - cost * n)[int((curve - cost * n).argmax())])


def main(
    sets: Annotated[int, typer.Option(help="Data sets of each kind.")] = 200,
    worlds: Annotated[str, typer.Option(help="Which worlds.")] = ",".join(WORLDS),
    sizes: Annotated[str, typer.Option(help="Pool sizes.")] = "16",
) -> None:
    """Print both tables as Markdown."""
    beyond = ["| world | M | a prediction is given | its interval holds the truth | interval | truth (N) |"]
    stopping = ["| world | M | reported | earned on fresh pools | interval holds it | said to pay |"]
    for name in worlds.split(","):
        for size in map(int, sizes.split(",")):
            draw = np.random.default_rng([len(name), ord(name[0]), size])
            told, earned = judged(WORLDS[name], size, sets, draw)
            beyond.append(f"| {name} | {size} | {told} |")
            stopping.append(f"| {name} | {size} | {earned} |")
            print(beyond[-1], stopping[-1], sep="\n", flush=True)
    for rows in (beyond, stopping):
        print("\n".join([rows[0], "|---" * (rows[0].count("|") - 1) + "|", *rows[1:]]), end="\n\n")


def judged(world: World, size: int, sets: int, draw: np.random.Generator) -> tuple[str, str]:
    """One row of each table."""
    pools, truth = (
        fresh(world, size, draw),
        {n: gains(world, n, draw) for n in (round(s * size) for s in (1.5, 2, 2.5, 3))},
    )
    held, widths, where = [], [], []
    reported, earned, covered, pays = [], [], [], 0
    query = np.repeat(np.arange(USERS * QUERIES), size)
    for _ in range(sets):
        reward, utility = world((USERS * QUERIES, size), draw)
        found = diagnose_arrays(query // QUERIES, query, utility.ravel(), {"x": reward.ravel()}, Settings([1, size]))
        outlook = found.models["x"].outlook
        assert outlook is not None
        reach, stopped = outlook.extrapolation, outlook.stopping
        if reach.trusted_to is not None:
            step = next(one for one in reach.steps if one.n == reach.trusted_to)
            low, high = both_ends(step.order_2, step.gao)
            held.append(low <= truth[step.n] <= high)
            widths.append((low, high, truth[step.n]))
            where.append(step.n)
        real = truly_earned((reward, utility), pools, stopped.cost_per_candidate)
        reported.append(stopped.advantage.value)
        earned.append(real)
        if stopped.advantage.low is None or stopped.advantage.high is None:
            continue
        covered.append(stopped.advantage.low <= real <= stopped.advantage.high)
        pays += stopped.pays
    told = f"{len(held) / sets:.2f}"
    if held:
        low, high, true = np.mean(widths, axis=0)
        told += f" | {share(held)} | {low:.3f} to {high:.3f} | {true:.3f} ({np.median(where):.0f})"
    else:
        told += " | - | - | -"
    error = np.std(np.subtract(reported, earned)) / sets**0.5
    return told, (
        f"{np.mean(reported):.4f} | {np.mean(earned):.4f} (difference ±{1.96 * error:.4f}) | {share(covered)} "
        f"| {pays / sets:.2f}"
    )


def share(held: list[bool]) -> str:
    """A share with its 95 % interval."""
    mean = float(np.mean(held))
    low, high = wilson(mean, len(held))
    return f"{mean:.3f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    typer.run(main)
