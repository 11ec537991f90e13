"""Real authors, a real language model: the cells of docs/results/suite.md.

    python benchmarks/suite.py --cell title-plain [--server http://127.0.0.1:8080/v1] [--runs runs/suite]
    python benchmarks/suite.py --abstracts                 # what the cells abstract-* read
    python benchmarks/suite.py --strangers                 # what the cell title-strangers reads
    python benchmarks/suite.py --latter                    # what the cell title-tuner reads
    python benchmarks/suite.py --table > tables.md

A cell is a policy and a task: a run's file ``examples/suite/NAME.toml``. The run's folder lies under ``--runs``; what
is there is kept, a cell that was killed goes on. Its figures go to docs/results/suite/NAME.json, from which alone the
tables are printed: runs are large, figures are small. ``--server`` and ``--model`` ask another server or model; figures
then go to ``--figures``, since they are of another experiment.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from bestfor.data.sources.lamp import load_lamp
from bestfor.runs.config import RunConfig, parse_config
from bestfor.runs.run import run
from bestfor.runs.stages import folds
from suite_extend import more_of
from suite_figures import figures_of
from suite_tables import print_tables

ROOT = Path(__file__).resolve().parents[1]
CELLS = ROOT / "examples" / "suite"
DATA = ROOT.parent / "shared" / "data" / "acl_titles"
FIGURES = ROOT / "docs" / "results" / "suite"
UNTAUGHT = ("length", "logprob", "similarity")
"""Rewards that need no labels."""


def main(
    cell: Annotated[list[str], typer.Option(help="Cells to run: names of files in examples/suite.")] = [],  # noqa: B006 - typer copies it
    table: Annotated[bool, typer.Option(help="Print the tables of all cells that have figures.")] = False,
    runs: Annotated[Path, typer.Option(help="Where the runs' folders lie.")] = Path("runs/suite"),
    figures: Annotated[Path, typer.Option(help="Where figures are kept.")] = FIGURES,
    abstracts: Annotated[bool, typer.Option(help="Write the papers the other way round: title -> abstract.")] = False,
    strangers: Annotated[bool, typer.Option(help="Give every author another one's earlier papers.")] = False,
    latter: Annotated[bool, typer.Option(help="Write the papers of the authors after the first twenty.")] = False,
    server: Annotated[str, typer.Option(help="Address of another server, up to /v1.")] = "",
    model: Annotated[str, typer.Option(help="Name of another model there.")] = "",
    extend: Annotated[str, typer.Option(help="Begin with the candidates of this cell, which asks for fewer.")] = "",
    alone: Annotated[int, typer.Option(help="Only the policy: so many candidates a question, no labels.")] = 0,
    users: Annotated[int, typer.Option(help="So many authors instead of the cell's.")] = 0,
) -> None:
    """Run cells, keep their figures, print the tables."""
    if abstracts:
        turn_round(runs / "abstracts")
    if strangers:
        mix_up(runs / "strangers")
    if latter:
        leave_first(runs / "latter")
    for name in cell:
        raw = smaller(elsewhere(read(name), server, model), alone, users)
        config = parse_config(raw, f"{name}.toml")
        if extend:
            print(f"{name}: {more_of(config, runs / name, runs / extend)} candidates of {extend}", file=sys.stderr)
        found = figured(config, runs / name, name)
        figures.mkdir(parents=True, exist_ok=True)
        (figures / f"{name}.json").write_text(json.dumps(found) + "\n", encoding="utf-8")
    if table:
        others = {folder.name: kept(folder) for folder in sorted(figures.iterdir()) if folder.is_dir()}
        print_tables(kept(figures), others)


def kept(folder: Path) -> dict[str, Any]:
    """Figures of a folder by cell."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def turn_round(out: Path) -> None:
    """Write the authors' papers as questions for their abstracts: a paper's title is what is asked."""
    papers = load_lamp(DATA / "dev_questions.json", DATA / "dev_outputs.json")
    write(
        out,
        [row | {"input": row["output"], "output": row["input"]} for row in papers.histories.to_pylist()],
        [row | {"input": row["reference"], "reference": row["input"]} for row in papers.queries.to_pylist()],
    )


