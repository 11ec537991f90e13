"""Run ``bestfor keys add|list|revoke|rotate``: API keys of the gateway, kept as hashes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from bestfor.cli._output import print_json, print_rows, tell
from bestfor.cli._stages import Json

app = typer.Typer(help="API keys of 'bestfor serve', and the secret that signs links.", no_args_is_help=True)

File = Annotated[Path, typer.Option("--keys", help="File of API keys.")]
FILE = Path("bestfor-keys.json")


@app.command()
def add(
    tenant: Annotated[str, typer.Argument(help="Whose users it reaches; '' for those of the model itself.")] = "",
    admin: Annotated[
        bool, typer.Option("--admin", help="May read and remove users, and see metrics and docs.")
    ] = False,
    keys: File = FILE,
    as_json: Json = False,
) -> None:
    """Make a key and print it once; the file keeps its hash."""
    from bestfor.gateway.keys import KeyFile

    key, plain = KeyFile(keys).add(tenant, "admin" if admin else "client")
    if as_json:
        print_json({"id": key.id, "tenant": key.tenant, "role": key.role, "key": plain})
        return
    tell(f"key {key.id} of tenant '{key.tenant}' ({key.role}); it is shown this once")
    typer.echo(plain)


@app.command("list")
def list_keys(keys: File = FILE, as_json: Json = False) -> None:
    """List keys by their ids; nothing of the keys themselves is known."""
    from bestfor.gateway.keys import KeyFile

    found = KeyFile(keys).ring().keys.values()
    if as_json:
        print_json([{"id": key.id, "tenant": key.tenant, "role": key.role, "created": key.created} for key in found])
        return
    when = [time.strftime("%Y-%m-%d %H:%M", time.gmtime(key.created)) for key in found]
    rows = [(key.id, key.tenant, key.role, at) for key, at in zip(found, when, strict=True)]
    print_rows(("id", "tenant", "role", "created (UTC)"), rows)


@app.command()
def revoke(
    id: Annotated[str, typer.Argument(help="Of the key, as 'bestfor keys list' shows it.", show_default=False)],
    keys: File = FILE,
) -> None:
    """Remove a key; gateways that are running refuse it from their next request on."""
    from bestfor.gateway.keys import KeyFile

    key = KeyFile(keys).revoke(id)
    tell(f"key {key.id} of tenant '{key.tenant}' is revoked")


@app.command()
def rotate(
    keep: Annotated[bool, typer.Option("--keep", help="Links signed before hold until they expire.")] = False,
    keys: File = FILE,
) -> None:
    """Make a new secret for signed links; those signed before no longer hold."""
    from bestfor.gateway.keys import KeyFile

    KeyFile(keys).rotate(keep=keep)
    tell("links are signed with a new secret" + ("; those signed before hold until they expire" if keep else ""))
