"""Print the tables of docs/results: python benchmarks/figures.py runs/NAME/diagnosis.json."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def main(path: str) -> None:
    """Captured shares, paired differences, quantities and laws as Markdown."""
    diagnosis = json.loads(Path(path).read_text(encoding="utf-8"))
    models: Mapping[str, Any] = diagnosis["models"]
    n = diagnosis["oracle"]["n"]
    last = len(n) - 1
    print(f"{diagnosis['queries']} pools, {diagnosis['users']} users, {diagnosis['candidates']} candidates\n")
    table(
        ["captured", *(f"N = {size}" for size in n[1:])],
        ([name, *(span(model, "captured", i) for i in range(1, len(n)))] for name, model in models.items()),
    )
    if diagnosis.get("folds"):
        table(
            [f"captured, N = {n[last]}", *(f"fold {i}" for i in range(len(diagnosis["folds"])))],
            (
                [name, *(number(fold["models"][name]["captured"][last]) for fold in diagnosis["folds"])]
                for name in models
            ),
        )
    table(
        ["difference of captured", *(f"N = {size}" for size in n[1:])],
        (
            [f"{best} - {other}", *(difference(diagnosis, best, other, size) for size in n[1:])]
            for best, other in dict.fromkeys((row["model"], row["against"]) for row in diagnosis["comparisons"])
        ),
    )
    keys = ("alpha", "alpha_other_scale", "beta", "rho_plus", "rho_minus", "rho", "leakage_gain")
    table(
        ["quantity", *keys, "corrected beta"],
        (
            [
                name,
                *(bounded(model["quantities"], key) for key in keys),
                number((model["quantities"]["corrected"] or {}).get("beta")),
            ]
            for name, model in models.items()
        ),
    )
    laws = ("bound", "normal", "reward", "pool")
    table(
        ["relative error of the law", *(f"{law}, N = {size}" for law in laws for size in n[1:])],
        (
            [name, *(number(model["law_error"][law][i]) for law in laws for i in range(1, len(n)))]
            for name, model in models.items()
        ),
    )
    terms = ("law", "growth", "alpha", "sigma", "covariance", "shape", "leakage", "observed")
    table(
        [f"ledger, N = {n[last]}", *terms],
        ([name, *(number(model["ledger"][term], 4) for term in terms)] for name, model in models.items()),
    )


def table(header: list[str], rows: Iterable[list[str]]) -> None:
    """One Markdown table."""
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def number(value: float | None, places: int = 3) -> str:
    """A number, or a dash where there is none."""
    return "-" if value is None else f"{value:.{places}f}"


def span(model: Mapping[str, Any], key: str, i: int) -> str:
    """A value with its interval."""
    low, high = model[f"{key}_low"][i], model[f"{key}_high"][i]
    return number(model[key][i]) + (f" ({number(low)} to {number(high)})" if low is not None else "")


def bounded(quantities: Mapping[str, Any], key: str) -> str:
    """A quantity with its interval where it has one."""
    low, high = quantities.get(f"{key}_low"), quantities.get(f"{key}_high")
    return number(quantities[key]) + (f" ({number(low)} to {number(high)})" if low is not None else "")


def difference(diagnosis: Mapping[str, Any], best: str, other: str, size: int) -> str:
    """A paired difference with its interval."""
    for row in diagnosis["comparisons"]:
        if (row["model"], row["against"], row["n"]) == (best, other, size):
            low, high = row["low"], row["high"]
            return number(row["captured_difference"]) + (
                f" ({number(low)} to {number(high)})" if low is not None else ""
            )
    return "-"


if __name__ == "__main__":
    main(sys.argv[1])
