"""Reward models on a language model's back in the embedded world, beside those on frozen features.

    python benchmarks/lora_table.py [--users 100] [--labels 20] [--regimes differing equal outliers] [--ablation]
    python benchmarks/lora_table.py --tune        # the same models by each user's last fit item, no test query seen

The backbone is the shipped policy's own (1.2 million weights). Pools, labels and regimes are those of world_table.py.
Prints Markdown: captured share, the quantities, and paired differences.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bestfor.diagnostics import Diagnosis, Reward, Settings, diagnose_arrays
from bestfor.lm.location import locate
from bestfor.rewards import KINDS
from bestfor.runs.joins import build_examples
from world_table import LABELS, REGIMES, Model, N, Tables, cell, print_cell, sampled, spanned

LORA: dict[str, object] = {"backbone": "embedded"}
MODELS: dict[str, Model] = {
    "pooled": ("pooled", {}),
    "point": ("point", {}),
    "gaussian": ("gaussian", {}),
    "bradley_terry": ("bradley_terry", {}),
    "hierarchical": ("hierarchical", {}),
    "lora, point": ("lora", {**LORA, "loss": "point"}),
    "lora, gaussian": ("lora", LORA),
    "lora, bradley_terry": ("lora", {**LORA, "loss": "bradley_terry"}),
}
STATES: dict[str, object] = {"encoder": f"hidden:{locate('embedded')}", "style": False, "answer": False}
"""What the backbone says of a text, frozen, and nothing else: no input, no surface features."""
ABLATION: dict[str, Model] = {
    "gaussian, frozen states": ("gaussian", STATES),
    "hierarchical, frozen states": ("hierarchical", STATES),
    "lora, gaussian, mean of states": ("lora", {**LORA, "pooling": "mean"}),
    "lora, gaussian, global only": ("lora", {**LORA, "level": "global"}),
    "lora, gaussian, user only": ("lora", {**LORA, "level": "user"}),
}
PAIRS = (
    ("lora, gaussian", "lora, point"),
    ("lora, gaussian", "gaussian"),
    ("lora, point", "point"),
    ("hierarchical", "lora, gaussian"),
    ("lora, gaussian", "gaussian, frozen states"),
    ("lora, gaussian, mean of states", "lora, gaussian"),
    ("lora, gaussian", "lora, gaussian, global only"),
    ("lora, gaussian", "lora, gaussian, user only"),
)


def main() -> None:
    """Fit and diagnose every cell that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--labels", type=int, nargs="+", default=[20], choices=sorted(LABELS))
    parser.add_argument("--regimes", nargs="+", default=list(REGIMES), choices=REGIMES)
    parser.add_argument("--only", nargs="+", default=[], help="names of models")
    parser.add_argument("--ablation", action="store_true", help="with frozen states, mean states, and one level alone")
    parser.add_argument("--tune", action="store_true", help="by each user's last fit item instead of the test queries")
    parser.add_argument("--set", default="{}", help="further options of every lora model, as JSON")
    parser.add_argument("--out", type=Path, default=Path("runs/world-table"))
    options = parser.parse_args()
    tables = sampled(options.users, options.seed, options.out)
    every = MODELS | (ABLATION if options.ablation else {})
    chosen = {name: with_options(model, json.loads(options.set)) for name, model in every.items()}
    chosen = {name: model for name, model in chosen.items() if not options.only or name in options.only}
    for labels in options.labels:
        for regime in options.regimes:
            if options.tune:
                tune(tables[regime], LABELS[labels], chosen, f"{regime} noise, {labels} labels per user")
                continue
            diagnosis = cell(tables[regime], LABELS[labels], options.out, chosen)
            print_cell(regime, labels, diagnosis)
            print_pairs(diagnosis)


def with_options(model: Model, more: Mapping[str, object]) -> Model:
    """A lora model with further options; others as they are."""
    kind, options = model
    return (kind, {**options, **more}) if kind == "lora" else model


def tune(tables: Tables, kept: int, models: Mapping[str, Model], title: str) -> None:
    """Fit on all but each user's last fit item, and show what is captured of the candidates of that one.

    The labels of both carry the regime's noise, so that figures are far below those of true utilities.
    """
    queries, candidates, utilities, history = tables
    fit = build_examples(queries, candidates, utilities, "fit", history)
    latest = np.zeros(len(fit.users), dtype=np.int64)
    np.maximum.at(latest, fit.user, fit.query)
    last = fit.query == latest[fit.user]
    train, held = fit.take(~last & (fit.candidate < kept)), fit.take(last)
    found: dict[str, Reward] = {}
    for name, (kind, options) in models.items():
        start = time.process_time()
        model = KINDS[kind](**options).fit(train, rng=0)
        print(f"{name}: {time.process_time() - start:.1f} s; {'; '.join(model.notes)}", file=sys.stderr)
        found[name] = Reward(model.predict(held).mean, "arbitrary")
    settings = Settings(n=[1, 2, 4, 8, 12], name="held-out items")
    judged = diagnose_arrays(held.user, held.query, held.utility, found, settings, candidate=held.candidate).to_dict()
    print(f"**held-out fit items, {title}**\n\n| model | captured, N = 8 | rho, mean |\n|---|---|---|")
    for name, model in judged["models"].items():
        captured = spanned(model["captured"][3], model["captured_low"][3], model["captured_high"][3])
        print(f"| {name} | {captured} | {model['quantities']['rho']:.3f} |")
    print(flush=True)


def print_pairs(diagnosis: Diagnosis) -> None:
    """Paired differences in captured share, clustered by user."""
    rows = {
        (row["model"], row["against"], row["n"]): (row["captured_difference"], row["low"], row["high"])
        for row in diagnosis.to_dict()["comparisons"]
    }
    print("| captured, difference | N = 8 | N = 30 |\n|---|---|---|")
    for first, other in PAIRS:
        cells = [difference(rows, first, other, n) for n in (8, N[-1])]
        if all(cells):
            print(f"| {first} less {other} | " + " | ".join(cells) + " |")
    print(flush=True)


def difference(rows: Mapping[tuple[str, str, int], tuple[float, float, float]], first: str, other: str, n: int) -> str:
    """A difference with its interval; empty where one of the two was not fitted."""
    if (first, other, n) in rows:
        return spanned(*rows[first, other, n])
    if (other, first, n) in rows:
        value, low, high = rows[other, first, n]
        return spanned(-value, -high, -low)
    return ""


if __name__ == "__main__":
    main()
