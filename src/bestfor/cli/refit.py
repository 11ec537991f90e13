"""Run ``bestfor refit RUN_OR_MODEL --journal JOURNAL``: fit again on what people said, unless that makes it worse."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Annotated

import typer

from bestfor.cli._output import print_json, tell
from bestfor.cli._stages import Json
from bestfor.errors import InputError

Given = Annotated[str, typer.Argument(help="The run's folder, or the model's, that is served.", show_default=False)]
Place = Annotated[str, typer.Option("--journal", envvar="BESTFOR_JOURNAL", help="Journal of what people said.")]


def _refuse_part(part: str) -> str:
    if part:
        expected = (
            "no part: a refit is one fit of one model, held against the served one (of several tenants, one each)"
        )
        raise InputError("--part", f"'{part}'", expected)
    return part


Part = Annotated[str, typer.Option("--part", hidden=True, callback=_refuse_part)]


def refit(
    source: Given,
    journal: Place = "feedback.db",
    tenant: Annotated[str, typer.Option(help="Whose labels.")] = "",
    share: Annotated[float, typer.Option(help="Growth of the labels from which a refit is due.")] = 0.2,
    least: Annotated[int, typer.Option(help="New labels below which none is due.")] = 200,
    now: Annotated[bool, typer.Option("--now", help="Whether it is due or not.")] = False,
    out: Annotated[str | None, typer.Option(help="Folder of new models.", show_default="RUN/refits")] = None,
    worst: Annotated[float | None, typer.Option(help="Utility of the lowest rating.", show_default="the run's")] = None,
    best: Annotated[float | None, typer.Option(help="Utility of the highest.", show_default="the run's")] = None,
    nice: Annotated[int, typer.Option(help="Give way to other processes by so much.", min=0, max=19)] = 0,
    part: Part = "",
    as_json: Json = False,
) -> None:
    """Fit the served model again on its run's labels and the journal's, where the journal has grown enough.

    The new model is compared with the present one on held-out labels and taken unless it is shown to be worse; gateways
    on this journal then serve it. One process does this at a time; a second one says so and leaves.
    """
    from bestfor.cli.journal import opened_journal
    from bestfor.labels.scale import LabelScale
    from bestfor.serving.base import open_model
    from bestfor.serving.refit_schedule import RefitPolicy, growth, keep_fresh, remove_old

    if nice and hasattr(os, "nice"):
        os.nice(nice)
    policy, model = RefitPolicy(share, least, out), open_model(source)
    scale = None if worst is None or best is None else LabelScale(worst, best)
    with opened_journal(journal) as opened:
        found = growth(opened, tenant, model, policy)
        if not (found.due or now):
            remove_old(opened, tenant, model)
            print_json({"state": "not due", **asdict(found)}) if as_json else typer.echo(str(found))
            return
        tell(str(found))
        done = keep_fresh(opened, model, tenant, policy, scale)
    if as_json:
        print_json({"state": "elsewhere"} if done is None else asdict(done))
    elif done is None:
        typer.echo("another process is fitting this model again")
    else:
        typer.echo(told_refit(done.state, done.report, done.folder))


def told_refit(state: str, report: dict[str, object], folder: str) -> str:
    """Say in a line what became of a refit."""
    figures = ""
    if report.get("difference") is not None:
        figures = (
            f": loss {report['loss_before']:.4f} before, {report['loss_after']:.4f} after, difference "
            f"{report['difference']:+.4f} ({report['low']:+.4f} to {report['high']:+.4f}), "
            f"{report['people']} people, {report['labels']} held-out labels"
        )
    where = f"; {folder}" if folder else ""
    return f"{state}, {report.get('reason', '')}{figures}{where}"
