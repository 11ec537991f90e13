"""Run ``bestfor demo``: the main job on the embedded world, without network, GPU or server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bestfor.cli._output import Stopwatch, Verbose, print_diagnosis, print_json, tell
from bestfor.lm.location import EMBEDDED, locate

OUT = Path("runs/demo")
ENCODER = "static:all-MiniLM-L6-v2"
"""A table of token vectors: the gateway scores in a millisecond, without torch, and these people lose nothing by it."""


def demo(
    out: Annotated[Path, typer.Option(help="The run's folder.")] = OUT,
    users: Annotated[int, typer.Option(min=1, help="How many people to simulate.")] = 60,
    n: Annotated[int, typer.Option(min=2, help="Candidates for every test query.")] = 30,
    seed: Annotated[int, typer.Option(help="Everything is derived from it.")] = 0,
    model: Annotated[
        str, typer.Option(help="Writes the candidates: a model that is here, such as smollm2 once it was fetched.")
    ] = EMBEDDED,
    as_json: Annotated[bool, typer.Option("--json", help="Print the diagnosis as JSON.")] = False,
    verbose: Verbose = False,
) -> None:
    """Sample real text for simulated people, fit a reward model for each, and see whether Best-of-N pays."""
    from bestfor.runs.config import parse_config
    from bestfor.runs.run import run as run_pipeline

    watch = Stopwatch()
    locate(model)
    if model != EMBEDDED and out == OUT:
        out = out.with_name(f"{OUT.name}-{Path(model).name}")
    result = run_pipeline(parse_config(demo_run(users, n, seed, model), "the demo"), out, tell=tell)
    if as_json:
        print_json(result.diagnosis.to_dict())
    else:
        print_diagnosis(result.diagnosis, result.folder, verbose=verbose)
    tell(watch.line())
    tell(f"report: {result.report}")


def demo_run(users: int, n: int, seed: int, model: str = EMBEDDED) -> dict[str, Any]:
    """Describe the demo as the mapping that a TOML file would hold.

    Args:
        users: simulated people.
        n: candidates of each test query.
        seed: of everything that is drawn.
        model: writes the candidates; another one than the shipped, which was made for this, writes one line at a lower
            temperature.
    """
    writer = {"kind": "transformers", "model": model, "n": n, "max_new_tokens": 40}
    if model != EMBEDDED:
        writer |= {"temperature": 0.7, "stop": ["\n"]}
    steps = [1, 2, 4, 8, 16, 32, 64, 128]
    return {
        "name": "demo",
        "seed": seed,
        "data": {
            "source": "world",
            "users": users,
            "task": "headline",
            "noise": "differing",
            "queries": 2,
            "seed": seed,
        },
        "split": {"min_fit": 0, "min_test": 2},
        "policy": writer,
        "utility": {"metrics": ["taste", "rougeL"], "primary": "taste"},
        "reward": [
            {"kind": "length"},
            {"kind": "logprob"},
            *({"kind": kind, "encoder": ENCODER} for kind in ("pooled", "point", "gaussian", "hierarchical", "auto")),
        ],
        "diagnosis": {"n": [*(step for step in steps if step < n), n]},
    }
