"""Simulate users of whom a known share has collapsed, on an arbitrary scale, and count what the diagnosis finds.

    python benchmarks/alpha_recovery.py

Healthy users' rewards have spreads that are lognormal with the given standard deviation of their logarithm; a collapsed
user's are noise around a constant, smaller by the given factor, likewise lognormal. Every user has three queries of 20.
"""

from __future__ import annotations

import numpy as np

from bestfor.diagnostics.quantities.collapse import judge_spreads
from bestfor.rng import derive

QUERIES, CANDIDATES, TABLES = 3, 20, 400


def spreads(rng: np.random.Generator, users: int, collapsed: int, factor: float, varied: float) -> np.ndarray:
    """Draw the sum over each user's queries of the within-query variance, shape (users,)."""
    scale = np.exp(varied * rng.standard_normal(users)) * np.where(np.arange(users) < collapsed, factor, 1.0)
    chi = rng.chisquare(CANDIDATES - 1, (users, QUERIES)).sum(axis=1) / (CANDIDATES - 1)
    return scale**2 * chi


def main() -> None:
    """Print one row a setting: how often a share is given, its mean and its largest error."""
    print("users  sd(log)  factor  truth   given   mean    rms error")
    for users in (20, 40, 200):
        for varied in (0.3, 0.8):
            for factor in (1e-4, 0.02):
                for share in (0.0, 0.05, 0.2, 0.5, 0.8, 0.95, 1.0):
                    collapsed = round(share * users)
                    rng = derive(0, "alpha", str(users), str(varied), str(factor), str(share))
                    found = []
                    for _ in range(TABLES):
                        judged = np.full(users, float(QUERIES))
                        variance = spreads(rng, users, collapsed, factor, varied)
                        one = judge_spreads(variance, judged, judged, "arbitrary")
                        if not one.unknown:
                            found.append(one.collapsed.mean())
                    mean = f"{np.mean(found):.3f}" if found else "-"
                    error = f"{np.sqrt(np.mean((np.array(found) - collapsed / users) ** 2)):.3f}" if found else "-"
                    row = f"{users:5}  {varied:7}  {factor:6g}  {collapsed / users:5.2f}   {len(found) / TABLES:5.3f}"
                    print(f"{row}   {mean:>5}   {error:>5}", flush=True)


if __name__ == "__main__":
    main()
