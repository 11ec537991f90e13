"""How often intervals of the five laws, and of their errors, hold the truth.

    python benchmarks/law_coverage.py --sets 300

*Own queries*: 40 users with three queries of 16 candidates each. *Shared texts*: 40 users who each see the same 40
texts, whose worth differs. The truth of a law is its mean over all data sets, that of its error the mean law over the
mean gain. Bounds are left out: they are a constant times `normal`.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import typer

from bestfor.diagnostics import Settings, diagnose_arrays
from bestfor.diagnostics.quantities.laws import LAWS

USERS = 40


def own(draw: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Users who differ in how well the reward knows them."""
    query = np.repeat(np.arange(USERS * 3), 16)
    rho = np.clip(0.4 + 0.2 * draw.standard_normal(USERS), -0.9, 0.9)[query // 3]
    reward, noise = draw.standard_normal((2, len(query)))
    return (
        query // 3,
        query,
        rho * reward + np.sqrt(1 - rho**2) * noise,
        reward,
        query * 16 + np.tile(np.arange(16), USERS * 3),
    )


def shared(draw: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Texts that all users judge, and a reward that errs on a text for everybody alike."""
    text, user = np.tile(np.arange(40), USERS), np.repeat(np.arange(USERS), 40)
    worth, error = draw.standard_normal((2, 40))
    utility = 0.7 * worth[text] + 0.7 * draw.standard_normal(len(text))
    return user, user, utility, 0.6 * worth[text] + 0.6 * error[text] + 0.5 * draw.standard_normal(len(text)), text


def main(
    sets: Annotated[int, typer.Option(help="Data sets of each kind.")] = 300,
    n: Annotated[int, typer.Option(help="At which N.")] = 8,
) -> None:
    """Print the table as Markdown."""
    print(f"| data, N = {n} | law | mean | held | error of the law | held | gain held |")
    print("|---|---|---|---|---|---|---|")
    for name, make, texts in (("own queries", own, False), ("shared texts", shared, True)):
        draw = np.random.default_rng(len(name))
        models = []
        for _ in range(sets):
            user, query, utility, reward, text = make(draw)
            ids = [f"t{one}" for one in text] if texts else None
            found = diagnose_arrays(user, query, utility, {"x": reward}, Settings([1, 2, n]), text=ids)
            models.append(found.models["x"])
        gains = np.array([model.gain.value[-1] for model in models])
        held_gain = np.mean([model.gain.low[-1] <= gains.mean() <= model.gain.high[-1] for model in models])
        for law in LAWS[1:]:
            values = np.array([model.law[law][-1] for model in models])
            error = values.mean() / gains.mean() - 1
            held = [inside(model.law_ends.law[law][:, -1], values.mean()) for model in models]
            erred = [inside(model.law_ends.error[law][:, -1], error) for model in models]
            print(
                f"| {name} | {law} | {values.mean():.3f} | {np.mean(held):.3f} | {100 * error:+.1f} % "
                f"| {np.mean(erred):.3f} | {held_gain:.3f} |",
                flush=True,
            )


def inside(ends: np.ndarray, truth: float) -> bool:
    """Whether an interval holds the truth."""
    return bool(ends[0] <= truth <= ends[1])


if __name__ == "__main__":
    typer.run(main)
