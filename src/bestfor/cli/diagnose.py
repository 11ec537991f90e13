"""``bestfor diagnose TABLE``: whether Best-of-N pays with anybody's reward model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from bestfor.cli._output import print_diagnosis, print_json, tell, writable
from bestfor.errors import InputError


def diagnose(
    table: Annotated[
        Path, typer.Argument(help="CSV, TSV, JSONL or Parquet with one row a candidate.", show_default=False)
    ],
    user: Annotated[str, typer.Option(help="Column of user ids.")] = "user",
    query: Annotated[str, typer.Option(help="Column of query ids.")] = "query",
    reward: Annotated[
        list[str] | None,
        typer.Option(help="Column of rewards; repeat it to compare models (reward where none is named)."),
    ] = None,
    utility: Annotated[str, typer.Option(help="Column of what you truly care about; higher is better.")] = "utility",
    text: Annotated[
        str | None,
        typer.Option(
            help="Column of text ids, where users saw the same texts: intervals then count texts as random too."
        ),
    ] = None,
    candidate: Annotated[
        str | None, typer.Option(help="Column of candidate numbers: a number that stands twice is then an error.")
    ] = None,
    std: Annotated[
        list[str] | None,
        typer.Option(
            help="Column of predicted standard deviations to judge, one for each --reward (with --scale utility)."
        ),
    ] = None,
    scale: Annotated[
        str, typer.Option(help="utility: rewards are predictions of the utility; arbitrary: only their order counts.")
    ] = ("arbitrary"),
    averaging: Annotated[str, typer.Option(help="user: every user weighs the same; query: every query does.")] = "user",
    level: Annotated[float, typer.Option(help="Coverage of the intervals.")] = 0.95,
    n: Annotated[
        str, typer.Option(help="Where to draw curves, for example 1,2,4,8 (powers of two where nothing is said).")
    ] = "",
    interval: Annotated[
        str, typer.Option(help="t, or bootstrap: users drawn again (shared texts do not count as random then).")
    ] = "t",
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            help="Another rule beside the highest reward, exactly: second, median, rank:K, top:K, trimmed:SHARE, "
            "cap:C or first:C; repeat it for several.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write a report page here.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the diagnosis as JSON.")] = False,
) -> None:
    """Whether answering with the best of N candidates by these rewards pays, how far, for whom, and what to do next.

    For example: bestfor diagnose scores.csv --reward judge --reward personal --out report.html
    """
    from bestfor.diagnostics import Settings
    from bestfor.pipeline.scores import Scores, diagnose_table, parse_averaging, parse_interval, parse_n, parse_scale
    from bestfor.report import write_html

    if os.path.isdir(table):  # unlike Path.is_dir, no error for a name that cannot be one
        raise InputError(str(table), "a folder", f"a table; bestfor run {table} diagnoses a run, whose folder this is")
    if out is not None:
        writable(out, keep=table)
    rewards = tuple(reward or ["reward"])
    columns = Scores(user, query, rewards, utility, text, candidate, _stds(rewards, std or []))
    settings = Settings(
        n=parse_n(n),
        averaging=parse_averaging(averaging),
        level=level,
        interval=parse_interval(interval),
        seed=seed,
        rules=tuple(rule or ()),
    )
    found = diagnose_table(table, columns, settings, scale=parse_scale(scale))
    diagnosis = found.to_dict()
    if out is not None:
        write_html(out, diagnosis)
    if as_json:
        print_json(diagnosis)
    else:
        print_diagnosis(diagnosis)
    if out is not None:
        tell(f"report: {out}")


def _stds(rewards: tuple[str, ...], stds: list[str]) -> dict[str, str]:
    if stds and len(stds) != len(rewards):
        raise InputError("--std", f"{len(stds)} columns", f"one for each --reward, which are {len(rewards)}")
    return dict(zip(rewards, stds, strict=False))
