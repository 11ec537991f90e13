"""What other people's ratings of a text are worth: python benchmarks/crowd.py [NAME ...] [--inner F] [--plot].

Every model is fitted once to the texts of the fit part; then it scores the test texts knowing 0, 1, 3, 10 or 30 other
people's ratings of each (drawn by seed, user and text; fewer where fewer people rated it; never the user's own). Beside
the models stand two answers without any: the mean of these ratings, and that mean shrunken to the mean of all.

    runs/crowd/ENCODER/NAME/test-F/KIND-K.npz    predictions; what is there is not done again
    runs/crowd/looks.jsonl                       every look at test folds

``--inner F`` looks at fit parts only, as in :mod:`people_suite`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bestfor.data.candidates import Candidates
from bestfor.data.others import OtherRatings
from bestfor.data.parts import CandidateParts
from bestfor.data.split import SplitConfig, split_ratings
from bestfor.diagnostics import Diagnosis, Reward, Settings, combine_folds, diagnose_arrays
from bestfor.encoders import load_encoder
from bestfor.errors import InputError
from bestfor.report.charts.plots import COLORS, QUIET, frame
from bestfor.rewards import kind_class
from bestfor.rewards.rows import pair_moment
from bestfor.threads import one_thread
from bestfor.types import FloatArray, RewardEstimate
from figures import number, table
from people_suite import CASES, Suite, captured, difference, keep, note_look

COUNTS = (0, 1, 3, 10, 30)
KINDS = ("auto", "tastes", "hierarchical", "pooled")
PLAIN = ("mean", "shrunk")
LEGEND = {"mean": "mean of their ratings, no model"}
SMALL = ("taxes", "canada", "brexit", "football", "ubi", "freshwater", "seattle", "headlines")


def main() -> None:
    """Run what is owed and print the tables of docs/results/crowd.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*CASES, []])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/crowd"))
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--folds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--inner", type=int, choices=(0, 1, 2))
    parser.add_argument("--encoder", default="all-MiniLM-L6-v2")
    parser.add_argument("--plot", type=Path, help="draw the curves to this file")
    given = parser.parse_args()
    suite = Suite(given.data, given.out, given.encoder, given.inner)
    names = given.names or ["bowling-green", *SMALL]
    kinds = [*given.kinds, *PLAIN]
    note_look(suite, names, kinds)
    found = {}
    for name in names:
        if diagnoses := diagnose_counts(suite, name, kinds, given.folds):
            found[name] = diagnoses
            print_case(suite, name, diagnoses, kinds, given.folds)
    print_mean(found, kinds)
    if given.plot and found:
        draw(found, [kind for kind in kinds if kind != "shrunk"], given.plot)


def diagnose_counts(
    suite: Suite, name: str, kinds: Sequence[str], folds: Sequence[int]
) -> dict[int, tuple[float, Diagnosis]]:
    """For each number of ratings: how many there were on average, and the diagnosis of all models."""
    settings = Settings(n=[1, CASES[name].size])
    told: dict[int, list[float]] = {count: [] for count in COUNTS}
    made: dict[int, list[Diagnosis]] = {count: [] for count in COUNTS}
    for fold, parts in told_parts(suite, name, folds):
        test = parts.test
        user, query = (np.array(names)[codes] for names, codes in ((test.users, test.user), (test.queries, test.query)))
        text = np.array(parts.test_text_ids.to_pylist())
        rewards = {kind: predictions(suite, name, fold, parts, kind) for kind in kinds}
        for count in COUNTS:
            given = {kind: Reward(rewards[kind][count], "utility") for kind in kinds}
            made[count].append(diagnose_arrays(user, query, parts.test_utility, given, settings, text=text))
            assert test.others is not None
            told[count].append(float(test.others.first(count).count.mean()))
    return {
        count: (float(np.mean(told[count])), combine_folds(made[count], name=name)) for count in COUNTS if made[count]
    }


def told_parts(suite: Suite, name: str, folds: Sequence[int]) -> Iterator[tuple[int, CandidateParts]]:
    """Both parts of each fold in which somebody is tested, with as many ratings by others as are ever told."""
    case, ratings = CASES[name], suite.read(name)
    lower = 1.0 if suite.inner is None else 2 / 3
    for fold in folds:
        sizes = round(case.min_fit * lower), max(round(case.min_test * lower), case.size)
        config = SplitConfig("rating", fold, sizes[0], sizes[1], max(COUNTS))
        try:
            parts = split_ratings(ratings, config).coded
        except InputError:
            continue
        assert parts is not None
        yield fold, parts


def predictions(suite: Suite, name: str, fold: int, parts: CandidateParts, kind: str) -> dict[int, FloatArray]:
    """Rewards of the test rows for each number of ratings, from the cache where they are there."""
    paths = {count: suite.folder(name, fold) / f"{kind}-{count}.npz" for count in COUNTS}
    if not all(path.is_file() for path in paths.values()):
        estimates = plain(parts, kind) if kind in PLAIN else learned(suite, name, fold, parts, kind)
        for count, (estimate, seconds) in estimates.items():
            keep(paths[count], estimate, seconds, estimate.notes)
    return {count: np.load(path)["mean"] for count, path in paths.items()}


