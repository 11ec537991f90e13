"""Run ``bestfor diagnose TABLE``: a diagnosis of anybody's reward model."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated

import typer

from bestfor import types
from bestfor.cli._columns import recognised_columns, shown_columns, write_page
from bestfor.cli._logs import diagnose_journal_log, diagnose_log, refuse
from bestfor.cli._output import Verbose, print_diagnosis, print_json, tell, writable
from bestfor.cli._stages import PartOf, part_of
from bestfor.cli._sums import diagnosed_in_parts
from bestfor.errors import InputError

if TYPE_CHECKING:
    from bestfor.backends import Backend
    from bestfor.diagnostics import Settings
    from bestfor.types import Estimate

Table = Annotated[
    Path | None,
    typer.Argument(
        help="CSV, TSV, JSONL or Parquet with one row a candidate, or a folder of Parquet files.", show_default=False
    ),
]
User = Annotated[str, typer.Option(help="Column of user ids.")]
Query = Annotated[str, typer.Option(help="Column of query ids.")]
Reward = Annotated[
    list[str] | None,
    typer.Option(help="Column of rewards; repeat it to compare models (reward where none is named)."),
]
Utility = Annotated[str, typer.Option(help="Column of what you truly care about; higher is better.")]
Text = Annotated[
    str | None,
    typer.Option(
        help="Column of what candidates say, shown on the page of --out (response where there is one).",
        show_default=False,
    ),
]
Response = Annotated[str | None, typer.Option(help="The same as --text.", show_default=False)]
TextId = Annotated[
    str | None,
    typer.Option(
        help="Column of text ids, where users saw the same texts: intervals then count texts as random too.",
        show_default=False,
    ),
]
Prompt = Annotated[
    str | None,
    typer.Option(help="Column of what was asked, shown likewise (prompt where there is one).", show_default=False),
]
Candidate = Annotated[
    str | None, typer.Option(help="Column of candidate numbers: a number that stands twice is then an error.")
]
Std = Annotated[
    list[str] | None,
    typer.Option(
        help="Column of predicted standard deviations to judge, one for each --reward (with --scale utility)."
    ),
]
Scale = Annotated[
    types.Scale, typer.Option(help="utility: rewards predict the utility; arbitrary: only their order counts.")
]
Averaging = Annotated[types.Averaging, typer.Option(help="user: every user weighs the same; query: every query does.")]
Level = Annotated[float, typer.Option(help="Coverage of the intervals.")]
Grid = Annotated[
    str, typer.Option(help="Where to draw curves, for example 1,2,4,8 (powers of two where nothing is said).")
]
Interval = Annotated[
    types.Interval,
    typer.Option(help="t, or bootstrap: users drawn again (shared texts do not count as random then)."),
]
Seed = Annotated[int, typer.Option(help="Of the bootstrap.")]
Rule = Annotated[
    list[str] | None,
    typer.Option(
        help="Another rule beside the highest reward, exactly: second, median, rank:K, top:K, trimmed:SHARE, "
        "epsilon:SHARE, cap:C or first:C; repeat it for several.",
    ),
]
PriceOf = Annotated[
    str | None,
    typer.Option(
        "--price",
        help="What drawing more costs: 0.02 (of the headroom, a doubling), '0.1 sd', '0.01 utility per candidate', or "
        "'0.4 s at 60' (a candidate takes 0.4 s, a unit of utility is worth 60).",
        show_default=False,
    ),
]
Noise = Annotated[
    float | None,
    typer.Option(
        help="Standard deviation of a rating about what the user truly thinks, in utility units: tells what can be "
        "captured at best.",
        show_default=False,
    ),
]
Chosen = Annotated[
    list[str] | None,
    typer.Option(
        help="Column with the reward of a pair's better answer, or a list of several: one pair a row, as reward "
        "benchmarks have them (with --rejected; repeat both to compare models).",
        show_default=False,
    ),
]
Rejected = Annotated[
    list[str] | None, typer.Option(help="Column with the reward of the worse answer, likewise.", show_default=False)
]
Shown = Annotated[
    str | None,
    typer.Option(
        help="Column that marks the shown answer of each query: the table is a log, and only that row's utility "
        "is known (with --chance).",
        show_default=False,
    ),
]
Chance = Annotated[
    str | None,
    typer.Option(
        help="Column of the chances with which the logger would have shown each candidate.", show_default=False
    ),
]
Answered = Annotated[
    str | None,
    typer.Option(
        help="Column with the chance that such a shown answer gets an outcome, where silence is modelled.",
        show_default=False,
    ),
]
Place = Annotated[
    str | None,
    typer.Option(
        "--journal",
        help="A journal (sqlite:///FILE, a file, or postgresql://USER@HOST/NAME) in the place of a table: the curve of "
        "the rewards that it holds, from what was shown and what people said.",
        show_default=False,
    ),
]
Model = Annotated[
    list[str] | None,
    typer.Option(help="Folder of a model or a run that is judged on the journal, too; repeat it for several."),
]
Signal = Annotated[
    list[str] | None,
    typer.Option(help="Labels of a journal that count as outcomes: rating, thumb, kept, dismissed, edit (all)."),
]
Silence = Annotated[
    float | None,
    typer.Option(
        help="Outcome (0 to 1) of an answer in a journal of which nobody said anything, where silence is an outcome.",
        show_default=False,
    ),
]
Tenant = Annotated[str | None, typer.Option(help="Whose users of a journal; all where none is named.")]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Processes that work on the parts of a folder at once, where each query lies in one part; not with "
        "--text-id or --std.",
        show_default="1",
    ),
]
BackendKind = Annotated[
    str | None, typer.Option("--backend", help="Who works on the parts: local, ray.", show_default="local")
]
Out = Annotated[Path | None, typer.Option(help="Write a report page here.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print the diagnosis as JSON.")]


def diagnose(
    table: Table = None,
    user: User = "user",
    query: Query = "query",
    reward: Reward = None,
    utility: Utility = "utility",
    text: Text = None,
    response: Response = None,
    text_id: TextId = None,
    prompt: Prompt = None,
    candidate: Candidate = None,
    std: Std = None,
    scale: Scale = "arbitrary",
    averaging: Averaging = "user",
    level: Level = 0.95,
    n: Grid = "",
    interval: Interval = "t",
    seed: Seed = 0,
    rule: Rule = None,
    price: PriceOf = None,
    noise: Noise = None,
    chosen: Chosen = None,
    rejected: Rejected = None,
    shown: Shown = None,
    chance: Chance = None,
    answered: Answered = None,
    journal: Place = None,
    model: Model = None,
    signal: Signal = None,
    silence: Silence = None,
    tenant: Tenant = None,
    workers: Workers = None,
    backend: BackendKind = None,
    part: PartOf = "",
    out: Out = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Diagnose a table of rewards: if answering with the best of N candidates pays, how far, for whom, and what next.

    For example: bestfor diagnose scores.csv --reward judge --reward personal --out report.html
    """
    _diagnose(SimpleNamespace(**locals()))


