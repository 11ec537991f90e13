"""The picture of docs/results/suite.md: python benchmarks/suite_picture.py, from the figures of the cells alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from bestfor.report.charts.plots import BAD, COLORS, GOOD, INK, QUIET, frame
from bestfor.types import FloatArray
from suite import FIGURES, ROOT, kept
from suite_tables import Cells, interval_of, utility_of

PLAIN, RETRIEVED = "title-plain-30", "title-bm25-30"
POLICIES = {
    "title-profile": "summary of the author",
    "title-recency": "two latest papers",
    "title-bm25": "two alike papers (BM25)",
    "title-dense": "two alike papers (dense)",
    "title-lora": "adapter of the author",
    "title-shared-lora": "one adapter for all",
    "title-soups": "mixed adapters",
    "title-fdlora": "adapter for all, then own",
    "title-groups": "adapter of a group, then own",
    "title-rewarded-soups": "adapters of two metrics",
    "title-bm25-lora": "BM25 and own adapter",
}
"""Cells whose policy is personal, from the bottom of the picture up."""
BASE, CHOICE, N = "title-plain", "hierarchical", 16
RULES = (
    "oracle",
    "auto",
    "hierarchical",
    "gaussian",
    "pooled",
    "ridge",
    "mbr, cosine",
    "logprob",
    "self-consistency",
    "length",
)


def main(out: Annotated[Path, typer.Option(help="The picture.")] = ROOT / "docs" / "pictures" / "suite.svg") -> None:
    """Draw what choosing and what a personal policy buy, and who captures how much."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cells = kept(FIGURES)
    figure = Figure(figsize=(13.5, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    curves, worth, shares = figure.subplots(1, 3, width_ratios=(1, 1.35, 1.1))
    for axes in (curves, worth, shares):
        frame(axes)
    draw_curves(curves, cells)
    draw_worth(worth, cells)
    draw_shares(shares, cells)
    with rc_context({"svg.hashsalt": "suite", "svg.fonttype": "none"}):
        figure.savefig(out, format="svg", metadata={"Date": None})


def draw_curves(axes: Any, cells: Cells) -> None:  # noqa: ANN401 - of matplotlib
    """Best-of-N of both policies: the best candidate there is, and the one that is chosen."""
    for name, color, where in ((PLAIN, QUIET, "no papers"), (RETRIEVED, COLORS[0], "two own papers")):
        cell = cells[name]
        at = np.array(cell["n"], dtype=np.float64)
        for rule, style in (("oracle", "--"), (CHOICE, "-")):
            middle, low, high = np.array(cell["curves"][rule]["utility"], dtype=np.float64).T
            axes.plot(at, middle, style, color=color, linewidth=1.6)
            if rule == CHOICE:
                axes.fill_between(at, low, high, color=color, alpha=0.15, linewidth=0)
            told = "best there is" if rule == "oracle" else "chosen"
            axes.annotate(
                f"{where}, {told}",
                (at[-1], middle[-1]),
                (-4, 5),
                textcoords="offset points",
                ha="right",
                fontsize=7.5,
                color=INK,
            )
    axes.set_xscale("log", base=2)
    axes.set_xticks([1, 2, 4, 8, 16, 30], ["1", "2", "4", "8", "16", "30"])
    axes.minorticks_off()
    axes.set_xlabel("candidates", fontsize=9)
    axes.set_ylabel("ROUGE-L", fontsize=9)
    axes.set_title(f"Best of N by {CHOICE}", fontsize=10, loc="left")


def draw_worth(axes: Any, cells: Cells) -> None:  # noqa: ANN401 - of matplotlib
    """What a personal policy, the choice, and both buy over one plain sample of the same authors."""
    base, shown = cells[BASE], [name for name in POLICIES if name in cells and N in cells[name]["n"]]
    for place, name in enumerate(shown):
        one = cells[name]
        both = sorted(set(one["names"]) & set(base["names"]))
        start = utility_of(base, "oracle", 1, both)
        for what, cell, rule, n, shift in (
            ("policy", one, "oracle", 1, 0.22),
            ("choice", base, CHOICE, N, 0.0),
            ("both", one, CHOICE, N, -0.22),
        ):
            span(axes, interval_of(utility_of(cell, rule, n, both) - start), place + shift, MARKS[what])
    for what, (color, mark) in MARKS.items():
        axes.plot([], [], mark, color=color, label=TOLD[what], markersize=5)
    axes.axvline(0.0, color=QUIET, linewidth=0.8)
    axes.set_yticks(range(len(shown)), [POLICIES[name] for name in shown], fontsize=8)
    axes.set_xlabel("ROUGE-L more than one plain sample", fontsize=9)
    axes.legend(fontsize=7.5, frameon=False, loc="lower right")
    axes.set_title("What the policy buys, what the choice", fontsize=10, loc="left")


def draw_shares(axes: Any, cells: Cells) -> None:  # noqa: ANN401 - of matplotlib
    """The share of the headroom that rules capture at N = 30, with both policies."""
    rules = [rule for rule in RULES[:0:-1] if rule in cells[PLAIN]["curves"]]
    for place, rule in enumerate(rules):
        for name, color, shift in ((PLAIN, QUIET, 0.14), (RETRIEVED, COLORS[0], -0.14)):
            span(axes, cells[name]["curves"][rule]["captured"][-1], place + shift, (color, "o"))
    for name, color in (("no papers", QUIET), ("two own papers", COLORS[0])):
        axes.plot([], [], "o", color=color, label=name, markersize=5)
    axes.axvline(0.0, color=QUIET, linewidth=0.8)
    axes.set_yticks(range(len(rules)), rules, fontsize=8)
    axes.set_xlabel("captured of what the best of 30 gains", fontsize=9)
    axes.legend(fontsize=7.5, frameon=False, loc="lower right")
    axes.set_title("Who finds the best of 30", fontsize=10, loc="left")


MARKS = {"policy": (BAD, "s"), "choice": (QUIET, "D"), "both": (GOOD, "o")}
TOLD = {"policy": "one sample of the policy", "choice": f"best of {N} plain ones", "both": f"best of {N} of the policy"}


def span(axes: Any, value: Sequence[float | None], height: float, mark: tuple[str, str]) -> None:  # noqa: ANN401 - of matplotlib
    """A point with its interval, where it has one."""
    middle, low, high = (np.nan if one is None else one for one in (*value, None, None)[:3])
    ends: FloatArray = np.array([low, high])
    axes.plot(ends, [height, height], "-", color=mark[0], linewidth=1.2)
    axes.plot([middle], [height], mark[1], color=mark[0], markersize=4.5)


if __name__ == "__main__":
    typer.run(main)
