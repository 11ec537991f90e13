"""What real people's votes gain from each encoder: python benchmarks/encoder_table.py [--encoders NAME ...] [CASE ...].

The protocol is that of real_people.py --suite (:mod:`people_suite`): three folds of each conversation, every statement
a test statement once, one N a conversation. Predictions are kept for each encoder, case, fold and model, and each run
adds a line to the log of looks at test folds. Differences of one model with two encoders are paired by pools; their
intervals within a conversation count people and statements as random, over conversations they are Student's t.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from bestfor.diagnostics import Diagnosis, Reward, Settings, combine_folds, diagnose_arrays
from bestfor.rewards import kind_class
from figures import difference, number, span, table
from people_suite import CASES, Suite, note_look, parts_of, predicted

ENCODERS = {
    "MiniLM": "onnx:all-MiniLM-L6-v2",
    "mpnet": "onnx:all-mpnet-base-v2",
    "both": "onnx:all-MiniLM-L6-v2 + onnx:all-mpnet-base-v2",
    "static MiniLM": "static:onnx:all-MiniLM-L6-v2",
    "static mpnet": "static:onnx:all-mpnet-base-v2",
}
KINDS = ("similarity", "pooled", "tastes")
CONVERSATIONS = tuple(name for name in CASES if name != "headlines")
BASE = "MiniLM"


def main() -> None:
    """Run what is owed and print the tables of docs/results/encoders.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*CONVERSATIONS, []])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/encoders"))
    parser.add_argument("--encoders", nargs="*", choices=list(ENCODERS), default=list(ENCODERS))
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    given = parser.parse_args()
    suites = {short: Suite(given.data, given.out, ENCODERS[short]) for short in given.encoders}
    names = given.names or list(CONVERSATIONS)
    for suite in suites.values():
        note_look(suite, names, given.kinds)
    found = {name: compared for name in names if (compared := compare(suites, name, given.kinds))}
    for kind in given.kinds:
        show(found, kind, list(suites))


def compare(suites: dict[str, Suite], name: str, kinds: Sequence[str]) -> Diagnosis | None:
    """Diagnose every model with every encoder on one conversation; None where nobody is tested."""
    folds, settings = [], Settings(n=[1, CASES[name].size])
    for fold, parts in parts_of(next(iter(suites.values())), name):
        test = parts.test
        rewards = {
            f"{kind}, {short}": Reward(predicted(suite, name, fold, parts, kind), kind_class(kind).scale)
            for kind in kinds
            for short, suite in suites.items()
        }
        user, query = (np.array(names)[codes] for names, codes in ((test.users, test.user), (test.queries, test.query)))
        text = np.array(parts.test_text_ids.to_pylist())
        folds.append(diagnose_arrays(user, query, parts.test_utility, rewards, settings, text=text))
    return combine_folds(folds, name=name) if folds else None


def show(found: dict[str, Diagnosis], kind: str, encoders: Sequence[str]) -> None:
    """Print the captured shares of one model by conversation and encoder, and differences to the first encoder."""
    told = {name: diagnosis.to_dict() for name, diagnosis in found.items()}
    print(f"\n### `{kind}`: captured\n")
    rows = [
        [
            f"{name}, N = {CASES[name].size}",
            *(span(one["models"][f"{kind}, {short}"], "captured", -1) for short in encoders),
        ]
        for name, one in told.items()
    ]
    means = {
        short: np.array([one["models"][f"{kind}, {short}"]["captured"][-1] for one in told.values()])
        for short in encoders
    }
    table(["conversation", *encoders], [*rows, ["mean", *(number(float(means[short].mean())) for short in encoders)]])
    others = [short for short in encoders if short != BASE]
    if BASE not in encoders or not others:
        return
    print(f"minus {BASE}, with 95 % intervals\n")
    pairs = [
        [name, *(_difference(one, f"{kind}, {short}", f"{kind}, {BASE}", CASES[name].size) for short in others)]
        for name, one in told.items()
    ]
    over = ["over conversations", *(_over(means[short] - means[BASE]) for short in others)]
    table(["conversation", *others], [*pairs, over])


def _difference(diagnosis: dict[str, object], one: str, other: str, size: int) -> str:
    """Tell a paired difference, whichever of the two the diagnosis names first."""
    told = difference(diagnosis, one, other, size)
    if told != "-":
        return told
    for row in diagnosis["comparisons"]:  # type: ignore[attr-defined]
        if (row["model"], row["against"], row["n"]) == (other, one, size):
            ends = "" if row["low"] is None else f" ({number(-row['high'])} to {number(-row['low'])})"
            return number(-row["captured_difference"]) + ends
    return "-"


def _over(differences: np.ndarray) -> str:
    mean = float(differences.mean())
    if len(differences) < 2:
        return number(mean)
    half = stats.t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences))
    return f"{number(mean)} ({number(mean - half)} to {number(mean + half)})"


if __name__ == "__main__":
    main()