def learned(
    suite: Suite, name: str, fold: int, parts: CandidateParts, kind: str
) -> dict[int, tuple[RewardEstimate, float]]:
    """Fit a kind once and let it score with each number of ratings; seconds are processor time."""
    encoder = load_encoder(suite.encoder, cache=suite.out / "embeddings")
    encoder.encode(parts.whole.texts)
    encoder.encode(sorted(set(parts.whole.inputs)))
    with one_thread():
        since = time.process_time()
        model = kind_class(kind)(None, encoder=encoder).fit(parts.fit, rng=0)
        print(f"  {name}, fold {fold}: {kind} in {time.process_time() - since:.1f} s", flush=True)
        found = {}
        for count in COUNTS:
            since = time.process_time()
            found[count] = model.predict(with_first(parts.test, count)), time.process_time() - since
    return found


def with_first(test: Candidates, count: int) -> Candidates:
    """The test part with so many of the ratings at most."""
    assert test.others is not None
    return replace(test, others=test.others.first(count))


def plain(parts: CandidateParts, kind: str) -> dict[int, tuple[RewardEstimate, float]]:
    """The mean of what others said, or that mean shrunken by variances of the fit part: no model."""
    fit, others = parts.fit, parts.test.others
    assert others is not None
    centre = float(np.mean(fit.utility))
    between = pair_moment(fit.utility - centre, fit.text)
    within = max(float(np.var(fit.utility)) - between, 1e-9)
    least = 1e-9 if kind == "mean" else within / max(between, 1e-9)
    found = {}
    for count in COUNTS:
        some: OtherRatings = others.first(count)
        total = np.bincount(some.row, some.utility - centre, minlength=len(some.ends) - 1)
        found[count] = RewardEstimate(centre + total / (some.count + least)), 0.0
    return found


def print_case(
    suite: Suite,
    name: str,
    diagnoses: dict[int, tuple[float, Diagnosis]],
    kinds: Sequence[str],
    folds: Sequence[int],
) -> None:
    """Captured of each model by number of ratings, with intervals; paired differences to the mean; calibration."""
    first = diagnoses[COUNTS[0]][1]
    print(f"\n### {name}, N = {CASES[name].size}: {first.queries} pools, {first.users} users, folds {folds}\n")
    heads = [f"{count} ({number(mean, 1)})" for count, (mean, _) in diagnoses.items()]
    rows = []
    for kind in kinds:
        cells = [captured(one, kind) for _, one in diagnoses.values()]
        rows.append([kind, *(f"{number(v)} ({number(low)} to {number(high)})" for v, low, high in cells)])
    table(["captured knowing so many others (there were)", *heads], rows)
    rows = []
    for kind in (kind for kind in kinds if kind not in PLAIN):
        cells = [difference(one, kind, "shrunk") for _, one in diagnoses.values()]
        rows.append([kind, *(f"{number(v)} ({number(low)} to {number(high)})" for v, low, high in cells)])
    table(["minus the shrunken mean", *heads], rows)
    utility = {fold: parts.test_utility for fold, parts in told_parts(suite, name, folds)}
    rows = []
    for kind in (kind for kind in kinds if kind not in PLAIN):
        rows.append([kind, *(calibration(suite, name, kind, count, utility) for count in COUNTS)])
    table(["squared error over variance; 90 % interval holds", *map(str, COUNTS)], rows)


def calibration(suite: Suite, name: str, kind: str, count: int, utility: Mapping[int, FloatArray]) -> str:
    """Mean squared error over predicted variance of the test ratings, and the share within the 90 % interval."""
    ratios = []
    for fold, test in utility.items():
        found = np.load(suite.folder(name, fold) / f"{kind}-{count}.npz")
        ratios.append((test - found["mean"]) / found["std"])
    z = np.concatenate(ratios)
    return f"{np.mean(z**2):.2f}; {np.mean(np.abs(z) < 1.645):.2f}"


def print_mean(found: dict[str, dict[int, tuple[float, Diagnosis]]], kinds: Sequence[str]) -> None:
    """Mean of captured over the cases."""
    rows = []
    for kind in kinds:
        means = [np.mean([captured(one[count][1], kind)[0] for one in found.values()]) for count in COUNTS]
        rows.append([kind, *(number(float(value)) for value in means)])
    table([f"mean of {len(found)} cases", *map(str, COUNTS)], rows)


def draw(found: dict[str, dict[int, tuple[float, Diagnosis]]], kinds: Sequence[str], path: Path) -> None:
    """Draw captured against the number of ratings, one panel a case."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * len(found), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (name, diagnoses) in enumerate(found.items()):
        axes = figure.add_subplot(1, len(found), place + 1)
        frame(axes)
        at = np.log1p(np.array([mean for mean, _ in diagnoses.values()]))
        for code, kind in enumerate(kinds):
            low, middle, high = np.array([captured(one, kind) for _, one in diagnoses.values()])[:, [1, 0, 2]].T
            color = QUIET if kind in PLAIN else COLORS[code]
            style = "--" if kind in PLAIN else "-"
            axes.plot(at, middle, style, color=color, marker="o", markersize=3.5, label=LEGEND.get(kind, kind))
            if kind == kinds[0]:
                axes.fill_between(at, low, high, color=color, alpha=0.15, linewidth=0)
        axes.set_xticks(at, [number(mean, 0 if mean == round(mean) else 1) for mean, _ in diagnoses.values()])
        axes.set_title(f"{name}, N = {CASES[name].size}", fontsize=9, loc="left")
        axes.set_xlabel("other people who rated the text (mean)", fontsize=9)
        if place == 0:
            axes.set_ylabel("captured", fontsize=9)
            axes.legend(fontsize=8, frameon=False, loc="lower right")
    with rc_context({"svg.hashsalt": "crowd", "svg.fonttype": "path"}):
        figure.savefig(path, format="svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
