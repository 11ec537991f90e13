"""Run ``bestfor journal show|export|forget|prune JOURNAL``: look into a journal, and take things out of it."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Annotated

import typer

from bestfor.cli._output import print_json, print_rows
from bestfor.cli._stages import Json
from bestfor.errors import InputError

if TYPE_CHECKING:
    from bestfor.serving.journal import Journal

app = typer.Typer(help="Look into a journal of answers and labels, and take people out of it.", no_args_is_help=True)

Place = Annotated[
    str, typer.Argument(help="sqlite:///FILE, a file, or postgresql://USER@HOST/NAME.", show_default=False)
]
User = Annotated[str, typer.Argument(help="Whose records.", show_default=False)]
Tenant = Annotated[str, typer.Option(help="Whose user it is.")]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


@app.command()
def show(journal: Place, as_json: Json = False) -> None:
    """Count what a journal holds: people, answers, labels by kind, withdrawn and forgotten ones."""
    with opened_journal(journal) as opened:
        found = opened.counts()
    if as_json:
        print_json(found)
        return
    kinds = [(f"labels, {kind}", count) for kind, count in found.pop("labels").items()]
    print_rows(None, [*found.items(), *kinds])


@app.command()
def export(journal: Place, user: User, tenant: Tenant = "") -> None:
    """Write all that is kept of a person as JSON lines: who they are, their answers, their labels."""
    from bestfor.serving.export import export_lines

    with opened_journal(journal) as opened:
        typer.echo(export_lines(opened, tenant, user), nl=False)


@app.command()
def forget(journal: Place, user: User, tenant: Tenant = "", as_json: Json = False) -> None:
    """Remove a person for good, and name the folders of models and runs that still hold them."""
    from dataclasses import asdict

    from bestfor.serving.holdings import forget_person

    with opened_journal(journal) as opened:
        done = forget_person(opened, tenant, user)
    if as_json:
        print_json(asdict(done))
        return
    typer.echo(f"removed {done.answers} answers and {done.labels} labels" + ("" if done.wiped else "; not yet wiped"))
    for folder in done.still_held:
        typer.echo(f"still held by {folder}")
    for note in done.notes:
        typer.echo(note)


@app.command()
def prune(
    journal: Place,
    older_than: Annotated[str, typer.Option(help="Age: 90d, 12h, 2w, or a number of days.", show_default=False)],
    labels: Annotated[bool, typer.Option("--labels", help="Old labels too, and the answers they are about.")] = False,
    as_json: Json = False,
) -> None:
    """Remove old answers that nobody said anything about; with --labels, old labels and their answers as well."""
    before = time.time() - _seconds(older_than)
    with opened_journal(journal) as opened:
        answers, said = opened.prune(before, with_labels=labels)
    if as_json:
        print_json({"answers": answers, "labels": said})
    else:
        typer.echo(f"removed {answers} answers and {said} labels")


def opened_journal(journal: str) -> Journal:
    """Open a journal that is there: looking into one makes none."""
    from pathlib import Path

    from bestfor.serving.journal import Journal
    from bestfor.serving.journal.database import parse_url

    url = parse_url(journal)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).is_file():
        raise InputError(str(url.database), "no file", "a journal")
    return Journal(journal)


def _seconds(age: str) -> float:
    """Read an age.

    Raises:
        InputError: it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw]?)", age.strip())
    if found is None:
        raise InputError("--older-than", f"'{age}'", "an age as 90d, 12h, 2w, or a number of days")
    return float(found[1]) * _UNITS[found[2] or "d"]
