"""What other people's ratings of a text are worth: python benchmarks/crowd.py [NAME ...] [--inner F] [--plot].

Every model is fitted once to the texts of the fit part; then it scores the test texts knowing 0, 1, 3, 10 or 30 other
people's ratings of each (drawn by seed, user and text; fewer where fewer people rated it; never the user's own). Beside
the models stand two answers without any: the mean of these ratings, and that mean shrunken to the mean of all.

    runs/crowd/ENCODER/NAME/test-F/KIND-K.npz    predictions; what is there is not done again
    runs/crowd/ENCODER/NAME/curve.json           what the picture shows; it is drawn of all cases that were run
    runs/crowd/looks.jsonl                       every look at test folds

``--inner F`` looks at fit parts only, as in :mod:`people_suite`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bestfor.data.candidates import Candidates
from bestfor.data.others import OtherRatings
from bestfor.data.parts import CandidateParts
from bestfor.data.split import SplitConfig, split_ratings
from bestfor.diagnostics import Diagnosis, Reward, Settings, combine_folds, diagnose_arrays
from bestfor.encoders import load_encoder
from bestfor.errors import InputError
from bestfor.files import write_json
from bestfor.report.charts.plots import COLORS, QUIET, frame
from bestfor.report.charts.svg import spread
from bestfor.rewards import kind_class
from bestfor.rewards.rows import pair_moment
from bestfor.threads import one_thread
from bestfor.types import FloatArray, RewardEstimate
from figures import number, table
from people_suite import CASES, Suite, captured, difference, keep, note_look

COUNTS = (0, 1, 3, 10, 30)
KINDS = ("auto", "tastes", "hierarchical", "pooled")
PLAIN = ("mean", "shrunk")
LEGEND = {"mean": "their mean"}
CURVE = "curve.json"
LEAST_STEP = 0.2
"""Further ratings of a text, on the average, below which a further point is not drawn."""
PANELS = 3
"""Panels of a row of the picture."""
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
    parser.add_argument("--told", nargs=2, type=int, metavar=("LEAST", "MOST"), help="only texts that so many rated")
    parser.add_argument("--plot", type=Path, help="draw the curves to this file")
    given = parser.parse_args()
    suite = Suite(given.data, given.out, given.encoder, given.inner)
    names = given.names or ["bowling-green", *SMALL]
    kinds = [*given.kinds, *PLAIN]
    note_look(suite, names, kinds)
    found = {}
    for name in names:
        if diagnoses := diagnose_counts(suite, name, kinds, given.folds, given.told):
            found[name] = diagnoses
            print_case(suite, name, diagnoses, kinds, given.folds)
            if given.told is None:
                write_json(suite.folder(name, 0).parent / CURVE, curve_of(diagnoses, kinds))
    print_mean(found, kinds)
    if given.plot:
        paths = {name: suite.folder(name, 0).parent / CURVE for name in CASES}
        drawn = {name: json.loads(path.read_text()) for name, path in paths.items() if path.is_file()}
        draw(drawn, [kind for kind in kinds if kind != "shrunk"], given.plot)


def diagnose_counts(
    suite: Suite, name: str, kinds: Sequence[str], folds: Sequence[int], among: Sequence[int] | None = None
) -> dict[int, tuple[float, Diagnosis]]:
    """For each number of ratings: how many there were on average, and the diagnosis of all models.

    ``among``: only test rows of texts that at least and at most so many others rated.
    """
    settings = Settings(n=[1, CASES[name].size])
    told: dict[int, list[float]] = {count: [] for count in COUNTS}
    made: dict[int, list[Diagnosis]] = {count: [] for count in COUNTS}
    for fold, parts in told_parts(suite, name, folds):
        test = parts.test
        user, query = (np.array(names)[codes] for names, codes in ((test.users, test.user), (test.queries, test.query)))
        text = np.array(parts.test_text_ids.to_pylist())
        rewards = {kind: predictions(suite, name, fold, parts, kind) for kind in kinds}
        assert test.others is not None
        there = test.others.count
        kept = np.ones(len(there), dtype=bool) if among is None else (there >= among[0]) & (there <= among[1])
        for count in COUNTS:
            given = {kind: Reward(rewards[kind][count][kept], "utility") for kind in kinds}
            rows = (user[kept], query[kept], parts.test_utility[kept])
            made[count].append(diagnose_arrays(*rows, given, settings, text=text[kept]))
            told[count].append(float(test.others.first(count).count[kept].mean()))
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


def curve_of(diagnoses: Mapping[int, tuple[float, Diagnosis]], kinds: Sequence[str]) -> dict[str, Any]:
    """Captured of each model with its interval, by how many others were known."""
    lines = {kind: [captured(one, kind) for _, one in diagnoses.values()] for kind in kinds}
    return {"told": [mean for mean, _ in diagnoses.values()], "captured": lines}


def print_mean(found: dict[str, dict[int, tuple[float, Diagnosis]]], kinds: Sequence[str]) -> None:
    """Mean of captured over the cases."""
    rows = []
    for kind in kinds:
        means = [np.mean([captured(one[count][1], kind)[0] for one in found.values()]) for count in COUNTS]
        rows.append([kind, *(number(float(value)) for value in means)])
    table([f"mean of {len(found)} cases", *map(str, COUNTS)], rows)


def draw(curves: Mapping[str, Mapping[str, Any]], kinds: Sequence[str], path: Path) -> None:
    """Draw captured against the number of ratings, one panel a case, each line named at its end."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(curves) // PANELS)
    figure = Figure(figsize=(4.2 * min(len(curves), PANELS), 2.9 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (name, curve) in enumerate(curves.items()):
        axes = figure.add_subplot(rows, min(len(curves), PANELS), place + 1)
        frame(axes)
        told = np.array(curve["told"])
        shown = np.flatnonzero(np.diff(told, prepend=-1.0) > LEAST_STEP)
        lines = {kind: np.array(curve["captured"][kind])[shown] for kind in kinds if kind in curve["captured"]}
        at = np.log1p(told[shown])
        draw_lines(axes, at, lines)
        axes.set_xticks(at, [number(mean, 0 if abs(mean - round(mean)) < 0.05 else 1) for mean in told[shown].tolist()])
        axes.set_title(f"{name}, N = {CASES[name].size}", fontsize=9, loc="left")
        if place >= len(curves) - PANELS:
            axes.set_xlabel("other people who rated the text (mean)", fontsize=9)
        if place % PANELS == 0:
            axes.set_ylabel("captured", fontsize=9)
    with rc_context({"svg.hashsalt": "crowd", "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", metadata={"Date": None})


def draw_lines(axes: Any, at: FloatArray, lines: Mapping[str, FloatArray]) -> None:  # noqa: ANN401 - of matplotlib
    """Draw the lines of one case; names stand beside their ends, moved apart where ends lie close."""
    ends = []
    for code, (kind, line) in enumerate(lines.items()):
        middle, low, high = line.T
        color = QUIET if kind in PLAIN else COLORS[code]
        axes.plot(at, middle, "--" if kind in PLAIN else "-", color=color, linewidth=1.4)
        if kind == "auto":
            axes.fill_between(at, low, high, color=color, alpha=0.15, linewidth=0)
        ends.append((float(middle[-1]), kind, color))
    axes.set_xlim(at[0] - 0.1, at[-1] + 0.42 * (at[-1] - at[0]))
    low, high = axes.get_ylim()
    ends.sort()
    heights = np.array(spread([value for value, _, _ in ends], 0.085 * (high - low), low, high))
    heights -= np.mean(heights) - np.mean([value for value, _, _ in ends])  # as many go down as up
    heights -= max(float(heights[-1]) - high, 0.0) + min(float(heights[0]) - low, 0.0)
    for height, (value, kind, color) in zip(heights, ends, strict=True):
        axes.annotate(
            LEGEND.get(kind, kind),
            (at[-1], value),
            (at[-1] + 0.07 * (at[-1] - at[0]), height),
            color=color,
            fontsize=8,
            va="center",
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2},
        )


if __name__ == "__main__":
    main()
