"""Whether curves from logs hold the truth: log one candidate of each pool of full-information data, and compare.

    python benchmarks/logs.py --repetitions 1000

Sources: simulated accept/reject, the embedded world, votes of a Polis conversation, rankings of headlines. The reward
of a text is the mean of what the other people said of it. The people of a source are the population; a repetition draws
as many of them with replacement, shows one candidate of each pool (uniformly, by a softmax of the reward, the best with
epsilon = .2, or the best of a Thompson draw), and asks whether the 95 % interval of the gain holds the population's
exact one. Also: the answers that +-.05 takes.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from bestfor.data.sources.polis import load_polis
from bestfor.data.world import World, true_utility
from bestfor.data.world.grammar import draw_facts, write
from bestfor.data.world.world import user_id
from bestfor.diagnostics import best_of_n
from bestfor.diagnostics.logs import log_curve, logged_pools

Pools = tuple[np.ndarray, np.ndarray, np.ndarray]
"""User of each pool, rewards and utilities, both of shape (Q, M)."""


def simulated(users: int = 400, size: int = 8) -> Pools:
    """Accept or reject: logit-normal chances that the reward half knows; two pools a user."""
    draw = np.random.default_rng(1)
    reward = draw.standard_normal((2 * users, size))
    chance = 1 / (1 + np.exp(0.5 - 0.6 * reward - 0.8 * draw.standard_normal(reward.shape)))
    return np.arange(2 * users) // 2, reward, (draw.random(reward.shape) < chance).astype(float)


def embedded(people: int = 200, size: int = 8, others: int = 5) -> Pools:
    """The embedded world: headlines of its grammar, what they are worth to a person, and to five others on average."""
    config, draw = World(seed=5, users=people + others), np.random.default_rng(5)
    judges = [user_id(people + k) for k in range(others)]
    rewards, utilities = [], []
    for person in range(people):
        for _ in range(2):
            facts = draw_facts("headline", rng=draw)
            texts = [write(facts, rng=draw) for _ in range(size)]
            utilities.append(true_utility(config, user_id(person), facts.render(), texts))
            rewards.append(np.mean([true_utility(config, one, facts.render(), texts) for one in judges], axis=0))
    return np.arange(2 * people) // 2, np.array(rewards), np.array(utilities)


def by_others(text: np.ndarray, utility: np.ndarray) -> np.ndarray:
    """Mean of what the others said of each row's text, shrunk towards the mean of all."""
    total, count = np.bincount(text, utility)[text] - utility, np.bincount(text)[text] - 1
    return (total + 2 * utility.mean()) / (count + 2)


def cut(user: np.ndarray, query: np.ndarray, reward: np.ndarray, utility: np.ndarray, size: int) -> Pools:
    """Take pools of this size, of each query's first candidates in a seeded order."""
    order = np.random.default_rng(2).permutation(len(user))
    order = order[np.argsort(query[order], kind="stable")]
    start = np.flatnonzero(np.r_[True, np.diff(query[order]) != 0])
    count = np.diff(np.r_[start, len(order)])
    rows = np.array([order[low : low + size] for low, n in zip(start, count, strict=True) if n >= size])
    return np.unique(user[rows[:, 0]], return_inverse=True)[1], reward[rows], utility[rows]


def polis(folder: Path, size: int = 8) -> Pools:
    """Votes: each participant's are one pool."""
    votes = load_polis(folder)
    user, text, utility = votes.user, votes.text, votes.rating
    return cut(user, user, by_others(text, utility), utility, size)


