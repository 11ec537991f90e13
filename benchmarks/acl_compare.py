"""Four policies on real authors' titles, every reward model, and the tables of docs/results/acl-titles.md.

    python benchmarks/acl_compare.py runs/acl-titles [--config examples/acl_titles.toml] [--only plain]

The four runs are that of the configuration with and without retrieval, with and without per-author adapters; a run that
was killed goes on. Reward models learn ROUGE-L; ROUGE-1 is shown for the same picks. Prints Markdown.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from bestfor.data import schema
from bestfor.data.candidates import Candidates
from bestfor.diagnostics import Reward, Settings
from bestfor.encoders import load_encoder
from bestfor.pool import CandidatePool
from bestfor.rewards import build
from bestfor.runs.config import RunConfig, parse_config
from bestfor.runs.joins import Predicted, build_parts, diagnose_parts, read_rewards
from bestfor.runs.run import run
from bestfor.types import FloatArray, Scale

POLICIES = {"plain": (False, False), "retrieval": (True, False), "adapters": (False, True), "both": (True, True)}
"""Whether a policy retrieves, and whether it has adapters."""

Found = Mapping[str, Any]
"""A diagnosis as JSON."""


def main(
    out: Path,
    config: Path = Path("examples/acl_titles.toml"),
    only: Annotated[str, typer.Option(help="One of the policies; all by default.")] = "",
) -> None:
    """Run what is not there yet, then print the tables."""
    raw = tomllib.loads(config.read_text(encoding="utf-8"))
    found: dict[str, tuple[Found, Found, list[str]]] = {}
    for name in [only] if only else POLICIES:
        folder = out / name
        settings = parse_config(variant(raw, name), f"{config} ({name})")
        run(settings, folder, tell=lambda line, name=name: print(f"{name}: {line}", file=sys.stderr, flush=True))
        found[name] = diagnosed(settings, folder, "rougeL"), diagnosed(settings, folder, "rouge1"), lines(folder)
    print_policies(found)
    for name, (first, other, _) in found.items():
        print_models(name, first, other)
        print_laws(name, first)


def variant(raw: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The configuration of one of the policies."""
    retrieves, adapts = POLICIES[name]
    policy = dict(raw["policy"])
    if not retrieves:
        policy |= {"items": 0, "retriever": "none"}
    if not adapts:
        policy.pop("adapters", None)
    return {**raw, "policy": policy, "name": f"{raw['name']}: {name}"}


def diagnosed(config: RunConfig, folder: Path, metric: str) -> dict[str, Any]:
    """The diagnosis of a run's rewards, and of nearness to the abstract, by one of its metrics."""
    queries = schema.read(folder / "queries.parquet", schema.QUERIES)
    utilities = schema.read(folder / "utilities" / f"{metric}.parquet", schema.UTILITIES)
    parts = build_parts(queries, CandidatePool(folder / "pool").scan(), utilities)
    # Rewards that promise ROUGE-L are no promise of another metric: their scale is arbitrary there.
    promised = metric == config.utility.primary
    judged: dict[str, Predicted] = {}
    for spec in config.reward:
        found = read_rewards(folder / "rewards" / f"{spec.label}.parquet", parts.test)
        scale: Scale = build(spec.kind, **spec.options).scale if promised else "arbitrary"
        judged[spec.label] = Predicted(Reward(found.reward.mean, scale))
    judged["near abstract"] = Predicted(Reward(near_abstract(parts.test, folder), "arbitrary"))
    settings = Settings(n=list(config.diagnosis.n), name=metric)
    return diagnose_parts(parts, judged, settings, shared_texts=False).to_dict()


def near_abstract(examples: Candidates, folder: Path) -> FloatArray:
    """Cosine of a candidate and the abstract that it is for; nobody's titles are needed for it."""
    encoder = load_encoder(cache=folder / "embeddings")
    texts, inputs = (unit(encoder.encode(list(found))) for found in (examples.texts, examples.inputs))
    return (texts[examples.text] * inputs[examples.query]).sum(axis=1)


def unit(vectors: np.ndarray) -> FloatArray:
    """Rows of length 1."""
    wide = vectors.astype(np.float64)
    return wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)


