"""One figure over all conversations and headlines: python benchmarks/real_people.py --suite [--kinds KIND ...].

Each case is three folds, every text (headlines: every article) a test text once, at one N of its own. A prediction is
kept for each case, fold and model, so that a run that was stopped goes on and a further model costs its own fits only.

    captured of a model   mean over cases of the mean of the three folds
    regret of a model     mean over cases of what the best model of the case captures more
    interval              Student's t over cases (other conversations), and over people and texts (the same ones)

``--inner F`` looks at fit parts only: the fit part of outer fold F is split again into three, by ids of another name.
Tuning uses it and leaves cases out by naming the others.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from bestfor.data.parts import CandidateParts
from bestfor.data.ratings import Ratings
from bestfor.data.split import By, SplitConfig, split_ratings
from bestfor.diagnostics import Diagnosis, Reward, Settings, combine_folds, diagnose_arrays
from bestfor.encoders import load_encoder
from bestfor.errors import InputError
from bestfor.files import hash_text
from bestfor.rewards import kind_class
from bestfor.rewards.auto import Auto
from bestfor.rng import derive
from bestfor.runs.config import RunConfig
from bestfor.runs.sources import read_ratings
from bestfor.threads import one_thread
from bestfor.types import FloatArray, RewardEstimate, Scale
from figures import number, table

KINDS = ("auto", "length", "similarity", "pooled", "ridge", "point", "gaussian", "hierarchical", "tastes")


@dataclass(frozen=True)
class Case:
    """A conversation or a table of rankings.

    Attributes:
        folder: below the data's folder.
        size: N at which captured is compared.
        min_fit: fit ratings of a test user.
        min_test: candidates of a test pool.
        by: what is unseen.
    """

    folder: str
    size: int
    min_fit: int = 20
    min_test: int = 8
    by: By = "text"


CASES = {
    "bowling-green": Case("polis/american-assembly.bowling-green", 8, 20, 16),
    "taxes": Case("polis/scoop-hivemind.taxes", 4),
    "canada": Case("polis/canadian-electoral-reform", 4),
    "brexit": Case("polis/brexit-consensus", 4),
    "football": Case("polis/football-concussions", 4),
    "ubi": Case("polis/scoop-hivemind.ubi", 4),
    "freshwater": Case("polis/scoop-hivemind.freshwater", 4),
    "seattle": Case("polis/15-per-hour-seattle", 2, 10, 4),
    "headlines": Case("headlines/ranked_headlines.csv", 4, 20, 5, "query"),
}
_HEADLINES = {"user": "participant", "query": "article", "text": "headline", "text_id": "headline_id", "rank": "rank"}


@dataclass(frozen=True)
class Suite:
    """What is asked for.

    Attributes:
        data: folder with polis and headlines.
        out: folder of what is kept.
        encoder: name of the sentence encoder.
        inner: outer fold within whose fit part everything happens; None looks at the test folds.
        labels: fit labels of each user, drawn at random; 0 keeps all.
    """

    data: Path
    out: Path
    encoder: str = "all-MiniLM-L6-v2"
    inner: int | None = None
    labels: int = 0

    def read(self, name: str) -> Ratings:
        """Ratings of a case, without the test texts of the outer fold where only the inner ones are asked for."""
        case = CASES[name]
        told = {"source": "polis", "path": str(self.data / case.folder)}
        if case.by == "query":
            told = {"source": "table", "path": str(self.data / case.folder), "columns": _HEADLINES}
        config = RunConfig.model_validate({"name": name, "data": told, "reward": [{"kind": "length"}]})
        ratings = read_ratings(config)
        return ratings if self.inner is None else inner_ratings(ratings, case, self.inner)

    def folder(self, name: str, fold: int) -> Path:
        """Where one fold's predictions are kept."""
        part = "test" if self.inner is None else f"inner-{self.inner}"
        few = f"-of-{self.labels}" if self.labels else ""
        return self.out / self.encoder.replace("/", "_") / name / f"{part}-{fold}{few}"


def inner_ratings(ratings: Ratings, case: Case, outer: int) -> Ratings:
    """The fit part of an outer fold, whose ids are marked so that its folds are other ones."""
    by_query = case.by == "query"
    fold = ratings.query_fold[ratings.query] if by_query else ratings.text_fold[ratings.text]
    kept = np.flatnonzero(fold != outer)
    marked = {name: getattr(ratings, name)[kept] for name in ("user", "query", "text", "rating")}
    ids = "queries" if by_query else "text_ids"
    marked[ids] = tuple(f"inner{one}" for one in getattr(ratings, ids))
    return replace(ratings, **marked, comment=None)


