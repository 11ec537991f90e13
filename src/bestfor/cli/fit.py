"""Run ``bestfor fit FILE.toml``: fit the reward models of a run."""

from __future__ import annotations

from pathlib import Path

from bestfor.cli._output import Stopwatch, print_json, print_rows, tell
from bestfor.cli._stages import File, Json, Out, PartOf, Set, part_of, resolve


def fit(file: File, out: Out = None, changes: Set = None, part: PartOf = "", as_json: Json = False) -> None:
    """Fit the reward models of a run on its fit part; the candidates must be there, what is not measured is."""
    from bestfor.runs.stages import folds
    from bestfor.runs.turns import working

    watch = Stopwatch()
    config, folder = resolve(file, out, changes)
    found, share = {}, part_of(part)
    with working(config, folder, tell, share):
        for stages in folds(config, folder, tell, part=share):
            tables = stages.own_models()
            stages.fit_together(tables)
            for table in tables:
                stages.fit(table)
                path = stages.folder / "models" / table.label
                found[str(path)] = {"model": table.label, "kind": table.kind, "bytes": _size(path)}
    if as_json:
        print_json({"models": found})
    else:
        rows = [(model["model"], model["kind"], model["bytes"], path) for path, model in found.items()]
        print_rows(("model", "kind", "bytes", "folder"), rows)
    tell(watch.line())


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
