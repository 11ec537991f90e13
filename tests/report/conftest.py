"""Diagnoses of generated arrays: votes on texts that users share, awkward where asked."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from bestfor.diagnostics import Diagnosis, Reward, Settings, combine_folds, diagnose_arrays

STRENGTH = {"hierarchical": 0.35, "pooled": 0.33, "point": 0.2, "bradley_terry": 0.2, "length": 0.03}
"""Correlation of a model's rewards with what is behind the votes; a number of its own for every other name."""

PREDICTS_STD = ("hierarchical", "gaussian")
ARBITRARY = ("bradley_terry", "length")
NOTE = "12 users without fit labels were served by pooled"
TOO_FEW = 17
"""Queries with fewer candidates than the largest N."""

REVERSED = 5
"""Queries whose rewards run against their utilities."""

TEXTS = 150


class Votes:
    """Candidates with votes -1, 0, 1, one row a candidate; most users have two queries."""

    def __init__(self, users: int, queries: int, candidates: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        sizes = [candidates] * (users * queries) + [3] * (TOO_FEW if users > TOO_FEW else 0)
        owner = [place // queries for place in range(users * queries)]
        owner += list(range(len(sizes) - len(owner)))
        self.query = np.repeat(np.arange(len(sizes)), sizes)
        self.owner = np.repeat(owner, sizes)
        self.candidate = np.concatenate([np.arange(size) for size in sizes])
        self.text = np.concatenate([self.rng.permutation(TEXTS)[:size] for size in sizes])
        self.liking = self.rng.normal(size=len(self.query))
        self.utility = np.clip(np.rint(1.1 * self.liking + 0.15), -1, 1)
        if users > 40:
            self.utility[self.owner % 97 == 5] = 1.0  # nothing to win for some

    def reward(self, name: str) -> Reward:
        rho = STRENGTH.get(name, float(self.rng.uniform(0.1, 0.25)))
        direction = np.where((self.query % 19 == 7) & (self.query < 19 * REVERSED), -2.5, 1.0)
        noise = self.rng.normal(size=len(self.query))
        mean = 0.8 * rho * (direction * rho * self.liking + (1 - rho**2) ** 0.5 * noise)
        mean[self.owner % 29 == 3] = 0.1  # collapsed
        std = None
        if name in PREDICTS_STD:
            std = self.rng.uniform(0.45, 0.8, len(mean)) - 0.1 * np.abs(self.utility)
            std[:4] = 0.0
        return Reward(mean, "arbitrary" if name in ARBITRARY else "utility", std)


def diagnose(
    models: tuple[str, ...], users: int, n: tuple[int, ...], corrected: bool, seed: int, queries: int
) -> Diagnosis:
    votes = Votes(users, queries, max(n[-1] + 2, 24 if corrected else 8), seed)
    signature = {"data": "5f0c" * 16, "policy": "human", "reward": models[0], "seed": seed}
    found = diagnose_arrays(
        [f"user-{one:04d}" for one in votes.owner],
        [f"q{one}" for one in votes.query],
        votes.utility,
        {name: votes.reward(name) for name in models},
        Settings(n=list(n), rules=("top:2",), signature=signature, name="bowling-green"),
        text=None if users > 500 else [f"t{one}" for one in votes.text],
        candidate=votes.candidate,
    )
    return found.with_notes(dict.fromkeys(models, (NOTE,)))


@lru_cache(maxsize=32)
def built(
    models: tuple[str, ...], users: int, n: tuple[int, ...], corrected: bool, folds: int, seed: int, queries: int
) -> dict[str, Any]:
    seeds = range(seed + 1, seed + 1 + folds) if folds else [seed]
    parts = [diagnose(models, users, n, corrected, one, queries) for one in seeds]
    return (combine_folds(parts) if folds else parts[0]).to_dict()


def build(
    models: tuple[str, ...] = ("hierarchical", "pooled", "length"),
    *,
    users: int = 120,
    n: tuple[int, ...] = (1, 2, 4, 8, 16),
    corrected: bool = True,
    folds: int = 0,
    seed: int = 2,
    queries: int = 2,
) -> dict[str, Any]:
    return copy.deepcopy(built(models, users, n, corrected, folds, seed, queries))


Texts = tuple[dict[tuple[str, int], str], dict[str, str]]


def texts_for(diagnosis: dict[str, Any]) -> Texts:
    """Texts and inputs of the first model's first five suspects: long, hostile, right-to-left, damaged."""
    suspects = next(iter(diagnosis["models"].values()))["suspects"][:5]
    short = "City council should publish its budget before the vote, not after it."
    long = "Traffic on Scottsville Road has doubled since the new school opened, and nobody asked us. " * 14
    picks = [long, "<script>alert('x')</script> & <b>bold</b> \"quoted\" {{ 7 * 7 }}"]
    picks += ["Straßenbeleuchtung 🌙 — 夜の照明は必要です。" + "x" * 300, short, short]
    best = [
        short,
        "الحافلات الليلية ضرورية للعمال (bus 42) وليست رفاهية.",
        "More night buses for people who work late.",
    ]
    best += ["a\x00b\ud800c\r\nsecond line\n\n   indented", "More night buses for people who work late."]
    texts = {(one["query"], one["pick"]): text for one, text in zip(suspects, picks, strict=True)}
    texts |= {(one["query"], one["best"]): text for one, text in zip(suspects, best, strict=True)}
    asked = ("What should change in Bowling Green?", "<img src=x onerror=alert(1)>")
    return texts, {one["query"]: text for one, text in zip(suspects, asked, strict=False)}


Build = Callable[..., dict[str, Any]]


@pytest.fixture
def make() -> Build:
    """The generator: make(models, users=, n=, corrected=, folds=, seed=, queries=)."""
    return build


@pytest.fixture
def diagnosis() -> dict[str, Any]:
    return build()


@pytest.fixture
def texts_of() -> Callable[[dict[str, Any]], Texts]:
    return texts_for


@pytest.fixture
def texts(diagnosis: dict[str, Any]) -> Texts:
    return texts_for(diagnosis)


@pytest.fixture
def bare() -> dict[str, Any]:
    """One user, one model, and null or an empty list wherever the format allows it."""
    diagnosis = build(("scores",), users=1, n=(1, 2, 4), corrected=False)
    model = diagnosis["models"]["scores"]
    for key in ("low", "high", "gain", "gain_low", "gain_high", "captured_low", "captured_high"):
        model[key] = []
    for key in ("findings", "notes", "suspects", "best_n", "per_user", "soft", "rules", "best_fixed_n", "needed"):
        model[key] = []
    for key in ("three_draw", "extrapolation", "per_user_n", "stopping", "calibration"):
        model[key] = None
    model.update(law={}, law_error={}, ledger=None, correlations={"edges": [], "counts": []})
    model["quantities"] = {key: None for key in model["quantities"]}
    diagnosis.update(comparisons=[], headline="", signature={}, pool_mean=None, pools_used=None)
    return diagnosis