def mix_up(out: Path) -> None:
    """Write the questions with the earlier papers of the next author who has as many (or as nearly as many)."""
    papers = load_lamp(DATA / "dev_questions.json", DATA / "dev_outputs.json")
    items: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in papers.histories.to_pylist():
        items[row["user_id"]].append(row)
    users, rows = sorted(items), list[dict[str, Any]]()
    for place, user in enumerate(users):
        following = users[place + 1 :] + users[:place]
        other = min(following, key=lambda one: abs(len(items[one]) - len(items[user])))
        rows += [row | {"user_id": user} for row in items[other]]
    write(out, rows, papers.queries.to_pylist())


def leave_first(out: Path, count: int = 20) -> None:
    """Write the papers of all authors but the first ones, who are those of the cells of twenty."""
    papers = load_lamp(DATA / "dev_questions.json", DATA / "dev_outputs.json")
    first = set(
        load_lamp(DATA / "dev_questions.json", DATA / "dev_outputs.json", users=count).queries["user_id"].to_pylist()
    )
    histories, queries = (
        [row for row in table.to_pylist() if row["user_id"] not in first]
        for table in (papers.histories, papers.queries)
    )
    write(out, histories, queries)


def write(out: Path, histories: list[dict[str, Any]], queries: list[dict[str, Any]]) -> None:
    """Write histories and queries as a run reads them."""
    out.mkdir(parents=True, exist_ok=True)
    for name, rows in (("histories", histories), ("queries", queries)):
        lines = [json.dumps({key: value for key, value in row.items() if value is not None}) for row in rows]
        (out / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def read(name: str) -> dict[str, Any]:
    """Read a cell's file."""
    path = CELLS / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(one.stem for one in CELLS.glob("*.toml")))
        raise typer.BadParameter(f"no cell '{name}'; there are {known}")
    return tomllib.loads(path.read_text(encoding="utf-8"))


def elsewhere(raw: Mapping[str, Any], server: str, model: str) -> dict[str, Any]:
    """Send a cell's requests to another server; a model by another name is another experiment."""

    def changed(table: Mapping[str, Any]) -> dict[str, Any]:
        found = dict(table)
        if "endpoint" in found:
            found["endpoint"] = dict(found["endpoint"]) | ({"base_url": server} if server else {})
            if model:
                found["model"] = model
                found["endpoint"]["identity"] = model
        return found

    policy = changed(raw.get("policy", {}))
    if "base" in policy:
        policy["base"] = changed(policy["base"])
    return {**raw, "policy": policy, "reward": [changed(one) for one in raw["reward"]]}


def smaller(raw: dict[str, Any], alone: int, users: int) -> dict[str, Any]:
    """Take fewer authors, and of a cell its policy alone: the rewards that learn nothing stay."""
    found = raw | {"data": raw["data"] | ({"users": users} if users else {})}
    if not alone:
        return found
    return found | {
        "split": raw["split"] | {"min_fit": 0, "min_test": alone},
        "policy": raw["policy"] | {"n": alone, "fit_n": 1, "fit_items": 1, "fit_share": 0.01},
        "reward": [one for one in raw["reward"] if one["kind"] in UNTAUGHT],
        "diagnosis": raw["diagnosis"] | {"n": [n for n in raw["diagnosis"]["n"] if n <= alone]},
    }


def figured(config: RunConfig, folder: Path, name: str) -> dict[str, Any]:
    """Do a cell's run, or what is left of it, and take its figures."""

    def tell(line: str) -> None:
        print(f"{name}: {line}", file=sys.stderr, flush=True)

    diagnosis = run(config, folder, tell=tell).diagnosis.to_dict()
    (stages,) = folds(config, folder, tell)
    stages.sample()
    return figures_of(config, stages, folder, diagnosis)


if __name__ == "__main__":
    typer.run(main)
