"""Run ``bestfor blocks deal|fit``: models of more labels than memory holds, fitted in blocks of users."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bestfor.cli._output import Stopwatch, print_json, print_rows, tell
from bestfor.cli._stages import Json
from bestfor.errors import InputError, nearest

if TYPE_CHECKING:
    from bestfor.backends import Backend
    from bestfor.runs.config import RewardTable

app = typer.Typer(help="Fit models to labels that no memory holds, in blocks of users.", no_args_is_help=True)


@app.command()
def deal(
    labels: Annotated[
        Path,
        typer.Argument(
            help="CSV, TSV, JSONL or Parquet with one row a label (user, text, utility; query, prompt), or a folder of "
            "Parquet files.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the blocks.", show_default=False)],
    blocks: Annotated[
        int | None,
        typer.Option(help="How many, a power of two.", show_default="1,024 to 2,048 users in each", min=1),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE=NAME", help="Another name of a column, such as user=person; can be repeated."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Deal labels out to blocks of users, by a hash of their ids; blocks that are there are replaced.

    For example: bestfor blocks deal labels.parquet --out blocks
    """
    from bestfor.data.blocks import LIST, count_users, write_blocks
    from bestfor.shards import shard_count

    if out.exists() and not (out / LIST).is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"--out {out}", "something that is no folder of blocks", "another folder, or an empty one")
    if out.exists() and labels.exists() and labels.resolve().is_relative_to(out.resolve()):
        raise InputError(f"--out {out}", "the folder of the labels themselves", "another folder")
    watch, names = Stopwatch(), _columns(column or [])
    if blocks is None:
        blocks = shard_count(count_users(labels, names))
    found = write_blocks(labels, out, blocks, names)
    if as_json:
        print_json({"folder": str(found.folder), "blocks": found.count})
    else:
        print_rows(("blocks", "folder"), [(found.count, str(found.folder))])
    tell(watch.line())


Blocks = Annotated[Path, typer.Argument(help="Folder that 'deal' made.", show_default=False)]
Out = Annotated[Path, typer.Option("--out", help="Folder of the model.", show_default=False)]
Kind = Annotated[str, typer.Option(help="Kind of the model; its options by --set.", show_default=False)]
Run = Annotated[
    Path | None,
    typer.Option(help="A run's file: its [[reward]], seed and [backend], in the place of --kind.", show_default=False),
]
Which = Annotated[str, typer.Option(help="Which of the file's models, where there are several.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="An option of the model, such as components=64; can be repeated."),
]
Seed = Annotated[int | None, typer.Option(help="Of everything random.", show_default="0, or the file's")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes that do blocks at once.", show_default="1, or the file's")
]
Who = Annotated[str, typer.Option(help="Who does them: local, ray.", show_default="local, or the file's")]


@app.command()
def fit(
    blocks: Blocks,
    out: Out,
    kind: Kind = "",
    run: Run = None,
    reward: Which = "",
    changes: Set = None,
    seed: Seed = None,
    workers: Workers = None,
    backend: Who = "",
    as_json: Json = False,
) -> None:
    """Fit a model to labels in blocks, a block at a time; killed, the same command goes on where it was.

    For example: bestfor blocks fit blocks --kind ridge --set components=64 --out model --workers 4
    """
    from bestfor.data.blocks import LabelBlocks
    from bestfor.rewards import build
    from bestfor.rewards.blocks import fit_blocks

    watch = Stopwatch()
    table, given, rng = _asked(kind, run, reward, changes or [])
    labels = LabelBlocks.open(blocks)
    worker = _backend(given, backend, workers)
    model = build(table.kind, **table.options)
    try:
        digest = fit_blocks(model, labels, out, rng=rng if seed is None else seed, backend=worker)
    finally:
        worker.close()
    size = sum(path.stat().st_size for path in out.iterdir() if path.is_file())
    if as_json:
        known = {"model": str(out), "kind": table.kind, "digest": digest, "blocks": labels.count, "bytes": size}
        print_json(known)
    else:
        print_rows(
            ("model", "kind", "blocks", "bytes", "digest"), [(str(out), table.kind, labels.count, size, digest[:16])]
        )
    tell(watch.line())


def _columns(given: list[str]) -> dict[str, str]:
    """Read ``ROLE=NAME``.

    Raises:
        InputError: no ``=``, or an unknown role.
    """
    from bestfor.data.frames import NAMES

    found = {}
    for one in given:
        role, equals, name = one.partition("=")
        if not equals or not name:
            raise InputError(f"--column {one}", "no role and name", "ROLE=NAME, such as user=person")
        if role not in NAMES:
            raise InputError(f"--column {one}", f"role '{role}'", nearest(role, NAMES))
        found[role] = name
    return found


def _asked(kind: str, run: Path | None, reward: str, changes: list[str]) -> tuple[RewardTable, dict[str, Any], int]:
    """Read the model that is meant, the options of its backend and its seed.

    Raises:
        InputError: neither a kind nor a file, both, or a model that the file does not have.
    """
    from bestfor.runs.changes import changed
    from bestfor.runs.config import RewardTable, load_config

    if bool(kind) == (run is not None):
        found = "both --kind and --run" if kind else "neither --kind nor --run"
        raise InputError("bestfor blocks fit", found, "--kind KIND, or --run FILE.toml with a [[reward]]")
    if run is None:
        if reward:
            raise InputError(f"--reward {reward}", "no --run", "a run's file, whose model it names")
        return RewardTable(**changed({"kind": kind}, changes)), {}, 0
    config = load_config(run / "run.toml" if run.is_dir() else run)
    named = {table.label: table for table in config.reward}
    if not reward and len(named) > 1:
        raise InputError(str(run), f"{len(named)} models", f"--reward with one of {', '.join(named)}")
    if reward and reward not in named:
        raise InputError(f"--reward {reward}", f"no such model in {run}", nearest(reward, named))
    table = named[reward] if reward else next(iter(named.values()))
    own = {"kind": table.kind, **table.options}
    return RewardTable(**changed(own, changes)), {"kind": config.backend.kind, **config.backend.given()}, config.seed


def _backend(given: dict[str, Any], kind: str, workers: int | None) -> Backend:
    """Make the backend of a file, or of the options, which go first."""
    from bestfor.backends import make_backend

    options = given if kind in ("", given.get("kind")) else {}
    options = {**options, **({} if workers is None else {"workers": workers})}
    return make_backend(**{**options, "kind": kind or given.get("kind", "local"), "where": "--backend"})