def lines(folder: Path) -> list[str]:
    """Facts of a pool: test queries, labelled candidates, distinct texts of a pool, tokens cut off."""
    queries = schema.read(folder / "queries.parquet", schema.QUERIES)
    split = dict(zip(queries["query_id"].to_pylist(), queries["split"].to_pylist(), strict=True))
    pool = CandidatePool(folder / "pool").scan()
    rows = list(zip(pool["query_id"].to_pylist(), pool["text"].to_pylist(), strict=True))
    test = [(query, text) for query, text in rows if split[query] == "test"]
    labelled = len(rows) - len(test)
    return [str(labelled), f"{len(set(test)) / len(test):.2f}", f"{np.mean([len(t.split()) for _, t in test]):.1f}"]


def print_policies(found: Mapping[str, tuple[Found, Found, list[str]]]) -> None:
    """One table: what every policy writes, before any reward model."""
    print("| policy | ROUGE-L, mean | best of 30 | ROUGE-1, mean | best of 30 | labelled | distinct | words |")
    print("|---|---|---|---|---|---|---|---|")
    for name, (first, other, facts) in found.items():
        cells = [cell for one in (first, other) for cell in (f"{one['pool_mean']:.3f}", oracle(one))]
        print(f"| {name} | " + " | ".join([*cells, *facts]) + " |")
    print()


def oracle(one: Found) -> str:
    """The oracle at the largest N with its interval."""
    best = one["oracle"]
    return spanned(best["utility"][-1], best["low"][-1], best["high"][-1])


def print_models(name: str, first: Found, other: Found) -> None:
    """One table: reward models of one policy."""
    at = [index for index, n in enumerate(first["oracle"]["n"]) if n in (8, 30)]
    print(f"**{name}**: share of the headroom, ROUGE-L, and at N = 30 ROUGE-1\n")
    print("| model | N = 8 | N = 30 | ROUGE-1 | alpha | beta | beta, corrected | rho+ | corrected | rho- | corrected |")
    print("|---" * 11 + "|")
    for label, model in first["models"].items():
        cells = [spanned(model["captured"][i], model["captured_low"][i], model["captured_high"][i]) for i in at]
        same = other["models"][label]
        cells.append(spanned(same["captured"][-1], same["captured_low"][-1], same["captured_high"][-1]))
        seen = model["quantities"]
        corrected = seen["corrected"] or {}
        cells += [spanned(seen[key], seen[f"{key}_low"], seen[f"{key}_high"]) for key in ("alpha", "beta")]
        cells.append(plain(corrected.get("beta")))
        for key in ("rho_plus", "rho_minus"):
            cells += [plain(seen[key]), plain(corrected.get(key))]
        print(f"| {label} | " + " | ".join(cells) + " |")
    print()


def print_laws(name: str, first: Found) -> None:
    """Two tables: what the laws say of each model's gain at the largest N, and where the difference comes from."""
    terms = ("law", "growth", "alpha", "sigma", "covariance", "shape", "leakage", "observed")
    print(f"**{name}**: gain at N = {first['oracle']['n'][-1]} by the exact curve and by the laws, and the ledger\n")
    print("| model | exact | bound | normal | reward | pool | " + " | ".join(terms) + " |")
    print("|---" * (6 + len(terms)) + "|")
    for label, model in first["models"].items():
        exact = spanned(model["gain"][-1], model["gain_low"][-1], model["gain_high"][-1])
        laws = [plain(model["law"][key][-1]) for key in ("bound", "normal", "reward", "pool")]
        ledger = [plain(model["ledger"][key]) for key in terms]
        print(f"| {label} | {exact} | " + " | ".join([*laws, *ledger]) + " |")
    print(flush=True)


def plain(value: float | None) -> str:
    """A number, or a dash."""
    return "-" if value is None else f"{value:.3f}"


def spanned(value: float | None, low: float | None, high: float | None) -> str:
    """A value with its interval."""
    if value is None:
        return "-"
    return f"{value:.3f}" + (f" ({low:.3f} to {high:.3f})" if low is not None and high is not None else "")


if __name__ == "__main__":
    typer.run(main)