def parts_of(suite: Suite, name: str) -> Iterator[tuple[int, CandidateParts]]:
    """Fit and test part of each fold in which somebody is tested."""
    case, ratings = CASES[name], suite.read(name)
    lower = 1.0 if suite.inner is None else 2 / 3
    for fold in (0, 1, 2):
        sizes = round(case.min_fit * lower), max(round(case.min_test * lower), case.size)
        config = SplitConfig(by=case.by, fold=fold, min_fit=sizes[0], min_test=sizes[1])
        try:
            parts = split_ratings(ratings, config).coded
        except InputError:
            continue
        if parts is not None:
            yield fold, few_labels(parts, suite.labels) if suite.labels else parts


def few_labels(parts: CandidateParts, labels: int) -> CandidateParts:
    """Keep so many labels of each user in the fit part, drawn at random; the test part stays whole."""
    whole = parts.whole
    tested, user = parts.tested[whole.query], parts.owner[whole.query]
    order = derive(0, "few labels").permutation(len(user))
    order = order[np.argsort(user[order], kind="stable")]
    order = order[~tested[order]]
    starts = np.flatnonzero(np.diff(user[order], prepend=-1))
    place = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    return parts.keep(np.sort(np.concatenate([np.flatnonzero(tested), order[place < labels]])))


def model_id(kind: str) -> tuple[str, dict[str, Any]]:
    """Kind and options of ``kind`` or ``kind:{"option": value}``."""
    name, _, options = kind.partition(":")
    return name, dict(json.loads(options)) if options else {}


def predicted(suite: Suite, name: str, fold: int, parts: CandidateParts, kind: str) -> FloatArray:
    """Rewards of the test rows, from the cache where they are there."""
    known, options = model_id(kind)
    file = known if not options else f"{known}-{hash_text(json.dumps(options, sort_keys=True))[:8]}"
    path = suite.folder(name, fold) / f"{file}.npz"
    if path.is_file():
        return np.load(path)["mean"]
    found = kind_class(known)
    encoder = load_encoder(suite.encoder, cache=suite.out / "embeddings") if found.uses_encoder() else None
    if encoder is not None:
        encoder.encode(parts.whole.texts)
        encoder.encode(sorted(set(parts.whole.inputs)))
    since = time.perf_counter()
    with one_thread():
        model = found(None, encoder=encoder, **options).fit(parts.fit, rng=0)
        fitted = time.perf_counter() - since
        estimate = model.predict(parts.test)
    keep(path, estimate, fitted, model.notes)
    if isinstance(model, Auto):
        # members are fitted as they would be alone, so these are their own predictions
        for other, member in model.members.items():
            place = path.with_name(f"{other}.npz")
            if not options and not place.is_file():
                keep(place, member.predict(parts.test), float("nan"), member.notes)
    print(f"  {name}, fold {fold}: {kind} in {fitted:.1f} s; {'; '.join(model.notes[:1])}", flush=True)
    return estimate.mean


def keep(path: Path, estimate: RewardEstimate, seconds: float, notes: Sequence[str]) -> None:
    """Store predictions, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    std = np.full(len(estimate.mean), np.nan) if estimate.std is None else estimate.std
    partial = path.with_suffix(".part.npz")
    np.savez(partial, mean=estimate.mean, std=std, seconds=seconds, notes=np.array(notes))
    partial.replace(path)


def diagnose_case(suite: Suite, name: str, kinds: Sequence[str]) -> Diagnosis | None:
    """Fit and compare the kinds on one case; None where nobody is tested."""
    folds, settings = [], Settings(n=[1, CASES[name].size])
    for fold, parts in parts_of(suite, name):
        test = parts.test
        scales: dict[str, Scale] = {kind: kind_class(model_id(kind)[0]).scale for kind in kinds}
        rewards = {one: Reward(predicted(suite, name, fold, parts, one), scales[one]) for one in kinds}
        user, query = (np.array(names)[codes] for names, codes in ((test.users, test.user), (test.queries, test.query)))
        text = np.array(parts.test_text_ids.to_pylist())
        folds.append(diagnose_arrays(user, query, parts.test_utility, rewards, settings, text=text))
    return combine_folds(folds, name=name) if folds else None


def run_suite(suite: Suite, names: Sequence[str], kinds: Sequence[str], against: str) -> None:
    """Run what is owed and print the tables of docs/results/suite-people.md."""
    note_look(suite, names, kinds)
    found = {name: diagnosis for name in names if (diagnosis := diagnose_case(suite, name, kinds))}
    print_captured(found, kinds)
    if against in kinds:
        print_against(found, kinds, against)
    print_seconds(suite, found, kinds)


def note_look(suite: Suite, names: Sequence[str], kinds: Sequence[str]) -> None:
    """Append a line to the log of looks at test folds."""
    if suite.inner is not None:
        return
    asked = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    when = datetime.now(UTC).isoformat(timespec="seconds")
    look = {"when": when, "commit": commit, "encoder": suite.encoder, "cases": list(names), "models": list(kinds)}
    suite.out.mkdir(parents=True, exist_ok=True)
    with (suite.out / "looks.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(look) + "\n")


def captured(diagnosis: Diagnosis, kind: str) -> tuple[float, float, float]:
    """Captured of one model at the case's N, with its interval."""
    told = diagnosis.to_dict()["models"][kind]
    ends = (told[key][-1] for key in ("captured_low", "captured_high"))
    low, high = (float("nan") if end is None else float(end) for end in ends)
    return float(told["captured"][-1]), low, high


