"""Does a learned variance lower collapse and hacking? python benchmarks/learned_variance.py [--world] [--cases ...].

Zhang & He 2026 claim that a user reward model with a learned variance (``gaussian``) has fewer collapsed users (alpha)
and fewer queries whose rewards run against utility (beta) than one without (``point``). Both are fitted to the same
labels and diagnosed on the same pools: every case of :mod:`people_suite` with all labels of a user, 20 and 5, and, with
``--world``, every noise regime and number of labels of :mod:`world_table`. Beside them stand the plain likelihood, no
warm-up, and ``hierarchical`` with and without its noise head. A pair is diagnosed by itself, so that its 95 % interval
is that of one comparison. What is there is not fitted again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bestfor.diagnostics import Diagnosis, Reward, Settings
from bestfor.rewards import KINDS
from bestfor.runs.joins import Predicted, build_parts, diagnose_parts
from bestfor.types import FloatArray
from figures import number, table
from people_suite import CASES, Suite, diagnose_case, note_look, spread
from world_table import LABELS, REGIMES, Tables, sampled

PLAIN, LEARNED = "point", "gaussian"
PAIRS = {
    "gaussian minus point": (LEARNED, PLAIN),
    "gaussian by plain likelihood minus point": ('gaussian:{"loss": "nll"}', PLAIN),
    "gaussian without warm-up minus point": ('gaussian:{"warm_up": 0}', PLAIN),
    "hierarchical minus the same with equal noise": ("hierarchical", 'hierarchical:{"variance_head": false}'),
}
FEW = (0, 20, 5)
"""Labels of a user; 0 is all."""
QUANTITIES = {"captured": "difference", "rho": "rho", "alpha": "alpha", "beta": "beta", "beta_05": "beta_05"}
SIZE = 8
"""N of the world's captured."""
Differences = dict[str, tuple[float, float, float]]
"""Value, low and high of each quantity's difference; NaN where unknown."""


def main() -> None:
    """Fit what is owed and print the tables of docs/results/learned-variance.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/people-suite"))
    parser.add_argument("--cases", nargs="*", choices=[*CASES], default=[*CASES])
    parser.add_argument("--labels", nargs="*", type=int, default=list(FEW))
    parser.add_argument("--world", type=Path, nargs="?", const=Path("runs/world-table"))
    parser.add_argument("--users", type=int, default=100, help="of the world")
    given = parser.parse_args()
    rows: dict[str, dict[str, Differences]] = {}
    for labels in given.labels:
        suite = Suite(given.data, given.out, labels=labels)
        note_look(suite, given.cases, sorted({one for pair in PAIRS.values() for one in pair}))
        for case in given.cases:
            told = f"{case}, {labels or 'all'} labels"
            rows[told] = {pair: found for pair in PAIRS if (found := people(suite, case, pair))}
            print(f"  {told}", flush=True)
    if given.world:
        for told, tables, kept in cells(given.users, given.world):
            rows[told] = {pair: world(tables, kept, given.world, told, pair) for pair in PAIRS}
            print(f"  {told}", flush=True)
    print_each(rows)
    print_means(rows, given.labels)


def people(suite: Suite, case: str, pair: str) -> Differences:
    """Differences of a pair on one case; empty where nobody is tested."""
    found = diagnose_case(suite, case, PAIRS[pair])
    return {} if found is None else differences(found, *PAIRS[pair], CASES[case].size)


def cells(users: int, out: Path) -> Iterator[tuple[str, Tables, int]]:
    """Name, tables and kept candidates of each cell of the world."""
    tables = sampled(users, 0, out)
    for labels in sorted(LABELS, reverse=True):
        for regime in REGIMES:
            yield f"world, {regime} noise, {labels} labels", tables[regime], LABELS[labels]


def world(tables: Tables, kept: int, out: Path, told: str, pair: str) -> Differences:
    """Differences of a pair in one cell of the world."""
    queries, candidates, utilities, history = tables
    parts = build_parts(queries, candidates, utilities, history)
    fit = parts.part("fit")
    fit, rewards = fit.take(fit.candidate < kept), {}
    for name in PAIRS[pair]:
        kind, _, options = name.partition(":")
        path = out / "learned-variance" / told.replace(" ", "-") / f"{name.translate({34: '', 58: '-', 32: ''})}.npy"
        if not path.is_file():
            model = KINDS[kind](cache=out / "embeddings", **json.loads(options or "{}")).fit(fit, rng=0)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, model.predict(parts.test).mean)
        rewards[name] = Predicted(Reward(np.load(path), "utility"))
    found = diagnose_parts(parts, rewards, Settings(n=[1, SIZE], name=told), shared_texts=False)
    return differences(found, *PAIRS[pair], SIZE)


def differences(diagnosis: Diagnosis, model: str, other: str, size: int) -> Differences:
    """Model minus other in every quantity."""
    for row in diagnosis.comparisons:
        if {row.model, row.against} == {model, other} and row.n == size:
            sign = 1.0 if row.model == model else -1.0
            each = {key: getattr(row, name) for key, name in QUANTITIES.items()}
            return {key: signed(one.value, one.low, one.high, sign) for key, one in each.items()}
    return {}


def signed(value: float, low: float | None, high: float | None, sign: float) -> tuple[float, float, float]:
    """An estimate or its negative."""
    ends = [np.nan, np.nan] if low is None or high is None else sorted((sign * low, sign * high))
    return sign * value + 0.0, ends[0], ends[1]


def print_each(rows: dict[str, dict[str, Differences]]) -> None:
    """Print every setting's differences, a table a pair."""
    for pair in PAIRS:
        print(f"\n### {pair}\n")
        listed = [
            [told, *(cell(each[pair].get(key)) for key in QUANTITIES)] for told, each in rows.items() if pair in each
        ]
        table(["setting", *QUANTITIES], listed)


def print_means(rows: dict[str, dict[str, Differences]], labels: Sequence[int]) -> None:
    """Print means over settings of one sort, and how many settings are beyond chance in each direction."""
    sorts = {f"people, {few or 'all'} labels": f", {few or 'all'} labels" for few in labels}
    listed = []
    for pair in PAIRS:
        for sort, end in [*sorts.items(), ("world", "")]:
            inside = [
                each[pair]
                for told, each in rows.items()
                if pair in each and told.startswith("world") == (sort == "world") and told.endswith(end)
            ]
            if inside:
                listed.append([pair, f"{sort} ({len(inside)})", *(mean(inside, key, sort) for key in QUANTITIES)])
    print("\n### Means\n")
    table(["pair", "settings", *QUANTITIES], listed)


def mean(inside: Sequence[Differences], key: str, sort: str) -> str:
    """Mean over settings, its interval over conversations by Student's t, and settings above and below 0 for sure."""
    known = [each[key] for each in inside if key in each and np.isfinite(each[key][0])]
    if not known:
        return "-"
    values: FloatArray = np.array([one[0] for one in known])
    above, below = sum(one[1] > 0 for one in known), sum(one[2] < 0 for one in known)
    # cells of the world have the same users and texts, so their spread says nothing of another world
    ends = f"{number(float(values.min()))} to {number(float(values.max()))}" if sort == "world" else spread(values)
    return f"{number(float(values.mean()))} ({ends}); {above} up, {below} down"


def cell(one: tuple[float, float, float] | None) -> str:
    """A difference with its interval."""
    if one is None or not np.isfinite(one[0]):
        return "-"
    return number(one[0]) + (f" ({number(one[1])} to {number(one[2])})" if np.isfinite(one[1]) else "")


if __name__ == "__main__":
    main()
