"""Every reward model on real people's votes: python benchmarks/real_people.py [--out FOLDER] [NAME ...].

``--suite`` gives one figure over all conversations and headlines instead (:mod:`people_suite`).

Each conversation is one run (three folds, every statement a test statement once); a run that is there already is only
printed. Seconds of fits are those of the run that did them, embeddings cached beforehand.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bestfor.data.sources.polis import load_polis
from bestfor.encoders import load_encoder
from bestfor.runs.config import RunConfig
from bestfor.runs.run import run
from figures import bounded, number, span, table
from people_suite import CASES, Suite, run_suite
from people_suite import KINDS as SUITE_KINDS

KINDS = (
    "length",
    "similarity",
    "pooled",
    "ridge",
    "point",
    "bradley_terry",
    "gaussian",
    "ensemble",
    "hierarchical",
    "tastes",
)
CONVERSATIONS = {
    "bowling-green": ("american-assembly.bowling-green", 8, 16, 20),
    "taxes": ("scoop-hivemind.taxes", 4, 8, 20),
    "canada": ("canadian-electoral-reform", 4, 8, 20),
    "seattle": ("15-per-hour-seattle", 2, 4, 10),
}
DEFAULT = "tastes"


def main() -> None:
    """Run what is owed and print the tables of docs/results/polis.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*dict.fromkeys([*CONVERSATIONS, *CASES]), []])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--kinds", nargs="*")
    parser.add_argument("--suite", action="store_true", help="one figure over all cases")
    parser.add_argument("--inner", type=int, choices=(0, 1, 2), help="with --suite: fit parts of this fold only")
    parser.add_argument("--encoder", default="all-MiniLM-L6-v2")
    parser.add_argument("--against", default="auto", help="with --suite: the model whose differences are shown")
    given = parser.parse_args()
    if given.suite:
        suite = Suite(given.data, given.out or Path("runs/people-suite"), given.encoder, given.inner)
        run_suite(suite, given.names or list(CASES), given.kinds or list(SUITE_KINDS), given.against)
        return
    for name in given.names or CONVERSATIONS:
        folder = (given.out or Path("runs/real-people")) / name
        done(name, given.data / "polis", folder, given.kinds or list(KINDS))
        show(name, folder)


def done(name: str, data: Path, folder: Path, kinds: list[str]) -> None:
    """Run one conversation, or what is left of it."""
    source, size, min_test, min_fit = CONVERSATIONS[name]
    config = RunConfig.model_validate(
        {
            "name": name,
            "data": {"source": "polis", "path": str(data / source)},
            "split": {"by": "text", "fold": "all", "min_fit": min_fit, "min_test": min_test},
            "reward": [{"kind": kind} for kind in kinds],
            "diagnosis": {"n": [n for n in (1, 2, 4, 8, 16) if n <= max(size, min_test)]},
        }
    )
    texts = load_polis(data / source).texts
    for fold in (0, 1, 2):
        load_encoder(cache=folder / f"fold-{fold}" / "embeddings").encode(texts)
    load_encoder(cache=folder / "embeddings").encode(texts)
    path = folder / "seconds.json"
    seconds: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}
    clock = Clock(seconds)
    run(config, folder, tell=clock.tell)
    clock.tell("end")
    path.write_text(json.dumps(seconds, indent=1))


class Clock:
    """Wall seconds of each fit, from the lines that a run tells."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds, self.fold, self.doing, self.since = seconds, "", "", 0.0

    def tell(self, line: str) -> None:
        """Take one line."""
        now = time.perf_counter()
        if self.doing.startswith("fit "):
            self.seconds[f"{self.fold}: {self.doing}"] = now - self.since
        self.doing, self.since = line, now
        self.fold = line if line.startswith("fold ") else self.fold
        if "already there" in line:
            self.doing = ""
        print(f"  {line}", flush=True)


def show(name: str, folder: Path) -> None:
    """The tables of one conversation."""
    diagnosis = json.loads((folder / "diagnosis.json").read_text(encoding="utf-8"))
    models: Mapping[str, Any] = diagnosis["models"]
    seconds: Mapping[str, float] = json.loads((folder / "seconds.json").read_text())
    sizes, size = diagnosis["oracle"]["n"], CONVERSATIONS[name][1]
    at = sizes.index(size)
    print(f"\n## {name}: {diagnosis['queries']} pools, {diagnosis['users']} users, N = {size}\n")
    cells: dict[str, Callable[[str], str]] = {
        f"captured, N = {size}": lambda kind: span(models[kind], "captured", at),
        "folds": lambda kind: ", ".join(number(fold["models"][kind]["captured"][at]) for fold in diagnosis["folds"]),
        "alpha": lambda kind: bounded(models[kind]["quantities"], "alpha"),
        "leakage": lambda kind: number(models[kind]["quantities"]["leakage_gain"]),
        "beta": lambda kind: number(models[kind]["quantities"]["beta"]),
        "beta corrected": lambda kind: number((models[kind]["quantities"]["corrected"] or {}).get("beta")),
        "temperature": lambda kind: calibration(models[kind], "temperature"),
        "ENCE": lambda kind: calibration(models[kind], "ence"),
        "90 % covers": lambda kind: covers(models[kind]),
        "seconds a fit": lambda kind: fit_seconds(seconds, kind),
    }
    table(["model", *cells], ([kind, *(cell(kind) for cell in cells.values())] for kind in models))
    table(
        [f"{DEFAULT} minus", f"captured, N = {size}"],
        ([other, paired(diagnosis, other, size)] for other in models if other != DEFAULT),
    )


def calibration(model: Mapping[str, Any], key: str) -> str:
    """A figure of the predicted standard deviation, or a dash."""
    return number((model.get("calibration") or {}).get(key), 2)


def covers(model: Mapping[str, Any]) -> str:
    """Share of test ratings within the 90 % predictive interval."""
    found = [row["share"] for row in (model.get("calibration") or {}).get("coverage", []) if row["level"] == 0.9]
    return number(found[0] if found else None)


def fit_seconds(seconds: Mapping[str, float], kind: str) -> str:
    """Mean over the folds."""
    found = [value for key, value in seconds.items() if key.endswith(f": fit {kind}")]
    return number(sum(found) / len(found), 1) if found else "-"


def paired(diagnosis: Mapping[str, Any], other: str, size: int) -> str:
    """The paired difference of the default to another model, with its interval."""
    for row in diagnosis["comparisons"]:
        if {row["model"], row["against"]} == {DEFAULT, other} and row["n"] == size:
            sign = 1 if row["model"] == DEFAULT else -1
            ends = sorted(sign * row[end] for end in ("low", "high")) if row["low"] is not None else []
            told = f" ({number(ends[0])} to {number(ends[1])})" if ends else ""
            return number(sign * row["captured_difference"]) + told
    return "-"


if __name__ == "__main__":
    main()
