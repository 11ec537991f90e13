"""Run ``bestfor journal show|export|import|forget|prune JOURNAL``: look into a journal, fill it, take things out."""

from __future__ import annotations

import re
import time
from pathlib import Path
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
def export(
    journal: Place,
    user: Annotated[str | None, typer.Argument(help="Whose records; everybody's labels without.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose user it is; everybody's without a user.")] = None,
    to: Annotated[str, typer.Option(help="csv, jsonl, parquet, or vw (Vowpal Wabbit, --cb_adf).")] = "jsonl",
    out: Annotated[Path | None, typer.Option(help="The file that is written.", show_default=False)] = None,
) -> None:
    """Write all that is kept of a person as JSON lines; or everybody's labels, or shown answers, into a file."""
    from bestfor.serving.export import export_lines
    from bestfor.serving.export_tables import export_file

    if user is not None and (to != "jsonl" or out is not None):
        raise InputError("--to", f"'{to}' for one person", "a person's records as JSON lines, or --to without a user")
    if user is None and out is None:
        raise InputError("--out", "nothing", "a file for everybody's labels, or the user whose records are shown")
    with opened_journal(journal) as opened:
        if user is not None:
            typer.echo(export_lines(opened, tenant or "", user), nl=False)
        elif out is not None:
            count = export_file(opened, out, to, tenant)
            typer.echo(f"wrote {count} {'answers' if to == 'vw' else 'labels'} to {out}")


@app.command("import")
def import_(
    journal: Place,
    files: Annotated[list[Path], typer.Argument(help="Exports: .csv, .json, .jsonl, .parquet.", show_default=False)],
    source: Annotated[
        str, typer.Option("--from", help="bestfor, csv, langfuse, langsmith, openwebui or phoenix.", show_default=False)
    ],
    score: Annotated[list[str] | None, typer.Option(help="Which scores count, by name.", show_default=False)] = None,
    scale: Annotated[str | None, typer.Option(help="LOW:HIGH of ratings; thumbs need none.")] = None,
    word: Annotated[list[str] | None, typer.Option(help="WORD=1 or WORD=0 for a category.", show_default=False)] = None,
    automatic: Annotated[bool, typer.Option("--automatic", help="Scores of models and programs as well.")] = False,
    tenant: Tenant = "",
    as_json: Json = False,
) -> None:
    """Read what people said elsewhere into a journal (made where there is none), each thing once."""
    from dataclasses import asdict

    from bestfor.serving.imports import ImportOptions, import_files
    from bestfor.serving.journal import Journal

    wanted = ImportOptions(tuple(score or ()), _range(scale), _numbers(word or []), automatic, tenant)
    with Journal(journal) as opened:
        done = import_files(opened, files, source, wanted)
    if as_json:
        print_json(asdict(done))
        return
    kinds = ", ".join(f"{count} {kind}" for kind, count in done.labels.items())
    typer.echo(f"new labels: {sum(done.labels.values())}" + (f" ({kinds})" if kinds else ""))
    typer.echo(f"there already: {done.same}; changed: {done.changed}; new answers: {done.answers}")
    for reason, count in done.left_out.items():
        typer.echo(f"left out, {reason}: {count}")


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
    from bestfor.serving.journal import Journal
    from bestfor.serving.journal.database import parse_url

    url = parse_url(journal)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).is_file():
        raise InputError(str(url.database), "no file", "a journal")
    return Journal(journal)


def _range(said: str | None) -> tuple[float, float] | None:
    """Read the two ends of a scale.

    Raises:
        InputError: they are none.
    """
    if said is None:
        return None
    try:
        low, high = (float(end) for end in said.split(":"))
    except ValueError:
        raise InputError("--scale", f"'{said}'", "LOW:HIGH, as 1:5") from None
    return low, high


def _numbers(said: list[str]) -> dict[str, float]:
    """Read what categories mean.

    Raises:
        InputError: one that is no WORD=NUMBER.
    """
    found: dict[str, float] = {}
    for one in said:
        word, _, number = one.rpartition("=")
        try:
            found[word.strip().lower()] = float(number)
        except ValueError:
            raise InputError("--word", f"'{one}'", "WORD=NUMBER, as good=1") from None
    return found


def _seconds(age: str) -> float:
    """Read an age.

    Raises:
        InputError: it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw]?)", age.strip())
    if found is None:
        raise InputError("--older-than", f"'{age}'", "an age as 90d, 12h, 2w, or a number of days")
    return float(found[1]) * _UNITS[found[2] or "d"]
