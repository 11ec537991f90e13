"""A cell of the suite by another metric: the same candidates, models that learn it, and those that learned the first.

    python benchmarks/suite_metric.py --cell title-plain --metric meteor [--runs runs/suite]

Figures go to docs/results/suite/METRIC/CELL.json, of which `suite.py --table` makes a table. The cell's own run is read
and not changed; the one that learns the other metric lies beside it, in CELL-METRIC, with the same candidates.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from bestfor.diagnostics import best_of_n
from bestfor.runs.config import RunConfig, load_config, parse_config
from bestfor.runs.run import run
from bestfor.runs.stages import Stages, folds
from bestfor.types import FloatArray
from suite import FIGURES, read
from suite_extend import more_of
from suite_figures import Pools

RULES = ("logprob", "similarity", "pooled", "gaussian", "hierarchical", "auto")
"""Rewards that are compared; the first two learn nothing."""
UNTAUGHT = 2


def main(
    cell: Annotated[list[str], typer.Option(help="Cells whose runs are there.")] = [],  # noqa: B006 - typer copies it
    metric: Annotated[str, typer.Option(help="The other metric.")] = "meteor",
    runs: Annotated[Path, typer.Option(help="Where the runs' folders lie.")] = Path("runs/suite"),
    figures: Annotated[Path, typer.Option(help="Where figures are kept.")] = FIGURES,
) -> None:
    """Measure cells by another metric and keep the figures."""
    kept = figures / metric
    for name in cell:
        found = compared(name, metric, runs)
        kept.mkdir(parents=True, exist_ok=True)
        (kept / f"{name}.json").write_text(json.dumps(found) + "\n", encoding="utf-8")


def compared(name: str, metric: str, runs: Path) -> dict[str, Any]:
    """Figures of one cell: utility by the other metric, and by its own, of picks by models of both kinds."""
    raw = read(name)
    first = str(raw["utility"]["primary"])
    other = raw | {
        "utility": raw["utility"] | {"metrics": [metric, first], "primary": metric},
        "reward": [one for one in raw["reward"] if one.get("name", one["kind"]) in RULES],
    }
    folder = runs / f"{name}-{metric}"
    config = parse_config(other, name)
    more_of(config, folder, runs / name)
    run(config, folder, tell=tell)
    by_other, by_first = opened(config, folder), opened(load_config(runs / name / "run.toml"), runs / name)
    parts = by_other.parts()
    if parts.test.queries != by_first.parts().test.queries or len(parts.test) != len(by_first.parts().test):
        raise typer.BadParameter(f"{name}: the two runs have other candidates")
    pools, n = Pools(parts), np.array(config.diagnosis.n)
    firsts = Pools(by_first.parts())
    rewards = {"": untaught(by_other), metric: taught(by_other), first: taught(by_first)}
    return {
        "metric": metric,
        "primary": first,
        "n": n.tolist(),
        "authors": len(pools.names),
        "rules": {said: of_rules(told, pools, firsts, n) for said, told in rewards.items()},
        "oracle": of_rules({"oracle": parts.test_utility}, pools, firsts, n)["oracle"],
    }


def tell(line: str) -> None:
    """Say how far it is."""
    print(line, file=sys.stderr, flush=True)


def opened(config: RunConfig, folder: Path) -> Stages:
    """The stages of a run that is done."""
    (stages,) = folds(config, folder, lambda line: None)
    stages.sample()
    return stages


def untaught(stages: Stages) -> dict[str, FloatArray]:
    """Rewards that learn from no label."""
    return {label: one.reward.mean for label, one in stages.predicted().items() if label in RULES[:UNTAUGHT]}


def taught(stages: Stages) -> dict[str, FloatArray]:
    """Rewards that learn from labels."""
    return {label: one.reward.mean for label, one in stages.predicted().items() if label in RULES[UNTAUGHT:]}


def of_rules(rewards: Mapping[str, FloatArray], pools: Pools, firsts: Pools, n: Any) -> dict[str, Any]:  # noqa: ANN401
    """Curves by both metrics of what some rewards pick."""
    best = best_of_n(pools.utility, pools.utility, pools.size, n)
    found: dict[str, Any] = {}
    for label, mean in rewards.items():
        score = pools.square(mean)
        curve = best_of_n(score, pools.utility, pools.size, n)
        beside = best_of_n(score, firsts.utility, pools.size, n)
        found[label] = {
            **pools.spans(curve, best),
            "beside": firsts.spans(beside, best_of_n(firsts.utility, firsts.utility, firsts.size, n))["utility"],
            "users": pools.by_user(curve),
        }
    return found


if __name__ == "__main__":
    typer.run(main)