def _diagnose(given: SimpleNamespace) -> None:
    """Diagnose what the options name: a journal, a log, or a table with every utility."""
    if given.out is not None:
        writable(given.out, keep=given.table)
    if given.journal is not None:
        _diagnose_journal(given)
    elif given.shown is not None or given.chance is not None:
        _diagnose_log(given)
    elif given.chosen or given.rejected:
        _diagnose_pairs(given)
    else:
        _diagnose_table(given)


def _settings(given: SimpleNamespace) -> Settings:
    from bestfor.diagnostics import Settings
    from bestfor.runs.table import parse_n

    means = given.averaging, given.level, given.interval
    rules = tuple(given.rule or ())
    return Settings(parse_n(given.n), *means, seed=given.seed, rules=rules, price=given.price, noise=given.noise)


def _about_tables(given: SimpleNamespace) -> dict[str, object]:
    names = ("text", "response", "text_id", "prompt", "candidate", "std", "rule", "price", "noise")
    names = (*names, "chosen", "rejected", "workers", "backend", "part")
    return {f"--{name.replace('_', '-')}": getattr(given, name) for name in names}


def _table_of(given: SimpleNamespace) -> Path:
    """Refuse options of journals, to diagnose nothing, and a folder that is no table."""
    journals = {"--model": given.model, "--signal": given.signal, "--tenant": given.tenant}
    silence = {"--silence": given.silence is not None}
    refuse({**journals, **silence}, "no --journal", "a journal, which it is about")
    if given.table is None:
        raise InputError("bestfor diagnose", "nothing to diagnose", "a table, or --journal with a journal's address")
    if os.path.isdir(given.table):  # unlike Path.is_dir, no error for a name that cannot be one
        from bestfor.data.read.folders import has_parts

        if (given.table / "run.toml").exists() or not has_parts(given.table):
            expected = f"a table or a folder of Parquet files; bestfor run {given.table} diagnoses a run"
            raise InputError(str(given.table), "a folder", expected)
    return given.table


