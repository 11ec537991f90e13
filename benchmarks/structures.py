"""Which structure of tastes the hierarchical model chooses on a run's fit part, and what it captures there.

python benchmarks/structures.py runs/acl-titles/plain [MORE RUNS] [--folds 3] [--n 4]

Fold k holds out one fit query of every user, the k-th by id; no test query is looked at. Candidates of the held-out
queries are ranked by models fitted to the others. Prints Markdown; the same command prints the same figures.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bestfor.data.candidates import Candidates
from bestfor.diagnostics import best_of_n
from bestfor.encoders import Encoder, load_encoder
from bestfor.pool import CandidatePool
from bestfor.rewards import Hierarchical, Pooled
from bestfor.runs.joins import build_examples
from bestfor.types import BoolArray, FloatArray

SHAPES = ("none", "isotropic", "inverse_wishart", "full", "auto")


def main() -> None:
    """Fit every shape on every fold of every run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--metric", default="rougeL")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--n", type=int, default=4)
    given = parser.parse_args()
    for run in given.runs:
        encoder, examples = load_encoder(cache=run / "embeddings"), read(run, given.metric)
        found: dict[str, list[float]] = {}
        for fold in range(given.folds):
            held = held_out(examples, fold)
            for name, share in fold_shares(examples.take(~held), examples.take(held), encoder, given.n).items():
                found.setdefault(name, []).append(share)
        print(f"\n**{run.name}**: captured at N = {given.n}\n\n| model | mean | folds |\n|---|---|---|")
        for name, shares in found.items():
            print(f"| {name} | {np.mean(shares):.3f} | {' '.join(f'{share:.3f}' for share in shares)} |")


def read(run: Path, metric: str) -> Candidates:
    """The labelled fit candidates of a run."""
    queries = pq.read_table(run / "queries.parquet")
    queries = queries.filter(pc.equal(queries["split"], "fit"))
    ids = queries["query_id"].combine_chunks()
    tables = (CandidatePool(run / "pool").scan(), pq.read_table(run / "utilities" / f"{metric}.parquet"))
    candidates, utilities = (table.filter(pc.is_in(table["query_id"], value_set=ids)) for table in tables)
    return build_examples(queries, candidates, utilities, "fit")


def held_out(examples: Candidates, fold: int) -> BoolArray:
    """Rows of each user's query number ``fold``, counted around."""
    rows = np.zeros(len(examples), dtype=np.bool_)
    for user in range(len(examples.users)):
        mine = np.unique(examples.query[examples.user == user])
        if len(mine) > 1:
            ordered = sorted(mine.tolist(), key=lambda query: examples.queries[query])
            rows |= examples.query == ordered[fold % len(ordered)]
    return rows


def fold_shares(train: Candidates, test: Candidates, encoder: Encoder, n: int) -> dict[str, float]:
    """Captured share of every model; what auto chose is printed."""
    shares = {"pooled": captured(Pooled(encoder=encoder).fit(train, rng=0).predict(test).mean, test, n)}
    for shape in SHAPES:
        model = Hierarchical(encoder=encoder, covariance=shape).fit(train, rng=0)
        shares[f"hierarchical, {shape}"] = captured(model.predict(test).mean, test, n)
        if shape == "full":
            strangers = model.predict(_as_strangers(test)).mean
            shares["what that believes of everybody"] = captured(strangers, test, n)
        if shape == "auto":
            print("; ".join(note for note in model.notes if "nats" in note))
    return shares


def captured(reward: FloatArray, test: Candidates, n: int) -> float:
    """Gain over headroom, over all queries of at least ``n`` candidates."""
    gain = headroom = 0.0
    for query in np.unique(test.query):
        mine = np.flatnonzero(test.query == query)
        if len(mine) < n:
            continue
        utility, size = test.utility[mine][None], np.array([len(mine)])
        picks = [best_of_n(values, utility, size, np.array([n])) for values in (reward[mine][None], utility)]
        gain += float(np.sum(picks[0])) - float(utility.mean())
        headroom += float(np.sum(picks[1])) - float(utility.mean())
    return gain / headroom


def _as_strangers(test: Candidates) -> Candidates:
    names = tuple(f"stranger {user}" for user in test.users)
    return replace(test, users=names)


if __name__ == "__main__":
    main()
