"""Every reward model in the embedded world, per noise regime and number of labels per user.

python benchmarks/world_table.py [--users 100] [--out runs/world-table] [--models NAME ...]

One pool is sampled (5 fit items x 12 candidates and 4 test queries x 30 candidates per user) and shared by all cells;
5, 20 and 60 labels are the first 1, 4 and 12 candidates of the 5 items. Fit labels carry the regime's noise, test
utilities are the true ones. Prints Markdown; the same command prints the same figures.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from bestfor.data.candidates import History
from bestfor.data.world import INSTRUCTIONS, World, build
from bestfor.diagnostics import Diagnosis, Reward, Settings
from bestfor.metrics.taste import Taste
from bestfor.policies.transformers import TransformersPolicy
from bestfor.pool import CandidatePool
from bestfor.rewards import KINDS
from bestfor.runs.joins import Predicted, build_history, build_parts, diagnose_parts
from bestfor.runs.measuring import measure
from bestfor.runs.prompts import Prompting
from bestfor.runs.sampling import SamplingSettings, generate

REGIMES = ("differing", "equal", "outliers")
LABELS = {20: 4, 5: 1, 60: 12}
Model = tuple[str, dict[str, object]]
"""A kind and its options."""
Tables = tuple[pa.Table, pa.Table, pa.Table, History | None]
"""Queries, candidates, utilities, and what the users wrote."""
MODELS: dict[str, Model] = {
    "length": ("length", {}),
    "logprob": ("logprob", {}),
    "similarity": ("similarity", {}),
    "pooled": ("pooled", {}),
    "ridge": ("ridge", {}),
    "point, not shared": ("point", {"shared": False}),
    "point": ("point", {}),
    "bradley_terry": ("bradley_terry", {}),
    "gaussian, nll": ("gaussian", {"loss": "nll"}),
    "gaussian": ("gaussian", {}),
    "ensemble": ("ensemble", {}),
    "hierarchical": ("hierarchical", {}),
    "auto": ("auto", {}),
}
N = (1, 2, 4, 8, 16, 30)


def main() -> None:
    """Sample once, then fit and diagnose every cell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/world-table"))
    parser.add_argument("--models", nargs="*", choices=[*MODELS], default=[*MODELS], help="all by default")
    options = parser.parse_args()
    models = {name: MODELS[name] for name in options.models}
    tables = sampled(options.users, options.seed, options.out)
    results = {}
    for labels, kept in LABELS.items():
        for regime in REGIMES:
            diagnosis = cell(tables[regime], kept, options.out, models)
            results[f"{regime}/{labels}"] = diagnosis.to_dict()
            print_cell(regime, labels, diagnosis)
            print_paired(diagnosis)
            # what is done outlives a run that is cut short
            (options.out / "results.json").write_text(json.dumps(results) + "\n", encoding="utf-8")


def sampled(users: int, seed: int, out: Path) -> dict[str, Tables]:
    """The world's candidates, and their utilities in every regime."""
    world = World(seed=seed, users=users, queries=4)
    built = build(world)
    prompting = Prompting(INSTRUCTIONS[world.task], 4, "recency")
    sampling = SamplingSettings(n=30, fit_n=12, fit_items=5, prompting=prompting, seed=seed)
    pool = CandidatePool(out / "pool")
    start = time.perf_counter()
    queries = generate(TransformersPolicy("embedded"), built.histories, built.queries, pool, sampling)
    candidates, history = pool.scan(), build_history(built.histories, queries)
    print(f"{len(candidates)} candidates sampled in {time.perf_counter() - start:.0f} s\n", file=sys.stderr)
    tastes = {regime: Taste(World(seed, users, regime, queries=4)) for regime in REGIMES}
    return {name: (queries, candidates, measure(candidates, queries, taste), history) for name, taste in tastes.items()}


def cell(tables: Tables, kept: int, out: Path, models: Mapping[str, Model] = MODELS) -> Diagnosis:
    """Fit models on the first ``kept`` candidates of every fit item and diagnose the test part."""
    queries, candidates, utilities, history = tables
    parts = build_parts(queries, candidates, utilities, history)
    fit = parts.part("fit")
    fit = fit.take(fit.candidate < kept)
    rewards = {}
    for name, (kind, options) in models.items():
        start = time.process_time()
        model = KINDS[kind](cache=out / "embeddings", **options).fit(fit, rng=0)
        print(f"{name}: {time.process_time() - start:.1f} s", file=sys.stderr)
        rewards[name] = Predicted(Reward(model.predict(parts.test).mean, model.scale))
    return diagnose_parts(parts, rewards, Settings(n=list(N), name="world"), shared_texts=False)


def print_cell(regime: str, labels: int, diagnosis: Diagnosis) -> None:
    """One table: models against captured share, leakage, alpha and beta."""
    found = diagnosis.to_dict()
    headroom = found["oracle"]["utility"][-1] - found["pool_mean"]
    print(f"**{regime} noise, {labels} labels per user** (oracle gain {headroom:.3f})\n")
    print("| model | captured, N = 8 | captured, N = 30 | leakage | alpha | beta | corrected beta | rho |")
    print("|---|---|---|---|---|---|---|---|")
    for name, model in found["models"].items():
        quantities = model["quantities"]
        corrected = (quantities["corrected"] or {}).get("beta")
        cells = [
            spanned(model["captured"][i], model["captured_low"][i], model["captured_high"][i])
            for i in (N.index(8), N.index(30))
        ]
        cells.append(f"{quantities['leakage_gain']:.3f}")
        bounded = [
            spanned(quantities[key], quantities[f"{key}_low"], quantities[f"{key}_high"])
            for key in ("alpha", "beta", "rho")
        ]
        cells += [*bounded[:2], "-" if corrected is None else f"{corrected:.3f}", bounded[2]]
        print(f"| {name} | " + " | ".join(cells) + " |")
    print(flush=True)


def print_paired(diagnosis: Diagnosis, model: str = "auto", size: int = 8) -> None:
    """One line: captured of a model minus that of each other; intervals hold for all pairs of the cell together."""
    told = []
    for row in diagnosis.to_dict()["comparisons"]:
        if model in (row["model"], row["against"]) and row["n"] == size:
            sign, other = (1, row["against"]) if row["model"] == model else (-1, row["model"])
            ends = [None, None] if row["low"] is None else sorted((sign * row["low"], sign * row["high"]))
            told.append(f"{other} {spanned(sign * row['captured_difference'], *ends)}")
    if told:
        print(f"`{model}` minus, N = {size}: " + ", ".join(told) + "\n", flush=True)


def spanned(value: float | None, low: float | None, high: float | None) -> str:
    """A value with its interval."""
    if value is None:
        return "-"
    return f"{value:.3f}" + (f" ({low:.3f} to {high:.3f})" if low is not None and high is not None else "")


if __name__ == "__main__":
    main()
