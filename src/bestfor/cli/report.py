"""Run ``bestfor report FOLDER``: write a run's page again from what the folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bestfor.cli._output import Verbose, print_diagnosis, tell, writable


def report(
    folder: Annotated[Path, typer.Argument(help="A run's folder.", show_default=False)],
    picture: Annotated[
        Path | None,
        typer.Option(
            help="Also write the curves as a picture (.png, .svg, .pdf); needs the extra pictures.", show_default=False
        ),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Write report.html of a run again and print its summary; nothing is computed."""
    from bestfor.diagnostics import Diagnosis
    from bestfor.extras import require
    from bestfor.runs.folder import write_report

    if picture is not None:
        require("matplotlib", "pictures")
        writable(picture)
    diagnosis = Diagnosis.read(folder)
    page = write_report(folder, diagnosis)
    if picture is not None:
        from bestfor.report.picture import save

        save(picture, diagnosis)
        tell(f"picture: {picture}")
    print_diagnosis(diagnosis, folder, verbose=verbose)
    tell(f"report: {page}")
