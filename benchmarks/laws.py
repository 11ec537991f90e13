"""How far five laws are off the exact curves: python benchmarks/laws.py [--data ../shared/data] [--out runs/laws].

Runs (once) eight Polis conversations, the ranked headlines and the demo world with cheap models, three folds each, and
compares every law with the exact curve at every N above 2 (from Best-of-2 the law of pairs is made). Only curves whose
gain is above 0 with its 95 % interval can be judged by a relative error; the others are counted. Rules that choose a
law are made from all sources but the one that they are judged on. Beside the laws themselves stand their steps, the
gain at 2 (or at the N before) times what the law grows by from there; "share" keeps the captured share of that N.
Prints Markdown; the same command, the same figures.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import bestfor as bf
from bestfor.diagnostics import Diagnosis
from bestfor.diagnostics.quantities.laws import LAWS
from bestfor.runs.config import RunConfig
from bestfor.runs.run import run
from figures import table

KINDS = ("length", "similarity", "pooled", "ridge", "hierarchical")
CONVERSATIONS = {
    "brexit": ("brexit-consensus", 8, 16),
    "freshwater": ("scoop-hivemind.freshwater", 8, 20),
    "ubi": ("scoop-hivemind.ubi", 8, 20),
    "seattle": ("15-per-hour-seattle", 4, 10),
    "taxes": ("scoop-hivemind.taxes", 8, 20),
    "canada": ("canadian-electoral-reform", 8, 20),
    "football": ("football-concussions", 8, 20),
    "bowling-green": ("american-assembly.bowling-green", 16, 20),
}
ALL = (*LAWS, "pairs, plain")
STEPS = ("normal", "reward", "pool", "pairs", "share")
MEDIAN = "median of the five"
SUMS = {"headlines": False, "demo": False}
"""Sources whose utilities take many values; votes take three."""


@dataclass(frozen=True)
class Case:
    """One model on one source at one N: the relative error of every law."""

    source: str
    model: str
    n: int
    error: dict[str, float]
    nearer: dict[str, float]
    """Errors at the next smaller N above 2, where there is one."""
    step: dict[str, float]
    """Errors of the laws' steps from the N before, and of their median."""
    from_two: dict[str, float]
    """Errors of the laws' steps from 2, and of their median."""

    @property
    def votes(self) -> bool:
        """Whether utilities take few values."""
        return SUMS.get(self.source, True)


def main() -> None:
    """Run what is owed and print the tables of docs/results/laws.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/laws"))
    given = parser.parse_args()
    cases: list[Case] = []
    unclear = 0
    for name in (*CONVERSATIONS, "headlines", "demo"):
        folder = given.out / name
        if not (folder / "diagnosis.json").is_file():
            make(name, given.data, folder)
        found, left = judged(name, bf.load_run(folder).rewards().diagnose())
        cases, unclear = [*cases, *found], unclear + left
    print(f"{len(cases)} curves and N; {unclear} others whose gain is not clearly above 0\n")
    by_source(cases)
    choices(cases)


def make(name: str, data: Path, folder: Path) -> None:
    """Run one source."""
    if name == "demo":
        from bestfor.cli.demo import demo

        demo(out=folder)
        return
    if name == "headlines":
        from bestfor.runs.config import load_config

        run(load_config(Path("examples/headlines.toml")), folder, tell=lambda line: None)
        return
    source, min_test, min_fit = CONVERSATIONS[name]
    split = {"by": "text", "fold": "all", "min_fit": min_fit, "min_test": min_test}
    config = RunConfig.model_validate(
        {
            "name": name,
            "data": {"source": "polis", "path": str(data / "polis" / source)},
            "split": split,
            "reward": [{"kind": kind} for kind in KINDS],
            "diagnosis": {"n": [n for n in (1, 2, 4, 8, 16) if n <= min_test]},
        }
    )
    run(config, folder, tell=lambda line: None)


def judged(source: str, diagnosis: Diagnosis) -> tuple[list[Case], int]:
    """Compare laws and curves of every model at every N above 2; and count curves that cannot be judged."""
    cases: list[Case] = []
    unclear = 0
    for name, model in diagnosis.models.items():
        gain = model.gain
        plain = np.mean([fold.laws[name].plain_pairs() for fold in diagnosis.evidence], axis=0)
        laws = {**model.law, "pairs, plain": plain}
        before: dict[str, float] = {}
        for place, n in enumerate(gain.n.tolist()):
            if n <= 2:
                continue
            if not gain.low[place] > 0:
                unclear += 1
                continue
            error = {law: float(values[place] / gain.value[place] - 1) for law, values in laws.items()}
            shares = {**laws, "share": diagnosis.oracle.value - diagnosis.pool_mean.value}
            two = gain.n.tolist().index(2)
            steps = [stepped(shares, gain.value, place, start) for start in (place - 1, two)]
            cases.append(Case(source, name, n, error, before, *steps))
            before = error
    return cases, unclear


def stepped(laws: dict[str, np.ndarray], gain: np.ndarray, place: int, start: int) -> dict[str, float]:
    """Errors at a place of the curve of the gain at an earlier one times each law's growth, and of their median."""
    found = {law: float(gain[start] * laws[law][place] / laws[law][start] / gain[place] - 1) for law in STEPS}
    return {**found, MEDIAN: float(np.median(list(found.values())))}


