"""Build the embedded world: users with known tastes, what they wrote, and the true utility of any text to them.

Nothing here is sampled from people. Tastes, facts and texts are drawn by name (``rng.derive``), so a user's
histories are the same however many users stand beside them, and utilities need only the input, the text and the user.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from bestfor import rng
from bestfor.data.schema import HISTORIES, QUERIES
from bestfor.data.world import taste
from bestfor.data.world.grammar import Facts, Task, draw_facts, draw_mood, parse, write
from bestfor.errors import InputError, nearest
from bestfor.files import hash_parts
from bestfor.types import FloatArray

Noise = Literal["differing", "equal", "outliers"]

INSTRUCTIONS: dict[str, str] = {
    "headline": "Write the headline.",
    "review": "Write the review.",
    "mixed": "Write the text.",
}
"""Instruction to a policy for the inputs of each kind of world."""

OUTLIER_SHARE = 0.2
OUTLIER_RATIO = 5.0
_FIRST_DAY = 1_735_689_600
_DAY = 86_400


@dataclass(frozen=True)
class World:
    """Settings of an embedded world.

    Attributes:
        seed: everything is derived from it.
        users: number of users.
        noise: the regime of the labels' noise, see :func:`noise_std`.
        task: what users write; ``"mixed"`` draws a task for every item.
        items: smallest and largest history; lengths are Pareto distributed between them (tail index 1.1).
        queries: test queries per user.
        silent: share of users with almost no taste.
        noise_sd: root of the average variance of a label's noise, in units of utility.
        drafts: texts that a user considers before writing an item.
        temperature: softmax temperature, in units of utility, of the choice among them.
    """

    seed: int = 0
    users: int = 60
    noise: Noise = "differing"
    task: Literal["headline", "review", "mixed"] = "headline"
    items: tuple[int, int] = (5, 60)
    queries: int = 4
    silent: float = 0.15
    noise_sd: float = 0.3
    drafts: int = 24
    temperature: float = 0.2

    def __post_init__(self) -> None:
        for name, options in (("noise", ("differing", "equal", "outliers")), ("task", tuple(INSTRUCTIONS))):
            if getattr(self, name) not in options:
                raise InputError(
                    f"world.{name}", f"'{getattr(self, name)}'", nearest(str(getattr(self, name)), options)
                )
        low, high = self.items
        if not 1 <= low <= high:
            raise InputError("world.items", f"{self.items}", "1 <= smallest <= largest")
        for name, least in (("users", 1), ("queries", 0), ("drafts", 1)):
            if getattr(self, name) < least:
                raise InputError(f"world.{name}", str(getattr(self, name)), f"{least} or more")
        if not (0 <= self.silent <= 1 and self.noise_sd >= 0 and self.temperature > 0):
            raise InputError(
                "world",
                f"silent {self.silent}, noise_sd {self.noise_sd}, temperature {self.temperature}",
                "0 <= silent <= 1, noise_sd >= 0, temperature > 0",
            )


@dataclass(frozen=True)
class WorldData:
    """Histories and test queries of a built world.

    Attributes:
        config: what was asked for.
        histories: what users wrote, schema ``HISTORIES``, by user and time.
        queries: test queries, schema ``QUERIES``, later than all history; the reference is what the user wrote.
    """

    config: World
    histories: pa.Table
    queries: pa.Table

    @property
    def sha256(self) -> str:
        """Hash of all rows: the world's signature."""
        tables = (self.histories, self.queries)
        columns = ([table.column(name).to_pylist() for name in table.column_names] for table in tables)
        return hash_parts(repr(row).encode() for each in columns for row in zip(*each, strict=True))


def build(config: World) -> WorldData:
    """Write everybody's history and test queries."""
    histories: list[tuple[str, str, str, str, int]] = []
    queries: list[tuple[str, str, str, str, str, int]] = []
    for index in range(config.users):
        user = user_id(index)
        items = history_length(config, user)
        weights = taste_of(config, user)
        when = _FIRST_DAY
        for item in range(items + config.queries):
            name = f"{user}-{item:03d}"
            draw = rng.derive(config.seed, "item", user, item)
            when += int(draw.integers(1, 8)) * _DAY
            facts = draw_facts(_task(config, draw), rng=draw)
            text = _compose(config, facts, weights, draw)
            if item < items:
                histories.append((user, name, facts.render(), text, when))
            else:
                queries.append((name, user, facts.render(), text, "test", when))
    return WorldData(config, _table(histories, HISTORIES), _table(queries, QUERIES))


