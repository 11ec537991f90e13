"""Every reward model on real people's rankings of headlines: python benchmarks/headlines.py [--out FOLDER].

Two runs of three folds each: unseen articles, and unseen readers of unseen articles. A run that was stopped goes on
where it was, one that is there already is only printed. ``--judge`` adds a judge behind an OpenAI-compatible server (a
run of its own, since it owes what the server does not answer); ``--shots`` adds pairwise accuracy by ranked articles.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from bestfor.runs.config import parse_config
from bestfor.runs.run import run
from figures import number, span, table

KINDS = (
    "length",
    "mbr",
    "similarity",
    "pooled",
    "ridge",
    "point",
    "gaussian",
    "ensemble",
    "bradley_terry",
    "hierarchical",
    "tastes",
)
COLUMNS = {"user": "participant", "query": "article", "text": "headline", "text_id": "headline_id", "rank": "rank"}
JUDGED = {"neighbours": 0, "shown_tokens": 600, "persona_tokens": 150, "max_tokens": 2}
SHOTS = [0, 1, 2, 4, 8]


def main() -> None:
    """Run what is owed and print the tables of docs/results/headlines.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/headlines/ranked_headlines.csv"))
    parser.add_argument("--out", type=Path, default=Path("runs/headlines"))
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--shots", action="store_true")
    parser.add_argument("--judge", default="", help="address of a server, as http://127.0.0.1:8001/v1")
    parser.add_argument("--model", default="", help="the judge's model")
    given = parser.parse_args()
    kinds = [{"kind": kind} for kind in given.kinds]
    shots = SHOTS if given.shots else []
    done("Unseen articles", given.data, given.out / "articles", kinds, "query", shots)
    done("Unseen readers and unseen articles", given.data, given.out / "readers", kinds, "user", [])
    if given.judge:
        server = {"base_url": given.judge, "concurrency": 1, "timeout": 300, "max_tokens": 5_000_000}
        judge = {"kind": "judge", "model": given.model, "identity": given.model, **JUDGED, "endpoint": server}
        done(f"A judge: {given.model}", given.data, given.out / "judge", [{"kind": "length"}, judge], "query", [])


def done(title: str, data: Path, folder: Path, kinds: list[dict[str, Any]], by: str, shots: list[int]) -> None:
    """Run one split, or what is left of it, and print its tables."""
    config = {
        "name": "headlines",
        "data": {"source": "table", "path": str(data), "columns": COLUMNS},
        "split": {"by": by, "fold": "all", "min_fit": 20, "min_test": 5},
        "reward": kinds,
        "diagnosis": {"n": [1, 2, 3, 5], "shots": shots},
    }
    run(parse_config(config, "headlines"), folder, tell=lambda line: print(f"  {line}", flush=True))
    show(title, json.loads((folder / "diagnosis.json").read_text(encoding="utf-8")))
    if shots:
        show_shots(json.loads((folder / "held_out.json").read_text(encoding="utf-8"))["after_shots"])


def show(title: str, found: dict[str, Any]) -> None:
    """Print captured shares, utility and pairwise accuracy."""
    models, sizes = found["models"], found["oracle"]["n"]
    three, five = sizes.index(3), sizes.index(5)
    print(f"\n### {title}: {found['queries']} pools, {found['users']} readers, {found['candidates']} headlines\n")
    rows = (
        [
            kind,
            span(one, "captured", three),
            ", ".join(number(fold["models"][kind]["captured"][three], 2) for fold in found["folds"]),
            span(one, "captured", five),
            number(one["utility"][five]),
            spanned(
                {key: one[f"pair_accuracy{end}"] for key, end in (("value", ""), ("low", "_low"), ("high", "_high"))}
            ),
        ]
        for kind, one in models.items()
    )
    table(["model", "captured, N = 3", "folds", "captured, N = 5", "utility at N = 5", "pairs told right"], rows)


def show_shots(after: dict[str, Any]) -> None:
    """Print pairwise accuracy against shots, and the gain from none to all of a reader's articles."""
    points = next(iter(after["models"].values()))
    heads = ["all" if point["shots"] is None else str(point["shots"]) for point in points]
    print(f"\n### Pairs told right by {after['unit']} of a reader at fitting\n")
    rows = (
        [kind, *(number(one["accuracy"]["value"]) for one in listed), spanned(listed[-1]["gained"]["accuracy"])]
        for kind, listed in after["models"].items()
    )
    table(["model", *heads, "gained, none to all"], rows)


def spanned(one: dict[str, Any]) -> str:
    """A figure with its interval."""
    return f"{number(one['value'])} ({number(one['low'])} to {number(one['high'])})"


if __name__ == "__main__":
    main()
