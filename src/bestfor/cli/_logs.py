"""Diagnose a log for people and for machines: what ``bestfor diagnose`` prints of tables and journals."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from bestfor.cli._output import print_json, print_rows, tell
from bestfor.cli.journal import opened_journal
from bestfor.errors import InputError

if TYPE_CHECKING:
    from bestfor.diagnostics import Settings
    from bestfor.diagnostics.logs import LogCurve, LogDiagnosis
    from bestfor.runs.logs import LogColumns
    from bestfor.serving.logs import JournalSource


def diagnose_log(table: Path, columns: LogColumns, settings: Settings, *, out: Path | None, as_json: bool) -> None:
    """Diagnose a log and print it; write its page where one is asked for.

    Raises:
        InputError: as :func:`bestfor.runs.logs.diagnose_log_table`.
    """
    from bestfor.runs.logs import diagnose_log_table

    _say(diagnose_log_table(table, columns, settings), out, as_json=as_json)


def diagnose_journal_log(
    place: str, source: JournalSource, settings: Settings, *, out: Path | None, as_json: bool
) -> None:
    """Diagnose a journal as a log of shown answers, likewise.

    Raises:
        InputError: as :func:`bestfor.serving.logs.diagnose_journal`.
    """
    from bestfor.serving.logs import diagnose_journal

    with opened_journal(place) as journal:
        found = diagnose_journal(journal, source, settings)
    _say(found, out, as_json=as_json)


def refuse(given: dict[str, object], what: str, expected: str) -> None:
    """Refuse options that say nothing about what is diagnosed."""
    for option, value in given.items():
        if value:
            raise InputError(option, what, expected)


def _say(found: LogDiagnosis, out: Path | None, *, as_json: bool) -> None:
    if out is not None:
        from bestfor.report.logs import write_log_html

        write_log_html(out, found)
    if as_json:
        print_json(found.to_dict())
    else:
        _print(found)
    if out is not None:
        tell(f"report: {out}")


def _print(found: LogDiagnosis) -> None:
    typer.echo(
        f"{found.name}: {found.pools} shown answers of {found.users} users; they earned {found.logged:.4g} in the mean"
    )
    for name, curve in found.models.items():
        typer.echo(f"\n{name}: gain of the best of N over a random candidate, and what the pick would earn")
        print_rows(("N", "gain", "from", "to", "earns", "ips", "snips", "log is worth"), _rows(curve))
        needed = found.needed.get(name)
        if needed is not None:
            typer.echo(f"about {needed} shown answers like these give the last gain to +-.05")
    for one in found.comparisons:
        low, high = one.difference.low, one.difference.high
        between = "" if low is None or high is None else f" ({low:+.4f} to {high:+.4f})"
        sure = "" if low is not None and low > 0 else ", not shown better"
        typer.echo(f"\n{one.model} - {one.against} at N = {one.n}: {one.difference.value:+.4f}{between}{sure}")
    typer.echo("")
    for note in found.notes:
        typer.echo(f"- {note}")


def _rows(curve: LogCurve) -> list[list[object]]:
    gain, utility = curve.gain, curve.utility
    return [
        [
            int(n),
            _known(gain["dr"].value[k]),
            _known(gain["dr"].low[k]),
            _known(gain["dr"].high[k]),
            _known(utility["dr"].value[k]),
            _known(gain["ips"].value[k]),
            _known(gain["snips"].value[k]),
            f"{curve.ess[k]:.0f} answers",
        ]
        for k, n in enumerate(curve.n)
    ]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
