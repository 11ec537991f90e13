"""Ways to spend generated tokens, at equal numbers of them: the table of docs/results/equal-tokens.md.

    python benchmarks/equal_tokens.py [--users 100] [--each 4] [--out runs/world-table]

The embedded world with the settings of world_table.py (differing noise, 20 labels a user): one pool of 30 candidates a
test query for all rules, and textual feedback (TPO) by the same policy after the verdicts of `hierarchical`. A budget
is what N samples take in the mean. Rows that need a capable model stay open unless one is given: `--model` writes pool,
critiques and revisions, `--judge` holds the options of the kind `judge` as JSON, its server among them. Prints
Markdown; with models on this machine the same command prints the same figures.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from bestfor.data.world import World
from bestfor.diagnostics import Panel
from bestfor.diagnostics.intervals.influence import user_influences
from bestfor.lm.location import EMBEDDED
from bestfor.policies.feedback import FeedbackPolicy, Trace
from bestfor.policies.transformers import TransformersPolicy
from bestfor.rewards import RewardModel
from bestfor.runs.joins import scorer
from bestfor.types import Estimate, FloatArray
from equal_tokens_rows import (
    Curves,
    N,
    Setting,
    affordable,
    feedback_curve,
    fitted,
    mbr_curves,
    mbr_error,
    prepare,
    rule_curves,
    timed,
)

GUIDE = "hierarchical"
"""The reward model whose verdicts become critiques."""
OPEN = {"judge": "open: needs a model that can judge", "TPO": "open: needs a model that can follow a critique"}
ORDER = ("single sample", "length", "logprob", "mbr, ROUGE-L", "mbr, cosine", "TPO, shipped model", "TPO", "judge")
"""Rows that come first; then the kinds as they are registered, then the oracle."""


def main(
    out: Annotated[Path, typer.Option(help="Folder of the pool; what is there already is used.")] = Path(
        "runs/world-table"
    ),
    users: int = 100,
    each: Annotated[int, typer.Option(help="Test queries of each user that count, 1 to 4.")] = 4,
    seed: int = 0,
    model: Annotated[str, typer.Option(help="Who writes: a checkpoint.")] = EMBEDDED,
    judge: Annotated[str, typer.Option(help="Options of the kind 'judge', as JSON.")] = "",
    width: Annotated[int, typer.Option(help="Candidates of a step of feedback.")] = 5,
    critique_tokens: Annotated[int, typer.Option(help="The longest critique or advice.")] = 32,
) -> None:
    """Sample what is not there yet, fit, and print the tables."""
    policy = TransformersPolicy(model)
    setting = prepare(policy, World(seed=seed, users=users, queries=4), each, out)
    options: dict[str, dict[str, Any]] = {"lora": {"backbone": EMBEDDED}}
    models, said = fitted(setting, out, options | ({"judge": json.loads(judge)} if judge else {}))
    curves, drawn = mbr_curves(setting, out)
    curves |= rule_curves(setting, models)
    guide = scorer(models[GUIDE], setting.queries, setting.test.history)
    made = FeedbackPolicy(policy, guide, GUIDE, width=width, critique_tokens=critique_tokens)
    budget = N * float(setting.tokens.mean())
    with timed("TPO"):
        traces = made.refine(setting.prompts, affordable(setting, width, critique_tokens), seed=seed)
    row = "TPO, shipped model" if model == EMBEDDED else "TPO"
    curves[row], more = feedback_curve(setting, traces, budget)
    print_tables(setting, curves, budget)
    print_costs(setting, models)
    print("\n".join(f"- {line}" for line in (*said, mbr_error(drawn), *more, *made.notes)), flush=True)
    print_trace(traces[0])


def print_tables(setting: Setting, curves: Curves, budget: FloatArray) -> None:
    """Mean utility and captured share, a row a method and a column a budget; intervals over users."""
    count = len(setting.utility)
    values: dict[tuple[str, int], FloatArray] = {("one", 0): np.ones(count), ("mean", 0): setting.utility.mean(axis=1)}
    for name, curve in curves.items():
        values |= {(name, int(n)): curve[:, column] for column, n in enumerate(N)}
    users = setting.test.users
    weight = 1 / (np.bincount(setting.owner)[setting.owner] * len(users))
    panel = Panel([user_influences(values, weight, setting.owner, users)])
    print(f"{len(users)} users, {count} queries, {setting.tokens.mean():.2f} tokens a sample in the mean\n")
    last = [name for name in curves if name not in ORDER]
    rows = [name for name in ORDER if name in curves or name in OPEN]
    heads = [f"{tokens:.0f} (N = {n})" for n, tokens in zip(N.tolist(), budget.tolist(), strict=True)]
    for title, first in (("Mean utility", 0), ("Captured share", 1)):
        print(f"**{title}** at so many generated tokens a query\n")
        print("| row | " + " | ".join(heads[first:]) + " |\n" + "|---" * (len(heads) - first + 1) + "|")
        for name in (*rows, *last):
            if name not in curves:
                print(f"| {name} | {OPEN[name]} |" + " |" * (len(heads) - first - 1))
                continue
            cells = [spanned(estimate(panel, name, n, captured=first > 0)) for n in N.tolist()[first:]]
            print(f"| {name} | " + " | ".join(cells) + " |")
        print()


def estimate(panel: Panel, name: str, n: int, *, captured: bool) -> Estimate:
    """A row's mean utility, or the share that it captures of the oracle's gain."""
    if not captured:
        return panel.interval({(name, n): 1.0}, {("one", 0): 1.0})
    return panel.interval({(name, n): 1.0, ("mean", 0): -1.0}, {("oracle", n): 1.0, ("mean", 0): -1.0})


def spanned(value: Estimate) -> str:
    """A value with its interval."""
    told = [f"{round(one, 3) + 0.0:.3f}" for one in (value.value, value.low, value.high) if one is not None]
    return told[0] + (f" ({told[1]} to {told[2]})" if len(told) == 3 else "")


def print_costs(setting: Setting, models: Mapping[str, RewardModel]) -> None:
    """What language models read to score: no generated tokens, and in no budget."""
    print(f"**Scoring** {N[-1]} candidates of a query, outside the budgets\n\n| row | tokens read | tokens written |")
    print("|---|---|---|")
    queries = len(setting.names)
    for kind, model in models.items():
        backbone, usage = getattr(model, "backbone", None), getattr(model, "usage", None)
        if backbone is not None:
            asked = zip(setting.names, setting.inputs, setting.texts, strict=True)
            read = sum(len(part) for name, given, texts in asked for part in backbone.encode(name, given, texts))
            print(f"| {kind} | {read / queries:.0f}, the prompt once | 0 |")
        elif usage is not None:
            print(f"| {kind} | {usage.prompt_tokens / queries:.0f} | {usage.completion_tokens / queries:.0f} |")
    print("| all other rows | 0 | 0 |\n")


def print_trace(trace: Trace) -> None:
    """What one query's feedback said."""
    step = trace.steps[0]
    told = {"critique": step.critique, "advice": step.advice, "first revision": trace.candidates[trace.width]}
    said = {name: "none" if one is None else one.text for name, one in told.items()}
    best = "none" if step.best is None else trace.candidates[step.best].text
    said = {"best draft": best, **said, "answer": trace.answer.text}
    print(f"\nQuery {trace.prompt.query_id}:\n\n" + "\n".join(f"- {name}: `{text}`" for name, text in said.items()))


if __name__ == "__main__":
    typer.run(main)
