"""Arguments that the verbs of single stages share, and how a run's file is found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bestfor.errors import InputError

if TYPE_CHECKING:
    from bestfor.backends.parts import WorkPart
    from bestfor.runs.config import RunConfig

File = Annotated[
    Path, typer.Argument(help="The TOML file that describes the run, or the run's folder.", show_default=False)
]
Out = Annotated[
    Path | None,
    typer.Option(help="The run's folder (runs/NAME of the file where nothing is said).", show_default=False),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set a key of the run's file to something else, such as reward.0.tastes=8 or policy.n=8; can be repeated.",
        show_default=False,
    ),
]
PartOf = Annotated[
    str,
    typer.Option(
        "--part",
        help="Do the i-th of n parts (0/4 to 3/4), for an array of jobs; the same command without it joins them.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def part_of(said: str) -> WorkPart | None:
    """Read ``--part``; None where all is to be done.

    Raises:
        InputError: it is not written ``i/n``.
    """
    from bestfor.backends.parts import WorkPart

    return WorkPart.parse(said) if said else None


def resolve(file: Path, out: Path | None, changes: list[str] | None = None) -> tuple[RunConfig, Path]:
    """Find the run that is meant and its folder.

    Args:
        file: a TOML file, or the folder of a run, which holds its own.
        out: the folder, where it is given.
        changes: keys of the file that are set to something else.

    Raises:
        InputError: no such file, a change that fits nowhere, or another folder beside a run's folder.
    """
    from bestfor.runs.config import load_config

    if not file.is_dir():
        return load_config(file, changes or ()), out or Path("runs") / file.stem
    if out is not None and out.resolve() != file.resolve():
        raise InputError("--out", str(out), f"nothing beside the run's folder {file}")
    return load_config(file / "run.toml", changes or ()), file
