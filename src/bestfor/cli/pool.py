"""Run ``bestfor pool info|verify DIR``: show what a pool holds, and check that it is as it was written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.filesize import decimal

from bestfor.cli._output import print_json, print_rows
from bestfor.cli._stages import Json

app = typer.Typer(help="Look into a run's pool of candidates.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="A run's folder, or its folder 'pool'.", show_default=False)]


@app.command()
def info(folder: Folder, as_json: Json = False) -> None:
    """Count what a pool holds: parts, candidates, queries, items left out of prompts."""
    from bestfor.runs.folder import describe_pool

    found = describe_pool(folder)
    if as_json:
        print_json(found)
    else:
        print_pool(found)


@app.command()
def verify(folder: Folder, as_json: Json = False) -> None:
    """Read every part and compare it with the hash that it carries; exit code 1 where one is torn or edited."""
    from bestfor.runs.folder import verify_pool

    found = verify_pool(folder)
    if as_json:
        print_json(found)
    else:
        for problem in found["damaged"]:
            typer.echo(f"{problem['path']}: {problem['reason']}")
        typer.echo(_verdict(found))
    if not found["ok"]:
        raise typer.Exit(1)


def print_pool(found: Mapping[str, Any]) -> None:
    """Print a pool's counts for people."""
    rows: list[tuple[object, ...]] = [("folder", found["folder"])]
    for name in ("parts", "queries", "finish_reasons", "prompts"):
        rows.append((name.replace("_", " "), ", ".join(f"{count} {what}" for what, count in found[name].items())))
    least, most = found["candidates_of_a_query"] or (0, 0)
    rows.append(("candidates", f"{found['candidates']}, {least} to {most} of a query"))
    if found["distinct"] is not None:
        rows.append(("distinct texts", f"{found['distinct']:.1%} within their queries"))
    rows += [("policies", ", ".join(found["policies"])), ("on disk", decimal(found["bytes"]))]
    print_rows(None, [(name, str(value).replace("_", " ") if name == "prompts" else value) for name, value in rows])


def _verdict(found: Mapping[str, Any]) -> str:
    damaged, missing = len(found["damaged"]), len(found["missing"])
    if damaged:
        redone = f"; bestfor generate (or run) redoes the {found['planned']} that the pool is made of, and only these"
        return f"{damaged} of {found['parts']} parts are damaged{redone if found['planned'] else ''}"
    left = f"; {missing} more are owed (bestfor generate goes on)" if missing else ""
    return f"{found['parts']} parts are as they were written{left}"