def headlines(path: Path) -> Pools:
    """Rankings: one pool for each person and article, utility 1 for the first and 0 for the last."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["rank"]]
    user = np.unique([row["participant"] for row in rows], return_inverse=True)[1]
    query = np.unique([f"{row['participant']}/{row['article']}" for row in rows], return_inverse=True)[1]
    text = np.unique([row["headline_id"] for row in rows], return_inverse=True)[1]
    utility = (6 - np.array([float(row["rank"]) for row in rows])) / 5
    return cut(user, query, by_others(text, utility), utility, 6)


def chances(reward: np.ndarray, logger: str) -> np.ndarray:
    """Chance with which each candidate is shown, shape (Q, M)."""
    size = reward.shape[1]
    if logger == "uniform":
        return np.full(reward.shape, 1 / size)
    if logger == "thompson":  # normal errors as large as the rewards' spread; chances by 4,000 draws for all pools
        noise = np.random.default_rng(3).standard_normal((4000, size)) * reward.std()
        picks = np.stack([np.bincount((row + noise).argmax(axis=1), minlength=size) for row in reward]) + 0.5
        return picks / picks.sum(axis=1, keepdims=True)
    if logger == "epsilon":
        best = reward == reward.max(axis=1, keepdims=True)
        return 0.2 / size + 0.8 * best / best.sum(axis=1, keepdims=True)
    weight = np.exp(reward / reward.std())
    return weight / weight.sum(axis=1, keepdims=True)


def repeat(source: Pools, chance: np.ndarray, n: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """One log of people drawn anew: estimate, low, high of the doubly robust gain, and IPS's; shape (4, K)."""
    user, reward, utility = source
    people = draw.integers(user.max() + 1, size=user.max() + 1)
    of = np.argsort(user, kind="stable")
    first = np.searchsorted(user[of], np.arange(user.max() + 2))
    rows = np.concatenate([of[first[one] : first[one + 1]] for one in people])
    pools_of = first[people + 1] - first[people]
    code = np.repeat(np.arange(len(people)), pools_of)
    reward, utility, chance = reward[rows], utility[rows], chance[rows]
    shown = (draw.random(len(rows))[:, None] > np.cumsum(chance, axis=1)).sum(axis=1).clip(max=chance.shape[1] - 1)
    size = np.full(len(rows), reward.shape[1])
    code = np.unique(code, return_inverse=True)[1]
    pools = logged_pools(code, chance, size, shown, utility[np.arange(len(rows)), shown])
    gain = log_curve(pools, reward, n).gain
    return np.array([gain["dr"].value, gain["dr"].low, gain["dr"].high, gain["ips"].high - gain["ips"].low])


def main(
    repetitions: Annotated[int, typer.Option(help="Logs of each source and logger.")] = 1000,
    loggers: Annotated[str, typer.Option(help="Which ones.")] = "uniform,softmax,epsilon,thompson",
    data: Annotated[Path, typer.Option(help="Folder of the real data.")] = Path("../shared/data"),
) -> None:
    """Print the table as Markdown."""
    sources = {
        "accept/reject": simulated(),
        "embedded world": embedded(),
        "Bowling Green votes": polis(data / "polis" / "american-assembly.bowling-green"),
        "headline rankings": headlines(data / "headlines" / "ranked_headlines.csv"),
    }
    print("| source | logger | N | true gain | mean estimate | covers | half-width DR, IPS | answers for +-.05 |")
    print("|---|---|---|---|---|---|---|---|")
    for name, source in sources.items():
        user, reward, utility = source
        n = np.array([2, reward.shape[1]])
        truth = best_of_n(reward, utility, np.full(len(reward), reward.shape[1]), n).mean(axis=0) - utility.mean()
        for logger in loggers.split(","):
            draw, chance = np.random.default_rng([len(name), len(logger)]), chances(reward, logger)
            found = np.array([repeat(source, chance, n, draw) for _ in range(repetitions)])
            for k, drawn in enumerate(n):
                value, low, high, width = found[:, :, k].T
                half = float((high - low).mean() / 2)
                print(
                    f"| {name}: {len(reward)} pools of {reward.shape[1]}, {user.max() + 1} people | {logger} | {drawn} "
                    f"| {truth[k]:.4f} | {value.mean():.4f} | {((low <= truth[k]) & (truth[k] <= high)).mean():.3f} "
                    f"| {half:.4f}, {width.mean() / 2:.4f} | {round(len(reward) * (half / 0.05) ** 2)} |",
                    flush=True,
                )


if __name__ == "__main__":
    typer.run(main)