def build_steady(config: World) -> WorldData:
    """Write histories of other users, each of whom writes every text in one mood; there are no test queries.

    They have no taste, so nothing is worth anything to them: they teach a policy to follow a history.
    """
    rows: list[tuple[str, str, str, str, int]] = []
    for index in range(config.users):
        user = user_id(index)
        mood = draw_mood(rng=rng.derive(config.seed, "steady", user))
        for item in range(history_length(config, user)):
            draw = rng.derive(config.seed, "steady", user, item)
            facts = draw_facts(_task(config, draw), rng=draw)
            text = write(facts, rng=draw, mood=mood)
            rows.append((user, f"{user}-{item:03d}", facts.render(), text, _FIRST_DAY + item * _DAY))
    return WorldData(config, _table(rows, HISTORIES), _table([], QUERIES))


def user_id(index: int) -> str:
    """Name the user at a position: ``"u0007"``."""
    return f"u{index:04d}"


def history_length(config: World, user: str) -> int:
    """Draw how many items a user wrote: Pareto from the smallest, cut at the largest."""
    low, high = config.items
    draw = rng.derive(config.seed, "items", user).random()
    return min(high, int(low * (1.0 - draw) ** (-1.0 / 1.1)))


def taste_of(config: World, user: str) -> FloatArray:
    """Draw a user's true weights over ``taste.AXES``, shape (5,).

    Raises:
        InputError: the world has no such user.
    """
    if not re.fullmatch(r"u\d{4,}", user) or int(user[1:]) >= config.users:
        raise InputError("user of the embedded world", f"'{user}'", f"u0000 to {user_id(config.users - 1)}")
    return taste.draw_taste(config.silent, rng=rng.derive(config.seed, "taste", user))


def true_utility(config: World, user: str, input: str, texts: Sequence[str]) -> FloatArray:
    """Compute the utilities of texts to a user, without noise.

    Args:
        config: the world.
        user: one of its users.
        input: a query's input, as the world renders facts.
        texts: any texts.

    Returns:
        Shape (len(texts),), in [-1, 1].

    Raises:
        InputError: the user is unknown or the input is not the world's.
    """
    facts, weights = parse(input), taste_of(config, user)
    return np.array([taste.utility(text, facts, weights) for text in texts], dtype=np.float64)


def noise_std(config: World, user: str, input: str, texts: Sequence[str]) -> FloatArray:
    """Standard deviation of the labels' noise.

    With s = ``noise_sd``: ``"equal"`` is s everywhere; ``"differing"`` is s sqrt(w) with w from
    :func:`bestfor.data.world.taste.noise_weight` (a function of the text with mean 1 over the grammar); ``"outliers"``
    is 5 b for a fifth of the labels, drawn by name and not to be told from the text, and b elsewhere, b = s /
    sqrt(5.8).

    Returns:
        Shape (len(texts),), in units of utility.
    """
    if config.noise == "equal":
        return np.full(len(texts), config.noise_sd)
    if config.noise == "differing":
        task = parse(input).task
        return config.noise_sd * np.sqrt([taste.noise_weight(text, task) for text in texts])
    base = config.noise_sd / np.sqrt(1.0 - OUTLIER_SHARE + OUTLIER_SHARE * OUTLIER_RATIO**2)
    draws = np.array([rng.derive(config.seed, "outlier", user, input, text).random() for text in texts])
    return np.where(draws < OUTLIER_SHARE, OUTLIER_RATIO * base, base)


def noisy(config: World, user: str, input: str, texts: Sequence[str]) -> FloatArray:
    """Draw labels as a user would give them: true utility plus normal noise, one draw per (user, input, text).

    Returns:
        Shape (len(texts),), not bounded.
    """
    draws = [rng.derive(config.seed, "noise", user, input, text).standard_normal() for text in texts]
    spread = noise_std(config, user, input, texts)
    return true_utility(config, user, input, texts) + spread * np.array(draws, dtype=np.float64)


def _task(config: World, draw: np.random.Generator) -> Task:
    if config.task == "mixed":
        return "headline" if draw.random() < 0.5 else "review"
    return config.task


def _compose(config: World, facts: Facts, weights: FloatArray, draw: np.random.Generator) -> str:
    drafts = [write(facts, rng=draw) for _ in range(config.drafts)]
    values = np.array([taste.utility(text, facts, weights) for text in drafts])
    return drafts[int(np.argmax(values / config.temperature + draw.gumbel(size=len(drafts))))]


def _table(
    rows: list[tuple[str, str, str, str, int]] | list[tuple[str, str, str, str, str, int]], schema: pa.Schema
) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )
