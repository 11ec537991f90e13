"""Diagnose somebody else's scores: python examples/scores.py (or cell by cell, in an editor that knows ``# %%``).

The table could come from any reward model, judge or benchmark: one row a candidate, with its user, its query, the
rewards of the models to compare, and the utility that is truly cared about. It is simulated here, so that the right
answers are known: a judge with a correlation of about 0.4, and a personal model that is better but learned nothing for
every fourth user. The table and the page are written to ``runs/scores``, below the folder where you run this.
"""

# ruff: noqa: T201
from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

import bestfor as bf

# %% A table of 120 users with 4 queries each and 24 candidates a query
USERS, QUERIES, SIZE = 120, 4, 24
rng = np.random.default_rng(0)
shape = (USERS, QUERIES, SIZE)
user, query, _ = np.indices(shape)
utility = rng.normal(size=shape)

# The judge gives whole marks from 1 to 5: the same ones for everybody, somewhat right (a correlation of about 0.4).
judge = np.clip(np.round(3 + 0.45 * utility + 0.9 * rng.normal(size=shape)), 1, 5)

# The personal model is better, but it has learned nothing for every fourth user: all candidates score alike.
personal = 0.35 * utility + 0.5 * rng.normal(size=shape)
personal[::4] = rng.normal(size=(USERS // 4, QUERIES, 1))

table = pa.table(
    {
        "user": [f"u{one:03d}" for one in user.ravel()],
        "query": [f"u{who:03d}-{what}" for who, what in zip(user.ravel(), query.ravel(), strict=True)],
        "judge": judge.ravel(),
        "personal": personal.ravel(),
        "utility": utility.ravel(),
    }
)
folder = Path("runs/scores")
folder.mkdir(parents=True, exist_ok=True)
csv.write_csv(table, folder / "scores.csv")

# %% From a file. The judge's marks are no utilities, so only their order counts: scale = "arbitrary"
columns = bf.TableColumns(rewards=("judge", "personal"))
settings = bf.Settings(n=[1, 2, 4, 8, 16, 24])
diagnosis = bf.diagnose_table(folder / "scores.csv", columns, settings, scale="arbitrary")
print(diagnosis)

# %% From memory: an Arrow table, or any DataFrame with the Arrow stream interface (pandas, polars, DuckDB, ...)
from_memory = bf.diagnose_table(table, columns, settings)
assert from_memory.models["judge"].utility.value[-1] == diagnosis.models["judge"].utility.value[-1]

# %% The numbers behind the summary
for name, model in diagnosis.models.items():
    share = model.captured.at(24)
    print(f"\n{name}: captured {share.value:.2f} ({share.low:.2f} to {share.high:.2f}) of what 24 candidates offer")
    alpha = model.quantities.alpha.value
    collapsed = "cannot be told" if math.isnan(alpha) else f"{alpha:.0%}"
    print(f"  collapsed users {collapsed}, mean correlation {model.quantities.rho.value:.2f}")

# %% The ledger of the personal model: from what the law promised to what was gained, term by term
print("\nfrom the law to the observed gain, personal model")
ledger = diagnosis.models["personal"].ledger
for term in ("law", "growth", "alpha", "sigma", "covariance", "shape", "leakage", "observed"):
    print(f"{term:>12} {getattr(ledger, term):+.3f}")

# %% A page to pass on
bf.write_html(folder / "report.html", diagnosis)
print(f"\nreport: {folder / 'report.html'}")
