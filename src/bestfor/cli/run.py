"""Run ``bestfor run FILE.toml``: one file describes a run; the folder holds all that came of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bestfor.cli._output import Stopwatch, Verbose, print_diagnosis, print_json, print_rows, tell
from bestfor.cli._stages import File, Out, PartOf, Set, part_of, resolve
from bestfor.errors import InputError

if TYPE_CHECKING:
    from bestfor.backends.parts import WorkPart
    from bestfor.runs.config import RunConfig


def run(
    file: File,
    out: Out = None,
    changes: Set = None,
    part: PartOf = "",
    wait: Annotated[
        float,
        typer.Option(min=0, help="With --part: seconds to wait for other parts where a stage needs all that they do."),
    ] = 0.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say which steps would be done and why; do and write nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the diagnosis as JSON.")] = False,
    verbose: Verbose = False,
) -> None:
    """Do a run, or continue one that was stopped: pools, reward models, diagnosis, report."""
    from bestfor.runs.run import run as run_pipeline

    watch = Stopwatch()
    share = part_of(part)
    if wait and share is None:
        raise InputError("--wait", "no --part beside it", "a part of a run, which may wait for others")
    if dry_run and share is not None:
        raise InputError("--part", "--dry-run beside it", "one of them: a dry run is of the whole")
    config, folder = resolve(file, out, changes)
    if dry_run:
        _foresee(config, folder, as_json)
        return
    if share is not None:
        _do_part(config, folder, share, wait, as_json)
        tell(watch.line())
        return
    result = run_pipeline(config, folder, tell=tell)
    if as_json:
        print_json(result.diagnosis.to_dict())
    else:
        print_diagnosis(result.diagnosis, result.folder, verbose=verbose)
    tell(watch.line())
    tell(f"report: {result.report}")


def _do_part(config: RunConfig, folder: Path, part: WorkPart, wait: float, as_json: bool) -> None:
    from bestfor.runs.in_parts import run_part

    awaited = run_part(config, folder, part, wait=wait, tell=tell)
    if as_json:
        print_json({"part": str(part), "done": not awaited, "awaits": awaited})
    elif awaited:
        tell(f"part {part} awaits {awaited}; the same command goes on when that is there")
    else:
        tell(f"part {part} is done; bestfor run without --part ends the run when all parts are")


def _foresee(config: RunConfig, folder: Path, as_json: bool) -> None:
    from bestfor.runs.foreseen import foresee

    found = foresee(config, folder, tell)
    if as_json:
        print_json({"folders": [fold.to_dict() for fold in found]})
        return
    for fold in found:
        tell(str(fold.folder))
        print_rows(
            ("step", "owed", "why"),
            [(one.name, "yes" if one.owed else "no", one.why or "done") for one in fold.steps],
        )
    tell("the diagnosis and its page are always made anew; nothing was done or written")