def by_source(cases: Sequence[Case]) -> None:
    """Print each source's median and largest error, and those of all."""
    sources = list(dict.fromkeys(case.source for case in cases))
    rows = [[source, *(summary([c for c in cases if c.source == source], law) for law in ALL)] for source in sources]
    table(["median / 90 % of errors", *ALL], rows)
    table(["all", *ALL], [["all", *(summary(cases, law) for law in ALL)]])


def summary(cases: Sequence[Case], law: str) -> str:
    """Median and 90 % point of the size of the errors; cases without a root are counted."""
    errors = sizes(cases, lambda case: case.error[law])
    lost = len(cases) - len(errors)
    more = f" ({lost} without)" if lost else ""
    return f"{spread(errors)}{more}" if len(errors) else "-"


def sizes(cases: Sequence[Case], error: Callable[[Case], float]) -> list[float]:
    """Sizes of the errors that are known."""
    return [abs(value) for case in cases if np.isfinite(value := error(case))]


def spread(errors: Sequence[float]) -> str:
    """Median and 90 % point in percent."""
    median, tenth = np.quantile(errors, [0.5, 0.9])
    return f"{100 * median:.0f} / {100 * tenth:.0f} %"


Rule = Callable[[Sequence[Case], Case], tuple[str, float]]
"""The other sources' cases and one case -> the law that the rule takes, and its error there."""


def choices(cases: Sequence[Case]) -> None:
    """Print how far each rule for choosing a law is off on the source that it was not made from."""
    kinds = {"": "error", "from Best-of-2, ": "from_two", "from the N before, ": "step"}
    rules: dict[str, Rule] = {}
    for words, kind in kinds.items():
        rules[f"{words}one law for all"] = learnt(kind, by_kind=False)
        rules[f"{words}one law for votes, one for the rest"] = learnt(kind, by_kind=True)
        if kind != "error":
            rules[f"{words}the law or the median that was best"] = learnt(kind, by_kind=False, names=(*STEPS, MEDIAN))
            rules[f"{words}the median of the five (nothing is chosen)"] = median_of(kind)
    rules["the law that was closest at the N before (one law for all at the first)"] = closest_before
    rows: list[list[str]] = []
    for words, rule in rules.items():
        chosen = [rule([c for c in cases if c.source != case.source], case) for case in cases]
        names = [law for law, _ in chosen]
        used = ", ".join(f"{law} {names.count(law)}" for law in (*LAWS, "share", MEDIAN) if law in names)
        rows.append([words, *judged_by([error for _, error in chosen]), used])
    ideal = [min(abs(case.error[law]) for law in LAWS) for case in cases]
    rows.append(["the best law of each case, seen afterwards", *judged_by(ideal), ""])
    table(
        ["rule, made without the source that it is judged on", "median / 90 %", "within 5 %", "within 15 %", "laws"],
        rows,
    )


def judged_by(errors: Sequence[float]) -> list[str]:
    """Median and 90 % point, and the shares within 5 and 15 percent."""
    size = np.abs(errors)
    return [spread(size.tolist()), f"{100 * np.mean(size <= 0.05):.0f} %", f"{100 * np.mean(size <= 0.15):.0f} %"]


def learnt(kind: str, *, by_kind: bool, names: Sequence[str] = ()) -> Rule:
    """Take the law with the smallest median error on the other sources (on those of the same kind of utilities)."""

    def rule(others: Sequence[Case], case: Case) -> tuple[str, float]:
        alike = [c for c in others if c.votes == case.votes] if by_kind else others
        tried = names or (LAWS if kind == "error" else STEPS)
        law = best(alike or others, kind, tried)
        return law, getattr(case, kind)[law]

    return rule


def median_of(kind: str) -> Rule:
    """Take the median of the five steps."""
    return lambda others, case: (MEDIAN, getattr(case, kind)[MEDIAN])


def closest_before(others: Sequence[Case], case: Case) -> tuple[str, float]:
    """Take the law that was closest at the N before."""
    law = min(LAWS, key=lambda one: abs(case.nearer[one])) if case.nearer else best(others, "error", LAWS)
    return law, case.error[law]


def best(cases: Sequence[Case], kind: str, names: Sequence[str]) -> str:
    """The law with the smallest median error."""
    return min(names, key=lambda law: float(np.median(sizes(cases, lambda case: getattr(case, kind)[law]))))


if __name__ == "__main__":
    main()
