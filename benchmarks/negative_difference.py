"""How often the interval of the difference of two models' shares of clearly negative correlations holds the truth.

    python benchmarks/negative_difference.py --sets 40

Simulated data sets, two models on the same queries (two queries a user), the noise of their rewards shared in part.
Shares below -.05: *tenth* .1 of the queries at -.2 and the rest at .3, *third* .33 likewise, *good* none (all at .3),
*nothing* none (all at 0), *other* a tenth, but other queries than those of *tenth*. Independent: the same interval
without what goes together.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import typer

from bestfor.diagnostics import Settings, diagnose_arrays
from bestfor.diagnostics.compare import corrected_difference

TRUTHS = {"tenth": 0.1, "other": 0.1, "third": 1 / 3, "good": 0.0, "nothing": 0.0}
PAIRS = (("tenth", "tenth"), ("tenth", "other"), ("third", "third"), ("third", "tenth"), ("tenth", "good"),
         ("nothing", "good"))  # fmt: skip
SHARED = 0.8


def correlations(truth: str, queries: int) -> np.ndarray:
    """True correlations, shape (queries,)."""
    place = np.arange(queries)
    if truth == "other":
        place = place - queries // 2
    harmful = (place >= 0) & (place < round(TRUTHS[truth] * queries))
    return np.where(harmful, -0.2, 0.0 if truth == "nothing" else 0.3)


def one(pair: tuple[str, str], votes: bool, shape: tuple[int, int], draw: np.random.Generator) -> tuple[float, ...]:
    """One data set: paired and independent ends of the first less the second."""
    utility, common = draw.standard_normal((2, *shape))
    order = draw.permutation(shape[0])
    rewards: dict[str, np.ndarray] = {}
    for name, truth in zip("ab", pair, strict=True):
        noise = SHARED**0.5 * common + (1 - SHARED) ** 0.5 * draw.standard_normal(shape)
        rho = correlations(truth, shape[0])[order][:, None]
        rewards[name] = (rho * utility + np.sqrt(1 - rho**2) * noise).ravel()
    query = np.repeat(np.arange(shape[0]), shape[1])
    utility = np.digitize(utility, (-0.6, 0.3)).astype(float) if votes else utility
    found = diagnose_arrays(query // 2, query, utility.ravel(), rewards, Settings(n=[1, 2]))
    told = found.comparisons[0]
    difference = told.beta_05
    ends = (difference.low, difference.high) if told.model == "a" else (-difference.high, -difference.low)
    alone = corrected_difference(*(found.models[name].quantities.corrected for name in "ab"), 0.95)
    return (*ends, alone.low, alone.high)


def main(
    sets: Annotated[int, typer.Option(help="Data sets of each shape.")] = 40,
    shapes: Annotated[str, typer.Option(help="Queries x candidates.")] = "120x20,1000x30",
    kinds: Annotated[str, typer.Option(help="normal, votes.")] = "normal,votes",
) -> None:
    """Print the table as Markdown."""
    print(
        "| utilities | queries x candidates | models | difference | covers | interval | independent covers | interval |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for kind in kinds.split(","):
        for shape in shapes.split(","):
            size = tuple(map(int, shape.split("x")))
            for pair in PAIRS:
                draw = np.random.default_rng([len(kind), *size, PAIRS.index(pair)])
                ends = np.array([one(pair, kind == "votes", size, draw) for _ in range(sets)])
                true = TRUTHS[pair[0]] - TRUTHS[pair[1]]
                row = f"| {kind} | {shape} | {pair[0]} - {pair[1]} | {true:+.2f} "
                for low, high in (ends.T[:2], ends.T[2:]):
                    held = float(((low <= true + 1e-3) & (true - 1e-3 <= high)).mean())
                    row += f"| {held:.2f} | {low.mean():+.3f} to {high.mean():+.3f} "
                print(row + "|", flush=True)


if __name__ == "__main__":
    typer.run(main)
