"""``bestfor run FILE.toml``: one file describes a run; the folder holds all that came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bestfor.cli._output import Stopwatch, print_diagnosis, print_json, tell


def run(
    file: Annotated[Path, typer.Argument(help="The TOML file that describes the run.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(help="The run's folder (runs/NAME of the file where nothing is said).", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the diagnosis as JSON.")] = False,
) -> None:
    """Do a run, or continue one that was stopped: pools, reward models, diagnosis, report."""
    from bestfor.pipeline.config import load_config
    from bestfor.pipeline.run import run as run_pipeline

    watch = Stopwatch()
    config = load_config(file)
    result = run_pipeline(config, out or Path("runs") / file.stem, tell=tell)
    if as_json:
        print_json(result.diagnosis.to_dict())
    else:
        print_diagnosis(result.diagnosis.to_dict())
    tell(watch.line())
    tell(f"report: {result.report}")
