"""Who votes on what in benchmarks/replay.py: people of a Polis conversation, and readers who rank headlines."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bestfor.data.sources.polis import load_polis
from bestfor.files import hash_text

POLIS = Path("../shared/data/polis/american-assembly.bowling-green")
HEADLINES = Path("../shared/data/headlines/ranked_headlines.csv")
VOTES = 32
"""Votes that each person gives."""
FITTED = 150
"""People of Polis whom the run is fitted on: the earliest with 40 votes or more."""
FOLDS = 4
"""Folds of readers: each is a newcomer once."""


@dataclass(frozen=True)
class Vote:
    """What a person thinks of a text, among answers to a prompt; above 0 is a yes."""

    prompt: str
    text: str
    value: float


@dataclass(frozen=True)
class Pool:
    """Held-out texts that answer a prompt, and what a person thinks of each."""

    prompt: str
    texts: list[str]
    utility: np.ndarray


@dataclass(frozen=True)
class Voter:
    """A person: votes in their order, the sets of texts that questions choose from, and held-out pools."""

    user: str
    votes: list[Vote]
    sets: list[list[Vote]]
    pools: list[Pool]


@dataclass(frozen=True)
class Fold:
    """Newcomers, people of the run, and the rows that the run is fitted on."""

    new: list[Voter]
    known: list[Voter]
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class Source:
    """Votes of real people: how they are divided, at which N picks are measured, which kind and encoder learn there."""

    folds: Callable[[int], Iterator[Fold]]
    n: int
    kind: str
    encoder: str


def polis_folds(people: int) -> Iterator[Fold]:
    """One fold: the run has early people, newcomers took part later; a third of the statements is held out."""
    votes_of = load_polis(POLIS)
    order = {text: place for place, text in enumerate(votes_of.texts)}
    said: dict[str, list[Vote]] = {}
    for user, text, value in zip(votes_of.user, votes_of.text, votes_of.rating.tolist(), strict=True):
        said.setdefault(votes_of.users[user], []).append(Vote("", votes_of.texts[text], value))
    users = sorted(said, key=lambda user: (len(user), user))
    half = len(users) // 2
    early, late = [user for user in users[:half] if len(said[user]) >= 40][:FITTED], users[half:]
    fold = Fold([], [], [])
    for group, chosen in ((early, fold.known), (late, fold.new)):
        for user in group:
            votes = sorted((one for one in said[user] if not _held(one.text)), key=lambda one: order[one.text])
            tests = [one for one in said[user] if _held(one.text)]
            mine = 0 if group is late else len(votes) if len(chosen) >= people else len(votes) // 2
            later = [one for one in votes[mine:] if one.value]
            utility = np.array([one.value for one in tests])
            varied = len(tests) >= SOURCES["polis"].n and np.ptp(utility) > 0
            if len(chosen) < people and len(later) >= VOTES and varied:
                chosen.append(Voter(user, later, [later], [Pool("", [one.text for one in tests], utility)]))
            elif group is early:
                mine = len(votes)
            fold.rows.extend({"user": user, "text": one.text, "rating": one.value} for one in votes[:mine])
    yield fold


def headline_folds(people: int) -> Iterator[Fold]:
    """Four folds, each with a fourth of the readers as newcomers; a third of the articles is held out.

    A reader's votes are those on the headlines of one article after the other, in the order in which they ranked them:
    a yes for one that beats more than half of the other five. ``people`` has no meaning here: there are twenty.
    """
    del people
    articles = _articles()
    for number in range(FOLDS):
        fold = Fold([], [], [])
        for place, (user, ranked) in enumerate(sorted(articles.items(), key=lambda item: hash_text(item[0]))):
            fitting = [votes for votes in ranked if not _held(votes[0].prompt)]
            tests = [votes for votes in ranked if _held(votes[0].prompt)]
            is_new = place % FOLDS == number
            mine, later = ([], fitting) if is_new else (fitting[: len(fitting) // 2], fitting[len(fitting) // 2 :])
            pools = [
                Pool(votes[0].prompt, [one.text for one in votes], np.array([one.value for one in votes]))
                for votes in tests
            ]
            reader = Voter(user, [one for votes in later for one in votes if one.value], later, pools)
            (fold.new if is_new else fold.known).append(reader)
            fold.rows.extend(
                {"user": user, "query": one.prompt, "text": one.text, "rating": one.value + 0.5}
                for votes in mine
                for one in votes
            )
        yield fold


def _articles() -> dict[str, list[list[Vote]]]:
    """Read each reader's articles in their order; a headline is worth the share of the others it beats, less a half."""
    ranks: dict[str, dict[str, dict[str, float]]] = {}
    with HEADLINES.open(encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            if row["rank"].strip() and row["headline"].strip():
                mine = ranks.setdefault(row["participant"], {}).setdefault(row["article"], {})
                mine[row["headline"].strip()] = float(row["rank"])
    return {
        user: [_values(article, rank) for article, rank in articles.items() if len(rank) >= SOURCES["headlines"].n]
        for user, articles in ranks.items()
    }


def _values(article: str, rank: dict[str, float]) -> list[Vote]:
    ranks = np.array(list(rank.values()))
    beaten = ((ranks[:, None] < ranks).sum(axis=1) + ((ranks[:, None] == ranks).sum(axis=1) - 1) / 2) / (len(ranks) - 1)
    return [Vote(article, text, value - 0.5) for text, value in zip(rank, beaten.tolist(), strict=True)]


def _held(name: str) -> bool:
    return int(hash_text(name)[:8], 16) % 3 == 0


SOURCES = {
    "polis": Source(polis_folds, 8, "tastes", "all-MiniLM-L6-v2"),
    "headlines": Source(headline_folds, 3, "ridge", "static:all-MiniLM-L6-v2"),
}
