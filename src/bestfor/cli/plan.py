"""Run ``bestfor plan FILE.toml``: what a run will take, before anything is paid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bestfor.cli._output import print_json, print_rows, tell
from bestfor.cli._stages import File, Json, Out, Set, resolve

if TYPE_CHECKING:
    from bestfor.runs.plan import FoldPlan, RunPlan, SamplingPlan

Probe = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="Seconds in which to measure the policy, and each encoder; 0 measures nothing. 30 where nothing is said, "
        "but a server elsewhere is asked only where this is given: it costs.",
        show_default=False,
    ),
]


def plan(file: File, out: Out = None, changes: Set = None, probe: Probe = None, as_json: Json = False) -> None:
    """Say what a run, or what is left of it, will take: prompts, tokens, hours, money, disk and memory."""
    from bestfor.runs.plan import plan_run

    config, folder = resolve(file, out, changes)
    found = plan_run(config, folder, probe=probe, tell=tell)
    if as_json:
        print_json(found.to_dict())
    else:
        print_rows(("what", "owed", "of", "note"), _rows(found))
        for note in found.notes:
            tell(note)


def _rows(found: RunPlan) -> list[tuple[str, str, str, str]]:
    rows = [row for fold in found.folds for row in _fold_rows(fold)]
    for one in found.encoding:
        speed = "" if one.speed is None else f"{one.speed.texts_per_second:,.0f} texts a second, for"
        note = f"{speed} {', '.join(one.models)}".strip()
        rows.append((f"texts for {one.encoder}", f"{one.owed:,}", f"{one.texts:,}", note))
        rows.append(("  hours", _hours(one.hours), "", ""))
    rows.append(("hours in all", _hours(found.hours), "", "of sampling and encoding"))
    if found.cost is not None:
        rows.append(("cost in all", f"{found.cost:,.2f}", "", "in the currency of the prices"))
    rows.append(("disk", _size(found.disk_bytes), "", "candidates and embeddings that are owed"))
    return [*rows, ("memory", _size(found.memory_bytes), "", "at least")]


def _fold_rows(fold: FoldPlan) -> list[tuple[str, str, str, str]]:
    rows = [(f"steps of {fold.folder}", str(len(fold.steps)), "", ", ".join(fold.steps) or "nothing is owed")]
    if fold.profiles is not None:
        rows += _sampling_rows(fold.profiles, "profiles")
    if fold.sampling is not None:
        rows += _sampling_rows(fold.sampling, "candidates")
    for judge in fold.judging:
        tokens = "" if judge.prompt_tokens is None else f"about {judge.prompt_tokens:,} prompt tokens"
        rows.append((f"requests to {judge.judge}", f"{judge.requests:,}", "", tokens))
        if judge.cost is not None:
            rows.append(("  cost", f"{judge.cost:,.2f}", "", ""))
    return rows


def _sampling_rows(one: SamplingPlan, what: str) -> list[tuple[str, str, str, str]]:
    kind = "estimated" if one.estimated else "counted"
    expected = "" if one.new_tokens is None else f"about {one.new_tokens:,} at the probe's mean"
    speed = "" if one.speed is None else f"{one.speed.candidates_per_second:,.1f} {what} a second"
    rows = [
        (f"prompts for {one.policy}", f"{one.owed_prompts:,}", f"{one.prompts:,}", ""),
        ("  prompt tokens", f"{one.prompt_tokens:,}", "", kind),
        (f"  {what}", f"{one.owed_candidates:,}", f"{one.candidates:,}", ""),
        ("  new tokens, at most", f"{one.most_new_tokens:,}", "", expected),
        ("  hours", _hours(one.hours), "", speed),
    ]
    if one.cost is not None:
        rows.append(("  cost", f"{one.cost:,.2f}", "", f"at most {one.most_cost:,.2f}"))
    return rows


def _hours(value: float | None) -> str:
    if value is None:
        return "not known"
    return f"{value:.1f}" if value >= 1 else f"{value:.3f} ({value * 3600:,.0f} s)"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