def _diagnose_journal(given: SimpleNamespace) -> None:
    from bestfor.serving.logs import JournalSource

    names = ("shown", "chance", "answered", "reward")
    others = {"TABLE": given.table, **{f"--{name}": getattr(given, name) for name in names}}
    refuse({**others, **_about_tables(given)}, "--journal as well", "a table or a journal")
    source = JournalSource(given.tenant, tuple(given.signal or ()), given.silence, tuple(given.model or ()))
    diagnose_journal_log(given.journal, source, _settings(given), out=given.out, as_json=given.as_json)


def _diagnose_log(given: SimpleNamespace) -> None:
    from bestfor.runs.logs import LogColumns
    from bestfor.runs.table import TableColumns

    table = _table_of(given)
    refuse(_about_tables(given), "a log of shown answers (--shown, --chance)", "a table with every utility")
    marks = given.shown or "shown", given.chance or "chance"
    rewards = tuple(given.reward or ["reward"])
    found, said = recognised_columns(table, TableColumns(given.user, given.query, rewards, given.utility))
    columns = LogColumns(found.user, found.query, found.rewards, *marks, found.utility, given.answered)
    diagnose_log(table, columns, _settings(given), out=given.out, as_json=given.as_json)
    for line in said:
        tell(line)


def _diagnose_table(given: SimpleNamespace) -> None:
    from bestfor.runs.table import TableColumns

    table, out = _table_of(given), given.out
    rewards = tuple(given.reward or ["reward"])
    stds = _stds(rewards, given.std or [])
    columns = TableColumns(given.user, given.query, rewards, given.utility, given.text_id, given.candidate, stds)
    columns, said = recognised_columns(table, columns)
    shown = shown_columns(table, columns, given)
    settings, part = _settings(given), part_of(given.part)
    diagnosis = diagnosed_in_parts(table, columns, settings, given.scale, part, _backend(given))
    if diagnosis is None:
        return
    if out is not None:
        write_page(out, table, columns, diagnosis, shown)
        said = (*said, *shown.said)
    if given.as_json:
        print_json(diagnosis.to_dict())
    else:
        print_diagnosis(diagnosis, verbose=given.verbose)
    for line in (*said, *([] if out is None else [f"report: {out}"])):
        tell(line)


def _backend(given: SimpleNamespace) -> Backend | None:
    """Make who works on parts; None where nobody was asked for."""
    if given.workers is None and given.backend is None:
        return None
    from bestfor.backends import make_backend

    workers = {} if given.workers is None else {"workers": given.workers}
    return make_backend(given.backend or "local", "--backend", **workers)


def _diagnose_pairs(given: SimpleNamespace) -> None:
    from bestfor.report import write_html
    from bestfor.runs.scored_pairs import PairColumns, read_scored_pairs
    from bestfor.runs.table import TableColumns, diagnose_table

    table = _table_of(given)
    names = ("text", "response", "text_id", "prompt", "candidate", "std", "reward", "workers", "backend", "part")
    given_too = {f"--{name.replace('_', '-')}": getattr(given, name) for name in names}
    refuse(given_too, "pairs (--chosen, --rejected)", "a table with one row a candidate")
    pairs = PairColumns.of(given.user, given.chosen or [], given.rejected or [])
    rows = read_scored_pairs(table, pairs)
    settings = replace(_settings(given), name=table.stem)
    diagnosis = diagnose_table(rows, TableColumns(rewards=tuple(pairs.rewards)), settings, scale=given.scale)
    if given.out is not None:
        write_html(given.out, diagnosis, data=table.name)
    if given.as_json:
        print_json(diagnosis.to_dict())
        return
    print_diagnosis(diagnosis, verbose=given.verbose)
    for name, model in diagnosis.models.items():
        right = model.pair_accuracy
        tell(f"{name}: {right.value:.1%} of pairs told right, averaged over users{_span(right)}")


def _span(right: Estimate) -> str:
    return "" if right.low is None or right.high is None else f" ({right.low:.1%} to {right.high:.1%})"


def _stds(rewards: tuple[str, ...], stds: list[str]) -> dict[str, str]:
    if stds and len(stds) != len(rewards):
        raise InputError("--std", f"{len(stds)} columns", f"one for each --reward, which are {len(rewards)}")
    return dict(zip(rewards, stds, strict=False))
