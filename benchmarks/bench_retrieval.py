"""What choosing items for a prompt costs: python benchmarks/bench_retrieval.py [--items 10000] [--queries 20].

One user with a long history of generated words (rank-frequency as in natural text), 130 words an item and 100 a query.
The queries see ever more of the history, as those of a run do: the first half of it at least. Beside our index, made
once, stands the library bm25s, whose scores are fixed when it indexes: to hide later items it indexes for each query.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import bm25s
import numpy as np
import typer

from bestfor.policies.retrieval import Item, Retriever


def texts(rng: np.random.Generator, count: int, length: int, words: int = 30_000) -> list[str]:
    """Texts of words drawn by Zipf's law."""
    share = 1.0 / np.arange(1, words + 1)
    drawn = rng.choice(words, (count, length), p=share / share.sum())
    return [" ".join(f"w{word}" for word in row) for row in drawn.tolist()]


def library(documents: Sequence[list[str]], query: str) -> None:
    """Scores of the library for what a query sees."""
    index = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    index.index(documents, show_progress=False)
    index.get_scores(sorted(set(query.split())))


def each(work: Callable[[str, int], object], queries: Sequence[str], seen: Sequence[int]) -> tuple[float, float]:
    """Processor seconds of the first query, and of each further one."""
    started = time.process_time()
    work(queries[0], seen[0])
    first = time.process_time() - started
    started = time.process_time()
    for query, count in zip(queries[1:], seen[1:], strict=True):
        work(query, count)
    return first, (time.process_time() - started) / max(1, len(queries) - 1)


def main(items: int = 10_000, queries: int = 20) -> None:
    """Time every retriever that needs no model, then print seconds and ratios."""
    rng = np.random.default_rng(0)
    history = [Item(str(at), "", text, at) for at, text in enumerate(texts(rng, items, 130))]
    asked, documents = texts(rng, queries, 100), [item.output.split() for item in history]
    seen = np.linspace(items // 2, items, queries, dtype=int).tolist()
    words, latest = Retriever(history), Retriever(history, "recency")
    ours = each(lambda query, count: words.best(query, 4, seen=count), asked, seen)
    rows = (
        ("bm25, one index", ours),
        ("bm25s, an index for each query", each(lambda query, count: library(documents[:count], query), asked, seen)),
        ("recency", each(lambda query, count: latest.best(query, 4, seen=count), asked, seen)),
    )
    print(f"{items} items, {queries} queries, processor seconds")
    for name, (first, further) in rows:
        total, whole = first + (queries - 1) * further, ours[0] + (queries - 1) * ours[1]
        print(f"{name:31s} first {first:7.3f} s, further {further:9.5f} s, all {total / whole:6.2f} times bm25's")


if __name__ == "__main__":
    typer.run(main)
