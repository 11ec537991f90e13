"""How often the interval of the share of clearly negative correlations holds the truth, convicts and acquits.

    python benchmarks/negative_share.py --sets 100 --kinds normal,votes,t3

Simulated data sets of one query a user: utilities as they come (normal, votes, votes mostly yes, marks from 1 to 5, one
in ten successful, log-normal, heavy tails in reward and utility alike) times the true correlations (a tenth at -.2 and
the rest at .3; .3 everywhere; 0 everywhere; normal around .15). Correlations are those of the normal variables below
the utilities; the share of truly negative ones does not depend on how the utilities are cut. With --power it is checked
how often a share at -.2 that is said to be visible (the others at .3) is seen: that should be 80 % of the data sets.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import typer
from scipy import stats

from bestfor.diagnostics.quantities.mixture import correct, fisher
from bestfor.diagnostics.quantities.negative import negative_share, tails

CUTS = {"votes": (-0.6, 0.3), "yes": (-1.5, -1.0), "marks": (-1.2, -0.4, 0.4, 1.2), "rare": (1.2816,)}
TRUTHS = {"tenth": 0.1, "good": 0.0, "nothing": 0.0, "spread": float(stats.norm.cdf(-0.2 / 0.15))}


def correlations(truth: str | float, queries: int, draw: np.random.Generator) -> np.ndarray:
    """True correlations, shape (queries,); of a number that share is at -.2 and the rest at .3."""
    if isinstance(truth, float):
        return np.where(np.arange(queries) < round(truth * queries), -0.2, 0.3)
    if truth == "tenth":
        return np.where(np.arange(queries) < queries // 10, -0.2, 0.3)
    if truth == "spread":
        return np.clip(0.15 + 0.15 * draw.standard_normal(queries), -0.95, 0.95)
    return np.full(queries, 0.3 if truth == "good" else 0.0)


def pools(kind: str, rho: np.ndarray, size: int, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rewards and utilities of these correlations, each of shape (queries, size)."""
    a, e = draw.standard_normal((2, len(rho), size))
    b = rho[:, None] * a + np.sqrt(1 - rho[:, None] ** 2) * e
    if kind == "t3":
        scale = np.sqrt(3 / draw.chisquare(3, a.shape))
        return a * scale, b * scale
    if kind == "lognormal":
        return a, np.exp(b)
    return a, np.digitize(b, CUTS[kind]).astype(float) if kind in CUTS else b


def one(kind: str, truth: str | float, queries: int, size: int, draw: np.random.Generator) -> tuple[float, ...]:
    """One data set: value, low, high, visible, and what the plain mixture says."""
    reward, utility = pools(kind, correlations(truth, queries, draw), size, draw)
    varied = utility.std(axis=1) > 0
    reward, utility = reward[varied], utility[varied]
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (reward, utility))
    r = (a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    count = len(r)
    z, _ = fisher(r, np.full(count, size))
    found = negative_share(z, np.full(count, size), tails(reward, utility), np.ones(count), np.arange(count))
    plain = correct(r, np.full(count, size), np.ones(count))
    assert plain is not None
    return found.value, found.low, found.high, found.visible, plain[0].beta_05


def main(
    sets: Annotated[int, typer.Option(help="Data sets of each shape.")] = 40,
    kinds: Annotated[str, typer.Option(help="Kinds of utilities.")] = "normal,votes,yes,marks,rare,lognormal,t3",
    shapes: Annotated[str, typer.Option(help="Queries x candidates.")] = "120x20,1000x30",
    truths: Annotated[str, typer.Option(help="Which truths.")] = ",".join(TRUTHS),
    power: Annotated[bool, typer.Option(help="Check how often a visible share is seen.")] = False,
) -> None:
    """Print the table as Markdown."""
    if power:
        seen(sets, kinds.split(","), shapes.split(","))
        return
    print(
        "| utilities | queries x candidates | truth | covers | low > .01 | high <= .05 | interval | visible | mixture |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for kind in kinds.split(","):
        for shape in shapes.split(","):
            queries, size = map(int, shape.split("x"))
            for truth in truths.split(","):
                share = TRUTHS[truth]
                draw = np.random.default_rng([len(kind), ord(kind[0]), queries, size, list(TRUTHS).index(truth)])
                found = np.array([one(kind, truth, queries, size, draw) for _ in range(sets)])
                value, low, high, visible, plain = found.T
                covers = ((low <= share + 1e-9) & (share <= high)).mean()
                row = f"| {kind} | {shape} | {truth} {share:.2f} | {covers:.2f} | {(low > 0.01).mean():.2f} "
                row += f"| {(high <= 0.05).mean():.2f} "
                row += f"| {value.mean():.3f} [{low.mean():.3f}, {high.mean():.3f}] "
                print(row + f"| {np.nanmean(visible):.2f} | {plain.mean():.3f} |", flush=True)


def seen(sets: int, kinds: list[str], shapes: list[str]) -> None:
    """Print how often a share at -.2 that is said to be visible is seen, as Markdown."""
    print("| utilities | queries x candidates | said to be visible | seen | a third of it | half of it |")
    print("|---|---|---|---|---|---|")
    for kind in kinds:
        for shape in shapes:
            queries, size = map(int, shape.split("x"))
            draw = np.random.default_rng([len(kind), ord(kind[0]), queries, size, 9])
            said = float(np.nanmedian([one(kind, "good", queries, size, draw)[3] for _ in range(5)]))
            cells = [
                np.mean([one(kind, part * said, queries, size, draw)[1] > 1e-3 for _ in range(sets)])
                for part in (1.0, 1 / 3, 0.5)
            ]
            print(f"| {kind} | {shape} | {said:.2f} | {cells[0]:.2f} | {cells[1]:.2f} | {cells[2]:.2f} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
