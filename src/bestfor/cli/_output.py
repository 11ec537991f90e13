"""Print what every verb prints: progress and summaries for people on standard error and output, JSON for machines."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bestfor.errors import InputError

if TYPE_CHECKING:
    from bestfor.report.shown import Given

Verbose = Annotated[bool, typer.Option("--verbose", help="Print everything, not 15 lines.")]

errors = Console(stderr=True, highlight=False)


def tell(line: str) -> None:
    """One quiet line of progress on standard error."""
    errors.print(f"[dim]  {line.replace('[', chr(92) + '[')}[/dim]", soft_wrap=True)


def print_json(value: object) -> None:
    """One JSON object on standard output; NaN is refused."""
    typer.echo(json.dumps(value, ensure_ascii=False, allow_nan=False))


def print_diagnosis(diagnosis: Given, folder: Path | None = None, *, verbose: bool = False) -> None:
    """Print a diagnosis for people in 15 lines, or in full.

    Args:
        diagnosis: as :func:`bestfor.report.print_summary` takes it.
        folder: of the run, whose answers and held-out figures are printed too; None where there is none.
        verbose: in full.

    Raises:
        InputError: it is no diagnosis.
    """
    from bestfor.report import print_summary
    from bestfor.report.answers import print_answers, read_answers
    from bestfor.report.held_out import print_held_out, read_held_out

    console = Console(highlight=False)
    print_summary(diagnosis, console, verbose=verbose)
    answers = read_answers(folder) if verbose and folder is not None else None
    if answers is not None:
        print_answers(answers, console)
    held_out = None if folder is None else read_held_out(folder)
    if held_out is not None:
        print_held_out(held_out, console)


def print_rows(head: Sequence[str] | None, rows: Sequence[Sequence[object]]) -> None:
    """Print a plain table on standard output; numbers keep four decimals, nothing is a dash."""
    table = Table(box=None, pad_edge=False, show_header=head is not None)
    for name in head or rows[0]:
        table.add_column(str(name) if head else "", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    Console(highlight=False).print(table)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def writable(path: Path, keep: Path | None = None) -> None:
    """Refuse, before any work, a file that could not or should not be written afterwards.

    Args:
        path: will be written.
        keep: an input, which must not be replaced by what is made of it.

    Raises:
        InputError: the path is the input or no plain file, or its folder cannot be made.
    """
    if keep is not None and path.exists() and keep.exists() and path.samefile(keep):
        raise InputError(str(path), "the table itself as the page to write", "another file")
    if path.exists() and not path.is_file():
        raise InputError(str(path), "a folder" if path.is_dir() else "what is no plain file", "a file to write")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(str(path), f"a folder that cannot be made ({error.strerror})", "a file to write") from error
    if not os.access(path.parent, os.W_OK):
        raise InputError(str(path), "a folder without permission to write", "a file to write")


class Stopwatch:
    """Wall time and peak memory of a command."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def line(self) -> str:
        """Format duration and memory, ``"41.2 s, 1.3 GB at most"`` (of this process)."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        unit = 1024**3 if sys.platform == "darwin" else 1024**2
        return f"{time.perf_counter() - self._start:.1f} s, {peak / unit:.2f} GB at most"