def print_captured(found: dict[str, Diagnosis], kinds: Sequence[str]) -> None:
    """Captured of each model in each case, its mean over cases, and its regret."""
    told = {kind: [captured(one, kind) for one in found.values()] for kind in kinds}
    points = np.array([[value[0] for value in told[kind]] for kind in kinds])
    best = points.max(axis=0)
    sizes = [f"{name}, N = {CASES[name].size}" for name in found]
    print("\n| pools, users |", " | ".join(f"{one.queries}, {one.users}" for one in found.values()), "|\n")
    rows = []
    for kind, row in zip(kinds, points, strict=True):
        sampling = [(high - low) / 3.92 for _, low, high in told[kind]]
        within = 1.96 * float(np.sqrt(np.sum(np.square(sampling)))) / len(row)
        mean = f"{number(float(row.mean()))} ({spread(row)}; +- {number(within)})"
        rows.append([kind, mean, number(float((best - row).mean())), *(number(float(value)) for value in row)])
    table(["model", "mean (t over cases; people and texts)", "regret", *sizes], rows)


def print_against(found: dict[str, Diagnosis], kinds: Sequence[str], against: str) -> None:
    """Paired differences of one model to each other one."""
    others = [kind for kind in kinds if kind != against]
    rows = []
    for other in others:
        paired = [difference(one, against, other) for one in found.values()]
        values = np.array([row[0] for row in paired])
        cells = [f"{number(value)} ({number(low)} to {number(high)})" for value, low, high in paired]
        rows.append([other, f"{number(float(values.mean()))} ({spread(values)})", *cells])
    table([f"{against} minus", "mean (t over cases)", *found], rows)


def difference(diagnosis: Diagnosis, model: str, other: str) -> tuple[float, float, float]:
    """Captured of a model minus that of another; intervals hold for all pairs of the case together."""
    size = int(diagnosis.n[-1])
    for row in diagnosis.to_dict()["comparisons"]:
        if {row["model"], row["against"]} == {model, other} and row["n"] == size:
            sign = 1.0 if row["model"] == model else -1.0
            ends = [float("nan")] * 2 if row["low"] is None else sorted((sign * row["low"], sign * row["high"]))
            return sign * row["captured_difference"], ends[0], ends[1]
    return float("nan"), float("nan"), float("nan")


def spread(values: FloatArray) -> str:
    """95 % interval of a mean over cases, by Student's t."""
    if len(values) < 2:
        return "-"
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return f"{number(float(values.mean()) - half)} to {number(float(values.mean()) + half)}"


def print_seconds(suite: Suite, found: dict[str, Diagnosis], kinds: Sequence[str]) -> None:
    """Mean seconds of a fit."""
    rows = []
    for kind in kinds:
        known, options = model_id(kind)
        file = known if not options else f"{known}-{hash_text(json.dumps(options, sort_keys=True))[:8]}"
        cells = []
        for name in found:
            paths = [suite.folder(name, fold) / f"{file}.npz" for fold in (0, 1, 2)]
            seconds = [float(np.load(path)["seconds"]) for path in paths if path.is_file()]
            known_ones = [one for one in seconds if np.isfinite(one)]
            cells.append(number(float(np.mean(known_ones)) if known_ones else None, 1))
        rows.append([kind, *cells])
    table(["seconds a fit", *found], rows)
