"""Run ``bestfor run FILE.toml``: one file describes a run; the folder holds all that came of it."""

from __future__ import annotations

from typing import Annotated

import typer

from bestfor.cli._output import Stopwatch, Verbose, print_diagnosis, print_json, tell
from bestfor.cli._stages import File, Out, resolve


def run(
    file: File,
    out: Out = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the diagnosis as JSON.")] = False,
    verbose: Verbose = False,
) -> None:
    """Do a run, or continue one that was stopped: pools, reward models, diagnosis, report."""
    from bestfor.runs.run import run as run_pipeline

    watch = Stopwatch()
    config, folder = resolve(file, out)
    result = run_pipeline(config, folder, tell=tell)
    if as_json:
        print_json(result.diagnosis.to_dict())
    else:
        print_diagnosis(result.diagnosis, result.folder, verbose=verbose)
    tell(watch.line())
    tell(f"report: {result.report}")
